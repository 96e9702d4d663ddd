//! Bailiwick: what a reply may say to its question (RFC 2181 §5.4.1, RFC 5452 §6).
//!
//! Records that were not asked for are taken out before anybody sees or stores them. What stays:
//!
//! - answer: records of the type asked for and CNAMEs, of the class asked for, at the name asked for
//!   or at one that the CNAMEs lead to, in whatever order; DNAMEs above those names. For ANY, all of
//!   the name asked for; for a transfer, all of the zone;
//! - authority: SOA, NS and DS of those names or of names above them; NSEC and NSEC3 of a zone that
//!   the reply shows to hold those names (by SOA, NS or a signature);
//! - additional: OPT, what signs the message, and addresses of names that a record above mentions as
//!   a server (NS, MX, SRV, NAPTR, SVCB …);
//! - everywhere the signatures of what stays.
//!
//! The same walk finds whether all records are whole. A reply from which nothing is taken is not
//! copied, and checking it allocates nothing but for more names than fit on the stack.

mod names;
#[cfg(test)]
mod tests;

use crate::dns::header::HEADER_LEN;
use crate::dns::normalise::{Writer, is_rdata_well_formed};
use crate::dns::{Header, Record, RecordType, Records, Section};
use crate::limits::{UPSTREAM_ALIASES, UPSTREAM_GLUE};
use names::{is_at_or_above, same};
use smallvec::SmallVec;

/// How often the records are gone through for more names: a chain of aliases may be in any order.
const PASSES: usize = 8;
/// Names that are known without an allocation.
const INLINE: usize = 16;

/// What a reply is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Whole, and without anything that was not asked for.
    Clean,
    /// The reply without what was not asked for.
    Cleaned {
        /// The message; its records are compressed anew, an OPT comes last.
        message: Vec<u8>,
        /// How many records were taken out.
        removed: u32,
    },
    /// A record is cut, an owner is no name, or there is not exactly one question.
    Malformed,
}

/// Looks at a whole reply.
pub fn check(message: &[u8]) -> Checked {
    let Some((mut facts, records)) = Facts::of_question(message) else {
        return Checked::Malformed;
    };
    let mut clean = true;
    for record in records.clone() {
        let Ok(record) = record else {
            return Checked::Malformed;
        };
        if names::end(message, record.start).is_none() {
            return Checked::Malformed;
        }
        clean = clean && facts.permits(&record);
        if clean {
            facts.learn(&record);
        }
    }
    if clean {
        return Checked::Clean;
    }
    for _ in 0..PASSES {
        let before = facts.len();
        for record in records.clone().map_while(Result::ok) {
            if facts.permits(&record) {
                facts.learn(&record);
            }
        }
        if facts.len() == before {
            break;
        }
    }
    facts.write(records)
}

/// What a reply has shown so far. Names are offsets in the message of names that were checked.
///
/// Invariant: whatever is permitted stays permitted as more becomes known.
struct Facts<'m> {
    message: &'m [u8],
    question_end: usize,
    qtype: RecordType,
    class: u16,
    /// The name asked for, and what its aliases lead to.
    chain: SmallVec<[u16; INLINE]>,
    /// Zones that hold names of the chain.
    zones: SmallVec<[u16; INLINE]>,
    /// Names whose addresses are of use.
    mentioned: SmallVec<[u16; INLINE]>,
    opt: Option<usize>,
}

const ANY_CLASS: u16 = 255;
const SIG: u16 = 24;
const CNAME: u16 = 5;
const DNAME: u16 = 39;
const NS: u16 = 2;
const SOA: u16 = 6;
const TSIG: u16 = 250;

impl<'m> Facts<'m> {
    fn of_question(message: &'m [u8]) -> Option<(Self, Records<'m>)> {
        if Header::read(message).ok()?.counts[0] != 1 {
            return None;
        }
        let records = Records::new(message).ok()?;
        let question_end = records.offset();
        let end = names::end(message, HEADER_LEN)?;
        let &[t0, t1, c0, c1] = message.get(end..question_end)?.first_chunk()?;
        let facts = Self {
            message,
            question_end,
            qtype: RecordType(u16::from_be_bytes([t0, t1])),
            class: u16::from_be_bytes([c0, c1]),
            chain: SmallVec::from_slice(&[HEADER_LEN as u16]),
            zones: SmallVec::new(),
            mentioned: SmallVec::new(),
            opt: None,
        };
        Some((facts, records))
    }

    fn len(&self) -> usize {
        self.chain.len() + self.zones.len() + self.mentioned.len()
    }

    /// Whether the record may stay.
    fn permits(&self, record: &Record) -> bool {
        let owner = record.start;
        let additional = record.section == Section::Additional;
        if record.rtype == RecordType::OPT {
            let first = self.opt.is_none_or(|opt| opt == owner);
            return additional && first && self.message[owner] == 0;
        }
        let covered = self.covered(record);
        if record.rtype.0 == TSIG || (record.rtype.0 == SIG && covered == 0) {
            return additional;
        }
        if (record.class != self.class && self.class != ANY_CLASS)
            || !is_rdata_well_formed(self.message, record)
        {
            return false;
        }
        match record.section {
            Section::Answer => self.permits_answer(owner, record.rtype.0, covered),
            Section::Authority => self.permits_authority(record, covered),
            // A, AAAA
            Section::Additional => matches!(covered, 1 | 28) && self.holds(&self.mentioned, owner),
        }
    }

    fn permits_answer(&self, owner: usize, rtype: u16, covered: u16) -> bool {
        match self.qtype.0 {
            // IXFR, AXFR
            251 | 252 => is_at_or_above(self.message, HEADER_LEN, owner),
            // MAILB, MAILA, ANY
            253..=255 => same(self.message, HEADER_LEN, owner),
            qtype => {
                let fits = rtype == qtype || covered == qtype || covered == CNAME;
                (fits && self.holds(&self.chain, owner))
                    || (covered == DNAME && self.is_above_chain(owner))
            }
        }
    }

    fn permits_authority(&self, record: &Record, covered: u16) -> bool {
        let owner = record.start;
        match covered {
            // DS
            SOA | NS | 43 => self.is_above_chain(owner),
            // NSEC, NSEC3: of some name of the zone
            47 | 50 => match self.signer(record) {
                Some(signer) => {
                    is_at_or_above(self.message, signer, owner) && self.is_above_chain(signer)
                }
                None => self
                    .zones
                    .iter()
                    .any(|&zone| is_at_or_above(self.message, zone.into(), owner)),
            },
            _ => false,
        }
    }

    /// Takes from a record that stays what it says of others.
    fn learn(&mut self, record: &Record) {
        let (owner, rdata) = (record.start, record.rdata.start);
        if record.rtype == RecordType::OPT {
            self.opt = Some(owner);
            return;
        }
        if record.section == Section::Additional {
            return;
        }
        let authority = record.section == Section::Authority;
        match record.rtype.0 {
            CNAME if !authority && !matches!(self.qtype.0, CNAME | 251..=255) => {
                add(self.message, &mut self.chain, rdata, UPSTREAM_ALIASES);
            }
            NS | SOA if authority => {
                add(self.message, &mut self.zones, owner, UPSTREAM_ALIASES);
            }
            _ => {
                if let Some(signer) = self.signer(record)
                    && self.is_above_chain(signer)
                {
                    add(self.message, &mut self.zones, signer, UPSTREAM_ALIASES);
                }
            }
        }
        if let Some(server) = self.server(record) {
            add(self.message, &mut self.mentioned, server, UPSTREAM_GLUE);
        }
    }

    /// The type that a record is about: for a signature, the one that it covers.
    fn covered(&self, record: &Record) -> u16 {
        match (record.rtype.0, &self.message[record.rdata.clone()]) {
            (SIG | 46, [high, low, ..]) => u16::from_be_bytes([*high, *low]),
            (rtype, _) => rtype,
        }
    }

    /// Where the signer of a well formed signature is named.
    fn signer(&self, record: &Record) -> Option<usize> {
        matches!(record.rtype.0, SIG | 46).then_some(record.rdata.start + 18)
    }

    /// The name of a server in a record, whose addresses belong into the additional section.
    fn server(&self, record: &Record) -> Option<usize> {
        let at = record.rdata.start;
        match record.rtype.0 {
            NS => Some(at),
            // MX, AFSDB, KX
            15 | 18 | 36 => Some(at + 2),
            // SRV
            33 => Some(at + 6),
            // NAPTR: behind three character strings
            35 => {
                let text = |at: usize| Some(at + 1 + usize::from(*self.message.get(at)?));
                text(text(text(at + 4)?)?)
            }
            // SVCB, HTTPS: the root stands for the owner
            64 | 65 => {
                let end = names::end(self.message, at + 2)?;
                let own = self.message.get(at + 2) == Some(&0);
                (end <= record.rdata.end).then_some(if own { record.start } else { at + 2 })
            }
            _ => None,
        }
    }

    fn holds(&self, names: &[u16], name: usize) -> bool {
        names
            .iter()
            .any(|&known| same(self.message, known.into(), name))
    }

    /// Whether `zone` is a name of the chain or above one.
    fn is_above_chain(&self, zone: usize) -> bool {
        self.chain
            .iter()
            .any(|&name| is_at_or_above(self.message, zone, name.into()))
    }

    /// The message with the records that may stay.
    fn write(self, records: Records<'m>) -> Checked {
        let head = &self.message[..self.question_end];
        let mut buf = Vec::with_capacity(self.message.len() + 64);
        buf.extend_from_slice(head);
        let mut writer = Writer::new(self.message, buf);
        let mut header = Header::read(self.message).unwrap_or_default();
        header.counts = [1, 0, 0, 0];
        let mut removed = 0;
        let mut opt = None;
        for record in records.map_while(Result::ok) {
            // What signed the message signs no longer what is left of it.
            let signs =
                record.rtype.0 == TSIG || (record.rtype.0 == SIG && self.covered(&record) == 0);
            if signs || !self.permits(&record) {
                removed += u32::from(!signs);
            } else if record.rtype == RecordType::OPT {
                opt = Some(record.start..record.rdata.end);
            } else if writer.record(&record).is_err() {
                return Checked::Malformed;
            } else {
                header.counts[1 + record.section as usize] += 1;
            }
        }
        if removed == 0 {
            return Checked::Clean;
        }
        let mut message = writer.into_out();
        if let Some(opt) = opt {
            message.extend_from_slice(&self.message[opt]);
            header.counts[3] += 1;
        }
        if message.len() > crate::dns::MAX_MESSAGE {
            return Checked::Malformed;
        }
        message[..HEADER_LEN].copy_from_slice(&header.to_wire());
        Checked::Cleaned { message, removed }
    }
}

/// Adds a name, unless it is known or there are too many.
fn add(message: &[u8], names: &mut SmallVec<[u16; INLINE]>, name: usize, limit: usize) {
    let known = names.iter().any(|&known| same(message, known.into(), name));
    if let Ok(offset) = u16::try_from(name)
        && !known
        && names.len() < limit
    {
        names.push(offset);
    }
}
