//! Measures Portolan beside other name servers: CPU time of the server process per query.
//!
//! Everything stays on 127.0.0.1, is bounded in time, and only processes that were started here are
//! ended. `README.md` says how to run it and what came out.

mod differential;
mod echo;
mod instructions;
mod load;
mod outside;
mod queries;
mod scale;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    // The floor is this program itself, started as a peer.
    if std::env::args().nth(1).as_deref() == Some("--echo") {
        return echo::serve(args.nth(1).as_deref());
    }
    let command = std::env::args().nth(1).unwrap_or_default();
    if command == outside::server::AWAKE {
        outside::server::stay_awake();
        return ExitCode::SUCCESS;
    }
    let instructions = instructions::run(&command, std::env::args().skip(2));
    let other = instructions
        .or_else(|| scale::run(&command, std::env::args().skip(2)))
        .or_else(|| outside::run(&command, std::env::args().skip(2)))
        .or_else(|| differential::run(&command, std::env::args().skip(2)));
    let done = other.unwrap_or_else(|| queries::run(&command, args));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
