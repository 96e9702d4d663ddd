//! `memory`: what a server takes after its start, and the most it takes through a full relist.

use super::api::{self, Api};
use super::args::Args;
use super::contender::{self, Contender, Mode, Setting};
use super::front::Front;
use super::process::Memory;
use super::shape::Size;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a relist of `--relist COMMAND` may take after the command has ended.
const SETTLE: Duration = Duration::from_secs(40);

/// The command.
pub fn run(args: &mut Args) -> Result<(), String> {
    let size = Size::of(args)?;
    let contenders = contender::take(args)?;
    let modes = contender::take_modes(args, contender::both())?;
    let rounds = args.positive("--rounds", 3)?;
    let relist = args.text("--relist");
    args.finish()?;
    let bench = Bench::new(relist)?;
    println!("\n{}\n\n{HEAD}", size.summary());
    for mode in modes {
        for row in bench.measure(&contenders, mode, rounds, &size.known_service())? {
            println!("{row}");
        }
    }
    Ok(())
}

/// The head of the table.
const HEAD: &str = "\
| server | pods | after start MiB | peak of start MiB | after relist MiB | peak through relist MiB |
|---|---|---|---|---|---|";

/// What one start and one relist took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    started: Memory,
    relisted: Memory,
}

/// The medians of a server.
pub struct Row {
    pub name: String,
    pub mode: Mode,
    pub started: Memory,
    pub relisted: Memory,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(
            f,
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            self.name,
            self.mode,
            mib(self.started.now),
            mib(self.started.peak),
            mib(self.relisted.now),
            mib(self.relisted.peak)
        )
    }
}

/// The front, or the command that makes servers list again.
pub struct Bench {
    runtime: Runtime,
    front: Option<Front>,
    relist: Option<Vec<String>>,
    folder: tempfile::TempDir,
}

impl Bench {
    /// With the API server of `KUBECONFIG`.
    pub fn new(relist: Option<String>) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let runtime = api::runtime()?;
        let front = match &relist {
            Some(_) => None,
            None => {
                let api = runtime.block_on(Api::from_environment())?;
                let front = runtime.block_on(Front::start(api))?;
                front.kubeconfig(&folder.path().join("kubeconfig"))?;
                Some(front)
            }
        };
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            runtime,
            front,
            relist: relist.map(words),
            folder,
        })
    }

    /// The servers take turns.
    pub fn measure(
        &self,
        contenders: &[Contender],
        mode: Mode,
        rounds: u32,
        known: &str,
    ) -> Result<Vec<Row>, String> {
        let mut samples = vec![Vec::new(); contenders.len()];
        for round in 1..=rounds {
            for (contender, samples) in contenders.iter().zip(&mut samples) {
                eprintln!(
                    "memory: pods {mode}: round {round} of {rounds}: {}",
                    contender.name
                );
                samples.push(self.one(contender, mode, known)?);
            }
        }
        let rows = contenders
            .iter()
            .zip(samples)
            .map(|(contender, samples)| Row {
                name: contender.name.clone(),
                mode,
                started: Memory {
                    now: median(samples.iter().map(|sample| sample.started.now)),
                    peak: median(samples.iter().map(|sample| sample.started.peak)),
                },
                relisted: Memory {
                    now: median(samples.iter().map(|sample| sample.relisted.now)),
                    peak: median(samples.iter().map(|sample| sample.relisted.peak)),
                },
            });
        Ok(rows.collect())
    }

    fn one(&self, contender: &Contender, mode: Mode, known: &str) -> Result<Sample, String> {
        let kubeconfig = match &self.front {
            Some(_) => self.folder.path().join("kubeconfig").display().to_string(),
            None => api::kubeconfig()?,
        };
        let server = contender.start_ready(&Setting {
            mode,
            kubeconfig: &kubeconfig,
            cache: true,
            cpu: None,
        })?;
        self.quiet();
        server.knows(known)?;
        let started = server.process.memory()?;
        match (&self.front, &self.relist) {
            (Some(front), _) => {
                let kinds = self.runtime.block_on(front.relist())?;
                let wanted = if mode == "verified" { 4 } else { 3 };
                if kinds != wanted {
                    return Err(format!("{}: {kinds} kinds were watched", contender.name));
                }
            }
            (None, Some(words)) => {
                command(words)?;
                std::thread::sleep(SETTLE);
            }
            (None, None) => {}
        }
        server.knows(known)?;
        Ok(Sample {
            started,
            relisted: server.process.memory()?,
        })
    }

    fn quiet(&self) {
        match &self.front {
            Some(front) => self.runtime.block_on(front.quiet()),
            None => std::thread::sleep(Duration::from_secs(3)),
        }
    }
}

fn command(words: &[String]) -> Result<(), String> {
    let (program, rest) = words.split_first().ok_or("--relist: no command")?;
    let status = Command::new(program)
        .args(rest)
        .stdout(Stdio::null())
        .status();
    let status = status.map_err(|error| format!("{program}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {status}")),
    }
}

/// The value in the middle.
pub fn median<T: Ord + Copy + Default>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
