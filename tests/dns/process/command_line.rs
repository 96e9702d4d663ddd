//! Flags, `-check`, where the Corefile comes from, what is printed at the start.

use super::*;
use crate::support::process::free_port;
use hickory_proto::op::ResponseCode;
use std::net::TcpListener;

#[test]
fn flags_that_only_tell() {
    for dash in ["-", "--"] {
        let (code, out, err) = outcome(&[&format!("{dash}version")]);
        assert_eq!((code, err.as_str()), (0, ""));
        let lines: Vec<_> = out.lines().collect();
        let version = format!("Portolan-{}", env!("CARGO_PKG_VERSION"));
        assert_eq!((lines.len(), lines[0]), (2, &*version), "{out}");
        assert!(lines[1].starts_with("linux/"), "{out}");
    }
    let (code, out, _) = outcome(&["-plugins"]);
    assert_eq!(code, 0);
    let names: Vec<_> = out.lines().filter_map(|l| l.split(' ').next()).collect();
    let place = |name| names.iter().position(|n| *n == name).unwrap();
    assert!(place("errors") < place("cache") && place("cache") < place("kubernetes"));
    assert!(place("kubernetes") < place("forward"));
    let (code, out, _) = outcome(&["-help"]);
    assert_eq!(code, 0);
    assert!(out.contains("-dns.port, -p PORT") && out.contains("-pidfile FILE"));
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let text = format!("{BINARY} -plugins | true; echo ${{PIPESTATUS[0]}}");
    let output = Command::new("bash").args(["-c", &text]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn command_lines_that_make_no_sense() {
    let (code, out, err) = outcome(&["-nope"]);
    assert_eq!((code, out.as_str()), (2, ""));
    let first = "flag provided but not defined: -nope\n";
    assert!(err.starts_with(first) && err.contains("Usage:"), "{err}");
    let (code, _, err) = outcome(&["-quiet", "Corefile", "more"]);
    assert_eq!(code, 1);
    assert_eq!(err, "extra command line arguments: [Corefile more]\n");
    let (code, _, err) = outcome(&["-conf", "/no/such/Corefile"]);
    assert_eq!(code, 1);
    assert_eq!(
        err,
        "loading Caddyfile via flag: open /no/such/Corefile: No such file or directory (os error 2)\n"
    );
}

#[test]
fn check_tells_what_would_run_and_touches_nothing() {
    let [dns, http] = [free_port(), free_port()];
    // What `-check` must not need is taken.
    let _taken = [dns, http].map(|port| TcpListener::bind(local(port)).unwrap());
    let conf = Conf::new(&format!(
        "b.example:{dns} a.example:{dns} {{
    bind 127.0.0.1
    health 127.0.0.1:{http}
    prometheus 127.0.0.1:{http}
    whoami
    log
    cache 30
}}
"
    ));
    let (code, out, err) = outcome(&["-check", "-conf", conf.shown()]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let wanted = format!(
        "a.example.:{dns} on 127.0.0.1
b.example.:{dns} on 127.0.0.1
dns://127.0.0.1:{dns} b.example. a.example.: prometheus → log → cache → whoami
{}: ok
",
        conf.shown()
    );
    assert_eq!(out, wanted);
}

#[test]
fn check_tells_every_error_with_its_place() {
    let conf = Conf::new(
        ".:1053 {
    nonsense
}
a.example:1053 {
    cache -1
    whoami x
}
",
    );
    let (code, out, err) = outcome(&["-conf", conf.shown(), "-check"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let path = conf.shown();
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines.len(), 3, "{err}");
    assert_eq!(
        lines[0],
        format!("{path}:2 - Error during parsing: Unknown directive 'nonsense'")
    );
    for (line, place) in [
        (
            lines[1],
            format!("plugin/cache: {path}:5 - Error during parsing: "),
        ),
        (
            lines[2],
            format!("plugin/whoami: {path}:6 - Error during parsing: "),
        ),
    ] {
        assert!(line.starts_with(&place), "{line}");
    }
    let conf = Conf::new(". {\n  whoami\n");
    let (code, _, err) = outcome(&["-conf", conf.shown(), "-check"]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("{}:", conf.shown())), "{err}");
    assert!(
        err.contains("Syntax error") || err.contains("Error during parsing"),
        "{err}"
    );
}

#[test]
fn what_cannot_start_ends_with_1() {
    let port = free_port();
    let _taken = TcpListener::bind(local(port)).unwrap();
    for (text, wanted) in [
        (
            fixed(port, "192.0.2.1", ""),
            format!("listen dns://127.0.0.1:{port}: Address already in use (os error 98)"),
        ),
        (
            fixed(
                free_port(),
                "192.0.2.1",
                &format!("health 127.0.0.1:{port}"),
            ),
            format!("listen tcp 127.0.0.1:{port}: Address already in use (os error 98)"),
        ),
        (
            "example.org {\n    whoami\n}\nexample.org {\n    whoami\n}\n".into(),
            "cannot serve dns://example.org.:53 - it is already defined".into(),
        ),
        (
            ". {\n    forwarder . 192.0.2.1\n}\n".into(),
            "Corefile:2 - Error during parsing: Unknown directive 'forwarder'".into(),
        ),
    ] {
        let conf = Conf::new(&text);
        let (code, out, err) = outcome(&["-conf", conf.shown()]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.trim_end().ends_with(&wanted), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn the_order_of_the_first_lines() {
    let [one, two] = [free_port(), free_port()];
    let conf = Conf::new(&format!(
        "z.example:{two} a.example:{two} {{
    bind 127.0.0.1
    whoami
    reload
}}
.:{one} {{
    whoami
}}
"
    ));
    let mut server = conf.start();
    server.wait_for("linux/");
    let lines = server.printed();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    let mut zones = [
        format!(".:{one}"),
        format!("a.example.:{two} on 127.0.0.1"),
        format!("z.example.:{two} on 127.0.0.1"),
    ];
    zones.sort();
    assert_eq!(lines[..3], zones);
    let hash = "[INFO] plugin/reload: Running configuration SHA512 = ";
    assert_eq!(
        lines[3].strip_prefix(hash).map(str::len),
        Some(128),
        "{lines:#?}"
    );
    assert!(lines[4].starts_with("Portolan-"), "{lines:#?}");
    assert!(lines[5].starts_with("linux/"), "{lines:#?}");
}

#[test]
fn the_corefile_of_the_working_directory_or_none() {
    let port = free_port();
    let own = fixed(port, "192.0.2.7", "");
    let start = |text: Option<&str>, more: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            fs::write(folder.path().join("Corefile"), text).unwrap();
        }
        let mut command = Command::new(BINARY);
        command
            .args(more)
            .current_dir(folder.path())
            .stdin(Stdio::null());
        let mut server = Portolan::spawn(&mut command);
        server.wait_for("Portolan-");
        (folder, server)
    };
    let (_folder, server) = start(Some(&own), &[]);
    assert_eq!(address(port), "192.0.2.7");
    drop(server);
    // No file, or nothing in it: whoami and log, on the port of the flag.
    for text in [None, Some("# only a comment\n\n")] {
        let port = free_port();
        let (_folder, mut server) = start(text, &["-dns.port", &port.to_string()]);
        assert_eq!(server.printed()[0], format!(".:{port}"));
        let reply = ask(local(port), &question("anything.example.", RecordType::A));
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(reply.additionals.len(), 2, "address and port: whoami");
        server.wait_for("\"A IN anything.example. udp");
    }
}

#[test]
fn the_port_flag_is_for_keys_without_one() {
    let [given, flag] = [free_port(), free_port()];
    let block = |key: &str, address| fixed(0, address, "").replacen(".:0", key, 1);
    let text = block("a.example", "192.0.2.1") + &block(&format!("b.example:{given}"), "192.0.2.2");
    let conf = Conf::new(&text);
    let mut server = Portolan::start(&[], &conf.path, &["-p", &flag.to_string()]);
    server.wait_for("Portolan-");
    for (port, name, wanted) in [
        (flag, "www.a.example.", "192.0.2.1"),
        (given, "www.b.example.", "192.0.2.2"),
    ] {
        let reply = ask(local(port), &question(name, RecordType::A));
        assert_eq!(reply.answers[0].data.to_string(), wanted);
    }
}
