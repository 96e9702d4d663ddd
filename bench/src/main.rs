//! Measures Portolan beside other name servers: CPU time of the server process per query.
//!
//! Everything stays on 127.0.0.1, is bounded in time, and only processes that were started here are
//! ended. `README.md` says how to run it and what came out.

mod cluster;
mod echo;
mod load;
mod options;
mod scale;
mod server;

use options::Options;
use server::Server;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    // The floor is this program itself, started as a peer.
    if std::env::args().nth(1).as_deref() == Some("--echo") {
        return echo::serve(args.nth(1).as_deref());
    }
    let command = std::env::args().nth(1).unwrap_or_default();
    let scale = scale::run(&command, std::env::args().skip(2));
    let done = scale.unwrap_or_else(|| measure(args));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// CPU time per query, which is what is measured without a command.
fn measure(args: impl Iterator<Item = String>) -> Result<(), String> {
    Options::parse(args).and_then(|options| match options {
        Some(options) => run(&options),
        None => {
            print!("{}", options::HELP);
            Ok(())
        }
    })
}

/// The rounds: every server in turn, so that what the machine does meanwhile hits all alike.
fn run(options: &Options) -> Result<(), String> {
    load::check_tools()?;
    let temporary = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = options.data.as_deref().map_or(temporary.path(), Path::new);
    let data = cluster::write(folder, options.services)?;
    let contenders = server::contenders(options, folder, &data)?;
    for workload in options.workloads()? {
        let questions = workload.write(folder, options.services)?;
        let mut rows: Vec<Vec<load::Sample>> = vec![Vec::new(); contenders.len()];
        for round in 1..=options.rounds {
            for (contender, samples) in contenders.iter().zip(&mut rows) {
                eprintln!(
                    "{}: round {round} of {}: {}",
                    workload.name, options.rounds, contender.name
                );
                let server = Server::start(contender)?;
                samples.push(load::measure(
                    &server,
                    &questions,
                    workload,
                    options.seconds,
                )?);
            }
        }
        print!("{}", load::table(workload, &contenders, &rows));
    }
    Ok(())
}
