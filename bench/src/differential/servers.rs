//! The servers: the authoritative one, and the two in front of it.

use super::client::Client;
use super::questions::Question;
use super::zones::{self, SIGNED, ZONES};
use crate::scale::args::Args;
use crate::scale::contender::free_ports;
use crate::scale::process::Process;
use portolan::dns::RecordType;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a server may take until it answers as it should.
const START: Duration = Duration::from_secs(30);

/// They run until this goes out of scope.
pub struct Servers {
    pub authority: SocketAddr,
    pub portolan: SocketAddr,
    pub unbound: SocketAddr,
    /// Whether there are signed zones.
    pub signs: bool,
    _processes: [Process; 3],
    _folder: tempfile::TempDir,
}

impl Servers {
    /// Starts them, and takes the options that say how.
    pub fn start(args: &mut Args) -> Result<Self, String> {
        let program = |args: &mut Args, option, default: &str| {
            args.text(option).unwrap_or_else(|| default.to_owned())
        };
        let portolan = program(args, "--portolan", "target/release/portolan");
        let unbound = program(args, "--peer", "unbound");
        let authority = program(args, "--authority", "knot");
        let signs = match authority.as_str() {
            "knot" => true,
            "nsd" => false,
            other => return Err(format!("--authority: {other} is not knot or nsd")),
        };
        let binary = program(args, "--program", if signs { "knotd" } else { "nsd" });
        args.finish()?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let place = folder.path();
        let files = write_zones(place)?;
        let ports = free_ports()?;
        let [source, front, back] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let write = |name: &str, text: String| {
            let path = place.join(name);
            std::fs::write(&path, text).map_err(|error| error.to_string())?;
            Ok::<_, String>(path.display().to_string())
        };
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let authority = if signs {
            let conf = write("knot.conf", knot(place, &files, source.port()))?;
            Process::start("knot", &words(&[&binary, "-c", &conf]), None)?
        } else {
            let conf = write("nsd.conf", nsd(place, &files, source.port()))?;
            Process::start("nsd", &words(&[&binary, "-d", "-c", &conf]), None)?
        };
        wait(source, signs)?;
        let corefile = write("Corefile", corefile(front.port(), source.port()))?;
        let unbound_conf = write(
            "unbound.conf",
            unbound_conf(place, back.port(), source.port()),
        )?;
        let processes = [
            authority,
            Process::start("portolan", &words(&[&portolan, "-conf", &corefile]), None)?,
            Process::start(
                "unbound",
                &words(&[&unbound, "-d", "-c", &unbound_conf]),
                None,
            )?,
        ];
        wait(front, signs)?;
        wait(back, signs)?;
        Ok(Self {
            authority: source,
            portolan: front,
            unbound: back,
            signs,
            _processes: processes,
            _folder: folder,
        })
    }
}

fn write_zones(folder: &Path) -> Result<Vec<(&'static str, PathBuf)>, String> {
    let zones = ZONES.iter().enumerate().map(|(number, &zone)| {
        let path = folder.join(format!("{number}.zone"));
        std::fs::write(&path, zones::text(zone)).map_err(|error| error.to_string())?;
        Ok((zone, path))
    });
    zones.collect()
}

/// Waits until a server answers (with a signature, where there are any).
fn wait(server: SocketAddr, signed: bool) -> Result<(), String> {
    let question = Question {
        // No question of the run: nothing of it is in a cache.
        name: "a0.leaves.nsec3.diff.".into(),
        rtype: RecordType::A,
        edns: Some(1232),
        dnssec: true,
        tcp: true,
    };
    let end = Instant::now() + START;
    let mut last = String::new();
    while Instant::now() < end {
        let asked = Client::to(server).map_err(|error| error.to_string());
        match asked.and_then(|mut client| client.ask(&question)) {
            Ok(answer) if answer.answers.len() > usize::from(signed) => return Ok(()),
            Ok(answer) => last = answer.to_string(),
            Err(error) => last = error,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("{server} does not answer: {last}"))
}

fn knot(folder: &Path, files: &[(&str, PathBuf)], port: u16) -> String {
    let folder = folder.display();
    let mut text = format!(
        "server:\n  rundir: \"{folder}\"\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  \
         tcp-workers: 1\n  background-workers: 1\n\
         database:\n  storage: \"{folder}\"\n\
         policy:\n- id: nsec\n  nsec3: off\n- id: nsec3\n  nsec3: on\n  nsec3-iterations: 0\n\
         template:\n- id: default\n  storage: \"{folder}\"\n  zonefile-sync: -1\n  \
         zonefile-load: difference-no-serial\n  journal-content: all\n\
         zone:\n"
    );
    for (number, (zone, file)) in files.iter().enumerate() {
        text.push_str(&format!(
            "- domain: {zone}\n  file: \"{}\"\n",
            file.display()
        ));
        if number + SIGNED >= files.len() {
            let policy = if zone.starts_with("nsec3") {
                "nsec3"
            } else {
                "nsec"
            };
            text.push_str(&format!(
                "  dnssec-signing: on\n  dnssec-policy: {policy}\n"
            ));
        }
    }
    text
}

fn nsd(folder: &Path, files: &[(&str, PathBuf)], port: u16) -> String {
    let folder = folder.display();
    let mut text = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n \
         database: \"\"\n zonesdir: \"{folder}\"\n pidfile: \"{folder}/nsd.pid\"\n \
         xfrdfile: \"{folder}/xfrd.state\"\n xfrdir: \"{folder}\"\n \
         zonelistfile: \"{folder}/zone.list\"\n rrl-ratelimit: 0\n\
         remote-control:\n control-enable: no\n"
    );
    for (zone, file) in files {
        text.push_str(&format!(
            "zone:\n name: \"{zone}\"\n zonefile: \"{}\"\n",
            file.display()
        ));
    }
    text
}

fn corefile(port: u16, source: u16) -> String {
    format!(
        ".:{port} {{\n bind 127.0.0.1\n errors\n cache 3600\n forward . 127.0.0.1:{source}\n}}\n"
    )
}

fn unbound_conf(folder: &Path, port: u16, source: u16) -> String {
    format!(
        "server:\n interface: 127.0.0.1\n port: {port}\n do-daemonize: no\n username: \"\"\n \
         chroot: \"\"\n directory: \"{}\"\n pidfile: \"\"\n use-syslog: no\n num-threads: 1\n \
         access-control: 127.0.0.0/8 allow\n do-not-query-localhost: no\n \
         module-config: \"iterator\"\n edns-buffer-size: 4096\n max-udp-size: 4096\n\
         remote-control:\n control-enable: no\n\
         forward-zone:\n name: \".\"\n forward-addr: 127.0.0.1@{source}\n",
        folder.display()
    )
}
