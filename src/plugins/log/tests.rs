#![allow(clippy::unwrap_used)]

use crate::dns::{Class, Header, Owner, Rcode, RecordType, Reply, Section};
use crate::plugin::{Context, Outcome, Plugin, Transport};
use crate::plugins::testing::{Ask, Logs, Rig, Terminal, answers, ask, fails, setup_error};

/// The lines for these questions, with what comes after the last space (the duration) cut off.
fn lines(config: &str, terminal: impl Plugin, asks: &[Ask]) -> Vec<String> {
    let mut rig = Rig::new();
    rig.setup(config).unwrap();
    let chain = rig.chain(terminal);
    let logs = Logs::start();
    for ask in asks {
        ask.of(&chain);
    }
    let mut lines = logs.take();
    for line in &mut lines {
        let head = line.strip_prefix("INFO query: ").unwrap();
        let cut = head.rsplit_once(' ').filter(|(_, last)| {
            let seconds = last.strip_suffix('s').and_then(|s| s.parse::<f64>().ok());
            seconds.is_some()
        });
        *line = cut.map_or(head, |(head, _)| head).to_owned();
    }
    lines
}

#[test]
fn the_common_format() {
    let asks = [
        ask("Kubernetes.default.svc.cluster.local", RecordType::A),
        ask("a.example", RecordType::AAAA).edns(1232, true),
        ask("a.example", RecordType::A).edns(100, false),
        ask(".", RecordType::NS).from("[2001:db8::1]:53", Transport::Tls),
        ask("a.example", RecordType::TXT).class(Class::CH),
    ];
    assert_eq!(
        lines("log", answers(), &asks),
        [
            r#"10.240.0.1:40212 - 21342 "A IN kubernetes.default.svc.cluster.local. udp 54 false 512" NOERROR qr,aa,rd 70"#,
            r#"10.240.0.1:40212 - 21342 "AAAA IN a.example. udp 38 true 1232" NOERROR qr,aa,rd 43"#,
            r#"10.240.0.1:40212 - 21342 "A IN a.example. udp 38 false 512" NOERROR qr,aa,rd 43"#,
            r#"[2001:db8::1]:53 - 21342 "NS IN . tcp 17 false 65535" NOERROR qr,aa,rd 33"#,
            r#"10.240.0.1:40212 - 21342 "TXT CH a.example. udp 27 false 512" NOERROR qr,aa,rd 43"#,
        ]
    );
}

#[test]
fn replies_that_the_server_writes() {
    let asks = [ask("a.example", RecordType::A)];
    assert_eq!(
        lines("log", fails("broken"), &asks),
        [r#"10.240.0.1:40212 - 21342 "A IN a.example. udp 27 false 512" SERVFAIL qr,rd 27"#]
    );
    let drop = Terminal(|_: &mut Context<'_>, _: &mut Reply| Outcome::Dropped);
    assert_eq!(
        lines("log", drop, &asks),
        [r#"10.240.0.1:40212 - 21342 "A IN a.example. udp 27 false 512" - - 0"#]
    );
}

#[test]
fn formats_of_ones_own() {
    let all = |reply: &mut Reply| {
        for flag in [Header::AA, Header::TC, Header::RA, Header::AD] {
            reply.set_flag(flag, true);
        }
        reply.set_rcode(Rcode(3000));
        Outcome::Written
    };
    for (format, line) in [
        ("{name} {type}", "a.example. A"),
        ("{ {name} }x} {nope} {{type}", "{ a.example. }x} {nope} {A"),
        (
            "{local} {/kubernetes/namespace} {>opcode}|",
            "10.96.0.10 - 0|",
        ),
        ("{rcode} {>rflags} .", "3000 qr,aa,tc,rd,ra,ad ."),
        (
            "{combined}",
            r#"10.240.0.1:40212 - 21342 "A IN a.example. udp 27 false 512" 3000 qr,aa,tc,rd,ra,ad 27"#,
        ),
    ] {
        let terminal = Terminal(move |_: &mut Context<'_>, reply: &mut Reply| all(reply));
        let asks = [ask("a.example", RecordType::A)];
        let config = format!("log . \"{}\"", format.replace('"', ""));
        let out = lines(&config, terminal, &asks);
        if format == "{combined}" {
            let (head, opcode) = out[0].rsplit_once(' ').unwrap();
            assert_eq!(opcode, "\"0\"");
            let (head, duration) = head.rsplit_once(' ').unwrap();
            assert!(
                duration.ends_with('s') && !duration.contains('e'),
                "{duration}"
            );
            assert_eq!(head, line);
        } else {
            assert_eq!(out, [line], "{format}");
        }
    }
}

#[test]
fn the_first_rule_whose_zone_matches_decides() {
    let config = "log example.org {\nclass denial error\n}\nlog org net \"{name} .\"";
    let asks = ["a.example.org", "Example.org", "b.org", "c.net", "d.com"];
    let asks = asks.map(|name| ask(name, RecordType::A));
    assert_eq!(lines(config, answers(), &asks), ["b.org. .", "c.net. ."]);
}

#[test]
fn a_lone_format_is_a_name() {
    let asks = [ask("a.example", RecordType::A)];
    assert_eq!(lines("log {combined}", answers(), &asks), [""; 0]);
    let mut rig = Rig::new();
    let logs = Logs::start();
    rig.setup(
        "log \"{remote} - {>id} {type} {class} {name} {proto} {size} {>do} {>bufsize} {rcode}\"",
    )
    .unwrap();
    assert!(logs.take()[0].starts_with("WARN plugin/log: Corefile:1 - '{remote} - "));
}

/// A reply of this response code with records `(section, type, rdata)`.
fn reply_of(rcode: Rcode, records: &'static [(Section, RecordType, &'static [u8])]) -> impl Plugin {
    Terminal(move |_: &mut Context<'_>, reply: &mut Reply| {
        reply.set_rcode(rcode);
        for (section, rtype, rdata) in records {
            reply.push(*section, Owner::Query, *rtype, 5, rdata);
        }
        Outcome::Written
    })
}

#[test]
fn classes() {
    const SOA: (Section, RecordType, &[u8]) = (Section::Authority, RecordType::SOA, &[0; 22]);
    const NS: (Section, RecordType, &[u8]) = (Section::Authority, RecordType::NS, &[0]);
    const A: (Section, RecordType, &[u8]) = (Section::Answer, RecordType::A, &[1; 4]);
    // Valid from 1 s after the epoch to the same: over long ago.
    const SIGNED: (Section, RecordType, &[u8]) = (
        Section::Answer,
        RecordType::RRSIG,
        &[0, 1, 8, 1, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
    );
    let a = || ask("a.example", RecordType::A);
    let class = |terminal: Box<dyn Fn() -> Box<dyn Plugin>>, ask: Ask| {
        let mut found = Vec::new();
        for class in ["success", "denial", "error"] {
            let mut rig = Rig::new();
            rig.setup(&format!("log {{\nclass {class}\n}}")).unwrap();
            let logs = Logs::start();
            rig.plugins.push(terminal().into());
            ask.of(&rig.chain(answers()));
            if !logs.take().is_empty() {
                found.push(class);
            }
        }
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    };
    macro_rules! class {
        ($ask:expr, $terminal:expr) => {
            class(Box::new(|| Box::new($terminal)), $ask)
        };
    }
    assert_eq!(class!(a(), reply_of(Rcode::NOERROR, &[A])), "success");
    assert_eq!(class!(a(), reply_of(Rcode::NOERROR, &[])), "success");
    assert_eq!(class!(a(), reply_of(Rcode::NOERROR, &[NS])), "success");
    assert_eq!(class!(a(), reply_of(Rcode::NOERROR, &[SOA])), "denial");
    assert_eq!(class!(a(), reply_of(Rcode::NXDOMAIN, &[SOA])), "denial");
    assert_eq!(class!(a(), reply_of(Rcode::NXDOMAIN, &[])), "error");
    assert_eq!(class!(a(), reply_of(Rcode::REFUSED, &[])), "error");
    assert_eq!(class!(a(), fails("x")), "error");
    assert_eq!(
        class!(a(), reply_of(Rcode::NOERROR, &[A, SIGNED])),
        "success"
    );
    let signed = a().edns(1232, true);
    assert_eq!(
        class!(signed, reply_of(Rcode::NOERROR, &[A, SIGNED])),
        "error"
    );
    let transfer = ask("a.example", RecordType::AXFR);
    assert_eq!(class!(transfer, reply_of(Rcode::NOERROR, &[A])), "error");
}

#[test]
fn configuration_errors() {
    for (text, error) in [
        (
            "log {\nclass\n}",
            "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'class'",
        ),
        (
            "log {\nclass foo\n}",
            "Corefile:2 - Error during parsing: invalid Class: foo",
        ),
        (
            "log {\nformat x\n}",
            "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'x'",
        ),
    ] {
        assert_eq!(setup_error(text), format!("plugin/log: {error}"));
    }
}
