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
use portolan::upstream::sanitize::{self, Checked};
use std::borrow::Cow;

const HEADER: usize = 12;
/// Bits of the first octet.
const RIGHT_ID: u8 = 1;
const RIGHT_QUESTION: u8 = 2;
const OTHER_CASE: u8 = 4;
const EXACT: u8 = 8;
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
    let exact = mending & EXACT != 0;
    let id = flight.insert(&mut packet, exact, (), || 0x1234).unwrap();
    let query = Query::read(&packet).unwrap();
    let message = mended(*mending, octets, query.question());

    let verdict = judge(id, query.question(), &message);
    assert_eq!(verdict, expected(id, query.question(), &message));
    let mut completed = None;
    match flight.arrive(&message) {
        Arrival::Reply(()) => {
            let same = verdict == Verdict::Reply || (!exact && verdict == Verdict::OtherCase);
            assert!(same, "{verdict:?}");
        }
        Arrival::OtherCase(()) => assert_eq!((verdict, exact), (Verdict::OtherCase, true)),
        Arrival::BareError((), whole) => {
            assert_eq!(verdict, Verdict::BareError);
            assert_eq!(judge(id, query.question(), &whole), Verdict::Reply);
            completed = Some(whole);
        }
        Arrival::OtherQuestion => {
            assert_eq!(verdict, Verdict::OtherQuestion);
            assert_eq!(flight.len(), 1, "another question takes nobody's place");
            return;
        }
        Arrival::Late => panic!("nothing was answered before"),
        Arrival::Stray => {
            assert_eq!(verdict, Verdict::Stray);
            assert_eq!(flight.len(), 1, "a stray takes nobody's place");
            return;
        }
    }
    assert_eq!(flight.arrive(&message), Arrival::Late, "answered once");
    if let Some(message) = cleaned(completed.as_deref().unwrap_or(&message)) {
        give(&query, &message, usize::from(*limit));
    }
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
    let failed = [1, 2, 4, 5].contains(&header.rcode().0);
    if header.has(Header::QR) && failed && message[4..HEADER] == [0; 8] {
        return Verdict::BareError;
    }
    let behind = message.get(HEADER..HEADER + question.len());
    let name = question.len() - 4;
    let reply = header.has(Header::QR) && header.counts[0] == 1;
    match behind.filter(|_| reply) {
        Some(theirs) if theirs == question => Verdict::Reply,
        Some(theirs)
            if theirs[name..] == question[name..]
                && theirs[..name].to_ascii_lowercase() == question[..name].to_ascii_lowercase() =>
        {
            Verdict::OtherCase
        }
        _ => Verdict::OtherQuestion,
    }
}

/// What goes on to the client's reply: without what was not asked for; `None` if it is cut.
fn cleaned(message: &[u8]) -> Option<Cow<'_, [u8]>> {
    match sanitize::check(message) {
        Checked::Malformed => None,
        Checked::Clean => Some(Cow::Borrowed(message)),
        Checked::Cleaned { message: less, .. } => {
            assert_eq!(sanitize::check(&less), Checked::Clean, "once is enough");
            let count = |message| Records::new(message).unwrap().count();
            assert!(count(&less) < count(message));
            Some(Cow::Owned(less))
        }
    }
}

fn give(query: &Query<'_>, message: &[u8], limit: usize) {
    let mut records = Records::new(message).unwrap();
    assert!(records.by_ref().all(|record| record.is_ok()), "checked");
    assert!(records.offset() <= message.len());
    let mut reply = Reply::new();
    assert!(reply.adopt(query, message).is_ok());
    let before: Vec<_> = reply
        .records()
        .map(|record| (record.section, record.rtype))
        .collect();
    // An OPT has its place in the additional section (RFC 6891 §6.1.1).
    assert!(before.iter().all(|(_, rtype)| *rtype != RecordType::OPT));
    if let Ok(normal) = Normalised::of_reply(&reply) {
        let after: Vec<_> = normal
            .walk()
            .map(|record| (record.section, record.rtype))
            .collect();
        assert_eq!(after, before, "the same records");
        let mut again = Reply::new();
        again.start(query);
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
