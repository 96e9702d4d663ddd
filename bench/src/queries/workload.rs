//! The workloads: what is asked for, and from how many sockets.

use super::cluster::{NAMESPACES, PODS, pod, service};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A kind of load.
pub struct Workload {
    pub name: &'static str,
    /// What it is, for the table.
    pub about: &'static str,
    pub tcp: bool,
    /// Whether the questions lead to the upstream.
    pub forwards: bool,
    /// Client sockets.
    pub sockets: u32,
    write: fn(&mut String, u32, u32),
}

/// The zone of outside names.
pub const OUTSIDE: &str = "bench.example.net";
/// Names of the cached-forward workload.
const CACHED: u32 = 256;
/// New names for each second of a measurement: more than any server forwards.
const NEW_PER_SECOND: u32 = 150_000;

/// All workloads.
pub const WORKLOADS: &[Workload] = &[
    local("service-a", "A of every service in turn", 16, service_a),
    local("service-pairs", "A and AAAA of a service", 16, pairs),
    local(
        "ndots-mix",
        "what pods ask for: 45 % service A/AAAA, 30 % search-list misses, 10 % SRV, 7 % pod names, \
         8 % PTR",
        16,
        mix,
    ),
    outside(
        "cached-forward",
        "256 outside names, from the cache",
        cached,
    ),
    outside(
        "forward-miss",
        "outside names, every one new: each costs two round trips",
        missed,
    ),
    Workload {
        tcp: true,
        ..local("tcp", "service A over TCP, 16 connections", 16, service_a)
    },
    local("hot-name", "one name", 16, hot),
    local("sockets-1", "service A from one socket", 1, service_a),
    local(
        "sockets-1000",
        "service A from 1,000 sockets",
        1000,
        service_a,
    ),
];

const fn local(
    name: &'static str,
    about: &'static str,
    sockets: u32,
    write: fn(&mut String, u32, u32),
) -> Workload {
    Workload {
        name,
        about,
        tcp: false,
        forwards: false,
        sockets,
        write,
    }
}

const fn outside(
    name: &'static str,
    about: &'static str,
    write: fn(&mut String, u32, u32),
) -> Workload {
    Workload {
        forwards: true,
        ..local(name, about, 16, write)
    }
}

impl Workload {
    /// The same questions from so many sockets.
    pub const fn with_sockets(&self, sockets: u32) -> Self {
        Self { sockets, ..*self }
    }

    /// Writes the questions in dnsperf's form, enough for a measurement of so many seconds.
    pub fn write(&self, folder: &Path, services: u32, seconds: u32) -> Result<PathBuf, String> {
        let mut text = String::new();
        (self.write)(&mut text, services, seconds);
        let path = folder.join(format!("{}.questions", self.name));
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

// Writing into a string cannot fail.

/// The services in an order without a pattern that a processor's cache could follow.
fn shuffled(services: u32) -> impl Iterator<Item = (u32, String)> {
    let mut order: Vec<u32> = (0..services).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for at in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order.into_iter().map(|index| {
        let (name, namespace, _) = service(index);
        (index, format!("{name}.{namespace}.svc.cluster.local"))
    })
}

fn service_a(text: &mut String, services: u32, _: u32) {
    for (_, name) in shuffled(services) {
        let _ = writeln!(text, "{name} A");
    }
}

fn pairs(text: &mut String, services: u32, _: u32) {
    for (_, name) in shuffled(services) {
        let _ = writeln!(text, "{name} A\n{name} AAAA");
    }
}

fn hot(text: &mut String, _: u32, _: u32) {
    text.push_str("s0.ns0.svc.cluster.local A\n");
}

/// A hundred questions in the shares of the mix, for one service after the other.
fn mix(text: &mut String, services: u32, _: u32) {
    // 37 and 100 have no common divisor: every question comes once, well mixed.
    let slots = (0..100).map(|at| at * 37 % 100).cycle();
    // Every service at least once with each kind of question would be too much of a file.
    let count = (services as usize).clamp(1_000, 100_000);
    let services = shuffled(services).collect::<Vec<_>>();
    let asked = services.iter().cycle();
    for (number, (slot, (index, name))) in (0_u32..).zip(slots.zip(asked)).take(count) {
        let namespace = number % NAMESPACES;
        let _ = match slot {
            0..23 => writeln!(text, "{name} A"),
            23..45 => writeln!(text, "{name} AAAA"),
            45..55 => writeln!(text, "www.example.org.ns{namespace}.svc.cluster.local A"),
            55..65 => writeln!(text, "www.example.org.svc.cluster.local A"),
            65..75 => writeln!(text, "www.example.org.cluster.local A"),
            75..85 => writeln!(text, "_http._tcp.{name} SRV"),
            85..92 => writeln!(text, "{}.cluster.local A", pod(number % PODS).0),
            _ => {
                let [a, b, c, d] = service(*index).2.octets();
                writeln!(text, "{d}.{c}.{b}.{a}.in-addr.arpa PTR")
            }
        };
    }
}

fn cached(text: &mut String, _: u32, _: u32) {
    for number in 0..CACHED {
        let _ = writeln!(text, "h{number}.{OUTSIDE} A");
    }
}

fn missed(text: &mut String, _: u32, seconds: u32) {
    for number in 0..seconds * NEW_PER_SECOND {
        let _ = writeln!(text, "m{number}.{OUTSIDE} A");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn shares_of_the_mix() {
        let mut text = String::new();
        mix(&mut text, 1000, 1);
        let share = |end: &str| text.lines().filter(|line| line.ends_with(end)).count();
        assert_eq!(text.lines().count(), 1000);
        assert_eq!(
            (share(" SRV"), share(" PTR"), share(" AAAA")),
            (100, 80, 220)
        );
        let misses = text.lines().filter(|line| line.starts_with("www."));
        assert_eq!((misses.count(), share(".pod.cluster.local A")), (300, 70));
    }

    #[test]
    fn new_names_are_new_and_services_are_complete() {
        let mut text = String::new();
        missed(&mut text, 1, 1);
        let names: HashSet<_> = text.lines().collect();
        assert_eq!(names.len(), NEW_PER_SECOND as usize);
        let names: HashSet<_> = shuffled(1000).map(|(_, name)| name).collect();
        assert_eq!(names.len(), 1000);
    }
}
