//! What a cluster of a given size costs, against a real API server: memory, start, how soon a change
//! is answered, and what many changes do to the answers.

mod api;
pub mod args;
mod churn;
pub mod contender;
mod curve;
pub mod dns;
mod fresh;
mod front;
mod history;
mod manifests;
mod memory;
mod objects;
pub mod process;
mod shape;
mod start;

use args::Args;

/// What `portolan-bench COMMAND --help` prints.
const HELP: &str = "\
Measures Portolan beside other servers on a cluster of a given size. KUBECONFIG names an API server
that nothing else depends on (a bare one, without controllers, is best).

Usage: portolan-bench COMMAND [OPTIONS]

  objects   makes a cluster's objects, or removes them
  memory    resident memory after the start, and the peak through a full relist
  start     time from the start of the process to /ready
  fresh     time from the API server's reply to the changed answer
  churn     latency, memory and wrong answers while endpoint slices change
  curve     memory and start over clusters of 1,000 to 150,000 objects (makes and removes them)

Size of the cluster (objects; memory and start want the same, to know whom to ask for):
  --prefix NAME       of the namespaces, and value of the label of everything (default bench;
                      curve: curve)
  --services N        (default 10000); every tenth is headless, with host names
  --slices N          (default 10000)
  --endpoints N       of all slices together (default 22000)
  --pods N            (default 10000)
  --namespaces N      (default 100)

Servers (all but objects):
  --portolan FILE     the binary (default target/release/portolan)
  --peer NAME=COMMAND another server that reads a Corefile; -conf FILE is appended
  --only NAME         leaves all other servers out
  --pods-mode MODE    insecure or verified (default: both; fresh and churn: insecure)

objects:
  --connections N     requests at one time (default 16)
  --delete            removes everything with the prefix
  --manifests DIR     writes files for `kubernetes { manifests DIR }` and asks no API server

memory, start, curve:
  --rounds N          of which the median is shown (default: start 5, memory and curve 3)
  --relist COMMAND    forces the relist (a restart of the API server, say); without it the servers
                      are connected through a front of this tool, which cuts every watch and
                      answers 410 Gone to its resumption
  --points N,N,…      curve: how many objects (default 1000,10000,50000,150000)
  --keep              curve: leaves the objects for another run

fresh:
  --times N           changes of each sort (default 200)
  --peer-times N      for peers (default 200; with a cache of 30 s a few are enough)
  --no-cache          leaves the line `cache 30` out of the peers' Corefiles

churn:
  --rate N            slice updates a second (default 500)
  --seconds N         of churn, the last of three phases (default 300)
  --calm N            of the two before it, quiet and control (default: as long)
  --stand-in          in the place of KUBECONFIG's an API server within this tool, which leaves the
                      CPUs to what is measured; it has a cluster of the size above
  --load N            dnsperf's queries a second (default: half of what the server takes)
  --checked N         checked queries a second (default 2000)
  --targets N         headless services that change (default 200, at most 256)
  --bound MS          how long after the API server's reply an old answer is right (default 100)
";

/// Runs the command of the first argument; `None` if it is none of these.
pub fn run(command: &str, args: impl Iterator<Item = String>) -> Option<Result<(), String>> {
    let run: fn(&mut Args) -> Result<(), String> = match command {
        "objects" => objects::run,
        "memory" => memory::run,
        "start" => start::run,
        "fresh" => fresh::run,
        "churn" => churn::run,
        "curve" => curve::run,
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
