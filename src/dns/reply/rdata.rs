//! Writing the rdata of a record.

use super::Reply;
use crate::dns::header::HEADER_LEN;
use crate::dns::{MAX_MESSAGE, Name};

/// Writes the rdata of a record.
#[derive(Debug)]
pub struct Rdata<'r> {
    reply: &'r mut Reply,
}

impl<'r> Rdata<'r> {
    pub(super) const fn new(reply: &'r mut Reply) -> Self {
        Self { reply }
    }

    /// Octets as they are.
    #[inline]
    pub fn octets(&mut self, octets: &[u8]) {
        // Bounds the buffer: what is beyond a whole message is cut off by `push_with`.
        let room = (MAX_MESSAGE + 1).saturating_sub(self.reply.buf.len());
        self.reply
            .buf
            .extend_from_slice(&octets[..octets.len().min(room)]);
    }

    /// Octets of a number that is known beforehand, which costs less.
    #[inline]
    pub fn array<const N: usize>(&mut self, octets: [u8; N]) {
        match self.reply.buf.len() + N <= MAX_MESSAGE + 1 {
            true => self.reply.buf.extend_from_slice(&octets),
            false => self.octets(&octets),
        }
    }

    /// Two octets, most significant first.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.array(value.to_be_bytes());
    }

    /// Four octets, most significant first.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.array(value.to_be_bytes());
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
            self.array([0]);
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
        self.array([label.len() as u8]);
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
