//! Records from the text of a zone file, in wire form.

use crate::dns::{Class, Owner, RecordType, Reply, Section, name};
use hickory_proto::rr::{self, Name};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use hickory_proto::serialize::txt::Parser;

/// A record in wire form, without compressed names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    owner: Vec<u8>,
    pub(super) rtype: RecordType,
    class: Class,
    ttl: u32,
    pub(super) rdata: Vec<u8>,
}

impl Record {
    /// Reads one record. The TTL is an hour if there is none, and names need no final dot.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_end();
        let (owner, rest) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| "no record".to_owned())?;
        // A client's name must not lead to a second record, or to a directive that reads files.
        if text.contains(['\n', '\r']) {
            return Err("more than one line".into());
        }
        // The owner is read here: the codec would not take every octet, nor keep its case.
        let owner = owner_wire(owner)?;
        let zone = format!("$TTL 3600\n. {rest}\n");
        let parsed = Parser::new(zone, None, Some(Name::root())).parse();
        let (_, sets) = parsed.map_err(|error| error.to_string())?;
        let mut records = sets.values().flat_map(|set| set.records_without_rrsigs());
        match (records.next(), records.next()) {
            (Some(record), None) => {
                let record = Self::from_decoded(record).map_err(|error| error.to_string())?;
                Ok(Self { owner, ..record })
            }
            _ => Err("not a single record".into()),
        }
    }

    /// The wire form of a record.
    ///
    /// # Errors
    /// If it has none (too long).
    pub(super) fn from_decoded(record: &rr::Record) -> Result<Self, hickory_proto::ProtoError> {
        Ok(Self {
            owner: wire(&record.name)?,
            rtype: RecordType(record.record_type().into()),
            class: Class(record.dns_class.into()),
            ttl: record.ttl,
            rdata: wire(&record.data)?,
        })
    }

    /// Writes it into a reply.
    pub(super) fn push(&self, reply: &mut Reply, section: Section) {
        let kind = (self.rtype, self.class);
        reply.push_with(section, Owner::Wire(&self.owner), kind, self.ttl, |out| {
            out.octets(&self.rdata);
        });
    }
}

/// A name in presentation format in wire form, in the case in which it is given.
fn owner_wire(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let labels = match text {
        "." | "@" => Ok(()),
        text => name::write_labels(text, &mut out),
    };
    out.push(0);
    let read = labels.and_then(|()| crate::dns::Name::read(&out, 0));
    read.map_err(|error| format!("{error}: {text}"))?;
    Ok(out)
}

fn wire(what: &impl BinEncodable) -> Result<Vec<u8>, hickory_proto::ProtoError> {
    let mut out = Vec::new();
    let mut encoder = BinEncoder::new(&mut out);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    what.emit(&mut encoder)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plugins::testing::wire as lower;

    #[test]
    fn records() {
        let record = Record::parse("A.example 60 IN CNAME B.example").unwrap();
        assert_eq!(record.owner, b"\x01A\x07example\0");
        assert_eq!(
            (record.rtype, record.class, record.ttl),
            (RecordType::CNAME, Class::IN, 60)
        );
        assert_eq!(record.rdata, lower("b.example"));
        assert_eq!(Record::parse("a.example IN A 10.0.0.1").unwrap().ttl, 3600);
        let soa = Record::parse("x. 60 IN SOA ns.x. root.x. (1 60 60 60 60)").unwrap();
        assert_eq!(soa.rdata.len(), 6 + 8 + 20);
        // Escapes as names show them.
        let record = Record::parse("a\\.b\\032c.example. 60 IN TXT \"x y\"").unwrap();
        assert_eq!(record.owner, b"\x05a.b c\x07example\0");
        assert_eq!(record.rdata, b"\x03x y");
        for text in [
            "a. 60 IN MX 10 b.",
            "a. 60 IN SRV 1 2 3 b.",
            "a. 60 IN AAAA ::1",
            "a. 60 IN PTR b.",
            "_x._tcp.a. 60 IN NS b.",
            "*.a. 60 CH TXT x",
            "a. 60 IN CAA 0 issue \"ca.example\"",
        ] {
            assert!(Record::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn no_records() {
        for text in [
            "",
            "a. 60 IN A",
            "a. 60 IN A 300.0.0.1",
            " a. 60 IN A 10.0.0.1",
            "a..b. 60 IN A 10.0.0.1",
            "<no value> 60 IN A 10.0.0.1",
            "a. 60 IN A 10.0.0.1\nb. 60 IN A 10.0.0.2",
            "$INCLUDE /etc/passwd",
            "a. 60 IN A 10.0.0.1 \n$INCLUDE /etc/passwd",
            "a. 60 IN NOSUCH x",
        ] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
    }
}
