#![allow(clippy::unwrap_used)]

use crate::dns::{Class, Header, Owner, Rcode, RecordType, Reply, Section};
use crate::plugin::chain::Resolve;
use crate::plugin::{Answer, Chain, Outcome, OwnedContext};
use crate::plugins::testing::{Rig, ask, is_passed, passed, setup_error, wire};
use std::sync::Arc;

const A: RecordType = RecordType::A;
const AAAA: RecordType = RecordType::AAAA;
const SERVFAIL: &str = "- Unwritten { rcode: SERVFAIL, error: None }";

fn rig(text: &str) -> (Rig, Arc<Chain>) {
    let mut rig = Rig::new();
    rig.setup(text).unwrap();
    let chain = rig.chain(passed());
    (rig, chain)
}

#[test]
fn addresses_from_names() {
    let (rig, chain) = rig("template IN A example.com {\n\
         match (^|[.])ip-10-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]com[.]$\n\
         match ^hex-(?P<d>..)[.]\n\
         answer \"{{ .Name }} 60 IN A 10.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}\"\n\
         fallthrough\n\
         }");
    assert_eq!(
        ask("IP-10-1-2-3.Example.com", A).of(&chain).lines(),
        ["NOERROR aa", "AN ip-10-1-2-3.example.com. 60 IN A 10.1.2.3"]
    );
    assert!(
        is_passed(&ask("ip-10-1-2.example.com", A).of(&chain)),
        "falls through"
    );
    assert!(
        is_passed(&ask("ip-10-1-2-3.example.com", AAAA).of(&chain)),
        "another type"
    );
    assert!(
        is_passed(&ask("ip-10-1-2-3.example.org", A).of(&chain)),
        "another zone"
    );
    let other = ask("ip-10-1-2-3.example.com", A).class(Class::CH);
    assert!(is_passed(&other.of(&chain)), "another class");
    let any = ask("ip-10-1-2-3.example.com", RecordType::ANY).class(Class::ANY);
    assert_eq!(any.of(&chain).lines().len(), 2);
    assert_eq!(
        rig.metrics("coredns_template_matches_total"),
        [
            r#"coredns_template_matches_total{class="IN",server="dns://:53",type="A",view="",zone="example.com."} 2"#
        ]
    );
    // The address has empty parts.
    let failed = ask("hex-0a.example.com", A).of(&chain);
    let Outcome::Unwritten {
        rcode,
        error: Some(error),
    } = &failed.outcome
    else {
        panic!("{:?}", failed.outcome)
    };
    assert_eq!(*rcode, Rcode::SERVFAIL);
    assert!(
        error.ends_with(": \"hex-0a.example.com. 60 IN A 10.<no value>.<no value>.0a\""),
        "{error}"
    );
    assert_eq!(
        rig.metrics("coredns_template_rr_failures_total"),
        [concat!(
            r#"coredns_template_rr_failures_total{class="IN",section="answer",server="dns://:53","#,
            r#"template="{{ .Name }} 60 IN A 10.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}","#,
            r#"type="A",view="",zone="example.com."} 1"#
        )]
    );
}

#[test]
fn a_name_that_matches_no_expression_fails() {
    let (_, chain) =
        rig("template IN A example.org {\nmatch ^a[.]\nanswer \"{{ .Name }} 60 IN A 10.0.0.1\"\n}");
    assert_eq!(ask("b.example.org", A).of(&chain).lines(), [SERVFAIL]);
    assert!(is_passed(&ask("b.example.org", AAAA).of(&chain)));
}

#[test]
fn names_that_do_not_exist() {
    let (rig, chain) = rig("template ANY ANY internal {\n\
         rcode NXDOMAIN\n\
         authority \"internal. 60 {{ .Class }} SOA ns.internal. root.internal. (1 60 60 60 60)\"\n\
         ederror 21 \"Blocked here\"\n\
         }\n\
         template IN AAAA .\n\
         template ANY HINFO . {\nrcode SERVFAIL\n}");
    let answer = ask("x.internal", RecordType(65280))
        .edns(1232, false)
        .of(&chain);
    assert_eq!(
        answer.lines(),
        [
            "NXDOMAIN aa",
            "NS internal. 60 IN SOA ns.internal. root.internal. 1 60 60 60 60"
        ]
    );
    assert!(
        answer
            .message
            .ends_with(b"\x00\x0f\x00\x0e\x00\x15Blocked here")
    );
    assert_eq!(ask("example.org", AAAA).of(&chain).lines(), ["NOERROR aa"]);
    assert_eq!(
        ask("example.org", RecordType::HINFO).of(&chain).lines(),
        [SERVFAIL]
    );
    assert_eq!(
        rig.metrics("coredns_template_matches_total"),
        [
            r#"coredns_template_matches_total{class="IN",server="dns://:53",type="HINFO",view="",zone="."} 1"#,
            r#"coredns_template_matches_total{class="IN",server="dns://:53",type="AAAA",view="",zone="."} 1"#,
            r#"coredns_template_matches_total{class="IN",server="dns://:53",type="",view="",zone="internal."} 1"#,
        ]
    );
}

#[test]
fn three_sections() {
    let (_, chain) = rig("template IN MX . {\n\
         additional \"mx.{{ .Name }} 60 IN A 10.0.0.1\" \"mx.{{ .Name }} 60 IN AAAA ::1\"\n\
         answer \"{{ .Question.Name }} 60 IN MX 10 mx.{{ .Name }}\"\n\
         authority \"{{ .Zone }} 60 IN NS ns.{{ .Remote }}\"\n\
         }");
    assert_eq!(
        ask("A.example", RecordType::MX).of(&chain).lines(),
        [
            "NOERROR aa",
            "AN A.example. 60 IN MX 10 mx.a.example.",
            "NS . 60 IN NS ns.10.240.0.1.",
            "AR mx.a.example. 60 IN A 10.0.0.1",
            "AR mx.a.example. 60 IN AAAA ::1",
        ]
    );
}

#[test]
fn a_value_that_does_not_exist_fails() {
    let (rig, chain) =
        rig("template IN A . {\nanswer \"{{ index .Match 7 }} 60 IN A 10.0.0.1\"\n}");
    let answer = ask("a.example", A).of(&chain);
    assert_eq!(answer.outcome, Outcome::failed("index out of range: 7"));
    let failures = rig.metrics("coredns_template_template_failures_total");
    assert!(failures[0].contains(r#"section="answer""#) && failures[0].ends_with(" 1"));
}

/// A server that answers with one alias and one address, the latter with compressed names.
struct Server;

impl Resolve for Server {
    fn resolve(self: Arc<Self>, cx: OwnedContext) -> Answer {
        Box::pin(async move {
            let query = cx.query.view();
            let mut reply = Reply::new();
            reply.start(&query);
            if query.name().to_string() == "nosuch.example." {
                return (Outcome::failed("down"), reply);
            }
            let alias = (RecordType::CNAME, Class::IN);
            reply.push_with(Section::Answer, Owner::Query, alias, 5, |out| {
                out.label(b"real");
                out.question_suffix(1);
            });
            let real = wire("real.example");
            reply.push(
                Section::Answer,
                Owner::Wire(&real),
                query.qtype(),
                5,
                &[10, 9, 8, 7],
            );
            reply.set_flag(Header::TC, true);
            (Outcome::Written, reply)
        })
    }
}

#[tokio::test]
async fn aliases_are_followed() {
    let (_, chain) = rig("template IN ANY . {\n\
         match ^(?P<to>[a-z]+)-alias[.]\n\
         answer \"{{ .Name }} 60 IN CNAME {{ .Group.to }}.Example\"\n\
         additional \"x. 60 IN A 10.0.0.1\"\n\
         }");
    let server: Arc<dyn Resolve> = Arc::new(Server);
    chain.set_resolver(Arc::downgrade(&server));
    assert_eq!(
        ask("web-alias.example", A).wait(&chain).await.lines(),
        [
            "NOERROR aa tc",
            "AN web-alias.example. 60 IN CNAME web.example.",
            "AN web.example. 5 IN CNAME real.example.",
            "AN real.example. 5 IN A 10.9.8.7",
            "AR x. 60 IN A 10.0.0.1",
        ]
    );
    let alone = [
        "NOERROR aa",
        "AN nosuch-alias.example. 60 IN CNAME nosuch.example.",
        "AR x. 60 IN A 10.0.0.1",
    ];
    assert_eq!(
        ask("nosuch-alias.example", A).wait(&chain).await.lines(),
        alone
    );
    assert_eq!(
        ask("nosuch-alias.example", RecordType::TXT)
            .of(&chain)
            .lines(),
        alone
    );
}

#[test]
fn a_hostile_name_makes_no_second_record() {
    let (_, chain) = rig("template IN TXT . {\nanswer \"{{ .Name }} 60 IN TXT x\"\n}");
    for name in [
        "a\\010b.example",
        "\\$INCLUDE.example",
        "a\\032b\\;\\(.example",
        "\\\"q.example",
    ] {
        let answer = ask(name, RecordType::TXT).of(&chain);
        let typed = [wire(name), b"\0\x10\0\x01".to_vec()].concat();
        let question = answer.message[12..].to_ascii_lowercase();
        assert!(question.starts_with(&typed), "{name}");
        let record = [&wire(name)[..], b"\0\x10\0\x01\0\0\0\x3c\0\x02\x01x"].concat();
        assert_eq!(answer.message[12 + typed.len()..], record, "{name}");
    }
}

#[test]
fn configuration_errors() {
    for (text, error) in [
        (
            "template IN",
            "1 - Error during parsing: Wrong argument count or unexpected line ending after 'IN'",
        ),
        (
            "template XX A",
            "1 - Error during parsing: invalid query class XX",
        ),
        (
            "template IN XX",
            "1 - Error during parsing: invalid RR class XX",
        ),
        (
            "template IN A {\nmatch\n}",
            "2 - Error during parsing: Wrong argument count or unexpected line ending after 'match'",
        ),
        (
            "template IN A {\nrcode FOO\n}",
            "2 - Error during parsing: unknown rcode FOO",
        ),
        (
            "template IN A {\nederror x\n}",
            "2 - Error during parsing: error parsing extended DNS error code x",
        ),
        (
            "template IN A {\nexpr true\n}",
            "2 - Error during parsing: expr is not supported yet",
        ),
        (
            "template IN A {\nfoo bar\n}",
            "2 - Error during parsing: Wrong argument count or unexpected line ending after 'bar'",
        ),
        (
            "template IN A {\nrcode NXDOMAIN\nanswer \"{{ range .Match }}\"\n}",
            "3 - Error during parsing: could not compile template: answer, \"range\" is not supported",
        ),
    ] {
        assert_eq!(
            setup_error(text),
            format!("plugin/template: Corefile:{error}")
        );
    }
    assert!(
        setup_error("template IN A {\nmatch (\n}")
            .contains("Corefile:2 - Error during parsing: could not parse regex: (,")
    );
}
