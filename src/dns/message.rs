//! Walking the records of a message in place.

use super::header::{HEADER_LEN, Header};
use super::{RecordType, WireError, name};
use std::ops::Range;

/// A section of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The answer section.
    Answer,
    /// The authority section.
    Authority,
    /// The additional section.
    Additional,
}

impl Section {
    /// The three sections in wire order.
    pub const ALL: [Self; 3] = [Self::Answer, Self::Authority, Self::Additional];
}

/// Where a record and its parts lie in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The section that it is in.
    pub section: Section,
    /// The offset of its owner name.
    pub start: usize,
    /// The offset behind its owner name, where the type stands; the TTL is four octets further.
    pub fixed: usize,
    /// Its type.
    pub rtype: RecordType,
    /// The class field as on the wire (OPT keeps the payload size here).
    pub class: u16,
    /// Its TTL in seconds as on the wire (OPT keeps flags here).
    pub ttl: u32,
    /// Where its rdata lies; the record ends with it.
    pub rdata: Range<usize>,
}

/// Walks the records of a message, section by section.
///
/// Gives an error once, and then ends, where a record is cut or its owner is no name. The rdata is
/// not looked into.
#[derive(Clone, Debug)]
pub struct Records<'m> {
    message: &'m [u8],
    at: usize,
    left: [u16; 3],
}

impl<'m> Records<'m> {
    /// The records of `message` behind its question section.
    ///
    /// # Errors
    /// [`WireError`] where the header or the question section is cut.
    pub fn new(message: &'m [u8]) -> Result<Self, WireError> {
        let header = Header::read(message)?;
        let mut at = HEADER_LEN;
        for _ in 0..header.counts[0] {
            at = name::skip(message, at)? + 4;
        }
        if at > message.len() {
            return Err(WireError::UnexpectedEnd);
        }
        let [_, answer, authority, additional] = header.counts;
        Ok(Self::at(message, at, [answer, authority, additional]))
    }

    /// The records of `message` from offset `at`, with so many in each section.
    pub const fn at(message: &'m [u8], at: usize, counts: [u16; 3]) -> Self {
        Self {
            message,
            at,
            left: counts,
        }
    }

    /// The offset behind the last record that was given.
    pub const fn offset(&self) -> usize {
        self.at
    }

    fn read(&mut self, section: Section) -> Result<Record, WireError> {
        let start = self.at;
        let fixed = name::skip(self.message, start)?;
        let head = self
            .message
            .get(fixed..)
            .and_then(|rest| rest.first_chunk::<10>())
            .ok_or(WireError::UnexpectedEnd)?;
        let rdata_at = fixed + 10;
        let end = rdata_at + usize::from(u16::from_be_bytes([head[8], head[9]]));
        if end > self.message.len() {
            return Err(WireError::UnexpectedEnd);
        }
        self.at = end;
        Ok(Record {
            section,
            start,
            fixed,
            rtype: RecordType(u16::from_be_bytes([head[0], head[1]])),
            class: u16::from_be_bytes([head[2], head[3]]),
            ttl: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            rdata: rdata_at..end,
        })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.left.iter().position(|&count| count > 0)?;
        self.left[index] -= 1;
        let record = self.read(Section::ALL[index]);
        if record.is_err() {
            self.left = [0; 3];
        }
        Some(record)
    }
}
