//! The program: command line, process, signals.

use portolan::cli::{self, Action, Options};
use portolan::{logging, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{}", cli::help());
            return ExitCode::from(2);
        }
    };
    logging::init();
    match options.action {
        Action::Help => print!("{}", cli::help()),
        Action::Version => println!("{}", cli::version()),
        Action::Plugins => print!("{}", run::plugin_list()),
        Action::Check => return run::check(&options),
        Action::Serve => return run::serve(&options),
    }
    ExitCode::SUCCESS
}
