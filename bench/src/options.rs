//! The command line.

use crate::load::{WORKLOADS, Workload};

/// What `--help` prints.
pub const HELP: &str = "\
Measures Portolan beside other name servers on this machine (needs dnsperf and taskset).

Usage: portolan-bench [OPTIONS]

  --portolan FILE     the binary (default target/release/portolan)
  --peer NAME=COMMAND another server; the words of COMMAND are split at blanks
  --port N            the port that the last --peer listens on, on 127.0.0.1
  --rounds N          rounds, of which the median is shown (default 5)
  --seconds N         length of a measurement (default 4)
  --services N        services of the cluster (default 1000)
  --data DIR          where to leave the data for peers: cluster.local.zone, and manifests in cluster/
  --workload NAME     only this one (may be repeated)
  --help              this text

Servers run on CPU 0, dnsperf on CPU 1. The echo server, which only turns packets round, shows
what the sockets cost by themselves.
";

/// What was asked for.
pub struct Options {
    pub portolan: String,
    pub peers: Vec<(String, Vec<String>, u16)>,
    pub rounds: usize,
    pub seconds: u32,
    pub services: u32,
    /// A folder that stays; without it a temporary one.
    pub data: Option<String>,
    names: Vec<String>,
}

impl Options {
    /// Reads the arguments; `None` if help is wanted.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            portolan: "target/release/portolan".into(),
            peers: Vec::new(),
            rounds: 5,
            seconds: 4,
            services: 1000,
            data: None,
            names: Vec::new(),
        };
        while let Some(flag) = args.next() {
            if matches!(flag.as_str(), "--help" | "-h") {
                return Ok(None);
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let number = || -> Result<u32, String> {
                let number = value.parse().ok().filter(|&number| number > 0);
                number.ok_or_else(|| format!("{flag}: no positive number: {value}"))
            };
            match flag.as_str() {
                "--portolan" => options.portolan = value,
                "--peer" => {
                    let (name, command) =
                        value.split_once('=').ok_or("--peer wants NAME=COMMAND")?;
                    let words = command.split_whitespace().map(str::to_owned).collect();
                    options.peers.push((name.to_owned(), words, 53));
                }
                "--port" => {
                    let port = u16::try_from(number()?).map_err(|_| "--port: no port")?;
                    options
                        .peers
                        .last_mut()
                        .ok_or("--port comes behind --peer")?
                        .2 = port;
                }
                "--rounds" => options.rounds = number()? as usize,
                "--seconds" => options.seconds = number()?,
                "--services" => options.services = number()?,
                "--data" => options.data = Some(value),
                "--workload" => options.names.push(value),
                _ => return Err(format!("unknown option {flag}; try --help")),
            }
        }
        Ok(Some(options))
    }

    /// The workloads that were asked for, or all.
    pub fn workloads(&self) -> Result<Vec<&'static Workload>, String> {
        if self.names.is_empty() {
            return Ok(WORKLOADS.iter().collect());
        }
        let find = |name: &String| {
            let known: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
            let found = WORKLOADS.iter().find(|workload| workload.name == name);
            found.ok_or_else(|| format!("no workload {name}; there are {}", known.join(", ")))
        };
        self.names.iter().map(find).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(
            line.split('|')
                .filter(|word| !word.is_empty())
                .map(str::to_owned),
        )
    }

    #[test]
    fn options() {
        let line = "--peer|coredns=coredns -conf x|--port|5301|--rounds|3|--workload|tcp";
        let options = parse(line).unwrap().unwrap();
        let peer = (
            "coredns".into(),
            vec!["coredns".into(), "-conf".into(), "x".into()],
            5301,
        );
        assert_eq!(options.peers, [peer]);
        assert_eq!((options.rounds, options.workloads().unwrap().len()), (3, 1));
        assert!(parse("--help").unwrap().is_none());
    }

    #[test]
    fn nonsense() {
        let error = |line| parse(line).err().unwrap();
        assert_eq!(error("--port|53"), "--port comes behind --peer");
        assert_eq!(error("--rounds|0"), "--rounds: no positive number: 0");
        assert_eq!(error("--nope|1"), "unknown option --nope; try --help");
        assert_eq!(error("--rounds"), "--rounds needs a value");
        let unknown = parse("--workload|x").unwrap().unwrap();
        assert!(
            unknown
                .workloads()
                .err()
                .unwrap()
                .starts_with("no workload x; there are")
        );
    }
}
