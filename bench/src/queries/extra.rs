//! The further sections: workers, plugins, sizes.

use super::cluster::{self, Data};
use super::machine::{self, Cpus};
use super::options::Options;
use super::peers::{self, Contender, PORTOLAN, cluster_source, portolan, portolan_corefile};
use super::perf::{self, Load};
use super::process::Server;
use super::report::{Row, Section};
use super::rounds;
use super::workload::{WORKLOADS, Workload};
use std::path::Path;

/// Sockets of the clients where workers share the load: the kernel spreads sockets, not packets.
const SOCKETS: u32 = 64;
/// The plugins whose cost is measured.
const LOADED: &str = " errors\n log . {\n  class error\n }\n prometheus 127.0.0.1:0\n";

/// Portolan alone, from manifests: what the further sections compare is its own.
fn alone(
    options: &Options,
    folder: &Path,
    data: &Data,
    (name, port): (&str, u16),
    others: &str,
) -> Result<Contender, String> {
    let corefile = portolan_corefile(port, &cluster_source(None, data), others);
    let mut contender = portolan(options, folder, (name, port), &corefile)?;
    contender.data = "manifests";
    Ok(contender)
}

/// Service A, which is what all of them ask for.
fn service_a() -> &'static Workload {
    // The table is constant, and begins with it.
    &WORKLOADS[0]
}

/// With prometheus, errors and log against without.
pub fn plugins(options: &Options, folder: &Path) -> Result<Section, String> {
    let data = cluster::write(folder, options.services)?;
    let without = alone(options, folder, &data, ("without", PORTOLAN), "")?;
    let with = alone(options, folder, &data, ("with", PORTOLAN + 2), LOADED)?;
    let questions = service_a().write(folder, options.services, options.seconds)?;
    let rows = rounds::throughput(options, service_a(), &questions, &[&without, &with])?;
    Ok(Section {
        name: "plugins-cost".into(),
        about: "service A with prometheus, errors and log (class error), and without".into(),
        notes: Vec::new(),
        rows,
    })
}

/// The same questions in clusters of several sizes.
pub fn sizes(options: &Options, folder: &Path) -> Result<Section, String> {
    let mut contenders = Vec::new();
    let mut questions = Vec::new();
    for (number, &services) in (0_u16..).zip(&options.sizes) {
        let folder = folder.join(format!("services-{services}"));
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let data = cluster::write(&folder, services)?;
        let name = services.to_string();
        let place = (&*name, PORTOLAN + 40 + number);
        contenders.push(alone(options, &folder, &data, place, peers::STANDARD)?);
        questions.push(service_a().write(&folder, services, options.seconds)?);
    }
    let mut rows: Vec<Row> = contenders.iter().map(Row::new).collect();
    for round in 1..=options.rounds {
        for ((contender, questions), row) in contenders.iter().zip(&questions).zip(&mut rows) {
            rounds::progress("sizes", round, options.rounds, &contender.name);
            let load = Load {
                questions,
                cpus: Cpus::of_this_machine().client,
                threads: 1,
                seconds: options.seconds,
            };
            let server = Server::start(contender)?;
            row.samples
                .push(perf::measure(&server, service_a(), &load)?);
        }
    }
    Ok(Section {
        name: "sizes".into(),
        about: "A of every service in turn, in clusters of so many services".into(),
        notes: Vec::new(),
        rows,
    })
}

/// One worker against two.
pub fn workers(options: &Options, folder: &Path) -> Result<Section, String> {
    let cpus = machine::count();
    if cpus < 2 {
        return Err("--workers-scaling needs two CPUs".into());
    }
    let data = cluster::write(folder, options.services)?;
    let workload = service_a().with_sockets(SOCKETS);
    let questions = workload.write(folder, options.services, options.seconds)?;
    let one = alone(
        options,
        folder,
        &data,
        ("1 worker", PORTOLAN),
        peers::STANDARD,
    )?;
    let mut two = alone(
        options,
        folder,
        &data,
        ("2 workers", PORTOLAN + 2),
        peers::STANDARD,
    )?;
    // Portolan has a worker for each CPU it may use.
    two.cpus = "0,1".into();
    // Where there are no CPUs of their own for dnsperf, it shares those of the two workers.
    let beside = format!("2-{}", cpus - 1);
    let clients = match cpus {
        2 => ["1", "0,1"],
        3 => ["2", "2"],
        _ => [&*beside, &*beside],
    };
    let contenders = [one, two];
    let mut rows: Vec<Row> = contenders.iter().map(Row::new).collect();
    for round in 1..=options.rounds {
        for ((contender, row), client) in contenders.iter().zip(&mut rows).zip(clients) {
            rounds::progress("workers", round, options.rounds, &contender.name);
            let load = Load {
                questions: &questions,
                cpus: client,
                threads: if client.len() > 1 { 2 } else { 1 },
                seconds: options.seconds,
            };
            let server = Server::start(contender)?;
            row.samples.push(perf::measure(&server, &workload, &load)?);
        }
    }
    Ok(Section {
        name: "workers-scaling".into(),
        about: format!("service A from {SOCKETS} sockets, with one worker and with two"),
        notes: scaling(&rows),
        rows,
    })
}

/// What two workers do with a CPU each, from the CPU seconds they used.
fn scaling(rows: &[Row]) -> Vec<String> {
    let shown: Vec<_> = rows.iter().filter_map(Row::shown).collect();
    let [one, two] = shown[..] else {
        return Vec::new();
    };
    let line = |name, sample: &super::sample::Sample| {
        format!(
            "{name}: {:.0} queries for a CPU second of the server, {:.2} CPU seconds a second",
            1e6 / sample.total(),
            sample.busy
        )
    };
    vec![
        line("One worker", one),
        line("Two workers", two),
        format!(
            "Two workers with a CPU each answer {:.2} times as much as one.",
            2.0 * one.total() / two.total()
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_is_counted_in_cpu_seconds() {
        let mut rows = super::super::report::tests::section().rows;
        rows.truncate(2);
        let notes = scaling(&rows);
        assert!(notes[0].contains(" 250000 queries for a CPU second"));
        // 4 µs against 16 µs: each of the two would answer a quarter.
        assert!(notes[2].contains("answer 0.50 times"));
        assert!(scaling(&rows[..1]).is_empty());
        assert_eq!(service_a().name, "service-a");
    }
}
