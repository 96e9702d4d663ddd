#![allow(clippy::unwrap_used)]

use crate::dns::{Rcode, RecordType, Reply};
use crate::plugin::{Context, Outcome};
use crate::plugins::testing::{Logs, Rig, Terminal, answers, ask, fails, setup_error};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

#[test]
fn logs_the_number_of_the_rcode_and_the_name_in_lower_case() {
    let logs = Logs::start();
    let mut rig = Rig::new();
    rig.setup("errors stdout").unwrap();
    let chain = rig.chain(fails("read udp 10.0.0.5:4242->8.8.8.8:53: i/o timeout"));
    ask("Example.ORG", RecordType::A).of(&chain);
    ask(".", RecordType(65280)).of(&chain);
    assert_eq!(
        logs.take(),
        [
            "ERROR plugin/errors: 2 example.org. A: read udp 10.0.0.5:4242->8.8.8.8:53: i/o timeout",
            "ERROR plugin/errors: 2 . TYPE65280: read udp 10.0.0.5:4242->8.8.8.8:53: i/o timeout",
        ]
    );
}

#[test]
fn the_upstream_is_named_once() {
    let logs = Logs::start();
    for (error, line) in [
        ("EOF", "EOF (upstream 8.8.8.8:53)"),
        (
            "dial tcp 8.8.8.8:53: i/o timeout",
            "dial tcp 8.8.8.8:53: i/o timeout",
        ),
    ] {
        let mut rig = Rig::new();
        // Expressions are of the error, which ends as it does in CoreDNS.
        rig.setup("errors {\nconsolidate 1h \"EOF$\" info show_first\n}")
            .unwrap();
        let chain = rig.chain(Terminal(move |_: &mut Context<'_>, reply: &mut Reply| {
            reply.set_upstream(Some("8.8.8.8:53".parse().unwrap()));
            Outcome::failed(error)
        }));
        ask("a.example", RecordType::A).of(&chain);
        let level = if error == "EOF" { "INFO" } else { "ERROR" };
        let expected = format!("{level} plugin/errors: 2 a.example. A: {line}");
        assert_eq!(logs.take(), [expected]);
    }
}

#[test]
fn the_first_expression_that_matches_counts() {
    let logs = Logs::start();
    let mut rig = Rig::new();
    let text =
        "errors {\nconsolidate 1h time info show_first\nconsolidate 1h timeout show_first\n}";
    rig.setup(text).unwrap();
    let chain = rig.chain(failures(&["timeout", "TIMEOUT"]));
    ask("a.example", RecordType::A).of(&chain);
    ask("a.example", RecordType::A).of(&chain);
    assert_eq!(
        logs.take(),
        [
            "INFO plugin/errors: 2 a.example. A: timeout",
            "ERROR plugin/errors: 2 a.example. A: TIMEOUT",
        ]
    );
}

#[test]
fn replies_and_refusals_without_an_error_are_not_logged() {
    let logs = Logs::start();
    let mut rig = Rig::new();
    rig.setup("errors").unwrap();
    ask("a.example", RecordType::A).of(&rig.chain(answers()));
    let mut rig = Rig::new();
    rig.setup("errors").unwrap();
    let chain = rig.chain(Terminal(|_: &mut Context<'_>, _: &mut Reply| {
        Outcome::Unwritten {
            rcode: Rcode::REFUSED,
            error: None,
        }
    }));
    ask("a.example", RecordType::A).of(&chain);
    assert_eq!(logs.take(), [""; 0]);
}

/// Fails with each of these errors in turn.
fn failures(errors: &'static [&'static str]) -> impl crate::plugin::Plugin {
    let next = AtomicUsize::new(0);
    Terminal(move |_: &mut Context<'_>, _: &mut Reply| {
        Outcome::failed(errors[next.fetch_add(1, Relaxed) % errors.len()])
    })
}

#[tokio::test(start_paused = true)]
async fn consolidated_errors_are_told_once_a_period() {
    let logs = Logs::start();
    let mut rig = Rig::new();
    let text =
        "errors {\nconsolidate 5m \".* i/o timeout$\" warning\nconsolidate 30s ^Failed.+ info\n}";
    rig.setup(text).unwrap();
    let chain = rig.chain(failures(&[
        "x i/o timeout",
        "Failed i/o timeout",
        "Failed here",
        "other",
    ]));
    for _ in 0..8 {
        ask("a.example", RecordType::A).of(&chain);
    }
    assert_eq!(
        logs.take(),
        ["ERROR plugin/errors: 2 a.example. A: other"; 2]
    );
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(
        logs.take(),
        ["INFO plugin/errors: 2 errors like '^Failed.+' occurred in last 30s"]
    );
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(
        logs.take(),
        ["WARN plugin/errors: 4 errors like '.* i/o timeout$' occurred in last 5m0s"]
    );
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(logs.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_first_error_is_shown_at_once() {
    let logs = Logs::start();
    let mut rig = Rig::new();
    rig.setup("errors {\nconsolidate 10s timeout show_first\n}")
        .unwrap();
    let chain = rig.chain(fails("timeout"));
    ask("a.example", RecordType::A).of(&chain);
    assert_eq!(
        logs.take(),
        ["ERROR plugin/errors: 2 a.example. A: timeout"]
    );
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(logs.take(), [""; 0], "one error needs no summary");
    for _ in 0..3 {
        ask("a.example", RecordType::A).of(&chain);
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(
        logs.take(),
        [
            "ERROR plugin/errors: 2 a.example. A: timeout",
            "ERROR plugin/errors: 3 errors like 'timeout' occurred in last 10s",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_told_when_the_configuration_goes() {
    let logs = Logs::start();
    let mut rig = Rig::new();
    rig.setup("errors {\nconsolidate 1h timeout\n}").unwrap();
    let chain = rig.chain(fails("timeout"));
    ask("a.example", RecordType::A).of(&chain);
    rig.hooks.shutdown.pop().unwrap()().await;
    ask("b.example", RecordType::A).of(&chain);
    tokio::time::sleep(Duration::from_secs(7200)).await;
    assert_eq!(
        logs.take(),
        [
            "ERROR plugin/errors: 1 errors like 'timeout' occurred in last 1h0m0s",
            "ERROR plugin/errors: 2 b.example. A: timeout",
        ]
    );
}

#[test]
fn configuration() {
    let mut rig = Rig::new();
    rig.setup("errors {\nstacktrace\n}").unwrap();
    assert!(rig.block.stacktrace);
    for (text, error) in [
        (
            "errors a b",
            "Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after 'b'",
        ),
        (
            "errors /var/log/x",
            "Corefile:1 - Error during parsing: invalid log file: /var/log/x",
        ),
        (
            "errors\nerrors",
            "Corefile:2 - Error during parsing: this plugin can only be used once per Server Block",
        ),
        (
            "errors {\nfoo\n}",
            "Corefile:2 - Syntax error: Unexpected token 'foo', expecting 'Unknown field foo'",
        ),
        (
            "errors {\nconsolidate 1m\n}",
            "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after '1m'",
        ),
        (
            "errors {\nconsolidate 1m x error show_first y\n}",
            "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'y'",
        ),
        (
            "errors {\nconsolidate 1z x\n}",
            "Corefile:2 - Error during parsing: time: invalid duration \"1z\"",
        ),
        (
            "errors {\nconsolidate 1m x fatal\n}",
            "Corefile:2 - Error during parsing: unknown log level argument in consolidate: fatal",
        ),
    ] {
        assert_eq!(setup_error(text), format!("plugin/errors: {error}"));
    }
    let long = format!("errors {{\nconsolidate 1m {}\n}}", "x".repeat(10_001));
    assert!(setup_error(&long).contains("regex pattern too long"));
    assert!(setup_error("errors {\nconsolidate 1m (\n}").contains("could not parse regex: ("));
}
