//! Records as text, and in wire form.

use super::words::{Problem, Words};
use hickory_proto::op::Message;
use hickory_proto::serialize::binary::BinDecodable;
use portolan::dns::{Header, RecordType, name};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub owner: Vec<u8>,
    pub rtype: RecordType,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

impl Record {
    /// `OWNER TTL TYPE RDATA…`; `[1-40]` in it makes forty records.
    pub fn read(line: usize, text: &str) -> Result<Vec<Self>, Problem> {
        let lines = expand(text).ok_or_else(|| Problem::new(line, "not a range of numbers"))?;
        let read = |text: &String| Self::one(&mut Words::new(line, text)?);
        lines.iter().map(read).collect()
    }

    fn one(words: &mut Words) -> Result<Self, Problem> {
        let owner = words.next("an owner name")?;
        let owner = name(&owner).ok_or_else(|| words.problem(format!("bad name `{owner}`")))?;
        let (ttl, rtype) = (words.parse("a TTL")?, words.parse("a record type")?);
        let line = words.line;
        let data = words.rest();
        let rdata = rdata(rtype, &data).ok_or_else(|| {
            Problem::new(line, format!("`{}` is no rdata of {rtype}", data.join(" ")))
        })?;
        Ok(Self {
            owner,
            rtype,
            ttl,
            rdata,
        })
    }

    /// Appends the record; its owner is a pointer to the question's name, if it is that.
    pub fn write(&self, asked: &[u8], out: &mut Vec<u8>) {
        if self.owner.eq_ignore_ascii_case(asked) {
            out.extend([0xc0, 12]);
        } else {
            out.extend(&self.owner);
        }
        out.extend(self.rtype.0.to_be_bytes());
        out.extend([0, 1]);
        out.extend(self.ttl.to_be_bytes());
        out.extend((self.rdata.len() as u16).to_be_bytes());
        out.extend(&self.rdata);
    }

    /// As [`show`] shows it in a message.
    pub fn text(&self) -> String {
        let header = Header {
            id: 0,
            bits: Header::QR,
            counts: [0, 1, 0, 0],
        };
        let mut message = header.to_wire().to_vec();
        self.write(b"none", &mut message);
        let message = Message::from_bytes(&message).unwrap();
        show(&message.answers[0])
    }
}

/// A record that another library read, as this one's text.
pub fn show(record: &hickory_proto::rr::Record) -> String {
    record.to_string().replacen(" IN ", " ", 1)
}

/// A name in wire form, its case kept.
pub fn name(text: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    if text != "." {
        name::write_labels(text, &mut wire).ok()?;
    }
    wire.push(0);
    Some(wire)
}

fn rdata(rtype: RecordType, words: &[&str]) -> Option<Vec<u8>> {
    let number = |word: &str| word.parse::<u16>().ok().map(u16::to_be_bytes);
    Some(match (rtype, words) {
        (_, ["\\#", hex]) => octets(hex)?,
        (RecordType::A, [address]) => address.parse::<Ipv4Addr>().ok()?.octets().into(),
        (RecordType::AAAA, [address]) => address.parse::<Ipv6Addr>().ok()?.octets().into(),
        (RecordType::CNAME | RecordType::NS | RecordType::PTR | RecordType::DNAME, [target]) => {
            name(target)?
        }
        (RecordType::MX, [preference, host]) => [&number(preference)?[..], &name(host)?].concat(),
        (RecordType::SRV, [priority, weight, port, host]) => {
            let numbers = [number(priority)?, number(weight)?, number(port)?];
            [&numbers.concat()[..], &name(host)?].concat()
        }
        (RecordType::SOA, [primary, mailbox, numbers @ ..]) if numbers.len() == 5 => {
            let mut out = [name(primary)?, name(mailbox)?].concat();
            for word in numbers {
                out.extend(word.parse::<u32>().ok()?.to_be_bytes());
            }
            out
        }
        (RecordType::TXT | RecordType::HINFO, [_, ..]) => {
            let mut out = Vec::new();
            for text in words {
                out.push(u8::try_from(text.len()).ok()?);
                out.extend(text.as_bytes());
            }
            out
        }
        _ => return None,
    })
}

/// Octets from hexadecimal digits.
pub fn octets(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let octet = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    hex.len()
        .is_multiple_of(2)
        .then(|| pairs.map(octet).collect())?
}

fn expand(text: &str) -> Option<Vec<String>> {
    let Some((before, rest)) = text.split_once('[') else {
        return Some(vec![text.to_owned()]);
    };
    let (range, after) = rest.split_once(']')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    Some(
        (first..=last)
            .map(|n| format!("{before}{n}{after}"))
            .collect(),
    )
}
