//! `curve`: memory and start over growing clusters.

use super::api::{self, Api};
use super::args::Args;
use super::contender;
use super::memory::Bench;
use super::objects;
use super::shape::Size;
use super::start;

/// The command: makes the objects of each point beside those of the one before, and removes all at
/// the end, unless they are to be kept.
pub fn run(args: &mut Args) -> Result<(), String> {
    let prefix = args.text("--prefix").unwrap_or_else(|| "curve".into());
    let contenders = contender::take(args)?;
    let modes = contender::take_modes(args, contender::both())?;
    let rounds = args.positive("--rounds", 3)?;
    let connections = args.positive("--connections", 16)?;
    let relist = args.text("--relist");
    let keep = args.text("--keep").is_some();
    let points = points(args.text("--points"))?;
    args.finish()?;
    let runtime = api::runtime()?;
    let api = runtime.block_on(Api::from_environment())?;
    let bench = Bench::new(relist)?;
    println!("\n{HEAD}");
    let mut before = 0;
    for point in &points {
        let step = step(&prefix, before, *point);
        runtime.block_on(objects::make(&api, &step, connections))?;
        before = *point;
        for &mode in &modes {
            let known = step.known_service();
            let starts = start::measure(&contenders, mode, rounds, &known)?;
            let memories = bench.measure(&contenders, mode, rounds, &known)?;
            for (start, memory) in starts.iter().zip(memories) {
                let mib = |kib: u64| kib as f64 / 1024.0;
                println!(
                    "| {point} | {} | {mode} | {:.3} | {:.1} | {:.1} | {:.1} |",
                    start.name,
                    start.median.as_secs_f64(),
                    mib(memory.started.now),
                    mib(memory.started.peak),
                    mib(memory.relisted.peak)
                );
            }
        }
    }
    if keep {
        return Ok(());
    }
    let mut before = 0;
    for &point in &points {
        let step = step(&prefix, before, point);
        runtime.block_on(objects::remove(&api, &step.prefix))?;
        before = point;
    }
    Ok(())
}

/// The head of the table.
const HEAD: &str = "\
| objects | server | pods | to /ready s | after start MiB | peak of start MiB | peak through relist MiB |
|---|---|---|---|---|---|---|";

fn points(text: Option<String>) -> Result<Vec<u32>, String> {
    let text = text.unwrap_or_else(|| "1000,10000,50000,150000".into());
    let points: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    let points = points.map_err(|_| format!("--points: no numbers: {text}"))?;
    let grows = points.windows(2).all(|pair| pair[0] < pair[1]);
    match grows && points.first().is_some_and(|&first| first >= 30) {
        true => Ok(points),
        false => Err("--points: must grow, from 30".into()),
    }
}

/// What is to be made on the way from one point to the next. Of 30 objects one is a service, 9 are
/// endpoints and 20 are pods.
fn step(prefix: &str, before: u32, point: u32) -> Size {
    let services = point / 30 - before / 30;
    Size {
        prefix: format!("{prefix}{point}"),
        services: services.max(1),
        slices: services.max(1),
        endpoints: (point * 3 / 10 - before * 3 / 10).max(1),
        pods: point * 2 / 3 - before * 2 / 3,
        namespaces: (services / 50).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_add_up() {
        let points = points(None).unwrap();
        let mut before = 0;
        let mut sum = (0, 0, 0);
        for point in points {
            let step = step("c", before, point);
            sum = (
                sum.0 + step.services,
                sum.1 + step.endpoints,
                sum.2 + step.pods,
            );
            before = point;
        }
        assert_eq!(sum, (5_000, 45_000, 100_000));
    }

    #[test]
    fn points_grow() {
        assert_eq!(points(Some("30,60".into())), Ok(vec![30, 60]));
        for text in ["", "10", "60,60", "x"] {
            assert!(points(Some(text.into())).is_err(), "{text}");
        }
    }
}
