//! Any octets as what an upstream sends: what is believed answers the question that was sent, and can
//! be given to the client.
//!
//! The first octet says what of the message is made right, so that the parts behind the check are
//! reached; the second is the client's limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan::dns::{
    Class, Header, Name, Normalised, OwnedQuery, Query, RecordType, Records, Reply,
};
use portolan::upstream::protocol::{Arrival, InFlight, Verdict, judge, set_id};
use std::borrow::Cow;

const HEADER: usize = 12;
/// Bits of the first octet.
const RIGHT_ID: u8 = 1;
const RIGHT_QUESTION: u8 = 2;
const OTHER_CASE: u8 = 4;
const TYPES: [RecordType; 4] = [
    RecordType::A,
    RecordType::CNAME,
    RecordType::TXT,
    RecordType::SRV,
];

fuzz_target!(|data: &[u8]| {
    let [mending, limit, octets @ ..] = data else {
        return;
    };
    let name = Name::from_text("Www.sub.example.org").unwrap();
    let qtype = TYPES[usize::from(mending >> 6)];
    let asked = OwnedQuery::ask(name.wire(), qtype, Class::IN, true);
    let mut packet = asked.view().packet().to_vec();
    let mut flight = InFlight::new(4);
    let id = flight.insert(&mut packet, (), || 0x1234).unwrap();
    let query = Query::read(&packet).unwrap();
    let message = mended(*mending, octets, query.question());

    let verdict = judge(id, query.question(), &message);
    assert_eq!(verdict, expected(id, query.question(), &message));
    match flight.arrive(&message) {
        Arrival::Reply(()) => assert_eq!(verdict, Verdict::Reply),
        Arrival::OtherQuestion(()) => assert_eq!(verdict, Verdict::OtherQuestion),
        Arrival::Stray => {
            assert_eq!(verdict, Verdict::Stray);
            assert_eq!(flight.len(), 1, "a stray takes nobody's place");
        }
    }
    if verdict != Verdict::Reply {
        return;
    }
    assert_eq!(flight.arrive(&message), Arrival::Stray, "answered once");
    give(&query, &cleaned(&query, &message), usize::from(*limit));
});

/// The message with the parts that a forger would have to guess made right.
fn mended(mending: u8, octets: &[u8], question: &[u8]) -> Vec<u8> {
    let mut message = octets.to_vec();
    if mending & RIGHT_QUESTION != 0 && message.len() >= HEADER {
        message[2] |= 0x80;
        message[4..6].copy_from_slice(&[0, 1]);
        let mut question = question.to_vec();
        let (name, _) = question.split_last_chunk_mut::<4>().unwrap();
        match mending & OTHER_CASE {
            0 => name.make_ascii_lowercase(),
            _ => name.make_ascii_uppercase(),
        }
        message.splice(HEADER..HEADER, question);
    }
    if mending & RIGHT_ID != 0 {
        set_id(&mut message, 0x1234);
    }
    message
}

/// The rule of RFC 5452 §4 and 9.1, said in another way.
fn expected(id: u16, question: &[u8], message: &[u8]) -> Verdict {
    let Ok(header) = Header::read(message) else {
        return Verdict::Stray;
    };
    if header.id != id {
        return Verdict::Stray;
    }
    let behind = message.get(HEADER..HEADER + question.len());
    let name = question.len() - 4;
    let same = behind.is_some_and(|theirs| {
        theirs[name..] == question[name..]
            && theirs[..name].to_ascii_lowercase() == question[..name].to_ascii_lowercase()
    });
    match header.has(Header::QR) && header.counts[0] == 1 && same {
        true => Verdict::Reply,
        false => Verdict::OtherQuestion,
    }
}

/// What goes on to the client's reply: a step that removes what was not asked for belongs here, with
/// its invariants (no record more than before, and none outside the bailiwick).
fn cleaned<'m>(_query: &Query<'_>, message: &'m [u8]) -> Cow<'m, [u8]> {
    Cow::Borrowed(message)
}

fn give(query: &Query<'_>, message: &[u8], limit: usize) {
    let mut records = Records::new(message).unwrap();
    let whole = records.by_ref().all(|record| record.is_ok());
    assert!(records.offset() <= message.len());
    let mut reply = Reply::new();
    // What is behind an OPT is not adopted, and may be cut.
    let adopted = reply.adopt(query, message).is_ok();
    assert!(adopted || !whole);
    // An OPT has its place in the additional section (RFC 6891 §6.1.1); elsewhere it is left out.
    let before: Vec<_> = reply
        .records()
        .map(|record| (record.section, record.rtype))
        .filter(|(_, rtype)| *rtype != RecordType::OPT)
        .collect();
    if let Ok(normal) = Normalised::of_reply(&reply) {
        let after: Vec<_> = normal
            .walk()
            .map(|record| (record.section, record.rtype))
            .collect();
        assert_eq!(after, before, "the same records");
        let mut again = Reply::new();
        again.start(query);
        let mut normal = normal;
        normal.replace(&mut again);
        check(query, again.finish(query, 65_535), 65_535);
    }
    // Never below what every client takes, nor so small that the question does not fit.
    let limit = 512 + limit * 16;
    check(query, reply.finish(query, limit), limit);
}

fn check(query: &Query<'_>, message: &[u8], limit: usize) {
    assert!(
        message.len() <= limit,
        "{} octets for a limit of {limit}",
        message.len()
    );
    assert_eq!(message[..2], query.packet()[..2], "the id is echoed");
    let question = query.question();
    assert_eq!(
        &message[HEADER..HEADER + question.len()],
        question,
        "the question is echoed"
    );
    let mut records = Records::new(message).unwrap();
    assert!(
        records.by_ref().all(|record| record.is_ok()),
        "every record is whole"
    );
    assert_eq!(
        records.offset(),
        message.len(),
        "nothing follows the last record"
    );
}
