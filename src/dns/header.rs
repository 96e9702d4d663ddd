//! The fixed header of a message (RFC 1035 §4.1.1).

use super::{Opcode, Rcode, WireError};

/// Octets of the header.
pub const HEADER_LEN: usize = 12;

/// The header of a message, by value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Message id.
    pub id: u16,
    /// The sixteen flag bits as on the wire.
    pub bits: u16,
    /// Entries in question, answer, authority and additional section.
    pub counts: [u16; 4],
}

impl Header {
    /// Response bit.
    pub const QR: u16 = 0x8000;
    /// Authoritative answer bit.
    pub const AA: u16 = 0x0400;
    /// Truncation bit.
    pub const TC: u16 = 0x0200;
    /// Recursion desired bit.
    pub const RD: u16 = 0x0100;
    /// Recursion available bit.
    pub const RA: u16 = 0x0080;
    /// The reserved bit.
    pub const Z: u16 = 0x0040;
    /// Authentic data bit (RFC 4035).
    pub const AD: u16 = 0x0020;
    /// Checking disabled bit (RFC 4035).
    pub const CD: u16 = 0x0010;

    /// Reads the header at the start of `message`.
    ///
    /// # Errors
    /// [`WireError::UnexpectedEnd`] for fewer than twelve octets.
    pub fn read(message: &[u8]) -> Result<Self, WireError> {
        let Some(head) = message.first_chunk::<HEADER_LEN>() else {
            return Err(WireError::UnexpectedEnd);
        };
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        Ok(Self {
            id: word(0),
            bits: word(2),
            counts: [word(4), word(6), word(8), word(10)],
        })
    }

    /// The header in wire form.
    pub fn to_wire(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let words = [
            self.id,
            self.bits,
            self.counts[0],
            self.counts[1],
            self.counts[2],
            self.counts[3],
        ];
        for (chunk, word) in out.chunks_exact_mut(2).zip(words) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        out
    }

    /// Whether the flag (or all of several) is set.
    pub const fn has(self, flag: u16) -> bool {
        self.bits & flag == flag
    }

    /// The opcode.
    pub const fn opcode(self) -> Opcode {
        Opcode((self.bits >> 11) & 0xf)
    }

    /// The four response code bits of the header, without the EDNS extension.
    pub const fn rcode(self) -> Rcode {
        Rcode(self.bits & 0xf)
    }
}
