//! `start`: from the start of the process to `/ready`.

use super::api;
use super::args::Args;
use super::contender::{self, Contender, Mode, Setting};
use super::memory::median;
use super::shape::Size;
use std::time::Duration;

/// The command.
pub fn run(args: &mut Args) -> Result<(), String> {
    let size = Size::of(args)?;
    let contenders = contender::take(args)?;
    let modes = contender::take_modes(args, contender::both())?;
    let rounds = args.positive("--rounds", 5)?;
    args.finish()?;
    println!("\n{}\n\n{HEAD}", size.summary());
    for mode in modes {
        for row in measure(&contenders, mode, rounds, &size.known_service())? {
            println!("{row}");
        }
    }
    Ok(())
}

/// The head of the table.
const HEAD: &str = "\
| server | pods | to /ready s | least | most | to an answer s | peak MiB |
|---|---|---|---|---|---|---|";

/// The times of a server.
pub struct Row {
    pub name: String,
    pub mode: Mode,
    pub median: Duration,
    least: Duration,
    most: Duration,
    /// To the first right answer after `/ready` has said yes.
    answered: Duration,
    /// The most memory until then, in KiB.
    peak: u64,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "| {} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} |",
            self.name,
            self.mode,
            self.median.as_secs_f64(),
            self.least.as_secs_f64(),
            self.most.as_secs_f64(),
            self.answered.as_secs_f64(),
            self.peak as f64 / 1024.0
        )
    }
}

/// The servers take turns.
pub fn measure(
    contenders: &[Contender],
    mode: Mode,
    rounds: u32,
    known: &str,
) -> Result<Vec<Row>, String> {
    let kubeconfig = api::kubeconfig()?;
    let setting = Setting {
        mode,
        kubeconfig: &kubeconfig,
        cache: true,
        cpu: None,
    };
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 1..=rounds {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let mut server = contender.start(&setting)?;
            let ready = server.process.ready(server.admin)?;
            let answered = server.answers(known)?;
            eprintln!(
                "start: pods {mode}: round {round} of {rounds}: {}: ready {:.3} s, answer {:.3} s",
                contender.name,
                ready.as_secs_f64(),
                answered.as_secs_f64()
            );
            times.push((ready, answered, server.process.memory()?.peak));
        }
    }
    let rows = contenders.iter().zip(times).map(|(contender, times)| Row {
        name: contender.name.clone(),
        mode,
        median: median(times.iter().map(|time| time.0)),
        least: times.iter().map(|time| time.0).min().unwrap_or_default(),
        most: times.iter().map(|time| time.0).max().unwrap_or_default(),
        answered: median(times.iter().map(|time| time.1)),
        peak: median(times.iter().map(|time| time.2)),
    });
    Ok(rows.collect())
}
