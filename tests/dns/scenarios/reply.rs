//! What a client got, beside what it was to get.

use super::grammar::{Expected, FLAGS, Question};
use super::records::show;
use super::words::{Problem, Span};
use crate::support::block::Answer;
use hickory_proto::op::Message;
use hickory_proto::serialize::binary::BinDecodable;
use portolan::dns::edns::{self, option::EXTENDED_ERROR};
use portolan::dns::{Header, RecordType, Records};
use std::time::Duration;

/// A client's answer, and how long it took.
pub struct Got {
    pub question: Question,
    pub packet: Vec<u8>,
    pub answer: Answer,
    pub elapsed: Duration,
}

/// The message that asks the question.
pub fn packet(question: &Question, id: u16) -> Vec<u8> {
    let header = Header {
        id,
        bits: question.bits,
        counts: [1, 0, 0, 0],
    };
    let mut packet = header.to_wire().to_vec();
    packet.extend(&question.name);
    packet.extend(question.qtype.0.to_be_bytes());
    packet.extend([0, 1]);
    match question.edns {
        Some(size) => crate::support::message::with_opt(packet, size, question.dnssec, &[]),
        None => packet,
    }
}

impl Expected {
    /// What differs, in the words of a scenario. `fill` puts addresses in place of `{upstream}`.
    pub fn compare(&self, line: usize, got: &Got, fill: &dyn Fn(&str) -> String) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |line, text: String| problems.push(Problem::new(line, text));
        let wire = &got.answer.message;
        let message = match Message::from_bytes(wire) {
            Ok(message) => message,
            Err(error) => {
                wrong(line, format!("got what is no message: {error}"));
                return problems;
            }
        };
        let header = Header::read(wire).unwrap();
        let rcode = got.answer.rcode();
        if rcode != self.rcode {
            wrong(line, format!("{} expected, got {rcode}", self.rcode));
        }
        let all = FLAGS.iter().fold(0, |all, (_, bit)| all | bit);
        if header.bits & all != self.flags {
            let (wanted, got) = (flags(self.flags), flags(header.bits));
            wrong(line, format!("flags `{wanted}` expected, got `{got}`"));
        }
        if header.bits & Header::RD != got.question.bits & Header::RD {
            wrong(line, "RD is not as the client set it".into());
        }
        let asked = 12 + got.question.name.len() + 4;
        if wire[..2] != got.packet[..2] || wire.get(12..asked) != got.packet.get(12..asked) {
            wrong(
                line,
                "id or question is not the client's, octet for octet".into(),
            );
        }
        if let Some(within) = &self.within
            && !contains(within, got.elapsed)
        {
            wrong(
                line,
                format!("{within} expected, it took {:?}", got.elapsed),
            );
        }
        let sections = [&message.answers, &message.authorities, &message.additionals];
        for ((name, wanted), got) in ["answer", "authority", "additional"]
            .iter()
            .zip(&self.sections)
            .zip(sections)
        {
            let mut extra: Vec<_> = got.iter().map(show).collect();
            for (line, record) in wanted {
                match extra.iter().position(|one| one == record) {
                    Some(at) => drop(extra.remove(at)),
                    None => wrong(*line, format!("missing: {name} {record}")),
                }
            }
            for record in extra {
                wrong(line, format!("not expected: {name} {record}"));
            }
        }
        let mut extra = extended_errors(wire);
        for (line, code, part) in self.errors.iter().flatten() {
            let part = part.as_deref().map(fill).unwrap_or_default();
            let same = |(one, text): &(u16, String)| one == code && text.contains(&part);
            match extra.iter().position(same) {
                Some(at) => drop(extra.remove(at)),
                None => wrong(*line, format!("missing: ede {code} \"{part}\"")),
            }
        }
        for (code, text) in extra {
            if self.errors.is_some() {
                wrong(line, format!("not expected: ede {code} \"{text}\""));
            }
        }
        if let Some(part) = self.error.as_deref().map(fill)
            && !got.answer.error().contains(&part)
        {
            let error = got.answer.error();
            wrong(line, format!("error \"{part}\" expected, got \"{error}\""));
        }
        problems
    }
}

/// Timers are exact to a millisecond.
fn contains(within: &Span<Duration>, elapsed: Duration) -> bool {
    let grain = Duration::from_millis(if within.last.is_zero() { 0 } else { 2 });
    within.first <= elapsed && elapsed <= within.last + grain
}

fn flags(bits: u16) -> String {
    let set = FLAGS.iter().filter(|(_, bit)| bits & bit != 0);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

fn extended_errors(wire: &[u8]) -> Vec<(u16, String)> {
    let records = Records::new(wire).into_iter().flatten().flatten();
    let mut options = records.filter(|record| record.rtype == RecordType::OPT);
    let data = options.next().map_or(&[][..], |opt| &wire[opt.rdata]);
    edns::options(data)
        .filter(|(code, data)| *code == EXTENDED_ERROR && data.len() >= 2)
        .map(|(_, data)| {
            let text = String::from_utf8_lossy(&data[2..]).into_owned();
            (u16::from_be_bytes([data[0], data[1]]), text)
        })
        .collect()
}
