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
    all_back
    all_down
    all_down_fails_fast
    all_silent
    all_silent_with_attempts
    bailiwick
    bailiwick_of_the_cache
    bare_error
    chain
    cut
    denial_hides
    extended_errors
    failover
    failures_are_cached
    failures_are_not_cached
    flags
    flapping
    flapping_alone
    garbage
    garbage_over_tcp
    gone_and_back
    half_closed
    half_closed_for_ever
    half_closed_while_idle
    hosts
    lower_case
    max_concurrent
    metrics
    negative
    negative_admission
    oversized
    oversized_datagram
    passed_over
    prefetch
    protocols
    race
    race_that_fails
    referral
    refused
    refused_alone
    servfail
    servfail_alone
    servfail_does_not_hide
    servfail_everywhere
    silent
    silent_alone
    silent_with_read_timeout
    slow
    slow_alone
    slow_while_the_other_is_silent
    spoofed_burst
    spoofed_burst_with_the_right_id
    stale
    stale_with_verify
    stub_zone
    truncated
    truncated_and_tcp_fails
    truncated_with_prefer_udp
    ttl_zero
    ttls
    wrong_id
    wrong_id_only
    wrong_question
    wrong_question_first
    wrong_question_over_tcp
    wrong_source
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
