//! The reply writer: a message is written once, front to back, into a buffer that is used again.

use super::edns::{self, ExtendedError};
use super::header::{HEADER_LEN, Header};
use super::{Class, MAX_MESSAGE, Name, Query, Rcode, Record, RecordType, Records, Section};
use super::{WireError, name};

/// Options of the query that come back in the reply as they were sent.
const ECHOED: [u16; 5] = [
    edns::option::NSID,
    edns::option::EXPIRE,
    edns::option::COOKIE,
    edns::option::KEEPALIVE,
    edns::option::PADDING,
];

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

/// A reply while it is made.
///
/// Invariants: `buf` starts with room for a header and the question; `counts` says how many records
/// follow in each section; records are pushed in the order of the sections; the length never
/// exceeds 65,535 octets (what does not fit is left out and sets TC).
#[derive(Debug, Default)]
pub struct Reply {
    buf: Vec<u8>,
    records_at: usize,
    counts: [u16; 3],
    rcode: Rcode,
    flags: u16,
    upstream_options: Vec<u8>,
    extended_errors: Vec<ExtendedError>,
    cluster_data: bool,
    adopted: bool,
    sealed: bool,
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
        self.adopted = false;
        self.sealed = false;
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
        let mut out = Rdata { reply: self };
        match owner {
            Owner::Query => out.pointer(HEADER_LEN),
            Owner::Suffix(labels) => out.question_suffix(labels),
            Owner::At(offset) => out.pointer(offset),
            Owner::Wire(wire) => out.octets(wire),
        }
        let fixed = out.reply.buf.len();
        out.u16(rtype.0);
        out.u16(class.0);
        out.u32(ttl);
        out.u16(0);
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

    /// Takes over an upstream's message as the reply: response code, flags (AA, TC, RA, AD),
    /// records and EDNS options; id, question, RD and CD stay the client's.
    ///
    /// # Errors
    /// [`WireError`] where a record of `message` is cut; the reply is empty (started) then.
    pub fn adopt(&mut self, query: &Query<'_>, message: &[u8]) -> Result<(), WireError> {
        self.start(query);
        let adopted = self.adopt_records(message);
        if adopted.is_err() {
            self.start(query);
        }
        adopted
    }

    fn adopt_records(&mut self, message: &[u8]) -> Result<(), WireError> {
        let header = Header::read(message)?;
        let mut records = Records::new(message)?;
        // Pointers into the message stay right only if the records start where ours start.
        if header.counts[0] != 1 || records.offset() != self.records_at {
            return Err(WireError::BadPointer);
        }
        let mut end = records.offset();
        let mut opt = None;
        for record in records.by_ref() {
            let record = record?;
            if record.rtype == RecordType::OPT && record.section == Section::Additional {
                opt = Some(record);
                continue;
            }
            if opt.is_some() {
                // An OPT before other records: it cannot be cut out without moving them. Such
                // messages are legal but unknown in the field; the records behind it are dropped.
                self.flags |= Header::TC;
                break;
            }
            end = record.rdata.end;
            self.counts[record.section as usize] += 1;
        }
        self.buf.extend_from_slice(&message[self.records_at..end]);
        self.flags |= header.bits & (Header::AA | Header::TC | Header::RA | Header::AD);
        self.adopted = true;
        self.rcode = header.rcode();
        if let Some(opt) = opt {
            self.rcode.0 |= ((opt.ttl >> 24) as u16) << 4;
            self.upstream_options.extend_from_slice(&message[opt.rdata]);
        }
        Ok(())
    }

    /// The EDNS options that an upstream sent with the message that was adopted.
    pub fn upstream_options(&self) -> &[u8] {
        &self.upstream_options
    }

    /// Takes the upstream's EDNS options from the reply.
    pub fn clear_upstream_options(&mut self) {
        self.upstream_options.clear();
    }

    /// Puts these EDNS options in the place of the upstream's.
    pub fn set_upstream_options(&mut self, options: &[u8]) {
        self.upstream_options.clear();
        self.upstream_options.extend_from_slice(options);
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

    /// Makes the message ready to send and gives it: header, OPT if the client sent one, and no
    /// longer than `limit` octets (TC set if anything had to go). Call once.
    #[inline]
    pub fn finish(&mut self, query: &Query<'_>, limit: usize) -> &[u8] {
        if self.sealed {
            return &self.buf;
        }
        self.sealed = true;
        let limit = limit.min(MAX_MESSAGE);
        let opt_len = if query.edns().is_some() {
            self.opt_len(query)
        } else {
            0
        };
        if self.buf.len() + opt_len > limit {
            self.truncate(limit.saturating_sub(opt_len));
        }
        if let Some(edns) = query.edns() {
            let (size, dnssec_ok) = (edns.udp_size, edns.dnssec_ok);
            self.write_opt(query, size, dnssec_ok);
        }
        let asked = query.header();
        let copied = asked.bits & (Header::RD | Header::CD | 0x7800);
        let header = Header {
            id: asked.id,
            bits: Header::QR | copied | self.flags | (self.rcode.0 & 0xf),
            counts: [
                1,
                self.counts[0],
                self.counts[1],
                self.counts[2] + u16::from(query.edns().is_some()),
            ],
        };
        self.buf[..HEADER_LEN].copy_from_slice(&header.to_wire());
        &self.buf
    }

    /// Cuts the message after the last record that fits into `limit` octets.
    fn truncate(&mut self, limit: usize) {
        let mut kept = [0u16; 3];
        let mut end = self.records_at;
        for record in Records::at(&self.buf, self.records_at, self.counts).map_while(Result::ok) {
            if record.rdata.end > limit {
                break;
            }
            end = record.rdata.end;
            kept[record.section as usize] += 1;
        }
        self.buf.truncate(end);
        self.counts = kept;
        self.flags |= Header::TC;
    }

    fn echoed<'q>(&self, query: &Query<'q>) -> impl Iterator<Item = (u16, &'q [u8])> {
        edns::options(query.edns_options()).filter(|(code, _)| {
            ECHOED.contains(code) && !edns::options(&self.upstream_options).any(|(c, _)| c == *code)
        })
    }

    fn opt_len(&self, query: &Query<'_>) -> usize {
        let echoed: usize = self.echoed(query).map(|(_, data)| data.len() + 4).sum();
        let errors: usize = self.extended_errors.iter().map(|e| e.text.len() + 6).sum();
        11 + echoed + errors + self.upstream_options.len()
    }

    fn write_opt(&mut self, query: &Query<'_>, udp_size: u16, dnssec_ok: bool) {
        let start = self.buf.len();
        self.buf.push(0);
        self.buf.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
        self.buf.extend_from_slice(&udp_size.to_be_bytes());
        let flags = if dnssec_ok { 0x80 } else { 0 };
        self.buf
            .extend_from_slice(&[(self.rcode.0 >> 4) as u8, 0, flags, 0, 0, 0]);
        self.buf.extend_from_slice(&self.upstream_options);
        for error in &self.extended_errors {
            self.buf
                .extend_from_slice(&edns::option::EXTENDED_ERROR.to_be_bytes());
            self.buf
                .extend_from_slice(&(error.text.len() as u16 + 2).to_be_bytes());
            self.buf.extend_from_slice(&error.code.to_be_bytes());
            self.buf.extend_from_slice(error.text.as_bytes());
        }
        for (code, data) in edns::options(query.edns_options()) {
            let known = edns::options(&self.upstream_options).any(|(c, _)| c == code);
            if ECHOED.contains(&code) && !known {
                self.buf.extend_from_slice(&code.to_be_bytes());
                self.buf
                    .extend_from_slice(&(data.len() as u16).to_be_bytes());
                self.buf.extend_from_slice(data);
            }
        }
        let len = (self.buf.len() - start - 11) as u16;
        self.buf[start + 9..start + 11].copy_from_slice(&len.to_be_bytes());
    }

    /// The reply to a packet that was not accepted: its header alone, with this response code.
    pub fn reject(&mut self, packet: &[u8], rcode: Rcode) -> &[u8] {
        let asked = Header::read(packet).unwrap_or_default();
        let opcode = if rcode == Rcode::NOTIMP {
            asked.bits & 0x7800
        } else {
            0
        };
        let header = Header {
            id: asked.id,
            bits: Header::QR | opcode | asked.bits & (Header::RD | Header::CD) | rcode.0,
            counts: [0; 4],
        };
        self.buf.clear();
        self.buf.extend_from_slice(&header.to_wire());
        &self.buf
    }
}

/// Writes the rdata of a record.
#[derive(Debug)]
pub struct Rdata<'r> {
    reply: &'r mut Reply,
}

impl Rdata<'_> {
    /// Octets as they are.
    #[inline]
    pub fn octets(&mut self, octets: &[u8]) {
        // Bounds the buffer: what is beyond a whole message is cut off by `push_with`.
        let room = (MAX_MESSAGE + 1).saturating_sub(self.reply.buf.len());
        self.reply
            .buf
            .extend_from_slice(&octets[..octets.len().min(room)]);
    }

    /// Two octets, most significant first.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.octets(&value.to_be_bytes());
    }

    /// Four octets, most significant first.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.octets(&value.to_be_bytes());
    }

    /// A compression pointer to `offset` (below 0x4000).
    #[inline]
    pub fn pointer(&mut self, offset: usize) {
        debug_assert!(offset < 0x4000);
        self.u16(0xc000 | offset as u16);
    }

    /// A pointer to the name asked for without its first `labels` labels, as the client typed it.
    #[inline]
    pub fn question_suffix(&mut self, labels: usize) {
        let offset = suffix_offset(&self.reply.buf, labels);
        if self.reply.buf.get(offset) == Some(&0) {
            self.octets(&[0]);
        } else {
            self.pointer(offset);
        }
    }

    /// The name asked for without its first `labels` labels, as the client typed it, in full: for
    /// types whose rdata must not be compressed (RFC 3597 §4).
    #[inline]
    pub fn question_suffix_in_full(&mut self, labels: usize) {
        let from = suffix_offset(&self.reply.buf, labels);
        let to = self.reply.records_at - 4;
        let room = (MAX_MESSAGE + 1).saturating_sub(self.reply.buf.len());
        let to = to.min(from + room);
        self.reply.buf.extend_from_within(from..to);
    }

    /// One label with its length octet; at most 63 octets of it.
    #[inline]
    pub fn label(&mut self, label: &[u8]) {
        let label = &label[..label.len().min(63)];
        self.octets(&[label.len() as u8]);
        self.octets(label);
    }

    /// A name in full, in lower case.
    #[inline]
    pub fn name(&mut self, name: &Name) {
        self.octets(name.wire());
    }

    /// The offset in the message at which the next octet will stand.
    pub fn offset(&self) -> usize {
        self.reply.buf.len()
    }
}

/// The offset of the question's name without its first `labels` labels.
#[inline]
fn suffix_offset(message: &[u8], labels: usize) -> usize {
    let mut at = HEADER_LEN;
    for _ in 0..labels {
        match message.get(at) {
            Some(&len) if len > 0 => at += len as usize + 1,
            _ => break,
        }
    }
    at
}
