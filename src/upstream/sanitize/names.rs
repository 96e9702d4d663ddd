//! Names compared where they stand in a message, without a copy.

use crate::dns::name::{MAX_LABELS, MAX_NAME};

/// The offset behind the name at `at`, if it is one: whole, its pointers leading backwards, and not
/// longer than a name may be. More pointers than a name can have labels are none.
pub(super) fn end(message: &[u8], at: usize) -> Option<usize> {
    let (mut pos, mut lowest, mut end) = (at, at, None);
    let (mut len, mut pointers) = (1, 0);
    loop {
        match *message.get(pos)? {
            0 => return Some(end.unwrap_or(pos + 1)),
            octet @ 1..=63 => {
                len += usize::from(octet) + 1;
                pos += usize::from(octet) + 1;
                if len > MAX_NAME || pos > message.len() {
                    return None;
                }
            }
            high @ 0xc0..=0xff => {
                end.get_or_insert(pos + 2);
                pos = usize::from(high & 0x3f) << 8 | usize::from(*message.get(pos + 1)?);
                pointers += 1;
                if pos >= lowest || pointers > MAX_LABELS {
                    return None;
                }
                lowest = pos;
            }
            _ => return None,
        }
    }
}

/// Whether two names are the same but for case. Both were checked with [`end`].
pub(super) fn same(message: &[u8], a: usize, b: usize) -> bool {
    let (mut a, mut b) = (Labels { message, at: a }, Labels { message, at: b });
    loop {
        a.follow();
        b.follow();
        if a.at == b.at {
            return true;
        }
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one.eq_ignore_ascii_case(other) => {}
            _ => return false,
        }
    }
}

/// Whether `zone` is `name` or above it. Both were checked with [`end`].
pub(super) fn is_at_or_above(message: &[u8], zone: usize, name: usize) -> bool {
    let labels = |at| Labels { message, at };
    let Some(deeper) = labels(name).count().checked_sub(labels(zone).count()) else {
        return false;
    };
    let mut rest = labels(name);
    for _ in 0..deeper {
        rest.next();
    }
    same(message, zone, rest.at)
}

/// The labels of a name that was checked.
struct Labels<'m> {
    message: &'m [u8],
    at: usize,
}

impl Labels<'_> {
    /// Goes to where the rest of the name stands.
    fn follow(&mut self) {
        while let Some([high @ 0xc0..=0xff, low, ..]) = self.message.get(self.at..) {
            self.at = usize::from(high & 0x3f) << 8 | usize::from(*low);
        }
    }
}

impl<'m> Iterator for Labels<'m> {
    type Item = &'m [u8];

    fn next(&mut self) -> Option<&'m [u8]> {
        self.follow();
        let len = usize::from(*self.message.get(self.at)?);
        if len == 0 {
            return None;
        }
        let label = self.message.get(self.at + 1..self.at + 1 + len)?;
        self.at += 1 + len;
        Some(label)
    }
}
