//! The process's own metrics (`process_…`), read from `/proc` when they are scraped.

use crate::metrics::Registry;
use std::fs;

/// Clock ticks in a second of the times in `/proc`: USER_HZ, 100 on every Linux.
const TICKS: f64 = 100.0;

/// Adds the process metrics; once more changes nothing.
pub fn register(registry: &Registry) {
    registry.read_counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        Vec::new(),
        || cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?),
    );
    for (name, help, key) in [
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            "VmRSS:",
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            "VmSize:",
        ),
    ] {
        registry.read_gauge(name, help, Vec::new(), move || {
            memory(&fs::read_to_string("/proc/self/status").ok()?, key)
        });
    }
    registry.read_gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        Vec::new(),
        // The listing itself has one open.
        || {
            Some(
                fs::read_dir("/proc/self/fd")
                    .ok()?
                    .count()
                    .saturating_sub(1) as f64,
            )
        },
    );
    registry.read_gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        Vec::new(),
        || max_fds(&fs::read_to_string("/proc/self/limits").ok()?),
    );
    let started = fs::read_to_string("/proc/self/stat").ok();
    let booted = fs::read_to_string("/proc/stat").ok();
    let start = started.zip(booted);
    let start = start.and_then(|(stat, boot)| start_time(&stat, &boot));
    registry.read_gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        Vec::new(),
        move || start,
    );
}

/// Field `number` of `/proc/PID/stat` as proc(5) counts them. The second is the command's name in
/// parentheses, which may hold spaces and parentheses itself.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS)
}

fn start_time(stat: &str, boot: &str) -> Option<f64> {
    let line = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(line.trim().parse::<f64>().ok()? + stat_field(stat, 22)? / TICKS)
}

fn memory(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn max_fds(limits: &str) -> Option<f64> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (port) olan)) S 1 7 7 0 -1 4194560 900 0 0 0 250 75 0 0 20 0 4 0 \
                        12345 9000000 500 184467";

    #[test]
    fn proc_files() {
        assert_eq!(cpu_seconds(STAT), Some(3.25));
        let boot = "cpu 1 2\nbtime 1700000000\nprocesses 5\n";
        assert_eq!(start_time(STAT, boot), Some(1_700_000_123.45));
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t    12 kB\n";
        assert_eq!(memory(status, "VmRSS:"), Some(12_288.0));
        assert_eq!(memory(status, "VmSize:"), Some(2_097_152.0));
        let limits = "Limit   Soft Hard\nMax open files            1024    4096   files\n";
        assert_eq!(max_fds(limits), Some(1024.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }
}
