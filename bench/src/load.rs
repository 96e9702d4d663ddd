//! The workloads, dnsperf, and what it says.

use crate::cluster::service;
use crate::server::{Contender, Server};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kind of load.
pub struct Workload {
    pub name: &'static str,
    tcp: bool,
    /// The question lines for a service; `%` stands for its name with namespace.
    lines: &'static [&'static str],
}

/// All workloads.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "service-a",
        tcp: false,
        lines: &["%.svc.cluster.local A"],
    },
    // What a pod asks for with ndots:5: services, the search list in vain, SRV, pods, addresses.
    Workload {
        name: "ndots-mix",
        tcp: false,
        lines: &[
            "%.svc.cluster.local A",
            "%.svc.cluster.local AAAA",
            "%.svc.cluster.local A",
            "%.svc.cluster.local AAAA",
            "www.example.org.ns1.svc.cluster.local A",
            "www.example.org.svc.cluster.local A",
            "www.example.org.cluster.local A",
            "_http._tcp.%.svc.cluster.local SRV",
            "10-244-2-5.ns1.pod.cluster.local A",
            "1.0.96.10.in-addr.arpa PTR",
        ],
    },
    Workload {
        name: "hot-name",
        tcp: false,
        lines: &["s0.ns0.svc.cluster.local A"],
    },
    Workload {
        name: "tcp",
        tcp: true,
        lines: &["%.svc.cluster.local A"],
    },
];

impl Workload {
    /// Writes the questions in dnsperf's form.
    pub fn write(&self, folder: &Path, services: u32) -> Result<PathBuf, String> {
        let mut text = String::new();
        for index in 0..services {
            let (name, namespace, _) = service(index);
            for line in self.lines {
                text.push_str(&line.replace('%', &format!("{name}.{namespace}")));
                text.push('\n');
            }
        }
        let path = folder.join(self.name);
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(path)
    }
}

/// A measurement.
#[derive(Clone, Debug)]
pub struct Sample {
    queries: u64,
    lost: u64,
    rate: f64,
    /// CPU microseconds per query.
    user: f64,
    system: f64,
    peak_kib: u64,
}

/// That the tools are there.
pub fn check_tools() -> Result<(), String> {
    for (tool, package) in [("dnsperf", "dnsperf"), ("taskset", "util-linux")] {
        if Command::new(tool).arg("-h").output().is_err() {
            return Err(format!("{tool} is missing (Debian's package {package})"));
        }
    }
    Ok(())
}

/// Runs dnsperf on CPU 1 against a server.
pub fn measure(
    server: &Server<'_>,
    questions: &Path,
    workload: &Workload,
    seconds: u32,
) -> Result<Sample, String> {
    if workload.tcp && !server.contender.answers {
        return Ok(Sample {
            queries: 0,
            lost: 0,
            rate: 0.0,
            user: 0.0,
            system: 0.0,
            peak_kib: 0,
        });
    }
    let mut dnsperf = Command::new("taskset");
    dnsperf.args([
        "-c",
        "1",
        "dnsperf",
        "-s",
        "127.0.0.1",
        "-c",
        "16",
        "-T",
        "1",
        "-q",
        "200",
    ]);
    dnsperf.args([
        "-p",
        &server.contender.port.to_string(),
        "-l",
        &seconds.to_string(),
        "-d",
    ]);
    dnsperf.arg(questions);
    if workload.tcp {
        dnsperf.args(["-m", "tcp"]);
    }
    let before = server.usage()?;
    let output = dnsperf.output().map_err(|error| error.to_string())?;
    let after = server.usage()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number =
        |name| number(&text, name).ok_or_else(|| format!("no {name:?} from dnsperf:\n{text}"));
    let queries = number("Queries completed:")?;
    let per_query = |ticks: u64| ticks as f64 * 10_000.0 / queries.max(1.0);
    Ok(Sample {
        queries: queries as u64,
        lost: number("Queries lost:")? as u64,
        rate: number("Queries per second:")?,
        user: per_query(after.0 - before.0),
        system: per_query(after.1 - before.1),
        peak_kib: after.2,
    })
}

/// The number behind `name` in dnsperf's report.
pub fn number(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The sample in the middle by CPU time.
fn median(samples: &[Sample]) -> Option<&Sample> {
    let mut sorted: Vec<&Sample> = samples.iter().collect();
    sorted.sort_by(|a, b| (a.user + a.system).total_cmp(&(b.user + b.system)));
    sorted.get(sorted.len() / 2).copied()
}

/// The results of a workload, as a table in Markdown.
pub fn table(workload: &Workload, contenders: &[Contender], rows: &[Vec<Sample>]) -> String {
    let mut out = format!(
        "\n{}\n\n| server | queries/s | lost | user µs | system µs | total µs | of portolan's | peak MiB |\n\
         |---|---|---|---|---|---|---|---|\n",
        workload.name
    );
    let own = rows.first().and_then(|samples| median(samples));
    let own = own.map_or(1.0, |sample| sample.user + sample.system);
    for (contender, samples) in contenders.iter().zip(rows) {
        let Some(s) = median(samples).filter(|sample| sample.queries > 0) else {
            continue;
        };
        let total = s.user + s.system;
        let _ = writeln!(
            out,
            "| {} | {:.0} | {} | {:.2} | {:.2} | {total:.2} | {:.2} | {:.1} |",
            contender.name,
            s.rate,
            s.lost,
            s.user,
            s.system,
            total / own,
            s.peak_kib as f64 / 1024.0,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dnsperf_report() {
        let text = "Statistics:\n\n  Queries sent:         100\n  Queries completed:    99 (99.00%)\n  \
                    Queries lost:         1 (1.00%)\n  Queries per second:   4985.9 \n";
        assert_eq!(number(text, "Queries completed:"), Some(99.0));
        assert_eq!(number(text, "Queries lost:"), Some(1.0));
        assert_eq!(number(text, "Queries per second:"), Some(4985.9));
        assert_eq!(number(text, "Nothing:"), None);
    }

    #[test]
    fn the_median_is_shown() {
        let sample = |user| Sample {
            queries: 1,
            lost: 0,
            rate: 1.0,
            user,
            system: 0.0,
            peak_kib: 0,
        };
        let samples = [sample(3.0), sample(1.0), sample(2.0)];
        assert_eq!(median(&samples).unwrap().user, 2.0);
    }
}
