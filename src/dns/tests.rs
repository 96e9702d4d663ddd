//! The wire format against an independent codec, and the rules of acceptance and of replies.
#![allow(clippy::unwrap_used)]

use super::*;
use hickory_proto::op::{Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::{Name as HickoryName, RecordType as HickoryType};
use hickory_proto::serialize::binary::BinDecodable;
use proptest::prelude::*;

fn hickory_query(name: &str, edns: Option<(u16, bool)>) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = HickoryName::from_ascii(name).unwrap();
    message.add_query(Question::query(name, HickoryType::A));
    if let Some((size, dnssec_ok)) = edns {
        let mut opt = hickory_proto::op::Edns::new();
        opt.set_max_payload(size).set_dnssec_ok(dnssec_ok);
        message.set_edns(opt);
    }
    message.to_vec().unwrap()
}

/// A packet with these flags and counts, and the question `a. A IN`.
fn packet(bits: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let header = Header {
        id: 7,
        bits,
        counts,
    };
    let mut packet = header.to_wire().to_vec();
    packet.extend_from_slice(b"\x01a\0\0\x01\0\x01");
    packet.extend_from_slice(rest);
    packet
}

fn opt(size: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 41];
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&(options.len() as u16).to_be_bytes());
    out.extend_from_slice(options);
    out
}

#[test]
fn acceptance() {
    let formerr = Err(Reject::Reply(Rcode::FORMERR));
    let notimp = Err(Reject::Reply(Rcode::NOTIMP));
    let read = |packet: &[u8]| Query::read(packet).map(|_| ());
    assert_eq!(read(&packet(0, [1, 0, 0, 0], b"")), Ok(()));
    assert_eq!(read(&packet(0, [1, 0, 0, 0], b"trailing")), Ok(()));
    assert_eq!(read(&packet(4 << 11, [1, 0, 0, 0], b"")), Ok(()), "NOTIFY");
    assert_eq!(
        read(&packet(Header::QR, [1, 0, 0, 0], b"")),
        Err(Reject::Drop)
    );
    assert_eq!(read(&[0; 11]), Err(Reject::Drop));
    assert_eq!(read(&packet(2 << 11, [1, 0, 0, 0], b"")), notimp, "STATUS");
    assert_eq!(read(&packet(5 << 11, [1, 0, 0, 0], b"")), notimp, "UPDATE");
    for counts in [
        [0, 0, 0, 0],
        [2, 0, 0, 0],
        [1, 2, 0, 0],
        [1, 0, 2, 0],
        [1, 0, 0, 3],
    ] {
        assert_eq!(read(&packet(0, counts, b"")), formerr, "{counts:?}");
    }
    assert_eq!(
        read(&packet(0, [1, 0, 0, 1], b"\0\0\x29")),
        formerr,
        "cut OPT"
    );
    assert_eq!(
        read(&packet(0, [1, 0, 0, 1], &opt(512, 0, b"\0\x0a\0\x09x"))),
        formerr,
        "cut option"
    );
    let mut pointer = Header {
        counts: [1, 0, 0, 0],
        ..Header::default()
    }
    .to_wire()
    .to_vec();
    pointer.extend_from_slice(b"\xc0\x04\0\x01\0\x01");
    assert_eq!(
        read(&pointer),
        formerr,
        "a question that is a pointer into the header"
    );
}

#[test]
fn rejects_are_a_header_alone() {
    let mut reply = Reply::new();
    let asked = packet(2 << 11 | Header::RD, [1, 0, 0, 0], b"");
    assert_eq!(
        reply.reject(&asked, Rcode::NOTIMP),
        [0, 7, 0x91, 4, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    let asked = packet(Header::RD, [2, 0, 0, 0], b"");
    assert_eq!(
        reply.reject(&asked, Rcode::FORMERR),
        [0, 7, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn edns_is_mirrored() {
    let options = [
        &b"\0\x0a\0\x08clientck"[..],        // COOKIE
        b"\0\x08\0\x07\0\x01\x18\0\x0a\0\0", // ECS
        b"\0\x0c\0\x02\0\0",                 // PADDING
    ]
    .concat();
    let asked = packet(Header::RD, [1, 0, 0, 1], &opt(1400, 0x8000, &options));
    let query = Query::read(&asked).unwrap();
    assert_eq!((query.udp_limit(), query.dnssec_ok()), (1400, true));
    let mut reply = Reply::new();
    reply.start(&query);
    reply.add_extended_error(ExtendedError::new(ExtendedError::BLOCKED, "no"));
    let bytes = reply.finish(&query, 1400).to_vec();
    let kept = [
        &b"\0\x0f\0\x04\0\x0fno"[..],
        b"\0\x0a\0\x08clientck",
        b"\0\x0c\0\x02\0\0",
    ]
    .concat();
    assert_eq!(bytes[12 + 7..], opt(1400, 0x8000, &kept));
    assert_eq!(bytes[10..12], [0, 1]);

    let plain = packet(0, [1, 0, 0, 0], b"");
    let query = Query::read(&plain).unwrap();
    reply.start(&query);
    reply.add_extended_error(ExtendedError::new(ExtendedError::BLOCKED, "no"));
    assert_eq!(
        reply.finish(&query, 512).len(),
        plain.len(),
        "no OPT unless asked"
    );
}

#[test]
fn badvers_sets_the_upper_rcode_bits() {
    let asked = packet(0, [1, 0, 0, 1], &opt(512, 1 << 16, b""));
    let query = Query::read(&asked).unwrap();
    assert_eq!(query.edns().unwrap().version, 1);
    let mut reply = Reply::new();
    reply.start(&query);
    reply.set_rcode(Rcode::BADVERS);
    let bytes = reply.finish(&query, 512).to_vec();
    assert_eq!(bytes[3] & 0xf, 0);
    assert_eq!(bytes[19..], opt(512, 1 << 24, b""));
}

#[test]
fn truncation_cuts_behind_the_last_record_that_fits() {
    let asked = packet(0, [1, 0, 0, 1], &opt(600, 0, b""));
    let query = Query::read(&asked).unwrap();
    let mut reply = Reply::new();
    reply.start(&query);
    for octet in 0..40u8 {
        assert!(reply.push(
            Section::Answer,
            Owner::Query,
            RecordType::A,
            5,
            &[10, 0, 0, octet]
        ));
    }
    reply.push(
        Section::Additional,
        Owner::Query,
        RecordType::A,
        5,
        &[10, 0, 0, 99],
    );
    let bytes = reply.finish(&query, query.udp_limit()).to_vec();
    assert!(bytes.len() <= 600);
    let message = Message::from_bytes(&bytes).unwrap();
    assert!(message.metadata.truncation);
    assert_eq!(message.answers.len(), (600 - 19 - 11) / 16);
    assert_eq!(message.additionals.len(), 0);
    assert!(message.edns.is_some());

    // The loss of glue alone sets TC as well.
    let asked = packet(0, [1, 0, 0, 0], b"");
    let query = Query::read(&asked).unwrap();
    reply.start(&query);
    reply.push(Section::Answer, Owner::Query, RecordType::TXT, 5, &[0; 470]);
    reply.push(
        Section::Additional,
        Owner::Query,
        RecordType::A,
        5,
        &[1, 2, 3, 4],
    );
    let message = Message::from_bytes(reply.finish(&query, 512)).unwrap();
    assert!(message.metadata.truncation);
    assert_eq!((message.answers.len(), message.additionals.len()), (1, 0));
}

#[test]
fn nothing_exceeds_a_message() {
    let asked = packet(0, [1, 0, 0, 0], b"");
    let query = Query::read(&asked).unwrap();
    let mut reply = Reply::new();
    reply.start(&query);
    let mut written = 0;
    while reply.push(
        Section::Answer,
        Owner::Query,
        RecordType::TXT,
        5,
        &[0; 1000],
    ) {
        written += 1;
    }
    assert_eq!(written, 64);
    assert!(reply.has_flag(Header::TC));
    assert!(!reply.push(
        Section::Answer,
        Owner::Query,
        RecordType::TXT,
        5,
        &[0; 65_536]
    ));
    assert!(reply.finish(&query, MAX_MESSAGE).len() <= MAX_MESSAGE);
}

#[test]
fn names_point_into_the_question_as_typed() {
    let asked = hickory_query("WeB.Default.SVC.Cluster.Local.", None);
    let query = Query::read(&asked).unwrap();
    assert_eq!(query.name().to_string(), "web.default.svc.cluster.local.");
    let mut reply = Reply::new();
    reply.start(&query);
    let soa = (RecordType::SRV, Class::IN);
    reply.push_with(Section::Answer, Owner::Query, soa, 30, |out| {
        out.octets(&[0, 0, 0, 100, 0, 80]);
        out.label(b"db-0");
        out.question_suffix_in_full(0);
    });
    reply.push_with(
        Section::Authority,
        Owner::Suffix(3),
        (RecordType::NS, Class::IN),
        30,
        |out| {
            out.label(b"ns");
            out.question_suffix(3);
        },
    );
    let message = Message::from_bytes(reply.finish(&query, 512)).unwrap();
    assert_eq!(
        message.answers[0].to_string(),
        "WeB.Default.SVC.Cluster.Local. 30 IN SRV 0 100 80 db-0.WeB.Default.SVC.Cluster.Local."
    );
    assert_eq!(
        message.authorities[0].to_string(),
        "Cluster.Local. 30 IN NS ns.Cluster.Local."
    );
}

#[test]
fn an_upstream_message_is_adopted() {
    let asked = hickory_query("Example.Org.", Some((1232, false)));
    let query = Query::read(&asked).unwrap();
    let mut upstream = packet(0, [1, 1, 0, 1], b"");
    upstream.truncate(12);
    upstream[2..4].copy_from_slice(&(Header::QR | Header::RA | Header::RD | 3).to_be_bytes());
    upstream.extend_from_slice(b"\x07example\x03org\0\0\x01\0\x01");
    upstream.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x14\0\x04\x01\x02\x03\x04");
    upstream.extend_from_slice(&opt(4096, 0, b"\0\x0f\0\x02\0\x16"));
    let mut reply = Reply::new();
    reply.adopt(&query, &upstream).unwrap();
    assert_eq!(reply.rcode(), Rcode::NXDOMAIN);
    assert_eq!(reply.counts(), [1, 0, 0]);
    reply.map_ttls(|ttl| ttl - 1);
    let bytes = reply.finish(&query, 1232).to_vec();
    let message = Message::from_bytes(&bytes).unwrap();
    assert_eq!(message.metadata.id, 0x1234);
    assert!(message.metadata.recursion_available && !message.metadata.authoritative);
    assert_eq!(
        message.answers[0].to_string(),
        "Example.Org. 19 IN A 1.2.3.4"
    );
    assert!(bytes.ends_with(&opt(1232, 0, b"\0\x0f\0\x02\0\x16")));
    assert!(reply.adopt(&query, &bytes[..bytes.len() - 30]).is_err());
}

proptest! {
    #[test]
    fn any_packet_is_read_or_rejected(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut reply = Reply::new();
        match Query::read(&packet) {
            Ok(query) => {
                reply.start(&query);
                let bytes = reply.finish(&query, 512);
                prop_assert_eq!(&bytes[..2], &packet[..2]);
                prop_assert_eq!(&bytes[12..12 + query.question().len()], query.question());
            }
            Err(Reject::Reply(rcode)) => {
                prop_assert_eq!(reply.reject(&packet, rcode).len(), 12);
            }
            Err(Reject::Drop) => {}
        }
    }

    #[test]
    fn adopting_anything_is_safe(tail in proptest::collection::vec(any::<u8>(), 0..200), counts: [u8; 3]) {
        let asked = packet(0, [1, 0, 0, 0], b"");
        let query = Query::read(&asked).unwrap();
        let counts = counts.map(|count| u16::from(count % 4));
        let upstream = packet(Header::QR, [1, counts[0], counts[1], counts[2]], &tail);
        let mut reply = Reply::new();
        if reply.adopt(&query, &upstream).is_ok() {
            reply.map_ttls(|ttl| ttl / 2);
            prop_assert!(reply.records().count() <= 12);
        }
        prop_assert!(reply.finish(&query, 512).len() <= 512);
    }

    #[test]
    fn names_round_trip(labels in proptest::collection::vec("[a-z0-9_][a-zA-Z0-9_-]{0,18}[A-Z0-9]", 1..8)) {
        let text = labels.join(".") + ".";
        let asked = hickory_query(&text, None);
        let query = Query::read(&asked).unwrap();
        prop_assert_eq!(query.name().to_string(), text.to_ascii_lowercase());
        prop_assert_eq!(query.name().label_count(), labels.len());
    }
}
