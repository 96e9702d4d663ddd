//! A server with a Corefile of ours.

use crate::scale::contender::{Contender, free_ports};
use crate::scale::process::{Memory, Process};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A server that runs and is ready.
pub struct Running {
    process: Process,
    pub dns: SocketAddr,
    metrics: SocketAddr,
    _folder: tempfile::TempDir,
}

/// The CPU of the server, where there are two. As it was at the first call: this process itself has
/// only one later ([`keep_off`]).
fn cpu() -> Option<u32> {
    static CPU: OnceLock<Option<u32>> = OnceLock::new();
    *CPU.get_or_init(|| {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        (count > 1).then_some(0)
    })
}

/// Keeps this process, and the threads that it starts from now on, off the server's CPU.
pub fn keep_off() {
    if cpu().is_some() {
        let mut set = rustix::thread::CpuSet::new();
        set.set(1);
        // Without it the figures are only less steady.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// Processes of the class SCHED_IDLE, which everything else goes before, that keep both CPUs from
/// sleeping: on a virtual machine waking one may take milliseconds, and is no affair of the server's.
/// Where there is no `chrt`, they sleep.
pub struct Awake {
    _processes: Vec<Process>,
}

impl Awake {
    /// Keeps them awake until this is dropped.
    pub fn keep() -> Result<Self, String> {
        let bench = std::env::current_exe().map_err(|error| error.to_string())?;
        let words = ["chrt", "-i", "0", &bench.display().to_string(), AWAKE].map(str::to_owned);
        let cpus = cpu().into_iter().flat_map(|cpu| [cpu, cpu + 1]);
        let processes = cpus.map(|cpu| Process::start("awake", &words, Some(cpu)));
        Ok(Self {
            _processes: processes.collect::<Result<_, _>>()?,
        })
    }
}

/// What the bench is started with to do nothing.
pub const AWAKE: &str = "--awake";

/// Spins until whoever started it is gone.
pub fn stay_awake() {
    use std::os::unix::process::parent_id;
    let parent = parent_id();
    while parent_id() == parent {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(10) {
            std::hint::spin_loop();
        }
    }
}

impl Running {
    /// Starts a server with these directives (a line each) beside *errors*, *ready* and *prometheus*.
    pub fn start(contender: &Contender, directives: &str) -> Result<Self, String> {
        let [dns, admin, metrics] = free_ports()?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("Corefile");
        let text = format!(
            ".:{dns} {{\n bind 127.0.0.1\n errors\n ready 127.0.0.1:{admin}\n \
             prometheus 127.0.0.1:{metrics}\n{directives}}}\n"
        );
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let mut words = contender.command.clone();
        words.extend(["-conf".to_owned(), path.display().to_string()]);
        let mut process = Process::start(&contender.name, &words, cpu())?;
        process.ready(([127, 0, 0, 1], admin).into())?;
        Ok(Self {
            process,
            dns: ([127, 0, 0, 1], dns).into(),
            metrics: ([127, 0, 0, 1], metrics).into(),
            _folder: folder,
        })
    }

    /// Its memory.
    pub fn memory(&self) -> Result<Memory, String> {
        self.process.memory()
    }

    /// The sum of the samples of a metric whose labels contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> Result<f64, String> {
        let text = self
            .scrape()
            .map_err(|error| format!("/metrics: {error}"))?;
        Ok(sum(&text, name, label))
    }

    fn scrape(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

fn sum(text: &str, name: &str, label: &str) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let whole = labels.is_empty() || labels.starts_with('{');
        (whole && labels.contains(label)).then(|| value.parse::<f64>().unwrap_or(0.0))
    });
    samples.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let text = "# TYPE a gauge\na{type=\"x\"} 1\na{type=\"y\"} 2\na_total{type=\"x\"} 4\n";
        assert_eq!(sum(text, "a", ""), 3.0);
        assert_eq!(sum(text, "a", "\"y\""), 2.0);
        assert_eq!(sum(text, "b", ""), 0.0);
    }
}
