//! Writing an upstream's records again with our own compression.
//!
//! A message from elsewhere may compress names in ways that are right only for its own octets, and
//! spells owners in the case of whoever asked first. What this module writes holds for every reply
//! to the same name, in whatever case it is asked: a name that the question ends with becomes a
//! pointer into the question, every other name is written in full or points to an earlier name in
//! the same case. Names in rdata are compressed only for the types of RFC 1035 (RFC 3597 §4);
//! pointers in the rdata of other known types are followed, and the names written in full.
//!
//! Time and memory are linear in the length of the expanded records, which is bounded by
//! [`MAX_MESSAGE`].

use super::header::{HEADER_LEN, Header};
use super::name::MAX_NAME;
use super::{Class, MAX_MESSAGE, Name, Record, RecordType, Records, Reply, Section, WireError};
use std::ops::Range;

/// Records in our own compression, to be written behind a header and the question.
///
/// Invariant: pointers lead into the question, or to names of these records when all of them stand
/// behind a question of the same name in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// Header room and question of the message read, and the records.
    buf: Vec<u8>,
    /// Where the sections end in `buf`; the first starts at `start`.
    ends: [usize; 3],
    start: usize,
    counts: [u16; 3],
    options: Vec<u8>,
}

impl Normalised {
    /// The records of a reply.
    ///
    /// # Errors
    /// [`WireError`] where the rdata of a known type is malformed, or the records do not fit into
    /// a message.
    pub fn of_reply(reply: &Reply) -> Result<Self, WireError> {
        let (message, at) = (reply.message(), reply.records_offset());
        Self::write(message, at, Records::at(message, at, reply.counts()))
    }

    /// The records of a message with one question. OPT records are left out; the options of one in
    /// the additional section are kept aside.
    ///
    /// # Errors
    /// As [`Self::of_reply`], and where the message is cut or has not exactly one question.
    pub fn of_message(message: &[u8]) -> Result<Self, WireError> {
        if Header::read(message)?.counts[0] != 1 {
            return Err(WireError::UnexpectedEnd);
        }
        let records = Records::new(message)?;
        Self::write(message, records.offset(), records)
    }

    /// These records of a reply, in this order; the sections must follow one another.
    ///
    /// # Errors
    /// As [`Self::of_reply`].
    pub fn of_records(
        reply: &Reply,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, WireError> {
        let records = records.into_iter().map(Ok);
        Self::write(reply.message(), reply.records_offset(), records)
    }

    fn write(
        message: &[u8],
        start: usize,
        records: impl Iterator<Item = Result<Record, WireError>>,
    ) -> Result<Self, WireError> {
        let head = message.get(..start).ok_or(WireError::UnexpectedEnd)?;
        let (name, end) = Name::read(head, HEADER_LEN)?;
        if end - HEADER_LEN != name.wire().len() {
            return Err(WireError::BadPointer);
        }
        let mut buf = Vec::with_capacity(message.len() + 64);
        buf.extend_from_slice(head);
        let mut writer = Writer::new(message, buf);
        let mut out = Self {
            buf: Vec::new(),
            ends: [start; 3],
            start,
            counts: [0; 3],
            options: Vec::new(),
        };
        for record in records {
            let record = record?;
            let section = record.section as usize;
            if record.rtype == RecordType::OPT {
                if record.section == Section::Additional {
                    out.options = message[record.rdata].to_vec();
                }
                continue;
            }
            writer.record(&record)?;
            out.counts[section] += 1;
            for end in &mut out.ends[section..] {
                *end = writer.out.len();
            }
        }
        out.buf = writer.out;
        Ok(out)
    }

    /// The records of one section in wire form.
    pub fn section(&self, section: Section) -> &[u8] {
        let index = section as usize;
        let from = match index {
            0 => self.start,
            _ => self.ends[index - 1],
        };
        &self.buf[from..self.ends[index]]
    }

    /// All records in wire form.
    pub fn records(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    /// All records, for changes in place that keep every length.
    pub fn walk(&self) -> impl Iterator<Item = Record> + '_ {
        Records::at(&self.buf, self.start, self.counts).map_while(Result::ok)
    }

    /// How many records each section has.
    pub const fn counts(&self) -> [u16; 3] {
        self.counts
    }

    /// Where each section ends within [`Self::records`].
    pub fn ends(&self) -> [usize; 3] {
        self.ends.map(|end| end - self.start)
    }

    /// The EDNS options that stood in the message.
    pub fn options(&self) -> &[u8] {
        &self.options
    }

    /// Sets every TTL to what `f` makes of it.
    pub fn map_ttls(&mut self, mut f: impl FnMut(u32) -> u32) {
        self.map_record_ttls(|record| f(record.ttl));
    }

    /// Sets every TTL to what `f` makes of its record.
    pub fn map_record_ttls(&mut self, mut f: impl FnMut(&Record) -> u32) {
        let places: Vec<_> = self.walk().map(|r| (r.fixed + 4, f(&r))).collect();
        for (at, ttl) in places {
            self.buf[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
    }

    /// Puts these records in the place of a reply's own. The reply must be to the same name.
    pub fn replace(&self, reply: &mut Reply) {
        reply.clear_records();
        for section in Section::ALL {
            let count = self.counts[section as usize];
            reply.push_wire(section, self.section(section), count);
        }
    }
}

/// What stands in the rdata of a type that has names in it.
#[derive(Clone, Copy)]
enum Field {
    /// A name that may be compressed.
    Name,
    /// A name that must not be.
    Full,
    /// So many octets.
    Octets(usize),
    /// A character string.
    Text,
    /// All that is left.
    Rest,
}

/// The rdata of types whose names are, or were once, compressed by somebody.
fn fields(rtype: RecordType) -> &'static [Field] {
    use Field::{Full, Name, Octets, Rest, Text};
    match rtype.0 {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR
        2 | 3 | 4 | 5 | 7 | 8 | 9 | 12 => &[Name],
        // SOA
        6 => &[Name, Name, Octets(20)],
        // MINFO
        14 => &[Name, Name],
        // MX
        15 => &[Octets(2), Name],
        // RP
        17 => &[Full, Full],
        // AFSDB, RT, KX
        18 | 21 | 36 => &[Octets(2), Full],
        // SIG, RRSIG
        24 | 46 => &[Octets(18), Full, Rest],
        // PX
        26 => &[Octets(2), Full, Full],
        // NXT, NSEC
        30 | 47 => &[Full, Rest],
        // SRV
        33 => &[Octets(6), Full],
        // NAPTR
        35 => &[Octets(4), Text, Text, Text, Full],
        // DNAME
        39 => &[Full],
        _ => &[Rest],
    }
}

/// Whether the rdata of a record is what its type wants, as far as names are in it: each of them
/// readable, and nothing behind the last field.
pub fn is_rdata_well_formed(message: &[u8], record: &Record) -> bool {
    let (mut at, end) = (record.rdata.start, record.rdata.end);
    for field in fields(record.rtype) {
        let next = match field {
            Field::Name | Field::Full => Name::read(message, at).ok().map(|(_, next)| next),
            Field::Octets(count) => Some(at + count),
            Field::Text if at < end => Some(at + 1 + usize::from(message[at])),
            Field::Text => None,
            Field::Rest => Some(end),
        };
        match next {
            Some(next) if next <= end => at = next,
            _ => return false,
        }
    }
    at == end
}

/// Slots of the table of names that can be pointed to.
const SLOTS: usize = 256;

/// Writes records of a message behind another question.
pub(crate) struct Writer<'m> {
    message: &'m [u8],
    out: Vec<u8>,
    question_end: usize,
    /// Offsets of names in `out`, each in the slot of its hash; 0 is none. A name takes the slot
    /// of an older one, but for those of the question.
    known: [u16; SLOTS],
}

impl<'m> Writer<'m> {
    /// Writes behind `out`: room for a header, and the question, whose name is not compressed.
    pub(crate) fn new(message: &'m [u8], out: Vec<u8>) -> Self {
        let mut writer = Self {
            message,
            question_end: out.len(),
            out,
            known: [0; SLOTS],
        };
        if let Ok((question, _)) = Spelled::read(&writer.out, HEADER_LEN) {
            question.slots(|label, slot| {
                writer.known[slot] = (HEADER_LEN + question.offset(label)) as u16;
            });
        }
        writer
    }

    /// What was written.
    pub(crate) fn into_out(self) -> Vec<u8> {
        self.out
    }

    /// Writes a record whose rdata is a name.
    pub(super) fn alias(
        &mut self,
        owner: &Spelled,
        (rtype, class): (RecordType, Class),
        ttl: u32,
        target: &Spelled,
    ) {
        self.name(owner, true);
        self.out.extend_from_slice(&rtype.0.to_be_bytes());
        self.out.extend_from_slice(&class.0.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0; 2]);
        self.name(target, true);
        // A name is at most 255 octets long.
        let len = (self.out.len() - length_at - 2) as u16;
        self.out[length_at..length_at + 2].copy_from_slice(&len.to_be_bytes());
    }

    /// Writes a record of the message; one that does not fit is not written.
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), WireError> {
        let start = self.out.len();
        let written = self.try_record(record);
        if written.is_err() {
            self.out.truncate(start);
        }
        written
    }

    fn try_record(&mut self, record: &Record) -> Result<(), WireError> {
        let (owner, _) = Spelled::read(self.message, record.start)?;
        self.name(&owner, true);
        self.octets(record.fixed..record.rdata.start)?;
        let length_at = self.out.len() - 2;
        self.rdata(record)?;
        let len = self.out.len() - length_at - 2;
        let len = u16::try_from(len).map_err(|_| WireError::MessageTooLong)?;
        if self.out.len() > MAX_MESSAGE {
            return Err(WireError::MessageTooLong);
        }
        self.out[length_at..length_at + 2].copy_from_slice(&len.to_be_bytes());
        Ok(())
    }

    fn rdata(&mut self, record: &Record) -> Result<(), WireError> {
        let mut at = record.rdata.start;
        let end = record.rdata.end;
        for field in fields(record.rtype) {
            let next = match field {
                Field::Name | Field::Full => {
                    let (name, next) = Spelled::read(self.message, at)?;
                    if next > end {
                        return Err(WireError::UnexpectedEnd);
                    }
                    self.name(&name, matches!(field, Field::Name));
                    at = next;
                    continue;
                }
                Field::Octets(count) => at + count,
                Field::Text if at < end => at + 1 + usize::from(self.message[at]),
                Field::Text => return Err(WireError::UnexpectedEnd),
                Field::Rest => end,
            };
            if next > end {
                return Err(WireError::UnexpectedEnd);
            }
            self.octets(at..next)?;
            at = next;
        }
        if at == end {
            Ok(())
        } else {
            Err(WireError::UnexpectedEnd)
        }
    }

    fn octets(&mut self, range: Range<usize>) -> Result<(), WireError> {
        let octets = self.message.get(range).ok_or(WireError::UnexpectedEnd)?;
        self.out.extend_from_slice(octets);
        Ok(())
    }

    /// Writes a name, as a pointer from the first label on that is known to stand somewhere.
    fn name(&mut self, name: &Spelled, compress: bool) {
        let start = self.out.len();
        let mut slots = [0u8; super::name::MAX_LABELS];
        name.slots(|label, slot| slots[label] = slot as u8);
        let slots = &slots[..name.labels()];
        let known = |label: &usize| {
            compress && self.is_at(name, *label, self.known[usize::from(slots[*label])])
        };
        let shared = (0..slots.len()).find(known);
        let written = shared.unwrap_or(slots.len());
        match shared {
            Some(label) => {
                let target = self.known[usize::from(slots[label])];
                self.out
                    .extend_from_slice(&name.wire()[..name.offset(label)]);
                self.out.extend_from_slice(&(0xc000 | target).to_be_bytes());
            }
            None => self.out.extend_from_slice(name.wire()),
        }
        for (label, &slot) in slots[..written].iter().enumerate() {
            let offset = start + name.offset(label);
            let slot = &mut self.known[usize::from(slot)];
            let of_question = *slot != 0 && usize::from(*slot) < self.question_end;
            if offset < 0x4000 && !of_question {
                *slot = offset as u16;
            }
        }
    }

    /// Whether `name` from `label` on stands at `offset` of what was written: in the question in
    /// any case, elsewhere in the same case.
    fn is_at(&self, name: &Spelled, label: usize, offset: u16) -> bool {
        let mut at = usize::from(offset);
        if at == 0 {
            return false;
        }
        let mut rest = &name.wire()[name.offset(label)..];
        loop {
            let len = self.out[at];
            if len >= 0xc0 {
                // Written by this type: leads backwards, to a name.
                at = usize::from(len & 0x3f) << 8 | usize::from(self.out[at + 1]);
                continue;
            }
            let size = usize::from(len) + 1;
            let (mine, theirs) = (&self.out[at..at + size], rest.get(..size));
            let same = match theirs {
                Some(theirs) if at < self.question_end => mine.eq_ignore_ascii_case(theirs),
                Some(theirs) => mine == theirs,
                None => false,
            };
            if !same || len == 0 {
                return same;
            }
            rest = &rest[size..];
            at += size;
        }
    }
}

/// An uncompressed name as it was spelled.
#[derive(Debug)]
pub struct Spelled {
    wire: [u8; MAX_NAME],
    name: Name,
}

impl Spelled {
    /// Reads the name at `at`; gives the offset behind it as well.
    ///
    /// # Errors
    /// As [`Name::read`].
    pub fn read(message: &[u8], at: usize) -> Result<(Self, usize), WireError> {
        // Reading checks the name; the walk below goes over the same octets.
        let (name, end) = Name::read(message, at)?;
        let mut wire = [0; MAX_NAME];
        let (mut from, mut to) = (at, 0);
        loop {
            match message[from] {
                0 => break,
                len @ 1..=63 => {
                    let size = usize::from(len) + 1;
                    wire[to..to + size].copy_from_slice(&message[from..from + size]);
                    from += size;
                    to += size;
                }
                high => from = usize::from(high & 0x3f) << 8 | usize::from(message[from + 1]),
            }
        }
        Ok((Self { wire, name }, end))
    }

    /// The wire form.
    pub fn wire(&self) -> &[u8] {
        &self.wire[..self.name.wire().len()]
    }

    fn labels(&self) -> usize {
        self.name.label_count()
    }

    fn offset(&self, label: usize) -> usize {
        self.name.label_offset(label)
    }

    /// Gives each label with the slot of the name from it on, from right to left.
    fn slots(&self, mut each: impl FnMut(usize, usize)) {
        let mut hash = 0x811c_9dc5u32;
        for label in (0..self.labels()).rev() {
            for &octet in self.name.label(label) {
                hash = (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
            }
            hash = hash.rotate_left(7).wrapping_mul(0x9e37_79b1);
            each(label, (hash >> 24) as usize % SLOTS);
        }
    }
}

#[cfg(test)]
mod tests;
