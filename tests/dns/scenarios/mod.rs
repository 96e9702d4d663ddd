//! What becomes of queries when upstreams misbehave, told in plain text: each file in `files/` is a
//! test. README.md beside this says how to write one.

mod behaviour;
mod grammar;
mod log;
mod peer;
mod play;
mod records;
mod reply;
mod tests;
mod words;

use words::Problem;

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            file(stringify!($name));
        })*

        /// Every file, as a test's name.
        const FILES: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios! {
    silent
}

const FOLDER: &str = "tests/dns/scenarios/files";

fn file(name: &str) {
    let path = format!("{FOLDER}/{name}.scenario");
    let full = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&full).unwrap();
    let problems: Vec<_> = run(&text)
        .into_iter()
        .map(|problem| match problem.line {
            0 => format!("{path}: {}", problem.text),
            line => format!("{path}:{line}: {}", problem.text),
        })
        .collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Plays a scenario on a runtime of its own.
fn run(text: &str) -> Vec<Problem> {
    let scenario = match grammar::read(text) {
        Ok(scenario) => scenario,
        Err(problem) => return vec![problem],
    };
    if !scenario.needs.is_empty() {
        println!("skipped: it needs {}", scenario.needs.join(", "));
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        // The clock goes on when there is nothing to do. What was sent over loopback may still be
        // with the kernel, on a busy machine.
        .on_thread_park(|| std::thread::sleep(std::time::Duration::from_micros(20)))
        .build()
        .unwrap();
    runtime.block_on(play::play(&scenario))
}
