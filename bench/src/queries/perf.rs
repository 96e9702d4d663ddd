//! Throughput: dnsperf, and the server's CPU time meanwhile.

use super::process::{Server, TICKS};
use super::sample::{Codes, Sample};
use super::workload::Workload;
use crate::load::number;
use std::path::Path;
use std::process::Command;

/// How dnsperf runs.
pub struct Load<'l> {
    pub questions: &'l Path,
    pub cpus: &'l str,
    pub threads: u32,
    pub seconds: u32,
}

/// Runs dnsperf against a server.
pub fn measure(
    server: &Server<'_>,
    workload: &Workload,
    load: &Load<'_>,
) -> Result<Sample, String> {
    let mut dnsperf = Command::new("taskset");
    dnsperf.args(["-c", load.cpus]);
    // A thousand sockets are more files than a shell usually allows.
    dnsperf.args(["sh", "-c", "ulimit -n 8192 2>/dev/null; exec \"$@\"", "sh"]);
    dnsperf.args(["dnsperf", "-s", "127.0.0.1", "-q", "200", "-t", "2"]);
    dnsperf.args(["-p", &server.contender.port.to_string()]);
    dnsperf.args(["-c", &workload.sockets.to_string()]);
    dnsperf.args(["-T", &load.threads.to_string()]);
    dnsperf.args(["-l", &load.seconds.to_string(), "-d"]);
    dnsperf.arg(load.questions);
    if workload.tcp {
        dnsperf.args(["-m", "tcp"]);
    }
    let before = server.usage()?;
    let output = dnsperf.output().map_err(|error| error.to_string())?;
    let after = server.usage()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = |name| {
        let errors = String::from_utf8_lossy(&output.stderr);
        number(&text, name).ok_or_else(|| format!("no {name:?} from dnsperf:\n{text}{errors}"))
    };
    let queries = said("Queries completed:")?;
    let per_query = |ticks: u64| ticks as f64 * 1e6 / TICKS / queries.max(1.0);
    let user = after.user.saturating_sub(before.user);
    let system = after.system.saturating_sub(before.system);
    Ok(Sample {
        codes: Codes::read(&text),
        queries: queries as u64,
        lost: said("Queries lost:")? as u64,
        rate: said("Queries per second:")?,
        user: per_query(user),
        system: per_query(system),
        busy: (user + system) as f64 / TICKS / f64::from(load.seconds),
        peak_kib: after.peak,
    })
}
