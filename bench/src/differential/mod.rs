//! `differential`: the same questions through Portolan and through Unbound, in front of the same
//! authoritative server, must be answered alike.

mod client;
mod compare;
mod questions;
mod servers;
mod zones;

use crate::outside::verdict;
use crate::scale::args::Args;
use client::{Answer, Client};
use compare::{Difference, difference};
use questions::{Question, questions};
use servers::Servers;
use std::collections::BTreeMap;

/// What `portolan-bench differential --help` prints.
const HELP: &str = "\
Asks the same mixed questions through Portolan and through Unbound (without validation), both of which
forward to the same authoritative server with generated zones, and compares response codes and the
sets of answers (names, types and rdata; of signatures the type that they cover). Each question is
asked twice: the second time a cache answers. Everything stays on 127.0.0.1. Fails if an answer
differs for a reason that is not in the list of README.md.

Usage: portolan-bench differential [OPTIONS]

  --names N             questions (default 20000)
  --seed N              of the choice of questions (default 1)
  --portolan FILE       (default target/release/portolan)
  --peer FILE           Unbound (default unbound)
  --authority SERVER    knot or nsd (default knot); nsd has no signed zones
  --program FILE        its binary (default knotd, nsd)
";

/// Runs the command of the first argument; `None` if it is another one.
pub fn run(command: &str, args: impl Iterator<Item = String>) -> Option<Result<(), String>> {
    if command != "differential" {
        return None;
    }
    Some(Args::parse(args).and_then(|args| match args {
        None => {
            print!("{HELP}");
            Ok(())
        }
        Some(mut args) => measure(&mut args),
    }))
}

/// What was counted in a pass.
#[derive(Default)]
struct Pass {
    same: u64,
    truncated: [u64; 2],
    codes: BTreeMap<String, u64>,
    differences: BTreeMap<String, (u64, String)>,
    undocumented: u64,
}

fn measure(args: &mut Args) -> Result<(), String> {
    let names = args.positive("--names", 20_000)?;
    let seed = args.number("--seed", 1)?;
    let servers = Servers::start(args)?;
    let questions = questions(names, seed, servers.signs);
    let mut wrong = Vec::new();
    for pass in ["first: the caches know nothing", "second: from the caches"] {
        let result = compare_all(&servers, &questions)?;
        print(pass, questions.len(), &result);
        if result.undocumented > 0 {
            wrong.push(format!("{} answers differ, {pass}", result.undocumented));
        }
    }
    verdict(wrong)
}

fn compare_all(servers: &Servers, questions: &[Question]) -> Result<Pass, String> {
    let client = |to| Client::to(to).map_err(|error| error.to_string());
    let mut portolan = client(servers.portolan)?;
    let mut unbound = client(servers.unbound)?;
    let mut authority = client(servers.authority)?;
    let mut pass = Pass::default();
    for question in questions {
        let (mut ours, mut theirs) = (portolan.ask(question)?, unbound.ask(question)?);
        let truncated = [ours.truncated, theirs.truncated];
        for (count, truncated) in pass.truncated.iter_mut().zip(truncated) {
            *count += u64::from(truncated);
        }
        if truncated.contains(&true) {
            // As a client does.
            let whole = Question {
                tcp: true,
                ..question.clone()
            };
            (ours, theirs) = (portolan.ask(&whole)?, unbound.ask(&whole)?);
        }
        let Some(mut found) = difference(&ours, &theirs) else {
            pass.same += 1;
            *pass.codes.entry(ours.rcode).or_default() += 1;
            continue;
        };
        let whole = Question {
            tcp: true,
            ..question.clone()
        };
        let source = authority.ask(&whole)?;
        found.explain(&ours, &theirs, &source);
        pass.undocumented += u64::from(found.reason.is_none());
        pass.note(question, &found, [&ours, &theirs, &source]);
    }
    Ok(pass)
}

impl Pass {
    fn note(&mut self, question: &Question, found: &Difference, answers: [&Answer; 3]) {
        let class = match found.reason {
            Some(reason) => format!("documented ({reason}): {}", found.class),
            None => format!("NOT DOCUMENTED: {}", found.class),
        };
        let entry = self.differences.entry(class).or_insert_with(|| {
            let [ours, theirs, source] = answers;
            let example = format!(
                "{question}\n      portolan  {ours}\n      unbound   {theirs}\n      authority {source}"
            );
            (0, example)
        });
        entry.0 += 1;
    }
}

fn print(title: &str, asked: usize, pass: &Pass) {
    println!("\n{title}");
    println!(
        "  questions {asked}, the same {}, undocumented {}",
        pass.same, pass.undocumented
    );
    let codes = pass
        .codes
        .iter()
        .map(|(code, count)| format!("{code} {count}"));
    println!("  of the same: {}", codes.collect::<Vec<_>>().join(", "));
    let [ours, theirs] = pass.truncated;
    println!("  truncated over UDP (asked again over TCP): portolan {ours}, unbound {theirs}");
    for (class, (count, example)) in &pass.differences {
        println!("  {count} × {class}\n    {example}");
    }
}
