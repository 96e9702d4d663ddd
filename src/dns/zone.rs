//! A zone name that a configuration holds: lower-case wire form and text.

use super::{Name, WireError};
use std::fmt;

/// A domain name of the configuration, in lower case; queries are matched against it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone {
    text: Box<str>,
    wire: Box<[u8]>,
    labels: u8,
}

impl Zone {
    /// The root zone.
    pub fn root() -> Self {
        Self::from(&Name::root())
    }

    /// Reads presentation format; case and a missing final dot do not matter.
    ///
    /// # Errors
    /// The [`WireError`] of [`Name::from_text`].
    pub fn from_text(text: &str) -> Result<Self, WireError> {
        Name::from_text(text).map(|name| Self::from(&name))
    }

    /// The name in lower-case presentation format with its final dot.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name in lower-case wire form.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// How many labels the name has, the root not counted.
    pub fn label_count(&self) -> usize {
        self.labels as usize
    }

    /// Whether `name` is this name or below it.
    #[inline]
    pub fn contains(&self, name: &Name) -> bool {
        name.is_under(&self.wire, self.labels as usize)
    }

    /// Whether this is a zone of addresses: below `in-addr.arpa.` or `ip6.arpa.`.
    pub fn is_reverse(&self) -> bool {
        [&b"\x07in-addr\x04arpa\0"[..], b"\x03ip6\x04arpa\0"]
            .iter()
            .any(|apex| self.wire.ends_with(apex))
    }

    /// The longest of `zones` that `name` is in.
    pub fn longest<'z>(zones: &'z [Self], name: &Name) -> Option<&'z Self> {
        zones
            .iter()
            .filter(|zone| zone.contains(name))
            .max_by_key(|zone| zone.labels)
    }
}

impl From<&Name> for Zone {
    fn from(name: &Name) -> Self {
        Self {
            text: name.to_string().into(),
            wire: name.wire().into(),
            labels: name.label_count() as u8,
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
