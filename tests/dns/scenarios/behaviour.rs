//! What upstreams do about a query: the words for it, and the messages that they make of it.

use super::grammar::flag;
use super::records::{Record, name, octets};
use super::words::{Problem, Words};
use crate::support::message;
use crate::support::upstream::Act;
use portolan::dns::edns::option::EXTENDED_ERROR;
use portolan::dns::{Header, Query, Rcode, RecordType};
use std::time::Duration;

/// A reply of the file.
#[derive(Clone, Debug)]
pub struct ReplyText {
    pub name: String,
    /// The question that it is the reply to; without one it is sent where it is named.
    to: Option<(Vec<u8>, RecordType)>,
    bits: u16,
    sections: [Vec<Record>; 3],
    errors: Vec<(u16, String)>,
}

/// A line `upstream`: what the upstream does from now on.
#[derive(Clone, Debug)]
pub struct Line {
    pub of: Of,
    pub gone: bool,
    pub sequence: Sequence,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    All,
    Udp,
    Tcp,
    Probes,
}

/// What is done about the first query, the second, and so on; the last holds for all that follow.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    turns: Vec<Vec<Deed>>,
    /// It starts again behind the last one.
    again: bool,
    at: usize,
}

#[derive(Clone, Debug)]
enum Deed {
    Send(Option<String>, Twist),
    Wait(Duration),
    Rcode(Rcode),
    /// A header with this code, and nothing else.
    Bare(Rcode),
    Octets(Vec<u8>),
    Close,
    HalfClose,
}

/// How the message that is sent differs from the reply.
#[derive(Clone, Copy, Debug)]
enum Twist {
    None,
    /// Empty with TC over UDP.
    Truncated,
    WrongId,
    WrongQuestion,
    WrongSource,
    LowerCase,
    /// As many guesses of the id, the right one last; the question in lower case.
    Spoof(usize),
    /// Without its last octets.
    Cut(usize),
}

type Read<T> = Result<T, Problem>;

/// The block `reply`.
pub fn reply(words: &mut Words, lines: &[(usize, String)]) -> Read<ReplyText> {
    words.expect("reply")?;
    let mut reply = ReplyText {
        name: words.next("a name")?,
        to: None,
        bits: Header::RA,
        sections: Default::default(),
        errors: Vec::new(),
    };
    if words.take("to") {
        let text = words.next("a name")?;
        let owner = name(&text).ok_or_else(|| words.problem(format!("bad name `{text}`")))?;
        reply.to = Some((owner.to_ascii_lowercase(), words.parse("a record type")?));
    }
    words.end()?;
    for (number, text) in lines {
        let mut words = Words::new(*number, text)?;
        let verb = words.next("a word")?;
        match verb.as_str() {
            "rcode" => reply.bits |= words.parse::<Rcode>("a response code")?.0,
            "flags" => {
                reply.bits &= 0xf;
                while !words.is_empty() && !words.take("none") {
                    reply.bits |= flag(&mut words)?;
                }
            }
            "ede" => {
                let code = words.parse("a code of an extended error")?;
                reply.errors.push((code, words.next("a text")?));
            }
            "answer" | "authority" | "additional" => {
                let section = ["answer", "authority", "additional"];
                let section = section.iter().position(|&name| name == verb).unwrap_or(0);
                let (_, record) = text.split_once(&verb).unwrap_or_default();
                reply.sections[section].extend(Record::read(*number, record)?);
                words.rest();
            }
            _ => return Err(words.problem(format!("unknown word `{verb}`"))),
        }
        words.end()?;
    }
    Ok(reply)
}

/// The rest of a line `upstream NAME`.
pub fn line(words: &mut Words) -> Read<Line> {
    let of = [("udp", Of::Udp), ("tcp", Of::Tcp), ("probes", Of::Probes)];
    let of = of.into_iter().find(|(word, _)| words.take(word));
    let of = of.map_or(Of::All, |(_, of)| of);
    words.expect(":")?;
    let mut sequence = Sequence::default();
    if words.take("gone") {
        let gone = of == Of::All;
        return Ok(Line { of, gone, sequence });
    }
    loop {
        if words.take("again") {
            sequence.again = true;
            words.end()?;
            break;
        }
        let (mut deeds, mut times) = (Vec::new(), 1);
        loop {
            if let Some(deed) = deed(words)? {
                deeds.push(deed);
            }
            if !words.is_empty() && !["then", ",", "times"].contains(&words.peek()) {
                times = words.parse("a number of times, `,` or `then`")?;
                words.expect("times")?;
            }
            if !words.take(",") {
                break;
            }
        }
        sequence.turns.extend(std::iter::repeat_n(deeds, times));
        if words.is_empty() {
            break;
        }
        words.expect("then")?;
    }
    Ok(Line {
        of,
        gone: false,
        sequence,
    })
}

/// `None` for silence.
fn deed(words: &mut Words) -> Read<Option<Deed>> {
    let verb = words.next("what the upstream does")?;
    let twist = match verb.as_str() {
        "silent" => return Ok(None),
        "wait" => return Ok(Some(Deed::Wait(words.duration()?))),
        "rcode" => return Ok(Some(Deed::Rcode(words.parse("a response code")?))),
        "bare" => return Ok(Some(Deed::Bare(words.parse("a response code")?))),
        "close" => return Ok(Some(Deed::Close)),
        "half-close" => return Ok(Some(Deed::HalfClose)),
        "octets" => {
            let hex = words.next("octets")?;
            let octets = octets(&hex);
            let octets = octets.ok_or_else(|| words.problem(format!("`{hex}` is not hex")))?;
            return Ok(Some(Deed::Octets(octets)));
        }
        "answer" => Twist::None,
        "send" => {
            let name = words.next("a reply's name")?;
            return Ok(Some(Deed::Send(Some(name), Twist::None)));
        }
        "truncated" => Twist::Truncated,
        "lower-case" => Twist::LowerCase,
        "spoof" => Twist::Spoof(words.parse("a number of guesses")?),
        "cut" => Twist::Cut(words.parse("a number of octets")?),
        "wrong" if words.take("id") => Twist::WrongId,
        "wrong" if words.take("question") => Twist::WrongQuestion,
        "wrong" if words.take("source") => Twist::WrongSource,
        _ => return Err(words.problem(format!("unknown word `{verb}`"))),
    };
    let named = match twist {
        Twist::None => false,
        _ => words.take("of"),
    };
    let name = named.then(|| words.next("a reply's name")).transpose()?;
    Ok(Some(Deed::Send(name, twist)))
}

impl Sequence {
    /// What is done about this query, which counts.
    pub fn next(&mut self, query: &[u8], tcp: bool, replies: &[ReplyText]) -> Done {
        let acts = self.peek(query, tcp, replies);
        self.at += 1;
        if self.at >= self.turns.len() {
            self.at = match self.again {
                true => 0,
                false => self.turns.len().saturating_sub(1),
            };
        }
        acts
    }

    /// The same for a query that does not count.
    pub fn peek(&self, query: &[u8], tcp: bool, replies: &[ReplyText]) -> Done {
        let mut acts = Vec::new();
        for deed in self.turns.get(self.at).into_iter().flatten() {
            match deed {
                Deed::Wait(time) => acts.push(Act::Wait(*time)),
                Deed::Rcode(rcode) => acts.push(Act::Send(plain(query, rcode.0))),
                Deed::Bare(rcode) => {
                    let mut header = Header::read(query).map_err(|_| "no query")?;
                    header.bits |= Header::QR | rcode.0;
                    header.counts = [0; 4];
                    acts.push(Act::Send(header.to_wire().to_vec()));
                }
                Deed::Octets(octets) => acts.push(Act::Raw(octets.clone())),
                Deed::Close => acts.push(Act::Close),
                Deed::HalfClose => acts.push(Act::HalfClose),
                Deed::Send(name, twist) => {
                    let reply = find(query, name.as_deref(), replies)?;
                    twist.acts(query, tcp, reply, &mut acts);
                }
            }
        }
        Ok(acts)
    }
}

/// What to do, or what the file lacks.
pub type Done = Result<Vec<Act>, String>;

/// Whether the query is a probe as `forward` sends them.
pub fn is_probe(query: &[u8]) -> bool {
    query.get(12..17) == Some(&[0, 0, 2, 0, 1])
}

/// The reply of this name, or to the query's question; a probe's is empty.
fn find<'r>(
    query: &[u8],
    name: Option<&str>,
    replies: &'r [ReplyText],
) -> Result<Option<&'r ReplyText>, String> {
    let read = Query::read(query).map_err(|_| "a query that cannot be read".to_owned())?;
    let mut all = replies.iter();
    let found = match name {
        _ if is_probe(query) => return Ok(None),
        Some(name) => all.find(|reply| reply.name == name),
        None => all.find(|reply| {
            let to = reply.to.as_ref();
            to.is_some_and(|(owner, rtype)| *owner == read.name().wire() && *rtype == read.qtype())
        }),
    };
    let missing = || match name {
        Some(name) => format!("no reply `{name}`"),
        None => format!("no reply to {} {}", read.name(), read.qtype()),
    };
    found.map(Some).ok_or_else(missing)
}

impl Twist {
    fn acts(self, query: &[u8], tcp: bool, reply: Option<&ReplyText>, acts: &mut Vec<Act>) {
        let make =
            |query: &[u8]| reply.map_or_else(|| plain(query, 0), |reply| reply.message(query));
        let mut message = make(query);
        match self {
            Self::Truncated if !tcp => acts.push(Act::Send(plain(query, Header::TC))),
            Self::None | Self::Truncated => acts.push(Act::Send(message)),
            Self::WrongId => {
                message[0] ^= 0x80;
                acts.push(Act::Send(message));
            }
            Self::WrongQuestion => {
                // The first letter of the name; records that point to it go along.
                message[13] = if message[13] == b'x' { b'y' } else { b'x' };
                acts.push(Act::Send(message));
            }
            Self::WrongSource => acts.push(Act::Forge(message)),
            Self::LowerCase => acts.push(Act::Send(make(&lower_case(query)))),
            Self::Spoof(guesses) => {
                let forged = make(&lower_case(query));
                let right = u16::from_be_bytes([query[0], query[1]]);
                for guess in 1..=guesses {
                    let mut forged = forged.clone();
                    let id = right.wrapping_add(guess as u16);
                    forged[..2].copy_from_slice(&id.to_be_bytes());
                    acts.push(Act::Send(forged));
                }
            }
            Self::Cut(octets) => {
                message.truncate(message.len().saturating_sub(octets));
                acts.push(Act::Send(message));
            }
        }
    }
}

impl ReplyText {
    fn message(&self, query: &[u8]) -> Vec<u8> {
        let mut message = plain(query, self.bits);
        let question = message::question(query);
        let asked = &question[..question.len() - 4];
        for (section, at) in self.sections.iter().zip([6, 8, 10]) {
            message[at..at + 2].copy_from_slice(&(section.len() as u16).to_be_bytes());
            for record in section {
                record.write(asked, &mut message);
            }
        }
        let edns = Query::read(query)
            .ok()
            .and_then(|query| query.edns().map(|_| query.dnssec_ok()));
        let Some(dnssec) = edns else {
            return message;
        };
        let mut options = Vec::new();
        for (code, text) in &self.errors {
            options.extend(EXTENDED_ERROR.to_be_bytes());
            options.extend((text.len() as u16 + 2).to_be_bytes());
            options.extend(code.to_be_bytes());
            options.extend(text.as_bytes());
        }
        let additionals = u16::from_be_bytes([message[10], message[11]]) + 1;
        let mut message = message::with_opt(message, 1232, dnssec, &options);
        message[10..12].copy_from_slice(&additionals.to_be_bytes());
        message
    }
}

/// The reply without records, with these bits besides QR, RD and CD.
fn plain(query: &[u8], bits: u16) -> Vec<u8> {
    let checking = Header::read(query).map_or(0, |header| header.bits & Header::CD);
    message::reply(query, bits | checking, &[])
}

/// The query with its name in lower case; its id stays.
fn lower_case(query: &[u8]) -> Vec<u8> {
    let mut lower = query.to_vec();
    let end = 12 + message::question(query).len() - 4;
    lower[12..end].make_ascii_lowercase();
    lower
}
