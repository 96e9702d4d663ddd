//! The rounds: every server in turn, so that what the machine does meanwhile hits all alike.

use super::machine::Cpus;
use super::options::Options;
use super::pace::{self, Waiting};
use super::peers::{Contender, Forwarding};
use super::perf::{self, Load};
use super::process::Server;
use super::report::{At, Row, Section};
use super::sample::{Latency, Sample, median, middle};
use super::workload::Workload;
use std::path::Path;

/// Shares of a server's own saturation at which latency is measured.
const SHARES: [(&str, f64); 3] = [("30 %", 0.3), ("60 %", 0.6), ("90 %", 0.9)];
/// And this share of the saturation of the slowest peer, the same rate for all.
const COMMON: (&str, f64) = ("60 % of the slowest", 0.6);

/// Measures every workload.
pub fn workloads(
    options: &Options,
    folder: &Path,
    contenders: &[Contender],
) -> Result<Vec<Section>, String> {
    let latencies = options.latencies()?;
    let mut sections = Vec::new();
    for workload in options.workloads()? {
        let questions = workload.write(folder, options.services, options.seconds)?;
        let contenders: Vec<&Contender> = contenders
            .iter()
            .filter(|contender| takes_part(contender, workload))
            .collect();
        let mut rows = throughput(options, workload, &questions, &contenders)?;
        // The client knows only UDP.
        if !workload.tcp && latencies.iter().any(|one| one.name == workload.name) {
            latency(options, workload, &questions, &contenders, &mut rows)?;
        }
        sections.push(Section {
            name: workload.name.into(),
            about: workload.about.into(),
            notes: notes(workload),
            rows,
        });
    }
    Ok(sections)
}

/// Whether a server is asked this.
fn takes_part(contender: &Contender, workload: &Workload) -> bool {
    match contender.forwarding {
        Forwarding::Yes => true,
        Forwarding::No => !workload.forwards,
        Forwarding::Echo => !workload.tcp,
    }
}

fn notes(workload: &Workload) -> Vec<String> {
    match workload.name {
        "forward-miss" => vec!["The floor of a forwarded query is two echoes.".into()],
        _ => Vec::new(),
    }
}

/// The rounds of dnsperf.
pub fn throughput(
    options: &Options,
    workload: &Workload,
    questions: &Path,
    contenders: &[&Contender],
) -> Result<Vec<Row>, String> {
    let load = Load {
        questions,
        cpus: Cpus::of_this_machine().client,
        threads: 1,
        seconds: options.seconds,
    };
    let mut rows: Vec<Row> = contenders.iter().map(|one| Row::new(one)).collect();
    for round in 1..=options.rounds {
        for (contender, row) in contenders.iter().zip(&mut rows) {
            progress(workload.name, round, options.rounds, &contender.name);
            let server = Server::start(contender)?;
            row.samples.push(perf::measure(&server, workload, &load)?);
        }
    }
    Ok(rows)
}

/// The rounds of latency, at rates that follow from the saturation found before.
fn latency(
    options: &Options,
    workload: &Workload,
    questions: &Path,
    contenders: &[&Contender],
    rows: &mut [Row],
) -> Result<(), String> {
    let saturation = |row: &Row| median(&row.samples).map(|sample: &Sample| sample.rate);
    let slowest = contenders.iter().zip(rows.iter());
    let slowest = slowest
        .filter(|(contender, _)| contender.answers())
        .filter_map(|(_, row)| saturation(row))
        .fold(f64::INFINITY, f64::min);
    if !slowest.is_finite() {
        return Ok(());
    }
    let common = (COMMON.0, slowest * COMMON.1);
    let rates: Vec<Vec<(&str, f64)>> = rows
        .iter()
        .map(|row| {
            let own = saturation(row).unwrap_or(slowest);
            let own = SHARES.map(|(name, share)| (name, own * share));
            own.into_iter().chain([common]).collect()
        })
        .collect();
    let cpus = Cpus::of_this_machine().client;
    let waiting = match workload.forwards {
        true => Waiting::Sleep,
        false => Waiting::Spin,
    };
    for at in 0..=SHARES.len() {
        let mut found: Vec<Vec<Latency>> = vec![Vec::new(); rows.len()];
        for round in 1..=options.latency_rounds {
            for ((contender, rates), found) in contenders.iter().zip(&rates).zip(&mut found) {
                let (name, rate) = rates[at];
                let what = format!("{}, latency at {name}", workload.name);
                progress(&what, round, options.latency_rounds, &contender.name);
                let server = Server::start(contender)?;
                let load = (rate, options.seconds);
                found.push(pace::measure(&server, questions, load, cpus, waiting)?);
            }
        }
        for ((row, rates), found) in rows.iter_mut().zip(&rates).zip(&found) {
            let (name, wanted) = rates[at];
            if let Some(latency) = combine(found) {
                row.latency.push(At {
                    share: name.into(),
                    wanted,
                    latency,
                });
            }
        }
    }
    Ok(())
}

/// The median of each figure over the rounds; all that was lost.
fn combine(rounds: &[Latency]) -> Option<Latency> {
    let figure = |key: fn(&Latency) -> f64| Some(key(middle(rounds, key)?));
    Some(Latency {
        rate: figure(|round| round.rate)?,
        lost: rounds.iter().map(|round| round.lost).sum(),
        p50: figure(|round| round.p50)?,
        p99: figure(|round| round.p99)?,
        p999: figure(|round| round.p999)?,
    })
}

/// Says what runs now.
pub fn progress(what: &str, round: usize, rounds: usize, name: &str) {
    eprintln!("{what}: round {round} of {rounds}: {name}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_medians_and_losses_add_up() {
        let round = |rate, lost, p99| Latency {
            rate,
            lost,
            p50: 10.0,
            p99,
            p999: 100.0,
        };
        let rounds = [
            round(1.0, 1, 30.0),
            round(3.0, 0, 20.0),
            round(2.0, 4, 90.0),
        ];
        let all = combine(&rounds).unwrap();
        assert_eq!((all.rate, all.lost, all.p99), (2.0, 5, 30.0));
        assert_eq!(combine(&[]), None);
    }
}
