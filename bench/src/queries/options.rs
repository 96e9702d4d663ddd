//! The command line.

use super::workload::{WORKLOADS, Workload};

/// What `--help` prints.
pub const HELP: &str = "\
Measures Portolan beside other name servers on this machine (needs dnsperf and taskset).

Usage: portolan-bench [queries] [OPTIONS]

Servers:
  --portolan FILE     the binary (default target/release/portolan)
  --peer NAME=COMMAND another server; the words of COMMAND are split at blanks. A lone path of a
                      coredns, knotd, unbound or nsd gets a ready-made configuration
  --port N            the port that the last --peer listens on, on 127.0.0.1
  --no-found          leaves out the coredns, knotd, unbound and nsd that are found on PATH
  --kubeconfig FILE   Portolan and CoreDNS read the cluster from this API server, where the objects
                      are made (and stay); otherwise Portolan reads manifests and CoreDNS a zone file
  --services N        services of the cluster (default 1000)
  --data DIR          where to leave data and configurations: cluster.local.zone, 10.in-addr.arpa.zone,
                      manifests in cluster/

Rounds:
  --workload NAME     only this one (may be repeated); all (the default) or none
  --rounds N          rounds, of which the median is shown (default 5)
  --seconds N         length of a measurement (default 4)
  --latency NAME      measure latency in this workload (may be repeated); all or none
                      (default service-a, ndots-mix, cached-forward, forward-miss)
  --latency-rounds N  (default 3)

Further sections; with one of them and no --workload, workloads are left out:
  --workers-scaling   throughput for a CPU second with one worker and with two
  --plugins-cost      with prometheus, errors and log (class error) against without
  --sizes N,N,N       the cost of a lookup in clusters of so many services

  --out DIR           where results.txt, results.json and results.svg go (default bench)
  --help              this text

Servers run on CPU 0, dnsperf and the upstream on CPU 1. The echo server, which only turns packets
round, shows what the sockets cost by themselves.

Other commands, each with a --help of its own: `instructions` (of the hottest paths), `memory`, `start`,
`fresh`, `churn`, `curve`, `objects` (a cluster of a given size), `race`, `outage`, `names` (what is
forwarded), `differential` (the answers beside Unbound's).
";

/// What is measured if nothing else is said.
const LATENCY: [&str; 4] = ["service-a", "ndots-mix", "cached-forward", "forward-miss"];

/// A peer as given: name, words of the command, port.
pub type Peer = (String, Vec<String>, Option<u16>);

/// What was asked for.
pub struct Options {
    pub portolan: String,
    pub peers: Vec<Peer>,
    /// Whether servers on PATH take part.
    pub found: bool,
    pub kubeconfig: Option<String>,
    pub services: u32,
    /// A folder that stays; without it a temporary one.
    pub data: Option<String>,
    pub rounds: usize,
    pub seconds: u32,
    pub latency_rounds: usize,
    pub workers: bool,
    pub plugins: bool,
    pub sizes: Vec<u32>,
    pub out: String,
    names: Vec<String>,
    latency: Vec<String>,
}

impl Options {
    /// Reads the arguments; `None` if help is wanted.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--help" | "-h" => return Ok(None),
                "--no-found" => options.found = false,
                "--workers-scaling" => options.workers = true,
                "--plugins-cost" => options.plugins = true,
                _ => {
                    let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
                    options.set(&flag, value)?;
                }
            }
        }
        Ok(Some(options))
    }

    fn set(&mut self, flag: &str, value: String) -> Result<(), String> {
        let number = || positive(flag, &value);
        match flag {
            "--portolan" => self.portolan = value,
            "--peer" => {
                let (name, command) = value.split_once('=').ok_or("--peer wants NAME=COMMAND")?;
                let words = command.split_whitespace().map(str::to_owned).collect();
                self.peers.push((name.to_owned(), words, None));
            }
            "--port" => {
                let port = u16::try_from(number()?).map_err(|_| "--port: no port")?;
                let peer = self.peers.last_mut();
                peer.ok_or("--port comes behind --peer")?.2 = Some(port);
            }
            // Servers look for it from folders of their own.
            "--kubeconfig" => {
                let path = std::path::absolute(&value);
                let path = path.map_err(|error| format!("{flag}: {error}"))?;
                self.kubeconfig = Some(path.display().to_string());
            }
            "--services" => self.services = number()?,
            "--data" => self.data = Some(value),
            "--rounds" => self.rounds = number()? as usize,
            "--seconds" => self.seconds = number()?,
            "--workload" => self.names.push(value),
            "--latency" => self.latency.push(value),
            "--latency-rounds" => self.latency_rounds = number()? as usize,
            "--sizes" => {
                let sizes = value.split(',').map(|size| positive(flag, size));
                self.sizes = sizes.collect::<Result<_, _>>()?;
            }
            "--out" => self.out = value,
            _ => return Err(format!("unknown option {flag}; try --help")),
        }
        Ok(())
    }

    /// The workloads that were asked for, or all.
    pub fn workloads(&self) -> Result<Vec<&'static Workload>, String> {
        let further = self.workers || self.plugins || !self.sizes.is_empty();
        match (self.names.is_empty(), further) {
            (true, true) => Ok(Vec::new()),
            (true, false) => Ok(WORKLOADS.iter().collect()),
            (false, _) => select(&self.names),
        }
    }

    /// The workloads whose latency is measured.
    pub fn latencies(&self) -> Result<Vec<&'static Workload>, String> {
        match self.latency.is_empty() {
            true => select(&LATENCY.map(str::to_owned)),
            false => select(&self.latency),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            portolan: "target/release/portolan".into(),
            peers: Vec::new(),
            found: true,
            kubeconfig: None,
            services: 1000,
            data: None,
            rounds: 5,
            seconds: 4,
            latency_rounds: 3,
            workers: false,
            plugins: false,
            sizes: Vec::new(),
            out: "bench".into(),
            names: Vec::new(),
            latency: Vec::new(),
        }
    }
}

fn positive(flag: &str, value: &str) -> Result<u32, String> {
    let number = value.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| format!("{flag}: no positive number: {value}"))
}

/// The workloads of these names; `all` and `none` are what they say.
fn select(names: &[String]) -> Result<Vec<&'static Workload>, String> {
    let mut found = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => found.extend(WORKLOADS),
            "none" => {}
            name => {
                let known: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
                let workload = WORKLOADS.iter().find(|workload| workload.name == name);
                found.push(workload.ok_or_else(|| {
                    format!("no workload {name}; there are {}", known.join(", "))
                })?);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        let words = line.split('|').filter(|word| !word.is_empty());
        Options::parse(words.map(str::to_owned))
    }

    #[test]
    fn options() {
        let line =
            "--peer|coredns=coredns -conf x|--port|5301|--rounds|3|--workload|tcp|--no-found";
        let options = parse(line).unwrap().unwrap();
        let words = ["coredns", "-conf", "x"].map(str::to_owned).to_vec();
        assert_eq!(options.peers, [("coredns".into(), words, Some(5301))]);
        assert_eq!((options.rounds, options.workloads().unwrap().len()), (3, 1));
        assert!(!options.found);
        assert!(parse("--help").unwrap().is_none());
    }

    #[test]
    fn further_sections_stand_alone_unless_workloads_are_named() {
        let count = |line| {
            let options: Options = parse(line).unwrap().unwrap();
            options.workloads().unwrap().len()
        };
        assert_eq!(count(""), WORKLOADS.len());
        assert_eq!(count("--plugins-cost"), 0);
        assert_eq!(count("--sizes|100,1000|--workload|all"), WORKLOADS.len());
        let options = parse("--sizes|100,1000").unwrap().unwrap();
        assert_eq!(options.sizes, [100, 1000]);
        assert_eq!(options.latencies().unwrap().len(), LATENCY.len());
        let none = parse("--latency|none").unwrap().unwrap();
        assert!(none.latencies().unwrap().is_empty());
    }

    #[test]
    fn nonsense() {
        let error = |line| parse(line).err().unwrap();
        assert_eq!(error("--port|53"), "--port comes behind --peer");
        assert_eq!(error("--rounds|0"), "--rounds: no positive number: 0");
        assert_eq!(error("--sizes|1,x"), "--sizes: no positive number: x");
        assert_eq!(error("--nope|1"), "unknown option --nope; try --help");
        assert_eq!(error("--rounds"), "--rounds needs a value");
        let unknown = parse("--workload|x").unwrap().unwrap();
        let error = unknown.workloads().err().unwrap();
        assert!(error.starts_with("no workload x; there are"));
    }
}
