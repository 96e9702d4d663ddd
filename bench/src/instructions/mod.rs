//! `instructions`: how many instructions the hottest paths take, by callgrind, against the file that
//! is checked in. Time on a shared machine is noise; this is not.

pub mod path;

use crate::queries::{cluster, upstream};
use path::{Asked, QUESTIONS, Question};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;

/// What `instructions --help` prints.
const HELP: &str = "\
Counts the instructions from a packet to its reply on the hottest paths (needs valgrind and a
release build), and compares them with a file.

Usage: portolan-bench instructions [OPTIONS]

  --file FILE        what to compare with (default bench/instructions.txt)
  --tolerance N      how many per cent more are no regression (default 5)
  --write            writes the file instead
";

/// Services of the cluster.
const SERVICES: u32 = 100;
/// The start costs the same in both runs: the difference is what queries cost.
const RUNS: [u32; 2] = [2_000, 22_000];

type Counts = BTreeMap<String, u64>;

/// Runs the command of the first argument; `None` if it is none of these.
pub fn run(command: &str, mut args: impl Iterator<Item = String>) -> Option<Result<(), String>> {
    match command {
        "instructions" => Some(compare(args)),
        // Started under callgrind by `instructions`.
        "path" => Some(walk(args.next(), args.next())),
        _ => None,
    }
}

fn compare(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let mut file = "bench/instructions.txt".to_owned();
    let mut tolerance = 5.0;
    let mut write = false;
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            "--write" => write = true,
            "--file" => file = value()?,
            "--tolerance" => {
                let text = value()?;
                let number = text.parse::<f64>();
                tolerance = number.map_err(|_| format!("--tolerance: no number: {text}"))?;
            }
            _ => return Err(format!("unknown option {flag}; try --help")),
        }
    }
    if cfg!(debug_assertions) {
        return Err("only a release build's instructions count".into());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return Ok(());
    }
    let mut found = Counts::new();
    for question in &QUESTIONS {
        found.insert(question.name.into(), count(question)?);
    }
    if write {
        return std::fs::write(&file, show(&found)).map_err(|error| format!("{file}: {error}"));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    if !text.lines().any(|line| line == architecture()) {
        println!(
            "skipped: {file} is of another architecture than {}",
            architecture()
        );
        return Ok(());
    }
    let (table, worse) = verdict(&read(&text), &found, tolerance);
    print!("{table}");
    match worse {
        true => Err(format!("more than {tolerance} % above {file}")),
        false => Ok(()),
    }
}

fn architecture() -> String {
    format!("# {}", std::env::consts::ARCH)
}

fn show(counts: &Counts) -> String {
    let mut text = format!(
        "# Instructions from a packet to its reply; written by `portolan-bench instructions --write`.\n{}\n",
        architecture()
    );
    for (name, count) in counts {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name} {count}");
    }
    text
}

fn read(text: &str) -> Counts {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    pairs
        .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect()
}

/// The table, and whether a path takes more than it may.
fn verdict(known: &Counts, found: &Counts, tolerance: f64) -> (String, bool) {
    let mut table = String::new();
    let mut worse = false;
    for (name, &count) in found {
        // Writing into a string cannot fail.
        let _ = match known.get(name) {
            None => {
                worse = true;
                writeln!(
                    table,
                    "{name}: {count}, not in the file: --write records it"
                )
            }
            Some(&before) => {
                let change = (count as f64 / before as f64 - 1.0) * 100.0;
                worse |= change > tolerance;
                let remark = match change {
                    change if change > tolerance => ": REGRESSION",
                    change if change < -tolerance => ": better; --write records it",
                    _ => "",
                };
                writeln!(
                    table,
                    "{name}: {count}, was {before} ({change:+.1} %){remark}"
                )
            }
        };
    }
    for name in known.keys().filter(|name| !found.contains_key(*name)) {
        worse = true;
        let _ = writeln!(table, "{name}: no longer counted; --write records it");
    }
    (table, worse)
}

/// Instructions of a query.
fn count(question: &Question) -> Result<u64, String> {
    let itself = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut collected = [0; 2];
    for (times, collected) in RUNS.iter().zip(&mut collected) {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&itself)
            .args(["path", question.name, &times.to_string()])
            .output()
            .map_err(|error| format!("valgrind: {error}"))?;
        let text = String::from_utf8_lossy(&output.stderr);
        *collected = instructions(&text)
            .filter(|_| output.status.success())
            .ok_or_else(|| format!("{}: {text}", question.name))?;
    }
    let [few, many] = collected;
    Ok(many.saturating_sub(few) / u64::from(RUNS[1] - RUNS[0]))
}

/// What callgrind says at the end: `==7== Collected : 12345`.
fn instructions(text: &str) -> Option<u64> {
    let (_, count) = text.rsplit_once("Collected :")?;
    count.split_whitespace().next()?.parse().ok()
}

/// Takes a path so many times.
fn walk(name: Option<String>, times: Option<String>) -> Result<(), String> {
    let question = QUESTIONS
        .iter()
        .find(|question| Some(question.name) == name.as_deref())
        .ok_or("no such path")?;
    let times = times.and_then(|times| times.parse::<u32>().ok());
    let times = times.ok_or("path NAME TIMES")?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let data = cluster::write(folder.path(), SERVICES)?;
    let mut asked = Asked::start(&data.manifests, upstream::start()?)?;
    let packet = asked.prepare(question)?;
    for _ in 0..times {
        black_box(asked.ask(black_box(&packet)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_says() {
        let text = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n";
        assert_eq!(instructions(text), Some(1_234_567));
        assert_eq!(instructions("==7== killed"), None);
    }

    #[test]
    fn more_than_the_tolerance_is_a_regression() {
        let known = read("# x\nptr 1000\nsrv 2000\n");
        assert_eq!(read(&show(&known)), known);
        let found = |ptr, srv| read(&format!("ptr {ptr}\nsrv {srv}\n"));
        let (_, worse) = verdict(&known, &found(1039, 1500), 4.0);
        assert!(!worse);
        let (table, worse) = verdict(&known, &found(1041, 2000), 4.0);
        assert!(worse && table.contains("ptr: 1041, was 1000 (+4.1 %): REGRESSION"));
        assert!(verdict(&known, &read("ptr 1000\n"), 4.0).1);
        assert!(verdict(&read(""), &known, 4.0).1);
    }

    #[test]
    fn every_path_is_answered_from_memory() {
        for question in &QUESTIONS {
            walk(Some(question.name.into()), Some("3".into())).unwrap();
        }
        assert!(walk(Some("x".into()), Some("1".into())).is_err());
    }
}
