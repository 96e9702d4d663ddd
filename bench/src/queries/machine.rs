//! The machine: its CPUs and tools, and what the results say of it.

use std::process::Command;

/// Which CPU does what.
#[derive(Clone, Copy)]
pub struct Cpus {
    pub server: &'static str,
    /// dnsperf and the upstream.
    pub client: &'static str,
}

impl Cpus {
    /// A CPU each where there are two.
    pub fn of_this_machine() -> Self {
        Self {
            server: "0",
            client: if count() > 1 { "1" } else { "0" },
        }
    }
}

/// CPUs of this machine that this process may use.
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
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

/// The processor, the kernel and how this run was called.
pub fn describe() -> Vec<(&'static str, String)> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    vec![
        ("cpu", format!("{} × {model}", count())),
        (
            "kernel",
            read("/proc/sys/kernel/osrelease").trim().to_owned(),
        ),
        ("arguments", arguments.join(" ")),
    ]
}
