//! `outage`: every upstream is silent for a time, and more is asked of them than ever.

use super::server::{Awake, Running, keep_off};
use super::source::{Manner, State, start};
use super::stream::{PHASES, Stream, Tally};
use super::{mib, verdict};
use crate::queries::cluster::{self, Data};
use crate::scale::args::Args;
use crate::scale::contender::{Contender, take};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

const PHASE: [&str; PHASES] = ["normal", "outage", "after"];
/// Outside names that are asked again and again.
const KNOWN: u64 = 100;
/// TTL of the upstream's records: known names are stale soon after the outage began.
const TTL: u32 = 5;
/// From the beginning of the outage until every known name is stale.
const STALE_AFTER: Duration = Duration::from_secs(TTL as u64 + 1);
/// How many times as many outside questions there are in the outage.
const MORE: f64 = 10.0;
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(500);
/// What the tail of the cluster's latency may grow by: a factor, and a difference in microseconds
/// below which the factor is not looked at.
const TAIL: (f64, f64) = (1.5, 100.0);
/// How long after the upstream's return the first good answer may come.
const RECOVERY: Duration = Duration::from_secs(1);

struct Plan {
    /// Of each phase.
    lengths: [Duration; PHASES],
    cluster: f64,
    misses: f64,
    stale: f64,
    services: u32,
}

struct Outcome {
    cluster: [Tally; PHASES],
    misses: [Tally; PHASES],
    known: [Tally; PHASES],
    /// The most resident memory of each phase, in KiB.
    rss: [u64; PHASES],
    peak: u64,
    /// Good answers to known names after all of them were stale.
    stale: f64,
    returned: Instant,
    /// Queries that arrived upstream in the outage.
    arrived: u64,
}

/// Runs the command.
pub fn run(args: &mut Args) -> Result<(), String> {
    let contenders = take(args)?;
    let quiet = Duration::from_secs(args.positive("--quiet-seconds", 60)?.into());
    let outage = Duration::from_secs(args.positive("--seconds", 600)?.into());
    let plan = Plan {
        lengths: [quiet, outage, quiet],
        cluster: args.positive("--cluster", 2_000)?.into(),
        misses: args.positive("--misses", 100)?.into(),
        stale: args.positive("--stale", 50)?.into(),
        services: args.positive("--services", 1_000)?,
    };
    args.finish()?;
    keep_off();
    let _awake = Awake::keep()?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let data = cluster::write(folder.path(), plan.services)?;
    let mut wrong = Vec::new();
    for contender in &contenders {
        let outcome = measure(contender, &data, &plan)?;
        wrong.extend(report(contender, &outcome));
    }
    verdict(wrong)
}

/// Two upstreams, stale answers, and the cluster: from objects, or as a zone where the server is
/// another one.
fn directives(contender: &Contender, data: &Data, ports: [u16; 2]) -> String {
    let [first, second] = ports;
    let cluster = match contender.peer {
        false => format!(
            " kubernetes cluster.local {{\n  manifests {}\n  ttl 30\n }}\n",
            data.manifests.display()
        ),
        true => format!(" file {} cluster.local\n", data.zone.display()),
    };
    format!(
        "{cluster} forward . 127.0.0.1:{first} 127.0.0.1:{second}\n \
         cache 30 {{\n  serve_stale 1h\n }}\n loadbalance\n"
    )
}

fn measure(contender: &Contender, data: &Data, plan: &Plan) -> Result<Outcome, String> {
    let state = Arc::new(State::default());
    let manner = Manner {
        ttl: TTL,
        delay: Duration::ZERO,
    };
    let ports = [start(&state, manner)?, start(&state, manner)?];
    let server = Running::start(contender, &directives(contender, data, ports))?;
    let phase = AtomicUsize::new(0);
    let services = u64::from(plan.services);
    let cluster = stream(server.dns, [plan.cluster; PHASES], move |number| {
        let number = number % services;
        let namespace = cluster::namespace(number as u32);
        format!("s{number}.{namespace}.svc.cluster.local")
    });
    let misses = [plan.misses, plan.misses * MORE, plan.misses];
    let misses = stream(server.dns, misses, |number| {
        format!("m{number}.example.org")
    });
    let known = stream(server.dns, [plan.stale; PHASES], |number| {
        format!("k{}.example.net", number % KNOWN)
    });
    std::thread::scope(|scope| {
        let clients = [
            scope.spawn(|| cluster.run(&phase)),
            scope.spawn(|| misses.run(&phase)),
            scope.spawn(|| known.run(&phase)),
        ];
        let watched = watch(&server, &state, &phase, plan);
        // Whatever happened, the clients end.
        phase.store(PHASES, Relaxed);
        let [cluster, misses, known] = clients.map(join);
        let Watched {
            rss,
            stale,
            returned,
            arrived,
        } = watched?;
        Ok(Outcome {
            cluster: cluster?,
            misses: misses?,
            known: known?,
            rss,
            peak: server.memory()?.peak,
            stale,
            returned,
            arrived,
        })
    })
}

fn stream<N: Fn(u64) -> String + Sync + Send + 'static>(
    to: SocketAddr,
    rates: [f64; PHASES],
    name: N,
) -> Stream<Box<dyn Fn(u64) -> String + Sync + Send>> {
    let name = Box::new(name);
    Stream { to, rates, name }
}

fn join<T>(client: ScopedJoinHandle<'_, std::io::Result<T>>) -> Result<T, String> {
    let ended = client.join().map_err(|_| "a client failed".to_owned())?;
    ended.map_err(|error| error.to_string())
}

struct Watched {
    rss: [u64; PHASES],
    stale: f64,
    returned: Instant,
    arrived: u64,
}

/// Goes through the phases, and looks at the server meanwhile.
fn watch(
    server: &Running,
    state: &State,
    phase: &AtomicUsize,
    plan: &Plan,
) -> Result<Watched, String> {
    let mut rss = [0; PHASES];
    let served = || server.metric("coredns_cache_served_stale_total", "");
    let mut served_before = None;
    let (mut served_after, mut returned, mut arrived) = (0.0, Instant::now(), 0);
    for (number, length) in plan.lengths.into_iter().enumerate() {
        let arrived_before = state.queries.load(Relaxed);
        state.dead.store(number == 1, Relaxed);
        let begun = Instant::now();
        phase.store(number, Relaxed);
        if number == 2 {
            returned = begun;
        }
        while begun.elapsed() < length {
            rss[number] = server.memory()?.now.max(rss[number]);
            if number == 1 && served_before.is_none() && begun.elapsed() > STALE_AFTER {
                served_before = Some(served()?);
            }
            std::thread::sleep(LOOK.min(length));
        }
        if number == 1 {
            served_after = served()?;
            arrived = state.queries.load(Relaxed) - arrived_before;
        }
    }
    let stale = served_before.map_or(0.0, |before| served_after - before);
    Ok(Watched {
        rss,
        stale,
        returned,
        arrived,
    })
}

/// Prints the tables of a server; gives what does not hold, for one that is to be right.
fn report(contender: &Contender, outcome: &Outcome) -> Vec<String> {
    let name = &contender.name;
    println!("\n{name}\n");
    println!(
        "| phase | questions | sent | good | SERVFAIL | other | lost | p50 µs | p99 µs | p99.9 µs | RSS at most MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let streams = [
        ("cluster", &outcome.cluster),
        ("new", &outcome.misses),
        ("known", &outcome.known),
    ];
    for (number, phase) in PHASE.into_iter().enumerate() {
        for (questions, tallies) in streams {
            let tally = &tallies[number];
            println!(
                "| {phase} | {questions} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.1} |",
                tally.sent,
                tally.good,
                tally.servfail,
                tally.other,
                tally.lost(),
                tally.latency.quantile(0.5),
                tally.latency.quantile(0.99),
                tally.latency.quantile(0.999),
                mib(outcome.rss[number]),
            );
        }
    }
    let after = |at: Instant| at.saturating_duration_since(outcome.returned);
    let first = outcome.misses[2].first_good.map(after);
    let bad = outcome.misses[2].last_bad.map(after);
    let p99 = |number: usize| outcome.cluster[number].latency.quantile(0.99);
    let seconds = |time: Option<Duration>| {
        time.map_or("none".into(), |time| format!("{:.3} s", time.as_secs_f64()))
    };
    println!("\ncluster p99, outage over normal: {:.2}", p99(1) / p99(0));
    println!("peak: {:.1} MiB", mib(outcome.peak));
    println!(
        "stale answers, after {STALE_AFTER:?} of outage: {}",
        outcome.stale
    );
    println!(
        "queries that arrived upstream in the outage: {}",
        outcome.arrived
    );
    println!("first good answer after the return: {}", seconds(first));
    println!(
        "last question after the return that was not answered well: {}",
        seconds(bad)
    );
    if contender.peer {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    let mut hold = |holds: bool, what: &str| {
        if !holds {
            wrong.push(format!("{name}: {what}"));
        }
    };
    let (factor, least) = TAIL;
    let tail = p99(1) <= p99(0) * factor || p99(1) - p99(0) <= least;
    hold(tail, "the cluster's p99 grew");
    let cluster = outcome
        .cluster
        .iter()
        .all(|tally| tally.servfail + tally.other == 0);
    hold(cluster, "cluster names were answered wrongly");
    hold(
        first.is_some_and(|first| first <= RECOVERY),
        "no good answer soon after the return",
    );
    let known = &outcome.known[1];
    hold(
        known.good > 0 && known.servfail == 0,
        "known names failed in the outage",
    );
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_source_of_cluster_names_differs() {
        let folder = tempfile::tempdir().unwrap();
        let data = cluster::write(folder.path(), 10).unwrap();
        let texts = [false, true].map(|peer| {
            let contender = Contender {
                name: "x".into(),
                command: Vec::new(),
                peer,
            };
            directives(&contender, &data, [1, 2])
        });
        assert!(texts[0].contains(" manifests ") && texts[1].contains(" file "));
        for text in texts {
            assert!(text.contains(" forward . 127.0.0.1:1 127.0.0.1:2\n"));
            assert!(text.contains("  serve_stale 1h\n"));
        }
    }
}
