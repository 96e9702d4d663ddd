//! Reading protobuf's wire format, field by field, without generated code.

use super::Error;
use std::borrow::Cow;

/// The fields of one message, in the order in which they were written.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Payload<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of four or eight octets; no field that DNS needs is one.
    Fixed,
}

/// A field of a message.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    /// The field's number.
    pub(super) number: u32,
    payload: Payload<'a>,
}

impl<'a> Fields<'a> {
    /// The fields of this message.
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Error::Varint)?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => self.take(8).map(|_| Payload::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Truncated)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Payload::Fixed)?,
            _ => return Err(Error::WireType(number)),
        };
        Ok(Some(Field { number, payload }))
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for (at, &octet) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(octet & 0x7f) << (7 * at);
            if octet < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        match self.rest.len() {
            0..10 => Err(Error::Truncated),
            _ => Err(Error::Varint),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Field<'a> {
    /// The octets of a message, a string or bytes.
    pub(super) const fn bytes(self) -> Result<&'a [u8], Error> {
        match self.payload {
            Payload::Bytes(bytes) => Ok(bytes),
            _ => Err(Error::WireType(self.number)),
        }
    }

    /// The fields of an embedded message.
    pub(super) fn message(self) -> Result<Fields<'a>, Error> {
        Ok(Fields::new(self.bytes()?))
    }

    /// A string.
    pub(super) fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Utf8)
    }

    /// A string, for places that hold both formats' strings.
    pub(super) fn cow(self) -> Result<Cow<'a, str>, Error> {
        self.text().map(Cow::Borrowed)
    }

    /// An integer or a boolean.
    pub(super) const fn int(self) -> Result<i64, Error> {
        match self.payload {
            Payload::Varint(value) => Ok(value.cast_signed()),
            _ => Err(Error::WireType(self.number)),
        }
    }
}
