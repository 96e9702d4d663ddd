//! The program: command line, process, signals.

use portolan::cli::{self, Action, Options, UsageError};
use portolan::{logging, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error @ UsageError::Extra(_)) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", cli::help());
            return ExitCode::from(2);
        }
    };
    logging::init();
    match options.action {
        Action::Help => cli::print(&cli::help()),
        Action::Version => cli::print(&format!("{}\n", cli::version())),
        Action::Plugins => cli::print(&run::plugin_list()),
        Action::Check => return run::check(&options),
        Action::Serve => return run::serve(&options),
    }
    ExitCode::SUCCESS
}
