//! `churn`: latency, memory and wrong answers while endpoint slices change.
//!
//! Three phases for each server: *quiet*; *control*, in which the API server is as busy with objects
//! that no DNS server watches; and *churn*. What control costs is the machine's affair, what churn
//! costs beyond it is the server's.

mod check;
mod dnsperf;
mod stand_in;
mod update;
mod watch;

use super::api::{self, Api};
use super::args::Args;
use super::contender::{self, Contender, Server, Setting};
use super::history::SERVICES;
use super::process::Memory;
use super::shape::Size;
use check::{Checker, Report};
use stand_in::StandIn;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use update::{Cluster, Sort};

/// The CPU of the server; everything that is started here is on the other one.
const SERVER_CPU: u32 = 0;
/// The CPU of the load and of the checks.
const LOAD_CPU: u32 = 1;

struct Options {
    prefix: String,
    rate: u32,
    seconds: u32,
    load: Option<u32>,
    checked: u32,
    targets: u32,
    bound: Duration,
    /// How long the phases before churn last, in seconds.
    calm: u32,
}

/// The command.
pub fn run(args: &mut Args) -> Result<(), String> {
    let contenders = contender::take(args)?;
    let modes = contender::take_modes(args, &["insecure"])?;
    let size = Size::of(args)?;
    let stands_in = args.text("--stand-in").is_some();
    let seconds = args.positive("--seconds", 300)?;
    let options = Options {
        prefix: size.prefix.clone(),
        rate: args.positive("--rate", 500)?,
        seconds,
        calm: args.positive("--calm", seconds)?,
        load: match args.number("--load", 0)? {
            0 => None,
            load => Some(load),
        },
        checked: args.positive("--checked", 2_000)?,
        targets: args.positive("--targets", 200)?.min(SERVICES),
        bound: Duration::from_millis(args.number("--bound", 100)?.into()),
    };
    args.finish()?;
    dnsperf::pin_this(LOAD_CPU)?;
    let runtime = api::runtime()?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (api, stand_in, kubeconfig) = match stands_in {
        true => {
            let path = folder.path().join("kubeconfig");
            let stand_in = runtime.block_on(StandIn::start(&size))?;
            stand_in.kubeconfig(&path)?;
            let api = runtime.block_on(Api::from_file(&path))?;
            (api, Some(stand_in), path.display().to_string())
        }
        false => {
            let api = runtime.block_on(Api::from_environment())?;
            (api, None, api::kubeconfig()?)
        }
    };
    let namespace = format!("{}-churn", options.prefix);
    let made = Cluster::make(api, stand_in, &namespace, options.targets, Instant::now());
    let mut bench = Bench {
        cluster: runtime.block_on(made)?,
        runtime,
        options,
        kubeconfig,
        folder,
    };
    if !stands_in {
        // The stand-in tells of a change at once: its replies are the measure.
        for sort in [Sort::Control, Sort::Slices] {
            bench
                .runtime
                .spawn(watch::tell(bench.cluster.share(), sort));
        }
    }
    println!("\n{HEAD}");
    let mut done = Ok(());
    for mode in modes {
        for contender in &contenders {
            done = done.and_then(|()| bench.measure(contender, mode));
        }
    }
    if !stands_in {
        bench.runtime.block_on(bench.cluster.remove())?;
    }
    done
}

const HEAD: &str = "\
| server | phase | updates/s | load/s | lost | p50 µs | p99 µs | p99.9 µs | checked | lost | wrong | \
oldest ms | from watch ms | start MiB | end MiB | peak MiB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

struct Bench {
    cluster: Cluster,
    runtime: Runtime,
    options: Options,
    kubeconfig: String,
    folder: tempfile::TempDir,
}

impl Bench {
    fn measure(&mut self, contender: &Contender, mode: contender::Mode) -> Result<(), String> {
        let server = contender.start_ready(&Setting {
            mode,
            kubeconfig: &self.kubeconfig,
            cache: true,
            cpu: Some(SERVER_CPU),
        })?;
        server.answers(&self.cluster.target_name(0))?;
        let questions = self.folder.path().join("questions");
        self.cluster.write_questions(&questions)?;
        let load = dnsperf::Load {
            server: server.dns,
            questions: &questions,
            cpu: LOAD_CPU,
        };
        let rate = match self.options.load {
            Some(rate) => rate,
            None => load.capacity()? / 2,
        };
        for sort in [None, Some(Sort::Control), Some(Sort::Slices)] {
            let phase = match sort {
                None => "quiet",
                Some(Sort::Control) => "control",
                Some(Sort::Slices) => "churn",
            };
            eprintln!("churn: {}: {phase}", contender.name);
            let row = self.phase(&server, &load, rate, sort)?;
            println!("| {} | {phase} | {row} |", contender.name);
        }
        Ok(())
    }

    fn phase(
        &mut self,
        server: &Server,
        load: &dnsperf::Load<'_>,
        rate: u32,
        sort: Option<Sort>,
    ) -> Result<String, String> {
        let before = server.process.memory()?;
        let seconds = match sort {
            Some(Sort::Slices) => self.options.seconds,
            _ => self.options.calm,
        };
        let time = Duration::from_secs(seconds.into());
        let running = load.start(rate, seconds)?;
        let begun = Instant::now();
        let checker = Checker::start(server.dns, &self.cluster, self.options.checked, time)?;
        let mut updates = 0;
        if let Some(sort) = sort {
            let changed = self.cluster.change(sort, self.options.rate, time);
            updates = self.runtime.block_on(changed)?;
        }
        let elapsed = begun.elapsed().as_secs_f64();
        let mut report = checker.finish(&self.cluster, self.options.bound)?;
        let load = running.finish()?;
        let after = server.process.memory()?;
        let changed = f64::from(updates) / elapsed;
        Ok(row(changed, &load, &mut report, before, after))
    }
}

fn row(
    changed: f64,
    load: &dnsperf::Outcome,
    report: &mut Report,
    before: Memory,
    after: Memory,
) -> String {
    let mib = |kib: u64| kib as f64 / 1024.0;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| report.latency(share));
    format!(
        "{changed:.0} | {:.0} | {} | {p50} | {p99} | {p999} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1}",
        load.rate,
        load.lost,
        report.checked,
        report.lost,
        report.wrong,
        report.oldest.replied.as_secs_f64() * 1000.0,
        report.oldest.told.as_secs_f64() * 1000.0,
        mib(before.now),
        mib(after.now),
        mib(after.peak)
    )
}
