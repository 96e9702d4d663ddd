#![allow(clippy::unwrap_used)]

use crate::dns::RecordType;
use crate::plugin::Chain;
use crate::plugins::testing::{Ask, Logs, Rig, ask, is_passed, passed, setup_error};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const A: RecordType = RecordType::A;
const AAAA: RecordType = RecordType::AAAA;
const PTR: RecordType = RecordType::PTR;
const TXT: RecordType = RecordType::TXT;

const ENTRIES: &str = "\
    10.0.0.1 web.example db.example\n\
    10.0.0.2 web.example\n\
    2001:db8::1 web.example\n\
    10.0.0.3 *.app.example\n\
    10.0.0.4 special.app.example\n\
    10.0.0.5 web.other\n";

/// A block whose hosts are these entries, with these options after them.
fn chain(zones: &[&str], options: &str) -> Arc<Chain> {
    let mut rig = Rig::new().zones(zones);
    rig.setup(&format!(
        "hosts /nonexistent/hosts {{\n{ENTRIES}{options}\n}}"
    ))
    .unwrap();
    rig.chain(passed())
}

fn lines(ask: Ask, chain: &Arc<Chain>) -> Vec<String> {
    ask.of(chain).lines()
}

const SERVFAIL: &str = "- Unwritten { rcode: SERVFAIL, error: None }";

#[test]
fn addresses_in_order_under_the_name_in_lower_case() {
    let chain = chain(&["."], "");
    for (name, qtype, expected) in [
        (
            "WEB.example",
            A,
            &[
                "NOERROR aa",
                "AN web.example. 3600 IN A 10.0.0.1",
                "AN web.example. 3600 IN A 10.0.0.2",
            ][..],
        ),
        (
            "web.example",
            AAAA,
            &["NOERROR aa", "AN web.example. 3600 IN AAAA 2001:db8::1"],
        ),
        ("db.example", AAAA, &["NOERROR aa"]),
        ("db.example", TXT, &["NOERROR aa"]),
        (
            "x.app.example",
            A,
            &["NOERROR aa", "AN x.app.example. 3600 IN A 10.0.0.3"],
        ),
        (
            "special.app.example",
            A,
            &["NOERROR aa", "AN special.app.example. 3600 IN A 10.0.0.4"],
        ),
        ("y.x.app.example", A, &[SERVFAIL]),
        ("app.example", A, &[SERVFAIL]),
        ("nosuch.example", A, &[SERVFAIL]),
        ("nosuch.example", TXT, &[SERVFAIL]),
        (".", A, &[SERVFAIL]),
    ] {
        assert_eq!(lines(ask(name, qtype), &chain), expected, "{name} {qtype}");
    }
    let question = &ask("WEB.example", A).of(&chain).message[12..];
    assert!(
        question.starts_with(b"\x03WEB\x07example\0"),
        "the question is echoed as asked"
    );
}

#[test]
fn names_of_addresses() {
    let chain = chain(&["example"], "");
    assert_eq!(
        lines(ask("1.0.0.10.IN-ADDR.arpa", PTR), &chain),
        [
            "NOERROR aa",
            "AN 1.0.0.10.in-addr.arpa. 3600 IN PTR web.example.",
            "AN 1.0.0.10.in-addr.arpa. 3600 IN PTR db.example.",
        ]
    );
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    assert_eq!(
        lines(ask(six, PTR), &chain),
        [
            "NOERROR aa".to_owned(),
            format!("AN {six}. 3600 IN PTR web.example.")
        ]
    );
    // Wildcards, names outside the zones, unknown addresses, names that are no address.
    for name in [
        "3.0.0.10.in-addr.arpa",
        "5.0.0.10.in-addr.arpa",
        "9.0.0.10.in-addr.arpa",
        "web.example",
    ] {
        assert!(is_passed(&ask(name, PTR).of(&chain)), "{name}");
    }
    assert!(is_passed(
        &ask("1.0.0.10.in-addr.arpa", PTR).of(&self::chain(&["example"], "no_reverse"))
    ));
}

#[test]
fn zones_and_fallthrough() {
    let of_zone = chain(&["example"], "");
    assert!(is_passed(&ask("web.other", A).of(&of_zone)));
    let all = chain(&["."], "fallthrough");
    assert!(is_passed(&ask("nosuch.example", A).of(&all)));
    assert_eq!(lines(ask("db.example", AAAA), &all), ["NOERROR aa"]);
    assert_eq!(lines(ask("db.example", TXT), &all), ["NOERROR aa"]);
    let some = chain(&["."], "fallthrough other");
    assert!(is_passed(&ask("nosuch.other", A).of(&some)));
    assert_eq!(lines(ask("nosuch.example", A), &some), [SERVFAIL]);
    let unsupported = chain(&["."], "fallthrough_unsupported\nfallthrough example");
    assert!(is_passed(&ask("db.example", TXT).of(&unsupported)));
    assert_eq!(lines(ask("db.example", AAAA), &unsupported), ["NOERROR aa"]);
    assert_eq!(lines(ask("web.other", TXT), &unsupported), ["NOERROR aa"]);
}

#[test]
fn ttl_of_ones_own() {
    let chain = chain(&["."], "ttl 30");
    assert_eq!(
        lines(ask("db.example", A), &chain),
        ["NOERROR aa", "AN db.example. 30 IN A 10.0.0.1"]
    );
}

/// Writes a file with a time that no other has.
fn write(path: &Path, text: &str, seconds: u64) {
    fs::write(path, text).unwrap();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(time)
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_file_is_read_again_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts");
    write(&path, "10.0.0.1 a.example\n", 1_700_000_000);
    let mut rig = Rig::new();
    rig.setup(&format!(
        "hosts {} {{\n10.0.0.9 a.example\nreload 10s\n}}",
        path.display()
    ))
    .unwrap();
    rig.hooks.start.pop().unwrap()().await;
    let chain = rig.chain(passed());
    let a = || lines(ask("a.example", A), &chain);
    assert_eq!(
        a(),
        [
            "NOERROR aa",
            "AN a.example. 3600 IN A 10.0.0.1",
            "AN a.example. 3600 IN A 10.0.0.9"
        ]
    );
    assert_eq!(
        rig.metrics("coredns_hosts"),
        [
            format!(
                "coredns_hosts_entries{{hostsfile=\"{}\"}} 4.0",
                path.display()
            ),
            "coredns_hosts_reload_timestamp_seconds 1700000000.0".to_owned(),
        ]
    );
    write(&path, "10.0.0.2 a.example\n", 1_700_000_001);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(a()[1], "AN a.example. 3600 IN A 10.0.0.1");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(a()[1], "AN a.example. 3600 IN A 10.0.0.2");
    assert_eq!(
        rig.metrics("coredns_hosts_reload"),
        ["coredns_hosts_reload_timestamp_seconds 1700000001.0"]
    );
    fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(
        a()[1],
        "AN a.example. 3600 IN A 10.0.0.2",
        "the last file counts"
    );
    rig.hooks.shutdown.pop().unwrap()().await;
    write(&path, "10.0.0.3 a.example\n", 1_700_000_002);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(
        a()[1],
        "AN a.example. 3600 IN A 10.0.0.2",
        "the configuration is gone"
    );
}

#[test]
fn configuration() {
    let logs = Logs::start();
    Rig::new().setup("hosts /nonexistent/hosts\n").unwrap();
    Rig::new().setup("hosts {\nfoo bar\n}").unwrap();
    assert_eq!(
        logs.take(),
        [
            "WARN plugin/hosts: File does not exist: /nonexistent/hosts",
            "WARN plugin/hosts: Corefile:2 - ignoring 'foo bar': no address with names",
        ]
    );
    for (text, error) in [
        (
            "hosts\nhosts",
            "2 - Error during parsing: this plugin can only be used once per Server Block",
        ),
        (
            "hosts {\nfallthrough\n10.0.0.1 a\n}",
            "3 - Error during parsing: unknown property '10.0.0.1'",
        ),
        (
            "hosts {\nttl\n}",
            "2 - Error during parsing: ttl needs a time in second",
        ),
        (
            "hosts {\nttl x\n}",
            "2 - Error during parsing: ttl needs a number of second",
        ),
        (
            "hosts {\nttl 0\n}",
            "2 - Error during parsing: ttl provided is invalid",
        ),
        (
            "hosts {\nttl 65536\n}",
            "2 - Error during parsing: ttl provided is invalid",
        ),
        (
            "hosts {\nreload\n}",
            "2 - Error during parsing: reload needs a duration (zero seconds to disable)",
        ),
        (
            "hosts {\nreload 5\n}",
            "2 - Error during parsing: invalid duration for reload '5'",
        ),
    ] {
        assert_eq!(setup_error(text), format!("plugin/hosts: Corefile:{error}"));
    }
}
