//! A domain name on the stack: lower-cased wire form with the places of its labels.

use super::WireError;
use std::fmt;

/// Longest name in wire form, root label included (RFC 1035 §2.3.4).
pub const MAX_NAME: usize = 255;
/// Most labels a name can have (127 of one octet), without the root.
pub const MAX_LABELS: usize = 127;
/// Octets that are put into lower case at once.
const STEP: usize = 16;
/// Room for a name, in whole steps.
const ROOM: usize = (MAX_NAME).next_multiple_of(STEP);

/// A domain name in lower-case wire form.
///
/// Invariants: `wire[..len]` is a valid uncompressed name that ends in the root label, ASCII upper
/// case does not occur in it, and `offsets[..labels]` are the places of the length octets of its
/// labels from left to right.
#[derive(Clone)]
pub struct Name {
    wire: [u8; ROOM],
    len: u8,
    labels: u8,
    offsets: [u8; MAX_LABELS],
}

impl Name {
    /// The root name.
    pub const fn root() -> Self {
        Self {
            wire: [0; ROOM],
            len: 1,
            labels: 0,
            offsets: [0; MAX_LABELS],
        }
    }

    /// Reads the name at `at` in `message`, following compression pointers, and lower-cases it.
    /// Gives the name and the offset behind it.
    ///
    /// # Errors
    /// Any [`WireError`]; pointers must point before the name they are in, so that reading ends.
    #[inline]
    pub fn read(message: &[u8], at: usize) -> Result<(Self, usize), WireError> {
        let mut name = Self::root();
        let end = name.read_here(message, at)?;
        Ok((name, end))
    }

    /// As [`Self::read`], into this name, which must be the root; gives the offset behind it. After an
    /// error it is no name.
    ///
    /// # Errors
    /// As [`Self::read`].
    #[inline]
    pub(super) fn read_here(&mut self, message: &[u8], at: usize) -> Result<usize, WireError> {
        let mut pos = at;
        let mut end = None;
        let mut lowest = at;
        loop {
            // Labels behind each other are copied as one.
            let run = message.get(pos..).ok_or(WireError::UnexpectedEnd)?;
            let start = self.len as usize - 1;
            let mut size = 0;
            let stop = loop {
                let &octet = run.get(size).ok_or(WireError::UnexpectedEnd)?;
                if !(1..=63).contains(&octet) {
                    break octet;
                }
                let next = size + octet as usize + 1;
                if next > run.len() {
                    return Err(WireError::UnexpectedEnd);
                }
                // One octet stays free for the root label.
                if start + next >= MAX_NAME {
                    return Err(WireError::NameTooLong);
                }
                self.offsets[self.labels as usize] = (start + size) as u8;
                self.labels += 1;
                size = next;
            };
            self.wire[start..start + size].copy_from_slice(&run[..size]);
            // Length octets are below 64 and so are not changed by this, nor are the zeros behind.
            for step in self.wire[..(start + size).next_multiple_of(STEP)].chunks_exact_mut(STEP) {
                step.make_ascii_lowercase();
            }
            self.len = (start + size + 1) as u8;
            pos += size;
            match stop {
                0 => {
                    self.wire[start + size] = 0;
                    return Ok(end.unwrap_or(pos + 1));
                }
                0xc0..=0xff => {
                    let &low = run.get(size + 1).ok_or(WireError::UnexpectedEnd)?;
                    end.get_or_insert(pos + 2);
                    let target = usize::from(stop & 0x3f) << 8 | usize::from(low);
                    if target >= lowest {
                        return Err(WireError::BadPointer);
                    }
                    lowest = target;
                    pos = target;
                }
                _ => return Err(WireError::BadLabel),
            }
        }
    }

    /// Reads a name in presentation format (RFC 1035 §5.1 escapes); a missing final dot is added.
    ///
    /// # Errors
    /// [`WireError::BadLabel`] for an empty or overlong label or a bad escape,
    /// [`WireError::NameTooLong`] beyond 255 octets.
    pub fn from_text(text: &str) -> Result<Self, WireError> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        if text != "." {
            write_labels(text, &mut wire)?;
        }
        wire.push(0);
        Self::read(&wire, 0).map(|(name, _)| name)
    }

    /// The whole name in lower-case wire form, root label included.
    #[inline]
    pub fn wire(&self) -> &[u8] {
        &self.wire[..self.len as usize]
    }

    /// How many labels the name has, the root not counted.
    #[inline]
    pub fn label_count(&self) -> usize {
        self.labels as usize
    }

    /// Label `index` from the left, without its length octet; empty beyond the last one.
    #[inline]
    pub fn label(&self, index: usize) -> &[u8] {
        if index >= self.label_count() {
            return &[];
        }
        let at = self.offsets[index] as usize;
        &self.wire[at + 1..at + 1 + self.wire[at] as usize]
    }

    /// The place of label `index` within the wire form; that of the root label beyond the last.
    #[inline]
    pub fn label_offset(&self, index: usize) -> usize {
        if index >= self.label_count() {
            return self.len as usize - 1;
        }
        self.offsets[index] as usize
    }

    /// The wire form of the name without its first `labels` labels.
    #[inline]
    pub fn suffix(&self, labels: usize) -> &[u8] {
        &self.wire()[self.label_offset(labels)..]
    }

    /// Whether the name equals `zone` (lower-case wire form of `zone_labels` labels) or lies below.
    #[inline]
    pub fn is_under(&self, zone: &[u8], zone_labels: usize) -> bool {
        self.label_count() >= zone_labels && self.suffix(self.label_count() - zone_labels) == zone
    }

    /// The labels from left to right, without length octets.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        (0..self.label_count()).map(|index| self.label(index))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire() == other.wire()
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(self.wire(), f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Appends the labels of a name in presentation format to `wire`, without a root label.
///
/// # Errors
/// [`WireError::BadLabel`] for an empty or overlong label, or a bad escape.
pub fn write_labels(text: &str, wire: &mut Vec<u8>) -> Result<(), WireError> {
    let mut octets = text.bytes().peekable();
    while octets.peek().is_some() {
        let start = wire.len();
        wire.push(0);
        loop {
            let octet = match octets.next() {
                None | Some(b'.') => break,
                Some(b'\\') => {
                    let first = octets.next().ok_or(WireError::BadLabel)?;
                    if first.is_ascii_digit() {
                        let mut value = u32::from(first - b'0');
                        for _ in 0..2 {
                            let digit = octets.next().filter(u8::is_ascii_digit);
                            value =
                                value * 10 + u32::from(digit.ok_or(WireError::BadLabel)? - b'0');
                        }
                        u8::try_from(value).map_err(|_| WireError::BadLabel)?
                    } else {
                        first
                    }
                }
                Some(octet) => octet,
            };
            wire.push(octet);
        }
        let size = wire.len() - start - 1;
        if size == 0 || size > 63 {
            return Err(WireError::BadLabel);
        }
        wire[start] = size as u8;
    }
    Ok(())
}

/// Writes an uncompressed wire name in presentation format, with its final dot.
pub fn write_text(wire: &[u8], f: &mut dyn fmt::Write) -> fmt::Result {
    let mut rest = wire;
    if rest.first().is_none_or(|&len| len == 0) {
        return f.write_char('.');
    }
    while let Some((&len, tail)) = rest.split_first() {
        if len == 0 || len as usize > tail.len() {
            break;
        }
        let (label, tail) = tail.split_at(len as usize);
        write_label(label, f)?;
        f.write_char('.')?;
        rest = tail;
    }
    Ok(())
}

/// Writes a label in presentation format.
pub fn write_label(label: &[u8], f: &mut dyn fmt::Write) -> fmt::Result {
    for &octet in label {
        match octet {
            b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                f.write_char('\\')?;
                f.write_char(octet as char)?;
            }
            b'!'..=b'~' => f.write_char(octet as char)?,
            _ => write!(f, "\\{octet:03}")?,
        }
    }
    Ok(())
}

/// The offset behind the (possibly compressed) name at `at`.
///
/// # Errors
/// [`WireError::UnexpectedEnd`] or [`WireError::BadLabel`].
#[inline]
pub fn skip(message: &[u8], at: usize) -> Result<usize, WireError> {
    let mut pos = at;
    loop {
        match *message.get(pos).ok_or(WireError::UnexpectedEnd)? {
            0 => return Ok(pos + 1),
            len @ 1..=63 => pos += len as usize + 1,
            0xc0..=0xff if pos + 1 < message.len() => return Ok(pos + 2),
            0xc0..=0xff => return Err(WireError::UnexpectedEnd),
            _ => return Err(WireError::BadLabel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        for text in [
            ".",
            "a.",
            "Web.Default.svc.cluster.local.",
            "a\\.b.c.",
            "\\000\\255x.",
        ] {
            let name = Name::from_text(text).unwrap();
            assert_eq!(name.to_string(), text.to_ascii_lowercase());
        }
        assert_eq!(Name::from_text("a..b"), Err(WireError::BadLabel));
        assert_eq!(Name::from_text(&"a".repeat(64)), Err(WireError::BadLabel));
        assert_eq!(
            Name::from_text(&"a.".repeat(128)),
            Err(WireError::NameTooLong)
        );
        assert_eq!(
            Name::from_text(&"a.".repeat(127)).unwrap().label_count(),
            127
        );
    }

    #[test]
    fn labels_from_the_left() {
        let name = Name::from_text("web.default.svc.").unwrap();
        assert_eq!(name.label(0), b"web");
        assert_eq!(name.label(2), b"svc");
        assert_eq!(name.label(3), b"");
        assert_eq!(name.suffix(1), b"\x07default\x03svc\x00");
        assert_eq!(name.suffix(3), b"\0");
        assert!(name.is_under(b"\x03svc\0", 1));
        assert!(!name.is_under(b"\x02vc\0", 1));
    }

    #[test]
    fn pointers_must_go_backwards() {
        let message = b"\x01a\x00\x01b\xc0\x00\xc0\x07";
        let (name, end) = Name::read(message, 3).unwrap();
        assert_eq!((name.to_string().as_str(), end), ("b.a.", 7));
        assert_eq!(Name::read(message, 7), Err(WireError::BadPointer));
        assert_eq!(
            Name::read(b"\xc0\x02\xc0\x00", 2),
            Err(WireError::BadPointer)
        );
    }
}
