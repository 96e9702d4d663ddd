//! Cutting the body of a watch into events.

use super::{Error, Format};
use crate::limits::KUBE_EVENT_BYTES;

/// Collects the chunks of a body, and gives out its events: lines of JSON, or frames of protobuf
/// with their length in four octets before them. One buffer serves the whole stream.
pub struct Frames {
    format: Format,
    buffer: Vec<u8>,
    /// Where the next event begins.
    start: usize,
    /// Up to where no end of line was found.
    searched: usize,
}

impl Frames {
    /// No octet so far.
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
        }
    }

    /// Appends a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        // One huge event must not occupy its memory for as long as the stream lives.
        if self.buffer.len() + chunk.len() < self.buffer.capacity() / 8 {
            self.buffer.shrink_to(64 * 1024);
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// The next event if all of it is there.
    ///
    /// # Errors
    /// If it is longer than [`KUBE_EVENT_BYTES`]: the stream cannot go on.
    pub fn take(&mut self) -> Result<Option<&[u8]>, Error> {
        loop {
            let rest = &self.buffer[self.start..];
            let (from, length, end) = match self.format {
                Format::Json => {
                    let searched = self.searched - self.start;
                    let newline = rest[searched..].iter().position(|&b| b == b'\n');
                    self.searched = self.buffer.len();
                    match newline {
                        Some(at) => (0, searched + at, searched + at + 1),
                        None => (0, rest.len(), usize::MAX),
                    }
                }
                Format::Protobuf => match rest.first_chunk() {
                    Some(length) => {
                        let length = u32::from_be_bytes(*length) as usize;
                        (4, length, length.saturating_add(4))
                    }
                    None => return Ok(None),
                },
            };
            if length > KUBE_EVENT_BYTES {
                return Err(Error::TooLong(KUBE_EVENT_BYTES));
            }
            if end > rest.len() {
                return Ok(None);
            }
            let event = self.start + from..self.start + from + length;
            self.start += end;
            self.searched = self.start;
            if !self.buffer[event.clone()].trim_ascii().is_empty() {
                return Ok(Some(&self.buffer[event]));
            }
        }
    }
}
