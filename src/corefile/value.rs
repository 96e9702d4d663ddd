//! Values that many directives take: durations, numbers, zones, `fallthrough`.

use super::{Error, Token, keys};
use crate::dns::{Name, Zone};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::str::FromStr;
use std::time::Duration;

/// A duration in Go's syntax: `10s`, `1m30s`, `500ms`, `1.5h`, `0`.
///
/// # Errors
/// Names the token; a number without a unit is none (but `0`), nor is a negative one.
pub fn duration(token: &Token) -> Result<Duration, Error> {
    parse_duration(token.as_str())
        .ok_or_else(|| token.error(format!("time: invalid duration \"{token}\"")))
}

fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..unit_at].parse().ok()?;
        let tail = &rest[unit_at..];
        let (unit, factor) = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 60e9),
            ("h", 3600e9),
        ]
        .into_iter()
        .find(|(unit, _)| tail.starts_with(unit))?;
        nanos += value * factor;
        rest = &tail[unit.len()..];
    }
    // The largest duration of Go: 2^63 - 1 nanoseconds.
    (nanos <= i64::MAX as f64).then(|| Duration::from_nanos(nanos as u64))
}

/// A number.
///
/// # Errors
/// Names the token, and why it is none.
pub fn number<T: FromStr<Err: std::fmt::Display>>(token: &Token) -> Result<T, Error> {
    token
        .as_str()
        .parse()
        .map_err(|error| token.error(format!("invalid number \"{token}\": {error}")))
}

/// The zones that a key or an argument stands for: itself, or the reverse zones of a CIDR (CF-75).
///
/// # Errors
/// Names the token if it is no domain name.
pub fn zone(token: &Token) -> Result<Vec<Zone>, Error> {
    // Arguments may carry a scheme and a port, as keys do.
    keys::Parts::of(token).map(|parts| parts.zones)
}

/// The zones of all `tokens`; `default` if there are none.
///
/// # Errors
/// As [`zone`].
pub fn zones_or(tokens: &[Token], default: &[Zone]) -> Result<Vec<Zone>, Error> {
    if tokens.is_empty() {
        return Ok(default.to_vec());
    }
    let zones: Result<Vec<_>, _> = tokens.iter().map(zone).collect();
    zones.map(|zones| zones.concat())
}

/// The reverse zones that cover a network exactly: boundaries of 8 bits (IPv4) or 4 bits (IPv6).
pub fn reverse_zones(net: IpNet) -> Vec<Zone> {
    let texts: Vec<String> = match net.trunc() {
        IpNet::V4(net) => v4_zones(net),
        IpNet::V6(net) => v6_zones(net),
    };
    // Made of digits, nibbles and two known suffixes: always a name.
    texts
        .iter()
        .filter_map(|text| Zone::from_text(text).ok())
        .collect()
}

fn v4_zones(net: Ipv4Net) -> Vec<String> {
    let boundary = net.prefix_len().next_multiple_of(8);
    let nets = net.subnets(boundary).into_iter().flatten();
    nets.map(|net| {
        let octets = net.network().octets();
        let kept = octets[..boundary as usize / 8].iter().rev();
        kept.map(|octet| format!("{octet}.")).collect::<String>() + "in-addr.arpa."
    })
    .collect()
}

fn v6_zones(net: Ipv6Net) -> Vec<String> {
    let boundary = net.prefix_len().next_multiple_of(4);
    let nets = net.subnets(boundary).into_iter().flatten();
    nets.map(|net| {
        let address = u128::from(net.network());
        let nibbles = (0..boundary as u32 / 4)
            .rev()
            .map(|at| (address >> (124 - 4 * at)) & 0xf);
        nibbles
            .map(|nibble| format!("{nibble:x}."))
            .collect::<String>()
            + "ip6.arpa."
    })
    .collect()
}

/// The option `fallthrough [ZONES…]`: names that are handed on when they do not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallthrough(Vec<Zone>);

impl Fallthrough {
    /// No name falls through.
    pub const NONE: Self = Self(Vec::new());

    /// From the arguments of the option: without any, all names fall through.
    ///
    /// # Errors
    /// As [`zone`].
    pub fn from_args(args: &[Token]) -> Result<Self, Error> {
        zones_or(args, &[Zone::root()]).map(Self)
    }

    /// Whether `name` falls through.
    pub fn covers(&self, name: &Name) -> bool {
        self.0.iter().any(|zone| zone.contains(name))
    }

    /// Whether any name falls through.
    pub const fn is_some(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn texts(net: &str) -> Vec<String> {
        let zones = reverse_zones(net.parse().unwrap());
        zones.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn cidr_zones() {
        assert_eq!(
            texts("10.0.0.0/15"),
            ["0.10.in-addr.arpa.", "1.10.in-addr.arpa."]
        );
        assert_eq!(
            texts("192.168.1.1/23"),
            ["0.168.192.in-addr.arpa.", "1.168.192.in-addr.arpa."]
        );
        assert_eq!(texts("10.129.60.0/22").len(), 4);
        assert_eq!(texts("10.9.3.0/18").len(), 64);
        assert_eq!(texts("2001:db8::/29").len(), 8);
        assert_eq!(texts("2001:db8::/32"), ["8.b.d.0.1.0.0.2.ip6.arpa."]);
        assert_eq!(texts("2001:db8::/30").len(), 4);
        assert_eq!(texts("0.0.0.0/0"), ["in-addr.arpa."]);
        assert_eq!(texts("::/0"), ["ip6.arpa."]);
    }

    #[test]
    fn go_durations() {
        for (text, millis) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("0", 0),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "5", "s", "-1s", "1x", "1s1", "9999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
