//! The servers that are compared, all with the same Corefile.

use super::args::Args;
use super::dns::Client;
use super::process::Process;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// `pods insecure` or `pods verified`.
pub type Mode = &'static str;
/// Both.
const MODES: [Mode; 2] = ["insecure", "verified"];

/// A server that takes part.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    pub name: String,
    pub command: Vec<String>,
    /// Whether it is not the binary of `--portolan`.
    pub peer: bool,
}

/// Takes `--portolan`, `--peer` and `--only`.
pub fn take(args: &mut Args) -> Result<Vec<Contender>, String> {
    let portolan = args.text("--portolan");
    let mut all = vec![Contender {
        name: "portolan".into(),
        command: vec![portolan.unwrap_or_else(|| "target/release/portolan".into())],
        peer: false,
    }];
    for peer in args.all("--peer") {
        let (name, command) = peer.split_once('=').ok_or("--peer wants NAME=COMMAND")?;
        all.push(Contender {
            name: name.to_owned(),
            command: command.split_whitespace().map(str::to_owned).collect(),
            peer: true,
        });
    }
    if let Some(only) = args.text("--only") {
        all.retain(|contender| contender.name == only);
        if all.is_empty() {
            return Err(format!("--only: no server {only}"));
        }
    }
    Ok(all)
}

/// Takes `--pods-mode`.
pub fn take_modes(args: &mut Args, default: &[Mode]) -> Result<Vec<Mode>, String> {
    match args.text("--pods-mode") {
        None => Ok(default.to_vec()),
        Some(text) => {
            let mode = MODES.into_iter().find(|mode| *mode == text);
            let mode = mode.ok_or_else(|| format!("--pods-mode: not {}", MODES.join(" or ")))?;
            Ok(vec![mode])
        }
    }
}

/// Both modes.
pub fn both() -> &'static [Mode] {
    &MODES
}

/// How a server is to run.
pub struct Setting<'s> {
    pub mode: Mode,
    /// The kubeconfig file.
    pub kubeconfig: &'s str,
    pub cache: bool,
    pub cpu: Option<u32>,
}

/// A server that runs.
pub struct Server {
    pub process: Process,
    /// Where it answers.
    pub dns: SocketAddr,
    /// Where it says whether it is ready.
    pub admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Contender {
    /// Starts it, and does not wait.
    pub fn start(&self, setting: &Setting<'_>) -> Result<Server, String> {
        let [dns, admin, metrics] = free_ports()?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("Corefile");
        let text = corefile(setting, [dns, admin, metrics]);
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let mut words = self.command.clone();
        words.extend(["-conf".to_owned(), display(&path)]);
        Ok(Server {
            process: Process::start(&self.name, &words, setting.cpu)?,
            dns: ([127, 0, 0, 1], dns).into(),
            admin: ([127, 0, 0, 1], admin).into(),
            _folder: folder,
        })
    }

    /// Starts it and waits until it is ready.
    pub fn start_ready(&self, setting: &Setting<'_>) -> Result<Server, String> {
        let mut server = self.start(setting)?;
        server.process.ready(server.admin)?;
        Ok(server)
    }
}

impl Server {
    /// Asks for a service until it is answered; since the start of the process.
    pub fn answers(&self, name: &str) -> Result<Duration, String> {
        let ready = self.process.age();
        loop {
            let known = self.knows(name);
            let age = self.process.age();
            match known {
                Ok(()) => return Ok(age),
                Err(error) if age > ready + PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// That it knows a service: a server that has seen nothing would be a small one.
    pub fn knows(&self, name: &str) -> Result<(), String> {
        let reply = Client::to(self.dns)?.ask(name)?;
        match reply.code == 0 && !reply.addresses.is_empty() {
            true => Ok(()),
            false => Err(format!("{name}: {reply:?}; make the objects first")),
        }
    }
}

/// How long after `/ready` a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn display(path: &Path) -> String {
    path.display().to_string()
}

/// Ports that are free now, for UDP and TCP alike.
pub fn free_ports() -> Result<[u16; 3], String> {
    let bind = || -> std::io::Result<_> {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = tcp.local_addr()?.port();
        Ok((port, tcp, std::net::UdpSocket::bind(("127.0.0.1", port))))
    };
    let mut held = Vec::new();
    while held.len() < 3 {
        let (port, tcp, udp) = bind().map_err(|error| error.to_string())?;
        if let Ok(udp) = udp {
            held.push((port, tcp, udp));
        }
    }
    let mut ports = held.iter().map(|held| held.0);
    Ok(std::array::from_fn(|_| ports.next().unwrap_or_default()))
}

fn corefile(setting: &Setting<'_>, [dns, admin, metrics]: [u16; 3]) -> String {
    let cache = if setting.cache { " cache 30\n" } else { "" };
    format!(
        ".:{dns} {{\n bind 127.0.0.1\n errors\n ready 127.0.0.1:{admin}\n \
         kubernetes cluster.local in-addr.arpa ip6.arpa {{\n  kubeconfig {}\n  pods {}\n  ttl 30\n  \
         fallthrough in-addr.arpa ip6.arpa\n }}\n prometheus 127.0.0.1:{metrics}\n \
         forward . 127.0.0.1:9\n{cache} loadbalance\n}}\n",
        setting.kubeconfig, setting.mode
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        let args = Args::parse(line.split('|').map(str::to_owned));
        args.unwrap().unwrap()
    }

    #[test]
    fn contenders() {
        let mut args = parse("--peer|coredns=coredns -quiet|--portolan|p|--only|coredns");
        let all = take(&mut args).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].command, ["coredns", "-quiet"]);
        assert!(all[0].peer && args.finish().is_ok());
        assert!(take(&mut parse("--only|x")).is_err());
        assert!(take(&mut parse("--peer|x")).is_err());
        assert_eq!(
            take_modes(&mut parse("--pods-mode|verified"), both()),
            Ok(vec!["verified"])
        );
        assert!(take_modes(&mut parse("--pods-mode|x"), both()).is_err());
    }

    #[test]
    fn the_corefile_is_one() {
        let mut setting = Setting {
            mode: "verified",
            kubeconfig: "/k",
            cache: true,
            cpu: None,
        };
        let text = corefile(&setting, [1, 2, 3]);
        assert!(text.contains("  pods verified\n") && text.contains(" cache 30\n"));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        setting.cache = false;
        assert!(!corefile(&setting, [1, 2, 3]).contains("cache"));
    }
}
