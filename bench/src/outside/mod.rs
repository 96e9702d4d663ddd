//! What leaves the cluster: an upstream inside the bench that is slow, dead or merely fast, and servers
//! that forward to it.

mod names;
mod outage;
mod race;
pub mod server;
mod source;
mod stream;

use crate::scale::args::Args;

/// What `portolan-bench COMMAND --help` prints.
const HELP: &str = "\
Measures what a server does with questions that it forwards. The upstream is in the bench, everything
stays on 127.0.0.1, the servers run one after the other, and every run ends by itself.

Usage: portolan-bench COMMAND [OPTIONS]

  race     so many clients ask one name at once that no cache has: exchanges with the upstream
  outage   every upstream is silent for a time, under load: latency of the cluster's answers, memory,
           stale answers, and how soon all is well again
  names    so many different names, asked once each: memory, entries, queries a second

Servers (all):
  --portolan FILE       the binary (default target/release/portolan)
  --peer NAME=COMMAND   another server that reads a Corefile; -conf FILE is appended
  --only NAME           leaves all other servers out

race:
  --clients N           questions at once (default 10000), from at most 1,000 sockets
  --rounds N            each with a name of its own (default 5)
  --delay MS            the upstream answers after this time (default 200)

outage:
  --seconds N           for which the upstreams are silent (default 600)
  --quiet-seconds N     before it, and after it (default 60)
  --cluster N           cluster questions a second (default 2000)
  --misses N            new outside names a second; ten times as many in the outage (default 100)
  --stale N             questions a second for outside names that were asked before (default 50)
  --services N          of the cluster (default 1000)

names:
  --count N             names (default 1000000)
  --window N            questions under way at one time (default 256)
  --cache WORDS         arguments and block of the directive (default 30)
";

/// Runs the command of the first argument; `None` if it is none of these.
pub fn run(command: &str, args: impl Iterator<Item = String>) -> Option<Result<(), String>> {
    let run: fn(&mut Args) -> Result<(), String> = match command {
        "race" => race::run,
        "outage" => outage::run,
        "names" => names::run,
        _ => return None,
    };
    Some(Args::parse(args).and_then(|args| match args {
        None => {
            print!("{HELP}");
            Ok(())
        }
        Some(mut args) => run(&mut args),
    }))
}

/// `text`, if something that has to hold did not.
pub fn verdict(wrong: Vec<String>) -> Result<(), String> {
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("does not hold:\n  {}", wrong.join("\n  "))),
    }
}

const MIB: f64 = 1024.0;

/// KiB as MiB.
pub fn mib(kib: u64) -> f64 {
    kib as f64 / MIB
}
