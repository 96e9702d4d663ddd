//! EDNS(0): the OPT pseudo record of a query, and extended errors (RFC 6891, RFC 8914).

use super::WireError;
use std::borrow::Cow;
use std::ops::Range;

/// EDNS option codes that the server knows by name.
pub mod option {
    /// Name server identifier (RFC 5001).
    pub const NSID: u16 = 3;
    /// Client subnet (RFC 7871).
    pub const SUBNET: u16 = 8;
    /// Zone expiry (RFC 7314).
    pub const EXPIRE: u16 = 9;
    /// Cookie (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// TCP keepalive (RFC 7828).
    pub const KEEPALIVE: u16 = 11;
    /// Padding (RFC 7830).
    pub const PADDING: u16 = 12;
    /// Extended error (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;
}

/// The OPT record of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Where the record starts in the message: the octet of its root owner name.
    pub offset: usize,
    /// The UDP payload size that the client takes, as sent.
    pub udp_size: u16,
    /// EDNS version.
    pub version: u8,
    /// The DO bit: the client wants DNSSEC records.
    pub dnssec_ok: bool,
    /// Where the options lie in the message.
    pub options: Range<usize>,
}

/// Walks EDNS options: pairs of a code and its data.
///
/// Ends at the first option that does not fit; [`check_options`] tells whether one is there.
pub fn options(mut data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, tail) = data.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = tail.get(..len)?;
        data = &tail[len..];
        Some((u16::from_be_bytes([head[0], head[1]]), value))
    })
}

/// Whether `data` is a whole number of options.
///
/// # Errors
/// [`WireError::UnexpectedEnd`] where the last option is cut.
pub fn check_options(data: &[u8]) -> Result<(), WireError> {
    let used: usize = options(data).map(|(_, value)| value.len() + 4).sum();
    if used == data.len() {
        Ok(())
    } else {
        Err(WireError::UnexpectedEnd)
    }
}

/// An extended DNS error (RFC 8914): why the answer is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedError {
    /// The INFO-CODE.
    pub code: u16,
    /// The EXTRA-TEXT, UTF-8.
    pub text: Cow<'static, str>,
}

impl ExtendedError {
    /// Other error.
    pub const OTHER: u16 = 0;
    /// The answer is older than its TTL.
    pub const STALE_ANSWER: u16 = 3;
    /// The answer was made up by policy.
    pub const FORGED_ANSWER: u16 = 4;
    /// The failure itself came from a cache.
    pub const CACHED_ERROR: u16 = 13;
    /// The server is not ready to answer yet.
    pub const NOT_READY: u16 = 14;
    /// Blocked by the operator.
    pub const BLOCKED: u16 = 15;
    /// Filtered as asked for.
    pub const FILTERED: u16 = 17;
    /// The server does not serve this.
    pub const PROHIBITED: u16 = 18;
    /// A stale NXDOMAIN answer.
    pub const STALE_NXDOMAIN_ANSWER: u16 = 19;
    /// Not authoritative.
    pub const NOT_AUTHORITATIVE: u16 = 20;
    /// No upstream could be reached.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    /// The network failed on the way to an upstream.
    pub const NETWORK_ERROR: u16 = 23;
    /// The upstream's data made no sense.
    pub const INVALID_DATA: u16 = 24;
    /// The answer was made by the server, by a rule of the protocol.
    pub const SYNTHESIZED: u16 = 29;

    /// An error of this code with this text.
    pub fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}
