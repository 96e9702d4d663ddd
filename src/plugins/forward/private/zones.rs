//! Which names and which addresses are private.

use crate::dns::Name;
use std::net::{IpAddr, Ipv4Addr};

/// Whether a server at this address is one of the public Internet, which knows of no private
/// network. Resolvers of clouds are not, though the addresses of some look so.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || shared
                || is_of_a_cloud(ip))
        }
        IpAddr::V6(ip) => {
            !(ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.is_loopback()
                || ip.is_unspecified())
        }
    }
}

/// Public by number, but reached from inside of a cloud only: Azure, IBM, Tencent.
fn is_of_a_cloud(ip: Ipv4Addr) -> bool {
    matches!(
        ip.octets(),
        [168, 63, 129, 16] | [161, 26, _, _] | [183, 60, 83, 19] | [183, 60, 82, 98]
    )
}

/// How many labels the private zone has that `name` is in: the locally served zones of IANA's
/// registries (RFC 6303 §4, RFC 7793, RFC 9462) but for `home.arpa`, which a router may know, and the
/// top level domains that are none (RFC 6761 §6.4, RFC 7686).
pub(super) fn private_apex(name: &Name) -> Option<usize> {
    let mut labels = name.labels().rev();
    match (labels.next()?, labels.next()) {
        (b"invalid" | b"onion", _) => Some(1),
        (b"arpa", Some(b"resolver")) => Some(2),
        (b"arpa", Some(b"in-addr")) => ipv4(labels).map(|octets| octets + 2),
        (b"arpa", Some(b"ip6")) => ipv6(labels).map(|nibbles| nibbles + 2),
        _ => None,
    }
}

/// How many octets of a reversed address the private network has that it is of.
fn ipv4<'n>(labels: impl Iterator<Item = &'n [u8]>) -> Option<usize> {
    let mut octets = [None; 4];
    for (octet, label) in octets.iter_mut().zip(labels) {
        *octet = decimal(label);
    }
    match octets.map(|octet| octet.unwrap_or(u16::MAX)) {
        [0 | 10 | 127, ..] => Some(1),
        [172, 16..=31, ..] | [100, 64..=127, ..] | [192, 168, ..] | [169, 254, ..] => Some(2),
        // Documentation (RFC 5737).
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some(3),
        [255, 255, 255, 255] => Some(4),
        _ => None,
    }
}

/// An octet as reverse names have it: without zeros in front.
fn decimal(label: &[u8]) -> Option<u16> {
    let digits = matches!(label.len(), 1..=3) && label.iter().all(u8::is_ascii_digit);
    let leading = label.len() > 1 && label[0] == b'0';
    let value = || {
        label
            .iter()
            .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
    };
    (digits && !leading).then(value)
}

/// As [`ipv4`], in nibbles.
fn ipv6<'n>(labels: impl Iterator<Item = &'n [u8]>) -> Option<usize> {
    const DIGITS: usize = 32;
    let mut digits = [0; DIGITS];
    let mut len = 0;
    for (digit, label) in digits.iter_mut().zip(labels) {
        let [one] = label else { break };
        (*digit, len) = (*one, len + 1);
    }
    let digits = &digits[..len];
    let is = |prefix: &[u8]| digits.starts_with(prefix).then_some(prefix.len());
    // Local, link-local (fe80::/10), documentation; the last two are `::` and `::1`.
    is(b"fd")
        .or_else(|| is(b"fe8"))
        .or_else(|| is(b"fe9"))
        .or_else(|| is(b"fea"))
        .or_else(|| is(b"feb"))
        .or_else(|| is(b"20010db8"))
        .or_else(|| {
            let (last, zeros) = digits.split_last()?;
            let zero = len == DIGITS && zeros.iter().all(|digit| *digit == b'0');
            (zero && matches!(last, b'0' | b'1')).then_some(DIGITS)
        })
}
