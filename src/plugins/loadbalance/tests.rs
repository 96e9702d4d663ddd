#![allow(clippy::unwrap_used)]

use super::weighted::Weights;
use super::*;
use crate::corefile::{Directive, Line};
use crate::dns::{Class, OwnedQuery, Owner, Section, Zone};
use crate::plugin::{Block, Hooks, Process};
use crate::plugins::random::Random;
use hickory_proto::op::{Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::{Name as HickoryName, RData, Record as HickoryRecord, rdata};
use hickory_proto::serialize::binary::BinDecodable;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

fn name(text: &str) -> HickoryName {
    HickoryName::from_ascii(text).unwrap()
}

fn rr(owner: &str, data: RData) -> HickoryRecord {
    HickoryRecord::from_rdata(name(owner), 9, data)
}

fn a(owner: &str, last: u8) -> HickoryRecord {
    rr(owner, RData::A(rdata::A::new(10, 0, 0, last)))
}

fn aaaa(owner: &str, last: u16) -> HickoryRecord {
    rr(
        owner,
        RData::AAAA(rdata::AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, last)),
    )
}

fn mx(owner: &str, host: &str) -> HickoryRecord {
    rr(owner, RData::MX(rdata::MX::new(1, name(host))))
}

fn srv(owner: &str, host: &str) -> HickoryRecord {
    rr(owner, RData::SRV(rdata::SRV::new(1, 2, 3, name(host))))
}

fn cname(owner: &str, target: &str) -> HickoryRecord {
    rr(owner, RData::CNAME(rdata::CNAME(name(target))))
}

const QUESTION: &str = "www.example.org.";

fn query() -> OwnedQuery {
    let wire = b"\x03www\x07example\x03org\0";
    OwnedQuery::ask(wire, RecordType::A, Class::IN, true)
}

/// The reply with these records, as an upstream that compresses would have written them.
fn adopted(sections: [Vec<HickoryRecord>; 3]) -> Reply {
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.add_query(Question::query(
        name(QUESTION),
        hickory_proto::rr::RecordType::A,
    ));
    let [answers, authorities, additionals] = sections;
    message.answers = answers;
    message.authorities = authorities;
    message.additionals = additionals;
    let mut reply = Reply::new();
    reply
        .adopt(&query().view(), &message.to_vec().unwrap())
        .unwrap();
    reply
}

/// The records of each section.
fn shown(mut reply: Reply) -> [Vec<String>; 3] {
    let wire = reply.finish(&query().view(), 65_535).to_vec();
    let message = Message::from_bytes(&wire).unwrap();
    [message.answers, message.authorities, message.additionals]
        .map(|section| section.iter().map(ToString::to_string).collect())
}

fn shuffled(sections: &[Vec<HickoryRecord>; 3], prefer: &[IpNet], seed: u64) -> [Vec<String>; 3] {
    let mut reply = adopted(sections.clone());
    shuffle(&mut reply, prefer, &mut Random::new(seed));
    shown(reply)
}

fn shuffle(reply: &mut Reply, prefer: &[IpNet], random: &mut Random) {
    let policy = Policy::RoundRobin;
    Order { policy, prefer }.apply(reply, random);
}

fn group(text: &str) -> u8 {
    match text.split(' ').nth(3).unwrap() {
        "CNAME" => 0,
        "A" | "AAAA" => 2,
        "MX" => 3,
        _ => 1,
    }
}

/// Every order of three addresses comes, each about as often (a fixed seed: no chance is left).
#[test]
fn all_orders_are_equally_likely() {
    let sections = [
        vec![a(QUESTION, 1), a(QUESTION, 2), a(QUESTION, 3)],
        vec![],
        vec![],
    ];
    let mut random = Random::new(42);
    let mut orders = BTreeMap::new();
    for _ in 0..6000 {
        let mut reply = adopted(sections.clone());
        shuffle(&mut reply, &[], &mut random);
        *orders.entry(shown(reply)[0].clone()).or_insert(0) += 1;
    }
    assert_eq!(orders.len(), 6);
    assert!(
        orders.values().all(|n| (850..1150).contains(n)),
        "{orders:?}"
    );
}

/// LB-1, LB-2.
#[test]
fn groups_in_their_order() {
    let sections = [
        vec![
            mx(QUESTION, "m1.example.net."),
            a("edge.example.net.", 1),
            srv(QUESTION, "b.example.net."),
            cname(QUESTION, "mid.example.net."),
            aaaa("edge.example.net.", 2),
            srv(QUESTION, "a.example.net."),
            cname("mid.example.net.", "edge.example.net."),
            mx(QUESTION, "m2.example.net."),
        ],
        vec![],
        vec![
            a("b.example.net.", 3),
            aaaa("b.example.net.", 4),
            a("a.example.net.", 5),
        ],
    ];
    let mut firsts = BTreeMap::new();
    for seed in 0..60 {
        let [answers, _, additionals] = shuffled(&sections, &[], seed * 977);
        assert_eq!(
            answers[..4],
            [
                "www.example.org. 9 IN CNAME mid.example.net.",
                "mid.example.net. 9 IN CNAME edge.example.net.",
                "www.example.org. 9 IN SRV 1 2 3 b.example.net.",
                "www.example.org. 9 IN SRV 1 2 3 a.example.net.",
            ]
        );
        for first in [&answers[4], &answers[6], &additionals[0]] {
            *firsts.entry(first.clone()).or_insert(0) += 1;
        }
    }
    // Either address, either MX and each of the three glue records stood in front.
    assert_eq!(firsts.len(), 7, "{firsts:?}");
}

/// The records that our own plugins write change places without a second message.
#[test]
fn own_replies() {
    let query = query();
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut reply = Reply::new();
        reply.start(&query.view());
        let mut targets = Vec::new();
        for at in 0..3u8 {
            let rtype = (RecordType::SRV, Class::IN);
            reply.push_with(Section::Answer, Owner::Query, rtype, 9, |out| {
                out.octets(&[0; 6]);
                targets.push(out.offset());
                out.label(&[b'a' + at]);
                out.question_suffix_in_full(1);
            });
        }
        for (at, &target) in targets.iter().enumerate() {
            let owner = Owner::At(target);
            reply.push(
                Section::Additional,
                owner,
                RecordType::A,
                9,
                &[10, 0, 0, at as u8],
            );
            reply.push(
                Section::Additional,
                owner,
                RecordType::AAAA,
                9,
                &[at as u8; 16],
            );
        }
        let len = reply.len();
        shuffle(&mut reply, &[], &mut Random::new(seed));
        assert_eq!(reply.len(), len);
        let [answers, _, mut additionals] = shown(reply);
        assert!(answers[2].ends_with(" c.example.org."), "{answers:?}");
        orders.insert(additionals.clone());
        additionals.sort();
        assert_eq!(additionals[4], "c.example.org. 9 IN A 10.0.0.2");
        assert_eq!(
            additionals[5],
            "c.example.org. 9 IN AAAA 202:202:202:202:202:202:202:202"
        );
    }
    assert!(orders.len() > 30);
}

/// LB-4.
#[test]
fn preferred_networks_come_first() {
    let sections = [
        vec![
            a(QUESTION, 1),
            a(QUESTION, 130),
            aaaa(QUESTION, 7),
            a(QUESTION, 2),
            a(QUESTION, 131),
        ],
        vec![],
        vec![],
    ];
    let prefer = ["10.0.0.128/25", "fd00::/8"].map(|net| net.parse().unwrap());
    for seed in 0..50 {
        let [answers, ..] = shuffled(&sections, &prefer, seed);
        let addresses: Vec<&str> = answers
            .iter()
            .map(|r| r.rsplit(' ').next().unwrap())
            .collect();
        assert!(
            addresses[..2].iter().all(|a| a.starts_with("10.0.0.13")),
            "{addresses:?}"
        );
        assert_eq!(addresses[2], "fd00::7");
    }
}

fn weights(text: &str) -> Result<Weights, String> {
    Weights::read(text, Path::new("w"))
}

/// LB-3: one address comes first by weight, the others keep their order.
#[test]
fn weighted_addresses() {
    let weights = weights(
        "# comment
         WWW.example.org
         10.0.0.1 3
         10.0.0.3 6
         other.example.org.
         10.0.0.2 200",
    )
    .unwrap();
    let order = Order {
        policy: Policy::Weighted(&weights),
        prefer: &[],
    };
    let answers = vec![
        a(QUESTION, 1),
        mx(QUESTION, "m1."),
        a(QUESTION, 2),
        a(QUESTION, 3),
        mx(QUESTION, "m2."),
    ];
    let ns = rr("example.org.", RData::NS(rdata::NS(name("ns."))));
    let sections = [
        answers,
        vec![a("ns.", 9), ns],
        vec![mx(QUESTION, "m3."), srv("x.", "y.")],
    ];
    let before = shown(adopted(sections.clone()));
    let mut random = Random::new(7);
    let mut firsts = BTreeMap::new();
    for _ in 0..10_000 {
        let mut reply = adopted(sections.clone());
        order.apply(&mut reply, &mut random);
        let [answers, authorities, additionals] = shown(reply);
        assert_eq!((&authorities, &additionals), (&before[1], &before[2]));
        let last = |r: &String| r.rsplit(['.', ' ']).next().unwrap().to_owned();
        let order: Vec<String> = answers[..3].iter().map(last).collect();
        *firsts.entry(order.concat()).or_insert(0) += 1;
        assert!(answers[3].ends_with("m1.") && answers[4].ends_with("m2."));
    }
    let counts: Vec<(&str, i32)> = firsts.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    let [("123", one), ("213", two), ("321", three)] = counts[..] else {
        panic!("{counts:?}");
    };
    assert!(
        (2800..3200).contains(&one) && (850..1150).contains(&two),
        "{counts:?}"
    );
    assert_eq!(one + two + three, 10_000);
}

#[test]
fn weight_files() {
    assert_eq!(weights("\n# x\n"), Ok(Weights::default()));
    for (text, error) in [
        (
            "10.0.0.1",
            "wrong domain name:\"10.0.0.1\" in weight file w. (Maybe a missing weight value?)",
        ),
        ("a..b", "wrong domain name:\"a..b\" in weight file w."),
        ("a.\nx 1", "wrong IP address:\"x\" in weight file w"),
        ("a.\n::1 0", "wrong weight value:\"0\" in weight file w"),
        ("a.\n::1 256", "wrong weight value:\"256\" in weight file w"),
        ("10.0.0.1 1", "missing domain name in weight file w"),
        (
            "a b c",
            "could not parse weight line:\"a b c\" in weight file w",
        ),
    ] {
        assert_eq!(weights(text), Err(error.to_owned()));
    }
}

/// The file is read again; one that is wrong or gone changes nothing.
#[tokio::test(start_paused = true)]
async fn weight_files_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights");
    let text = format!("loadbalance weighted {}\nreload 1s", path.display());
    std::fs::write(&path, "a.\n10.0.0.1 5\n").unwrap();
    let current = weighted::setup(&directive(&text), &tokio::runtime::Handle::current()).unwrap();
    let weight = || {
        let name = crate::dns::Name::from_text("a.").unwrap();
        current.load().of(&name, "10.0.0.1".parse().unwrap())
    };
    assert_eq!(weight(), 5);
    for (text, expected) in [("a.\n10.0.0.1 6\n", 6), ("nonsense 1 2", 6), ("b.", 1)] {
        std::fs::write(&path, text).unwrap();
        // Reading takes a thread of its own; the paused clock goes on while nothing else is due.
        for _ in 0..200 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            std::thread::yield_now();
        }
        assert_eq!(weight(), expected, "{text}");
    }
}

/// A later record whose owner is a pointer to the owner field of an address stays right.
#[test]
fn pointers_into_the_addresses() {
    let query = query();
    for seed in 0..20 {
        let mut reply = Reply::new();
        reply.start(&query.view());
        let mut at = Vec::new();
        for host in *b"xy" {
            at.push(reply.len());
            let owner = [1, host, 0xc0, 0x10];
            reply.push(
                Section::Answer,
                Owner::Wire(&owner),
                RecordType::A,
                9,
                &[10, 0, 0, host],
            );
        }
        reply.push(
            Section::Additional,
            Owner::At(at[1]),
            RecordType::TXT,
            9,
            b"\x01t",
        );
        shuffle(&mut reply, &[], &mut Random::new(seed));
        let [mut answers, _, additionals] = shown(reply);
        answers.sort();
        assert_eq!(
            answers,
            [
                "x.example.org. 9 IN A 10.0.0.120",
                "y.example.org. 9 IN A 10.0.0.121"
            ]
        );
        assert_eq!(additionals, ["y.example.org. 9 IN TXT t"]);
    }
}

fn any_record() -> impl Strategy<Value = HickoryRecord> {
    let owner = prop_oneof![
        3 => Just(QUESTION),
        1 => Just("a.example.net."),
        1 => Just("b.a.example.net."),
        1 => Just("example.org."),
        1 => Just(".")
    ];
    (owner, 0..6u8, any::<u8>()).prop_map(|(owner, kind, n)| match kind {
        0 | 1 => a(owner, n),
        2 => aaaa(owner, n.into()),
        3 => mx(owner, "b.a.example.net."),
        4 => srv(owner, "a.example.net."),
        _ => cname(owner, "b.a.example.net."),
    })
}

proptest! {
    /// Whatever the records are: none is lost or changed, the groups stand in order, and what is
    /// no address and no MX keeps its place among its like.
    #[test]
    fn nothing_is_lost(
        sections in proptest::array::uniform3(proptest::collection::vec(any_record(), 0..9)),
        seed in any::<u64>(),
        prefer in any::<bool>(),
    ) {
        let nets: Vec<IpNet> = if prefer { vec!["10.0.0.0/25".parse().unwrap()] } else { vec![] };
        let before = shown(adopted(sections.clone()));
        let after = shuffled(&sections, &nets, seed);
        for (before, after) in before.into_iter().zip(after) {
            prop_assert!(after.is_sorted_by_key(|r| group(r)));
            let kept = |records: &[String], which: u8| -> Vec<String> {
                records.iter().filter(|r| group(r) == which).cloned().collect()
            };
            for which in [0, 1] {
                prop_assert_eq!(kept(&before, which), kept(&after, which));
            }
            let (mut before, mut after) = (before, after);
            before.sort();
            after.sort();
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn no_message_is_harmful(
        tail in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xc0), Just(0x0c), Just(1)], 0..300),
        counts in proptest::array::uniform3(0u8..6),
        seed in any::<u64>(),
    ) {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.add_query(Question::query(name(QUESTION), hickory_proto::rr::RecordType::A));
        let mut wire = message.to_vec().unwrap();
        wire.extend_from_slice(&tail);
        for (at, count) in [7, 9, 11].into_iter().zip(counts) {
            wire[at] = count;
        }
        let mut reply = Reply::new();
        if reply.adopt(&query().view(), &wire).is_ok() {
            let counts = reply.counts();
            shuffle(&mut reply, &["10.0.0.0/8".parse().unwrap()], &mut Random::new(seed));
            prop_assert_eq!(reply.counts(), counts);
        }
    }
}

/// A directive from its text, options in lines of their own.
fn directive(text: &str) -> Directive {
    let token = |text: &str| Token {
        text: text.to_owned(),
        file: "Corefile".into(),
        line: 1,
    };
    let mut lines = text.lines().map(|line| {
        let mut words = line.split_whitespace().map(token);
        Line {
            name: words.next().unwrap(),
            args: words.collect(),
        }
    });
    let head = lines.next().unwrap();
    Directive {
        name: head.name,
        args: head.args,
        block: lines.collect(),
    }
}

/// What the setup makes of directives: how many plugins, or the error.
async fn set_up(texts: &[&str]) -> Result<usize, String> {
    let directives: Vec<Directive> = texts.iter().map(|text| directive(text)).collect();
    let (process, _) = Process::new(tokio::runtime::Handle::current(), 1);
    let mut plugins = Vec::new();
    setup(&mut Setup {
        provided: &Arc::default(),
        directives: &directives,
        block: &mut Block {
            zones: vec![Zone::root()],
            ..Block::default()
        },
        process: &Arc::new(process),
        hooks: &mut Hooks::default(),
        endpoints: &mut Vec::new(),
        plugins: &mut plugins,
        chain: &Arc::new(OnceLock::new()),
        loaded: &["loadbalance"],
        fingerprint: "",
    })
    .map_err(|error| error.message)?;
    Ok(plugins.len())
}

#[tokio::test]
async fn configurations() {
    let cases: [(&[&str], Result<usize, &str>); 15] = [
        (&["loadbalance"], Ok(1)),
        (&["loadbalance round_robin"], Ok(1)),
        (
            &["loadbalance\nprefer 10.0.0.0/8 fd00::/8", "loadbalance"],
            Ok(1),
        ),
        (
            &["loadbalance round_robin x"],
            Err("unknown property for round_robin"),
        ),
        (
            &["loadbalance weighted"],
            Err("missing weight file argument"),
        ),
        (&["loadbalance weighted f g"], Err("unexpected argument(s)")),
        (&["loadbalance weighted /nonexistent"], Ok(1)),
        (
            &["loadbalance weighted /nonexistent\nreload 0"],
            Err("weight file open error"),
        ),
        (
            &["loadbalance weighted f\nreload"],
            Err("reload duration value is missing"),
        ),
        (
            &["loadbalance weighted f\nreload x"],
            Err("invalid reload duration 'x'"),
        ),
        (
            &["loadbalance weighted f\nreload 1s 2s"],
            Err("unexpected argument"),
        ),
        (
            &["loadbalance weighted f\nprefer 10.0.0.0/8"],
            Err("unknown property 'prefer'"),
        ),
        (&["loadbalance random"], Err("unknown policy: random")),
        (
            &["loadbalance\nreload 1s"],
            Err("unknown property 'reload'"),
        ),
        (
            &["loadbalance\nprefer 10.0.0.0"],
            Err("invalid CIDR \"10.0.0.0\": invalid CIDR address: 10.0.0.0"),
        ),
    ];
    for (texts, expected) in cases {
        let got = set_up(texts).await;
        assert_eq!(got, expected.map_err(str::to_owned), "{texts:?}");
    }
}
