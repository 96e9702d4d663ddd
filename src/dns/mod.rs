//! The DNS wire format: names, the view of a query, the reply writer, EDNS.
//!
//! Nothing in this module does I/O, reads a clock or allocates while it reads. Offsets are checked
//! before they are used, so that no input can panic (RFC 1035, RFC 6891, RFC 3597).

pub mod codes;
pub mod edns;
pub mod header;
pub mod message;
pub mod name;
pub mod normalise;
pub mod query;
pub mod reply;
#[cfg(test)]
mod tests;
pub mod zone;

pub use codes::{Class, Opcode, Rcode, RecordType};
pub use edns::{Edns, ExtendedError};
pub use header::Header;
pub use message::{Record, Records, Section};
pub use name::Name;
pub use normalise::{Normalised, Spelled};
pub use query::{OwnedQuery, Query, Reject};
pub use reply::{More, Owner, Reply};
pub use zone::Zone;

/// Longest DNS message that any transport can carry (two octet length prefix, RFC 1035 §4.2.2).
pub const MAX_MESSAGE: usize = 65_535;

/// A message, a name or a record that is not in wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A label is longer than 63 octets, or uses a reserved label type.
    #[error("bad label")]
    BadLabel,
    /// A compression pointer does not point backwards.
    #[error("bad compression pointer")]
    BadPointer,
    /// Records do not fit into a message.
    #[error("message too long")]
    MessageTooLong,
    /// A name is longer than 255 octets.
    #[error("name too long")]
    NameTooLong,
    /// The message ends inside a name, a record or the header.
    #[error("unexpected end of message")]
    UnexpectedEnd,
}
