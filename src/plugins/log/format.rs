//! The format of a line: text with placeholders, compiled when the configuration is read.

use crate::dns::{Header, MAX_MESSAGE, Reply};
use crate::plugin::{Context, Outcome};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// The format if none is given.
pub(super) const COMMON: &str = r#"{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}"#;
/// The common format with the opcode.
pub(super) const COMBINED: &str = r#"{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration} "{>opcode}""#;

/// A compiled format.
#[derive(Debug)]
pub(super) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field),
    /// The value of a label of metadata.
    Metadata(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Type,
    Name,
    Class,
    Proto,
    Size,
    Remote,
    Port,
    Local,
    Id,
    Opcode,
    DnssecOk,
    Bufsize,
    Rcode,
    ReplySize,
    Duration,
    ReplyFlags,
}

const FIELDS: [(&str, Field); 16] = [
    ("{type}", Field::Type),
    ("{name}", Field::Name),
    ("{class}", Field::Class),
    ("{proto}", Field::Proto),
    ("{size}", Field::Size),
    ("{remote}", Field::Remote),
    ("{port}", Field::Port),
    ("{local}", Field::Local),
    ("{>id}", Field::Id),
    ("{>opcode}", Field::Opcode),
    ("{>do}", Field::DnssecOk),
    ("{>bufsize}", Field::Bufsize),
    ("{rcode}", Field::Rcode),
    ("{rsize}", Field::ReplySize),
    ("{duration}", Field::Duration),
    ("{>rflags}", Field::ReplyFlags),
];

impl Format {
    /// Compiles a format. `{common}` and `{combined}` stand for those formats; braces around
    /// anything unknown stay as they are.
    pub(super) fn new(text: &str) -> Self {
        let text = text.replace("{common}", COMMON);
        let text = text.replace("{combined}", COMBINED);
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.as_str();
        while let Some(close) = rest.find('}') {
            let (head, tail) = rest.split_at(close + 1);
            let open = head.rfind('{').unwrap_or(head.len());
            let word = &head[open..];
            let named = FIELDS.iter().find(|(name, _)| *name == word);
            let label = word.strip_prefix("{/").and_then(|l| l.strip_suffix('}'));
            let piece = match (named, label) {
                (Some((_, field)), _) => Some(Piece::Field(*field)),
                (None, label) => label.map(|label| Piece::Metadata(label.into())),
            };
            match piece {
                Some(piece) => {
                    literal.push_str(&head[..open]);
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    pieces.push(piece);
                }
                None => literal.push_str(head),
            }
            rest = tail;
        }
        literal.push_str(rest);
        pieces.push(Piece::Text(literal));
        Self(pieces)
    }
}

/// A line while it is written.
pub(super) struct Line<'l, 'q> {
    pub(super) format: &'l Format,
    pub(super) cx: &'l Context<'q>,
    pub(super) reply: &'l Reply,
    pub(super) outcome: &'l Outcome,
}

impl fmt::Display for Line<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.format.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Field(field) => self.field(*field, f)?,
                Piece::Metadata(label) => {
                    if !self.cx.chain.metadata(self.cx, self.reply, label, f) {
                        f.write_char('-')?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Line<'_, '_> {
    fn field(&self, field: Field, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (query, client) = (&self.cx.query, &self.cx.client);
        match field {
            Field::Type => write!(f, "{}", query.qtype()),
            Field::Name => write!(f, "{}", query.name()),
            Field::Class => write!(f, "{}", query.qclass()),
            Field::Proto => f.write_str(client.transport.proto()),
            Field::Size => write!(f, "{}", query.packet().len()),
            Field::Remote => address(client.addr.ip(), f),
            Field::Port => write!(f, "{}", client.addr.port()),
            Field::Local => address(client.local.ip(), f),
            Field::Id => write!(f, "{}", query.header().id),
            Field::Opcode => write!(f, "{}", query.header().opcode().0),
            Field::DnssecOk => write!(f, "{}", query.dnssec_ok()),
            Field::Bufsize => match client.transport.proto() {
                "udp" => write!(f, "{}", query.udp_limit()),
                _ => write!(f, "{MAX_MESSAGE}"),
            },
            Field::Rcode => match self.outcome.rcode(self.reply) {
                Some(rcode) => match rcode.mnemonic() {
                    Some(text) => f.write_str(text),
                    None => write!(f, "{}", rcode.0),
                },
                None => f.write_char('-'),
            },
            Field::ReplySize => write!(f, "{}", self.reply_size()),
            Field::Duration => write!(f, "{}s", self.cx.received.elapsed().as_secs_f64()),
            Field::ReplyFlags => self.reply_flags(f),
        }
    }

    fn reply_size(&self) -> usize {
        match self.outcome {
            Outcome::Written => self.reply.len(),
            // The server will send the header and the question.
            Outcome::Unwritten { .. } => {
                crate::dns::header::HEADER_LEN + self.cx.query.question().len()
            }
            Outcome::Dropped => 0,
        }
    }

    fn reply_flags(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.cx.query.header();
        let set = |flag| *self.outcome == Outcome::Written && self.reply.has_flag(flag);
        if *self.outcome == Outcome::Dropped {
            return f.write_char('-');
        }
        f.write_str("qr")?;
        for (on, text) in [
            (set(Header::AA), ",aa"),
            (set(Header::TC), ",tc"),
            (asked.has(Header::RD), ",rd"),
            (set(Header::RA), ",ra"),
            (set(Header::AD), ",ad"),
            (asked.has(Header::CD), ",cd"),
        ] {
            if on {
                f.write_str(text)?;
            }
        }
        Ok(())
    }
}

fn address(address: IpAddr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match address {
        IpAddr::V4(address) => write!(f, "{address}"),
        IpAddr::V6(address) => write!(f, "[{address}]"),
    }
}
