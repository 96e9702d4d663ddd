//! Who takes part, and the configurations that are ready made.

use super::cluster::Data;
use super::machine::Cpus;
use super::options::Options;
use super::report::ECHO;
use std::path::{Path, PathBuf};

/// The port of the upstream.
pub const UPSTREAM: u16 = 5399;
/// The port of Portolan; the echo server has the next one.
pub const PORTOLAN: u16 = 5310;
/// Ports of peers without a port of their own, from here on.
const PEERS: u16 = 5320;

/// What a server can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Everything.
    Yes,
    /// Only what is in the zone.
    No,
    /// Nothing: it sends packets back.
    Echo,
}

/// A server that takes part.
#[derive(Clone, Debug)]
pub struct Contender {
    pub name: String,
    /// What it reads the cluster from.
    pub data: &'static str,
    pub command: Vec<String>,
    pub port: u16,
    pub forwarding: Forwarding,
    pub cpus: String,
}

impl Contender {
    /// Whether it answers questions.
    pub fn answers(&self) -> bool {
        self.forwarding != Forwarding::Echo
    }
}

/// Programs with a ready-made configuration: name of the program, what comes before the path of the
/// configuration, the configuration, and what it serves.
const READY: [Ready; 4] = [
    Ready("coredns", &["-conf"], coredns, Forwarding::Yes),
    Ready("knotd", &["-c"], knot, Forwarding::No),
    Ready("unbound", &["-d", "-c"], unbound, Forwarding::Yes),
    Ready("nsd", &["-d", "-c"], nsd, Forwarding::No),
];

struct Ready(
    &'static str,
    &'static [&'static str],
    fn(&Place<'_>) -> String,
    Forwarding,
);

/// What a configuration is made from.
struct Place<'p> {
    folder: &'p Path,
    data: &'p Data,
    kubeconfig: Option<&'p str>,
    port: u16,
}

/// Portolan, the echo server, and the peers.
pub fn contenders(options: &Options, folder: &Path, data: &Data) -> Result<Vec<Contender>, String> {
    let itself = std::env::current_exe().map_err(|error| error.to_string())?;
    let source = cluster_source(options.kubeconfig.as_deref(), data);
    let corefile = portolan_corefile(PORTOLAN, &source, STANDARD);
    let mut all = vec![
        portolan(options, folder, ("portolan", PORTOLAN), &corefile)?,
        Contender {
            name: "echo".into(),
            data: ECHO,
            command: vec![
                itself.display().to_string(),
                "--echo".into(),
                (PORTOLAN + 1).to_string(),
            ],
            port: PORTOLAN + 1,
            forwarding: Forwarding::Echo,
            cpus: Cpus::of_this_machine().server.into(),
        },
    ];
    let mut peers = options.peers.clone();
    if options.found {
        // One that was named already has its configuration under that name.
        let named = |name: &str| options.peers.iter().any(|(peer, ..)| peer == name);
        let found = READY.iter().filter(|ready| !named(ready.0));
        let found = found.filter_map(|ready| Some((ready.0, on_path(ready.0)?)));
        peers.extend(found.map(|(name, path)| {
            let words = vec![path.display().to_string()];
            (name.to_owned(), words, None)
        }));
    }
    for (number, (name, words, port)) in (0_u16..).zip(peers) {
        let port = port.unwrap_or(PEERS + number);
        all.push(peer(options, folder, data, (name, words, port))?);
    }
    Ok(all)
}

/// Portolan with this Corefile.
pub fn portolan(
    options: &Options,
    folder: &Path,
    (name, port): (&str, u16),
    corefile: &str,
) -> Result<Contender, String> {
    let path = folder.join(format!("{name}.Corefile"));
    std::fs::write(&path, corefile).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Contender {
        name: name.into(),
        data: match options.kubeconfig {
            Some(_) => "API server",
            None => "manifests",
        },
        command: vec![
            options.portolan.clone(),
            "-conf".into(),
            path.display().to_string(),
        ],
        port,
        forwarding: Forwarding::Yes,
        cpus: Cpus::of_this_machine().server.into(),
    })
}

/// The plugins of the standard Corefile that stand beside those that answer.
pub const STANDARD: &str = " errors\n prometheus 127.0.0.1:0\n";

/// Portolan's Corefile: what answers, and `others`.
pub fn portolan_corefile(port: u16, source: &str, others: &str) -> String {
    format!(
        ".:{port} {{\n bind 127.0.0.1\n{others} kubernetes cluster.local in-addr.arpa ip6.arpa {{\n  \
         {source}\n  pods insecure\n  ttl 30\n }}\n forward . 127.0.0.1:{UPSTREAM}\n cache 30\n \
         loadbalance\n}}\n"
    )
}

/// The line of the kubernetes plugin that says where the objects are.
pub fn cluster_source(kubeconfig: Option<&str>, data: &Data) -> String {
    match kubeconfig {
        Some(file) => format!("kubeconfig {file}"),
        None => format!("manifests {}", data.manifests.display()),
    }
}

fn peer(
    options: &Options,
    folder: &Path,
    data: &Data,
    (name, mut words, port): (String, Vec<String>, u16),
) -> Result<Contender, String> {
    let program = words.first().map(PathBuf::from);
    let program = program.ok_or_else(|| format!("--peer {name}: no command"))?;
    let ready = READY
        .iter()
        .find(|ready| words.len() == 1 && program.file_name().is_some_and(|own| own == ready.0));
    let mut contender = Contender {
        name,
        data: "its own",
        command: Vec::new(),
        port,
        forwarding: Forwarding::Yes,
        cpus: Cpus::of_this_machine().server.into(),
    };
    if let Some(Ready(kind, arguments, configuration, forwarding)) = ready {
        let place = Place {
            folder: &folder.join(&contender.name),
            data,
            kubeconfig: options.kubeconfig.as_deref().filter(|_| *kind == "coredns"),
            port,
        };
        let path = folder.join(format!("{}.conf", contender.name));
        let written = std::fs::create_dir_all(place.folder)
            .and_then(|()| std::fs::write(&path, configuration(&place)));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        words.push(path.display().to_string());
        contender.forwarding = *forwarding;
        contender.data = match place.kubeconfig {
            Some(_) => "API server",
            None => "zone file",
        };
    }
    contender.command = words;
    Ok(contender)
}

/// Where a program is found, also where only root's PATH looks.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn coredns(place: &Place<'_>) -> String {
    let cluster = match place.kubeconfig {
        Some(file) => format!(
            " kubernetes cluster.local in-addr.arpa ip6.arpa {{\n  kubeconfig {file}\n  \
             pods insecure\n  ttl 30\n }}\n"
        ),
        None => format!(
            " file {} cluster.local\n file {} 10.in-addr.arpa\n",
            place.data.zone.display(),
            place.data.reverse.display()
        ),
    };
    format!(
        ".:{} {{\n bind 127.0.0.1\n errors\n{cluster} prometheus 127.0.0.1:0\n \
         forward . 127.0.0.1:{UPSTREAM}\n cache 30\n loadbalance\n}}\n",
        place.port
    )
}

fn knot(place: &Place<'_>) -> String {
    let folder = place.folder.display();
    format!(
        "server:\n    rundir: \"{folder}\"\n    listen: 127.0.0.1@{}\n    udp-workers: 1\n    \
         tcp-workers: 1\n    background-workers: 1\ndatabase:\n    storage: \"{folder}\"\n\
         template:\n  - id: default\n    storage: \"{folder}\"\n    journal-content: none\n\
         zone:\n  - domain: cluster.local\n    file: \"{}\"\n  - domain: 10.in-addr.arpa\n    \
         file: \"{}\"\n",
        place.port,
        place.data.zone.display(),
        place.data.reverse.display()
    )
}

fn unbound(place: &Place<'_>) -> String {
    let zone = |name: &str, file: &Path| {
        format!(
            "auth-zone:\n    name: \"{name}\"\n    zonefile: \"{}\"\n    for-downstream: yes\n    \
             for-upstream: no\n    fallback-enabled: no\n",
            file.display()
        )
    };
    format!(
        "server:\n    interface: 127.0.0.1\n    port: {}\n    do-daemonize: no\n    \
         username: \"\"\n    chroot: \"\"\n    directory: \"{}\"\n    pidfile: \"\"\n    \
         use-syslog: no\n    num-threads: 1\n    outgoing-range: 4096\n    \
         num-queries-per-thread: 2048\n    incoming-num-tcp: 64\n    msg-cache-size: 64m\n    rrset-cache-size: 128m\n    \
         access-control: 127.0.0.0/8 allow\n    do-not-query-localhost: no\n    \
         module-config: \"iterator\"\n    local-zone: \"10.in-addr.arpa.\" nodefault\n\
         remote-control:\n    control-enable: no\n\
         forward-zone:\n    name: \".\"\n    forward-addr: 127.0.0.1@{UPSTREAM}\n{}{}",
        place.port,
        place.folder.display(),
        zone("cluster.local", &place.data.zone),
        zone("10.in-addr.arpa", &place.data.reverse)
    )
}

fn nsd(place: &Place<'_>) -> String {
    let folder = place.folder.display();
    let zone = |name: &str, file: &Path| {
        format!(
            "zone:\n    name: \"{name}\"\n    zonefile: \"{}\"\n",
            file.display()
        )
    };
    // Its limit of responses a second would be what is measured.
    format!(
        "server:\n    ip-address: 127.0.0.1@{}\n    server-count: 1\n    username: \"\"\n    \
         database: \"\"\n    zonesdir: \"{folder}\"\n    pidfile: \"{folder}/nsd.pid\"\n    \
         xfrdfile: \"{folder}/xfrd.state\"\n    xfrdir: \"{folder}\"\n    \
         zonelistfile: \"{folder}/zone.list\"\n    rrl-ratelimit: 0\n\
         remote-control:\n    control-enable: no\n{}{}",
        place.port,
        zone("cluster.local", &place.data.zone),
        zone("10.in-addr.arpa", &place.data.reverse)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_program_gets_a_configuration_and_a_port() {
        let folder = tempfile::tempdir().unwrap();
        let data = super::super::cluster::write(folder.path(), 3).unwrap();
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let line = "--no-found|--peer|old=/opt/x/coredns|--peer|knot=knotd|--port|5999|\
                    --peer|own=coredns -conf other|--kubeconfig|/kube/config";
        let options = Options::parse(line.split('|').map(str::to_owned));
        let options = options.unwrap().unwrap();
        let all = contenders(&options, folder.path(), &data).unwrap();
        let names: Vec<_> = all
            .iter()
            .map(|one| (&*one.name, one.port, one.data))
            .collect();
        assert_eq!(
            names,
            [
                ("portolan", 5310, "API server"),
                ("echo", 5311, "none"),
                ("old", 5320, "API server"),
                ("knot", 5999, "zone file"),
                ("own", 5322, "its own"),
            ]
        );
        let text = std::fs::read_to_string(folder.path().join("old.conf")).unwrap();
        assert!(text.contains(".:5320 {") && text.contains("kubeconfig /kube/config"));
        assert_eq!(all[4].command, words("coredns -conf other"));
        assert_eq!(all[3].forwarding, Forwarding::No);
    }
}
