//! The engine itself: what is wrong is found, with its line.

use super::{FILES, FOLDER, run};

#[test]
fn every_file_is_run() {
    let folder = format!("{}/{FOLDER}", env!("CARGO_MANIFEST_DIR"));
    let mut there: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut run: Vec<_> = FILES
        .iter()
        .map(|name| format!("{name}.scenario"))
        .collect();
    there.sort();
    run.sort();
    assert_eq!(there, run);
}

/// Lines 1 to 9, which are right.
const HEAD: &str = "\
corefile
    cache 30
    forward . {a} {b} {
        policy sequential
    }
reply www to www.example.org A
    answer www.example.org 300 A 192.0.2.1
upstream a: answer
upstream b: silent
";

/// The problems of the lines behind [`HEAD`].
fn problems(steps: &str) -> Vec<(usize, String)> {
    let problems = run(&format!("{HEAD}{steps}"));
    problems.into_iter().map(|p| (p.line, p.text)).collect()
}

#[test]
fn words_that_are_wrong() {
    for (line, problem) in [
        ("frobnicate", "unknown word `frobnicate`"),
        ("5s frobnicate", "unknown word `frobnicate`"),
        ("upstream a: dance", "unknown word `dance`"),
        ("upstream a: wrong colour", "unknown word `wrong`"),
        ("upstream a: wait 3 parsecs", "`3` is not a time"),
        ("upstream a: octets 0g", "`0g` is not hex"),
        ("upstream a", "`:` is missing"),
        (
            "upstream a: silent silent",
            "`silent` is not a number of times, `,` or `then`",
        ),
        ("client one asks x A", "`one` is not a client's number"),
        ("client 1 wants x A", "`asks` expected, not `wants`"),
        ("client 1 asks x", "a record type is missing"),
        ("client 1 asks x A +zz", "unknown word `+zz`"),
        ("client 1 asks a..b A", "bad name `a..b`"),
        ("expect FINE", "`FINE` is not a response code"),
        ("expect NOERROR qq", "unknown word `qq`"),
        ("expect NOERROR at twice", "`once` expected, not `twice`"),
        (
            "answer x 1 A 192.0.2.1",
            "`answer` without an `expect` before it",
        ),
        ("asked c 1", "no upstream `c`"),
        ("metric x", "`metric SERIES = VALUE` expected"),
        ("log \"x", "a quote without its end"),
        ("not cached x A y", "unknown word `y`"),
        ("reply r\n    colour red", "unknown word `colour`"),
        (
            "reply r\n    answer x 1 A 1.2.3",
            "`1.2.3` is no rdata of A",
        ),
    ] {
        let at = 10 + line.matches('\n').count();
        assert_eq!(problems(line), [(at, problem.to_owned())], "{line}");
    }
}

/// Each is wrong in one point, and that is what is told.
#[test]
fn what_happens_otherwise_is_told() {
    const ASK: &str = "client 1 asks www.example.org A\n";
    const GOOD: &str = "answer www.example.org 30 A 192.0.2.1\n";
    let full = |expect: &str, rest: &str| format!("{ASK}expect {expect}\n{rest}");
    assert_eq!(problems(&full("NOERROR ra at once", GOOD)), []);
    let got = "www.example.org. 30 A 192.0.2.1";
    for (steps, line, problem) in [
        (
            full("NXDOMAIN ra", GOOD),
            11,
            "NXDOMAIN expected, got NOERROR",
        ),
        (
            full("NOERROR aa", GOOD),
            11,
            "flags `aa` expected, got `ra`",
        ),
        (
            full("NOERROR ra within 5..6s", GOOD),
            11,
            "5s..6s expected, it took 0ns",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}ede 3 \"x\"\n")),
            13,
            "missing: ede 3 \"x\"",
        ),
        (
            full("NOERROR ra", ""),
            11,
            &format!("not expected: answer {got}"),
        ),
        (
            full("NOERROR ra", &format!("{GOOD}{GOOD}")),
            13,
            &format!("missing: answer {got}"),
        ),
        (
            full("NOERROR ra", &format!("{GOOD}authority . 1 NS .\n")),
            13,
            "missing: authority . 1 NS .",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}error \"x\"\n")),
            11,
            "error \"x\" expected, got \"\"",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}asked a 2 udp\n")),
            13,
            "a 2 expected, 1 udp came",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}asked a 0 tcp\n")),
            13,
            "a: 1 udp came too",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}asked nobody\n")),
            13,
            "a 0 expected, 1 in all came",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}probed a 1\n")),
            13,
            "1 probes expected, there were 0",
        ),
        (
            full(
                "NOERROR ra",
                &format!("{GOOD}not cached www.example.org A\n"),
            ),
            13,
            "NOERROR is in the cache",
        ),
        (
            full(
                "NOERROR ra",
                &format!("{GOOD}cached www.example.org AAAA: NOERROR\n"),
            ),
            13,
            "it is not in the cache",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}log \"x\"\n")),
            13,
            "the log has it or not:\n    ",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}metric nothing = 1\n")),
            13,
            "1.0 expected, it is 0",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}waiting client 1\n")),
            13,
            "client 1 does not wait",
        ),
        (
            full("NOERROR ra", &format!("{GOOD}expect client 2 NOERROR\n")),
            13,
            "client 2 asked nothing",
        ),
        (ASK.to_owned(), 0, "nothing is expected of client 1"),
        ("5s\n4s\n".to_owned(), 11, "it is 5s already"),
        (
            "client 1 asks other.example.org A\nexpect SERVFAIL\nede any\n".to_owned(),
            11,
            "upstream a: no reply to other.example.org. A",
        ),
    ] {
        let all = problems(&steps);
        let found = all.contains(&(line, problem.to_owned()));
        assert!(found && all.len() < 3, "{steps}: {problem}, not {all:?}");
    }
}
