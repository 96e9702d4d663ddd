#![allow(clippy::unwrap_used)]

use super::*;
use crate::dns::{Class, OwnedQuery};
use hickory_proto::op::{Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::rdata::{A, CNAME, MX, NAPTR, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name as HickoryName, RData, Record as HickoryRecord};
use hickory_proto::serialize::binary::BinDecodable;
use proptest::prelude::*;

const QUESTION: &str = "www.Example.org.";

fn name(text: &str) -> HickoryName {
    HickoryName::from_ascii(text).unwrap()
}

fn message(sections: [Vec<HickoryRecord>; 3]) -> Message {
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    let question = Question::query(name(QUESTION), hickory_proto::rr::RecordType::A);
    message.add_query(question);
    let [answers, authorities, additionals] = sections;
    message.answers = answers;
    message.authorities = authorities;
    message.additionals = additionals;
    message
}

/// The normalised records behind the question in another case, decoded again.
fn served(records: &Normalised, question: &str) -> (Vec<u8>, Message) {
    let typed: Vec<u8> = {
        let mut wire = Vec::new();
        crate::dns::name::write_labels(question, &mut wire).unwrap();
        wire.push(0);
        wire
    };
    let query = OwnedQuery::ask(&typed, RecordType::A, Class::IN, true);
    let mut reply = Reply::new();
    reply.start(&query.view());
    records.replace(&mut reply);
    let wire = reply.finish(&query.view(), MAX_MESSAGE).to_vec();
    let message = Message::from_bytes(&wire).unwrap();
    (wire, message)
}

fn text(records: &[HickoryRecord]) -> Vec<String> {
    records.iter().map(|r| r.to_string()).collect()
}

#[test]
fn names_of_the_question_follow_the_client() {
    let upstream = message([
        vec![
            HickoryRecord::from_rdata(
                name("WWW.example.ORG."),
                9,
                RData::CNAME(CNAME(name("Edge.Example.net."))),
            ),
            HickoryRecord::from_rdata(name("Edge.Example.net."), 9, RData::A(A::new(192, 0, 2, 1))),
        ],
        vec![HickoryRecord::from_rdata(
            name("EXAMPLE.org."),
            9,
            RData::NS(NS(name("ns.Example.net."))),
        )],
        vec![],
    ]);
    let records = Normalised::of_message(&upstream.to_vec().unwrap()).unwrap();
    let (wire, got) = served(&records, "wWw.eXample.Org.");
    assert_eq!(
        text(&got.answers),
        [
            "wWw.eXample.Org. 9 IN CNAME Edge.Example.net.",
            "Edge.Example.net. 9 IN A 192.0.2.1"
        ]
    );
    assert_eq!(
        text(&got.authorities),
        ["eXample.Org. 9 IN NS ns.Example.net."]
    );
    // Three owners are pointers, and `Example.net` stands there once.
    let count = wire
        .windows(11)
        .filter(|w| w.eq_ignore_ascii_case(b"example\x03net"))
        .count();
    assert_eq!(count, 1);
}

#[test]
fn other_spellings_are_kept() {
    let upstream = message([
        vec![
            HickoryRecord::from_rdata(
                name(QUESTION),
                9,
                RData::PTR(PTR(name("Host.example.net."))),
            ),
            HickoryRecord::from_rdata(
                name(QUESTION),
                9,
                RData::PTR(PTR(name("hOST.EXAMPLE.net."))),
            ),
        ],
        vec![],
        vec![],
    ]);
    let records = Normalised::of_message(&upstream.to_vec().unwrap()).unwrap();
    let (_, got) = served(&records, QUESTION);
    assert_eq!(
        text(&got.answers),
        [
            "www.Example.org. 9 IN PTR Host.example.net.",
            "www.Example.org. 9 IN PTR hOST.EXAMPLE.net."
        ]
    );
}

#[test]
fn srv_targets_are_written_in_full() {
    // SRV at the question's name, its target a pointer to it: 7 octets of rdata become 6 + 17.
    let mut wire = message([vec![], vec![], vec![]]).to_vec().unwrap();
    wire.extend_from_slice(b"\xc0\x0c\0\x21\0\x01\0\0\0\x05\0\x08\0\x01\0\x02\0\x50\xc0\x0c");
    wire[7] = 1;
    let records = Normalised::of_message(&wire).unwrap();
    assert_eq!(records.records()[..2], [0xc0, 0x0c]);
    assert_eq!(records.records()[10..12], [0, 23]);
    assert_eq!(&records.records()[18..], b"\x03www\x07Example\x03org\0");
}

#[test]
fn options_are_handed_back() {
    let mut wire = message([vec![], vec![], vec![]]).to_vec().unwrap();
    wire.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\0\x0f\0\x02\0\x16");
    wire.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x01\x02\x03\x04");
    wire[11] = 2;
    let records = Normalised::of_message(&wire).unwrap();
    assert_eq!(records.options(), b"\0\x0f\0\x02\0\x16");
    assert_eq!(records.counts(), [0, 0, 1]);
    assert_eq!(records.section(Section::Additional).len(), 16);
    assert_eq!(records.ends(), [0, 0, 16]);
}

#[test]
fn what_is_malformed_is_an_error() {
    let rdatas: [(u16, &[u8]); 6] = [
        (5, b""),
        (5, b"\x01a\0junk"),
        (6, b"\0\0short"),
        (15, b"\0"),
        (35, b"\0\0\0\0\x09flags"),
        (33, b"\0\0\0\0\0\0\xc0\xff"),
    ];
    for (rtype, rdata) in rdatas {
        let mut wire = message([vec![], vec![], vec![]]).to_vec().unwrap();
        wire[7] = 1;
        wire.extend_from_slice(b"\xc0\x0c");
        wire.extend_from_slice(&rtype.to_be_bytes());
        wire.extend_from_slice(b"\0\x01\0\0\0\x05");
        wire.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        wire.extend_from_slice(rdata);
        assert!(Normalised::of_message(&wire).is_err(), "{rtype} {rdata:?}");
    }
}

#[test]
fn what_grows_beyond_a_message_is_an_error() {
    let long = format!("{0}.{0}.{0}.", "a".repeat(63));
    let mut wire = message([vec![], vec![], vec![]]).to_vec().unwrap();
    let target = wire.len() + 10 + 2 + 6;
    let count = 2000u16;
    for at in 0..count {
        wire.extend_from_slice(b"\xc0\x0c\0\x21\0\x01\0\0\0\x05");
        if at == 0 {
            let mut rdata = vec![0; 6];
            crate::dns::name::write_labels(&long, &mut rdata).unwrap();
            rdata.push(0);
            wire.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            wire.extend_from_slice(&rdata);
        } else {
            wire.extend_from_slice(&[0, 8, 0, 0, 0, 0, 0, 0, 0xc0, 0]);
            let len = wire.len();
            wire[len - 2..].copy_from_slice(&(0xc000 | target as u16).to_be_bytes());
        }
    }
    wire[6..8].copy_from_slice(&count.to_be_bytes());
    assert_eq!(
        Normalised::of_message(&wire),
        Err(WireError::MessageTooLong)
    );
}

fn any_name() -> impl Strategy<Value = HickoryName> {
    let label = prop_oneof![
        Just("www"),
        Just("WWW"),
        Just("example"),
        Just("Example"),
        Just("org"),
        Just("net"),
        Just("a"),
        Just("A"),
        Just("b")
    ];
    proptest::collection::vec(label, 0..5).prop_map(|labels| name(&(labels.join(".") + ".")))
}

fn any_rdata() -> impl Strategy<Value = RData> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|[a, b, c, d]| RData::A(A::new(a, b, c, d))),
        any_name().prop_map(|n| RData::CNAME(CNAME(n))),
        any_name().prop_map(|n| RData::NS(NS(n))),
        any_name().prop_map(|n| RData::PTR(PTR(n))),
        (any::<u16>(), any_name()).prop_map(|(p, n)| RData::MX(MX::new(p, n))),
        (any::<u16>(), any_name()).prop_map(|(p, n)| RData::SRV(SRV::new(p, 1, 2, n))),
        (any_name(), any_name(), any::<u32>())
            .prop_map(|(m, r, s)| RData::SOA(SOA::new(m, r, s, 1, 2, 3, 4))),
        (any::<u16>(), any_name()).prop_map(|(o, n)| {
            let text = |s: &[u8]| s.to_vec().into_boxed_slice();
            RData::NAPTR(NAPTR::new(o, 1, text(b"u"), text(b""), text(b"!x!"), n))
        }),
        "[a-z]{0,40}".prop_map(|t| RData::TXT(TXT::new(vec![t]))),
    ]
}

fn any_section() -> impl Strategy<Value = Vec<HickoryRecord>> {
    let record = (any_name(), 0..i32::MAX as u32, any_rdata());
    let record = record.prop_map(|(n, ttl, rdata)| HickoryRecord::from_rdata(n, ttl, rdata));
    proptest::collection::vec(record, 0..8)
}

fn lower(sections: [&[HickoryRecord]; 3]) -> Vec<String> {
    sections
        .iter()
        .flat_map(|s| text(s))
        .map(|t| t.to_ascii_lowercase())
        .collect()
}

proptest! {
    #[test]
    fn records_stay_the_same(sections in [any_section(), any_section(), any_section()]) {
        let upstream = message(sections);
        let records = Normalised::of_message(&upstream.to_vec().unwrap()).unwrap();
        let (wire, got) = served(&records, "WWW.EXAMPLE.ORG.");
        prop_assert_eq!(
            lower([&got.answers, &got.authorities, &got.additionals]),
            lower([&upstream.answers, &upstream.authorities, &upstream.additionals])
        );
        // Once normalised, nothing changes any more.
        let again = Normalised::of_message(&wire).unwrap();
        prop_assert_eq!(again.records(), records.records());
    }

    #[test]
    fn no_octets_are_harmful(
        tail in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xc0), Just(0x0c), Just(0)], 0..400),
        counts in proptest::array::uniform3(0u8..9),
        question in any::<bool>(),
    ) {
        let mut wire = if question {
            message([vec![], vec![], vec![]]).to_vec().unwrap()
        } else {
            Vec::new()
        };
        wire.extend_from_slice(&tail);
        for (at, count) in [7, 9, 11].into_iter().zip(counts) {
            if question {
                wire[at] = count;
            }
        }
        if let Ok(records) = Normalised::of_message(&wire) {
            prop_assert!(records.records().len() <= MAX_MESSAGE);
            let (a, b, c) = (records.counts()[0], records.counts()[1], records.counts()[2]);
            prop_assert_eq!(records.walk().count(), usize::from(a + b + c));
        }
    }

    /// Records of types with names, their rdata made of octets that look like names.
    #[test]
    fn no_rdata_is_harmful(
        rtype in 1u8..50,
        rdata in proptest::collection::vec(prop_oneof![0u8..6, Just(0xc0), Just(0x0c), any::<u8>()], 0..40),
    ) {
        let mut wire = message([vec![], vec![], vec![]]).to_vec().unwrap();
        wire[7] = 1;
        wire.extend_from_slice(&[0xc0, 0x0c, 0, rtype, 0, 1, 0, 0, 0, 5, 0, rdata.len() as u8]);
        wire.extend_from_slice(&rdata);
        if let Ok(records) = Normalised::of_message(&wire) {
            let wire = served_wire(&records);
            let again = Normalised::of_message(&wire).unwrap();
            prop_assert_eq!(again.records(), records.records());
        }
    }
}

/// As [`served`], without decoding.
fn served_wire(records: &Normalised) -> Vec<u8> {
    let mut wire = message([vec![], vec![], vec![]]).to_vec().unwrap();
    for (at, count) in [7, 9, 11].into_iter().zip(records.counts()) {
        wire[at] = count as u8;
    }
    wire.extend_from_slice(records.records());
    wire
}
