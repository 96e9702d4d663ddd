//! The reply writer: a message is written once, front to back, into a buffer that is used again.

mod adopt;
mod finish;
mod rdata;
mod rename;

pub use rdata::Rdata;

use super::edns::ExtendedError;
use super::header::{HEADER_LEN, Header};
use super::name;
use super::{Class, MAX_MESSAGE, Query, Rcode, Record, RecordType, Records, Section};
use std::net::SocketAddr;

/// The owner name of a record that is written.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// The name asked for, in the client's case: a pointer to the question.
    Query,
    /// The name asked for without so many of its leftmost labels: a pointer into the question.
    Suffix(usize),
    /// A name that stands at this offset of the message already (below 0x4000).
    At(usize),
    /// An uncompressed name in wire form.
    Wire(&'a [u8]),
}

/// The further messages of a reply that is a stream of messages: a zone transfer over TCP.
///
/// The transport sends the reply's own message first, and then takes one message after another, each
/// when the one before it has been sent.
pub trait More: Send {
    /// Writes the next message into `reply`, finished ([`Reply::finish`]); false if there is none.
    fn next(&mut self, reply: &mut Reply) -> bool;
}

/// A reply while it is made.
///
/// Invariants: `buf` starts with room for a header and the question; `counts` says how many records
/// follow in each section; records are pushed in the order of the sections; the length never
/// exceeds 65,535 octets (what does not fit is left out and sets TC).
#[derive(Default)]
pub struct Reply {
    buf: Vec<u8>,
    records_at: usize,
    counts: [u16; 3],
    rcode: Rcode,
    flags: u16,
    upstream_options: Vec<u8>,
    extended_errors: Vec<ExtendedError>,
    cluster_data: bool,
    upstream: Option<SocketAddr>,
    adopted: bool,
    sealed: bool,
    more: Option<Box<dyn More>>,
    /// What [`Self::rename`] reads from; kept so that it allocates once.
    spare: Vec<u8>,
}

/// A point in the writing of a reply.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    len: usize,
    counts: [u16; 3],
}

impl Default for Rcode {
    fn default() -> Self {
        Self::NOERROR
    }
}

impl Reply {
    /// An empty reply; its buffer grows once to what a large message needs.
    pub fn new() -> Self {
        Self {
            buf: Vec::with_capacity(1024),
            ..Self::default()
        }
    }

    /// An empty reply with a buffer that never has to grow: for workers that must not allocate.
    pub fn with_full_capacity() -> Self {
        Self {
            buf: Vec::with_capacity(MAX_MESSAGE + 1),
            ..Self::default()
        }
    }

    /// Starts the reply to `query`: question echoed octet for octet, NOERROR, no flag, no record.
    #[inline]
    pub fn start(&mut self, query: &Query<'_>) {
        self.buf.clear();
        self.buf.extend_from_slice(&[0; HEADER_LEN]);
        self.buf.extend_from_slice(query.question());
        self.records_at = self.buf.len();
        self.counts = [0; 3];
        self.rcode = Rcode::NOERROR;
        self.flags = 0;
        self.upstream_options.clear();
        self.extended_errors.clear();
        self.cluster_data = false;
        self.upstream = None;
        self.adopted = false;
        self.sealed = false;
        self.more = None;
    }

    /// Has these messages follow this one. Only stream transports send them.
    pub fn set_more(&mut self, more: Box<dyn More>) {
        self.more = Some(more);
    }

    /// Takes the messages that follow this one.
    pub fn take_more(&mut self) -> Option<Box<dyn More>> {
        self.more.take()
    }

    /// As [`Self::start`], but keeps the extended errors: for a reply that the server writes
    /// because no plugin did.
    pub fn restart(&mut self, query: &Query<'_>) {
        let errors = std::mem::take(&mut self.extended_errors);
        self.start(query);
        self.extended_errors = errors;
    }

    /// The response code.
    pub const fn rcode(&self) -> Rcode {
        self.rcode
    }

    /// Sets the response code.
    pub const fn set_rcode(&mut self, rcode: Rcode) {
        self.rcode = rcode;
    }

    /// Whether all of these [`Header`] flags (AA, TC, RA, AD) are set.
    pub const fn has_flag(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }

    /// Sets or clears [`Header`] flags (AA, TC, RA, AD; the others come from the query).
    pub const fn set_flag(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    /// Marks the reply as made from the cluster index, which no cache must store.
    pub const fn set_cluster_data(&mut self) {
        self.cluster_data = true;
    }

    /// Whether the reply was made from the cluster index.
    pub const fn is_cluster_data(&self) -> bool {
        self.cluster_data
    }

    /// Notes which upstream was asked last for this reply.
    pub const fn set_upstream(&mut self, upstream: Option<SocketAddr>) {
        self.upstream = upstream;
    }

    /// The upstream that was asked for this reply; `None` for what was known already.
    pub const fn upstream(&self) -> Option<SocketAddr> {
        self.upstream
    }

    /// Whether the reply is an upstream's message ([`Self::adopt`]).
    pub const fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Adds an extended error, sent if the client knows EDNS (RFC 8914).
    pub fn add_extended_error(&mut self, error: ExtendedError) {
        self.extended_errors.push(error);
    }

    /// The extended errors so far.
    pub fn extended_errors(&self) -> &[ExtendedError] {
        &self.extended_errors
    }

    /// Records in the answer, authority and additional section (OPT not counted).
    pub const fn counts(&self) -> [u16; 3] {
        self.counts
    }

    /// Length in octets so far, without OPT.
    pub const fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was started.
    pub const fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The message so far: header (not filled in before [`Self::finish`]), question, records.
    pub fn message(&self) -> &[u8] {
        &self.buf
    }

    /// The message so far, for changes in place that keep every length (TTLs, order of records).
    pub fn message_mut(&mut self) -> &mut [u8] {
        &mut self.buf
    }

    /// The offset of the first record.
    pub const fn records_offset(&self) -> usize {
        self.records_at
    }

    /// Walks the records. What this type wrote or adopted is well formed, so errors do not occur.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        Records::at(&self.buf, self.records_at, self.counts).map_while(Result::ok)
    }

    /// Sets every TTL to what `f` makes of it.
    pub fn map_ttls(&mut self, mut f: impl FnMut(u32) -> u32) {
        let mut at = self.records_at;
        let total: u32 = self.counts.iter().map(|&count| u32::from(count)).sum();
        for _ in 0..total {
            let Ok(fixed) = name::skip(&self.buf, at) else {
                return;
            };
            let Some(head) = self.buf.get_mut(fixed..fixed + 10) else {
                return;
            };
            let ttl = f(u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
            head[4..8].copy_from_slice(&ttl.to_be_bytes());
            at = fixed + 10 + usize::from(u16::from_be_bytes([head[8], head[9]]));
        }
    }

    /// Writes a record of class IN with this rdata (uncompressed). False if it did not fit.
    #[inline]
    pub fn push(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: RecordType,
        ttl: u32,
        rdata: &[u8],
    ) -> bool {
        self.push_with(section, owner, (rtype, Class::IN), ttl, |out| {
            out.octets(rdata)
        })
    }

    /// Writes a record whose rdata `rdata` writes. False if it did not fit: it is left out then,
    /// and TC is set.
    #[inline]
    pub fn push_with(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        (rtype, class): (RecordType, Class),
        ttl: u32,
        rdata: impl FnOnce(&mut Rdata<'_>),
    ) -> bool {
        debug_assert!(
            self.counts[section as usize + 1..]
                .iter()
                .all(|&count| count == 0)
        );
        let start = self.buf.len();
        let mut out = Rdata::new(self);
        match owner {
            Owner::Query => out.pointer(HEADER_LEN),
            Owner::Suffix(labels) => out.question_suffix(labels),
            Owner::At(offset) => out.pointer(offset),
            Owner::Wire(wire) => out.octets(wire),
        }
        let fixed = out.offset();
        let ([t, y], [c, l]) = (rtype.0.to_be_bytes(), class.0.to_be_bytes());
        let [a, b, d, e] = ttl.to_be_bytes();
        out.array([t, y, c, l, a, b, d, e, 0, 0]);
        rdata(&mut out);
        // What does not fit was not written: there may be less than the fixed part.
        let len = self.buf.len().saturating_sub(fixed + 10);
        if self.buf.len() > MAX_MESSAGE || len > usize::from(u16::MAX) {
            self.buf.truncate(start);
            self.flags |= Header::TC;
            return false;
        }
        self.buf[fixed + 8..fixed + 10].copy_from_slice(&(len as u16).to_be_bytes());
        self.counts[section as usize] += 1;
        true
    }

    /// Writes records that are in wire form already. Their names must be uncompressed, or point
    /// into the header-and-question part, which is the same in every reply to this name.
    #[inline]
    pub fn push_wire(&mut self, section: Section, records: &[u8], count: u16) -> bool {
        debug_assert!(
            self.counts[section as usize + 1..]
                .iter()
                .all(|&count| count == 0)
        );
        if self.buf.len() + records.len() > MAX_MESSAGE {
            self.flags |= Header::TC;
            return false;
        }
        self.buf.extend_from_slice(records);
        self.counts[section as usize] += count;
        true
    }

    /// Where the reply stands now, for [`Self::rewind`].
    pub const fn mark(&self) -> Mark {
        Mark {
            len: self.buf.len(),
            counts: self.counts,
        }
    }

    /// Removes every record that was written since.
    pub fn rewind(&mut self, mark: Mark) {
        self.buf.truncate(mark.len);
        self.counts = mark.counts;
    }

    /// Removes all records of the reply; response code and flags stay.
    pub fn clear_records(&mut self) {
        self.buf.truncate(self.records_at);
        self.counts = [0; 3];
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("rcode", &self.rcode)
            .field("counts", &self.counts)
            .field("len", &self.buf.len())
            .field("more", &self.more.is_some())
            .finish_non_exhaustive()
    }
}
