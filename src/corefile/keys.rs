//! The keys of server blocks: scheme, zones and port; and which of them exclude each other.

use super::{Error, Token, value};
use crate::dns::Zone;
use ipnet::IpNet;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

/// The schemes of servers, and their default ports (CF-70). That of `dns` can be changed.
const SCHEMES: &[(&str, u16)] = &[
    ("dns", 53),
    ("tls", 853),
    ("quic", 853),
    ("grpc", 443),
    ("https", 443),
    ("https3", 443),
];

/// What a key of a server block says: `[SCHEME://]ZONE[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// `dns`, `tls`, `quic`, `grpc`, `https` or `https3`.
    pub scheme: &'static str,
    /// The zone; several if the key is a network that no single reverse zone covers (CF-75).
    pub zones: Vec<Zone>,
    /// The port, as given or the scheme's own.
    pub port: u16,
}

impl Key {
    /// Reads a key; `dns_port` is the port of the scheme `dns` if the key has none (CF-71).
    ///
    /// # Errors
    /// At the token: an unknown scheme, a zone that is no domain name, a port that is none.
    pub fn parse(token: &Token, dns_port: u16) -> Result<Self, Error> {
        let parts = Parts::of(token)?;
        let (scheme, default) = parts.scheme.unwrap_or(SCHEMES[0]);
        Ok(Self {
            scheme,
            zones: parts.zones,
            port: parts.port.unwrap_or(match scheme {
                "dns" => dns_port,
                _ => default,
            }),
        })
    }
}

/// A key or zone argument, taken apart.
pub(super) struct Parts {
    scheme: Option<(&'static str, u16)>,
    pub(super) zones: Vec<Zone>,
    port: Option<u16>,
}

impl Parts {
    pub(super) fn of(token: &Token) -> Result<Self, Error> {
        let (scheme, rest) = match token.as_str().split_once("://") {
            Some((scheme, rest)) => (Some(known_scheme(scheme, token)?), rest),
            None => (None, token.as_str()),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((_, "")) => {
                return Err(token.error(format!("expecting data after last colon: \"{rest}\"")));
            }
            // What is no number belongs to the host: `2001:db8::/32`.
            Some((host, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => {
                let number = value::number(&Token {
                    text: port.to_owned(),
                    ..token.clone()
                })?;
                (host, Some(number))
            }
            _ => (rest, None),
        };
        Ok(Self {
            scheme,
            zones: zones(host, token)?,
            port,
        })
    }
}

fn known_scheme(scheme: &str, token: &Token) -> Result<(&'static str, u16), Error> {
    let known = SCHEMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(scheme));
    known
        .copied()
        .ok_or_else(|| token.error(format!("unknown scheme '{scheme}://' in '{token}'")))
}

fn zones(host: &str, token: &Token) -> Result<Vec<Zone>, Error> {
    if host.is_empty() {
        return Ok(vec![Zone::root()]);
    }
    if let Ok(net) = host.parse::<IpNet>() {
        return Ok(value::reverse_zones(net));
    }
    // A colon is left of an IPv6 address whose last group was taken for a port (CF-74), a comma
    // joins two keys (CF-32): both would be names that nobody means.
    let meant = !host.contains([':', ',']);
    let zone = Zone::from_text(host).ok().filter(|_| meant);
    zone.map(|zone| vec![zone])
        .ok_or_else(|| token.error(format!("zone is not a valid domain name: {token}")))
}

/// One zone that is to be served, on one address or on all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Served<'a> {
    /// The scheme of its key.
    pub scheme: &'a str,
    /// The zone.
    pub zone: &'a Zone,
    /// The port.
    pub port: u16,
    /// The address of `bind`; `None` for every address.
    pub address: Option<IpAddr>,
}

impl fmt::Display for Served<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.zone, self.port)?;
        match self.address {
            Some(address) => write!(f, " on {address}"),
            None => Ok(()),
        }
    }
}

/// Finds zones that are served twice (CF-78) or both on one address and on all (CF-79).
///
/// Each entry comes with the key that it is from and whether its block is chosen by a filter
/// (`view`): such a block may repeat what another one serves (CF-80).
///
/// # Errors
/// At the key of the first entry that contradicts one before it.
pub fn check<'a>(
    entries: impl IntoIterator<Item = (&'a Token, Served<'a>, bool)>,
) -> Result<(), Error> {
    let mut defined = HashSet::new();
    // The first entry of a zone on every address, and the first on one address.
    let mut seen: HashMap<Served<'_>, [Option<Served<'_>>; 2]> = HashMap::new();
    for (key, served, filtered) in entries {
        if !filtered && !defined.insert(served) {
            return Err(key.error(format!("cannot serve {served} - it is already defined")));
        }
        let everywhere = Served {
            address: None,
            ..served
        };
        let [anywhere, bound] = seen.entry(everywhere).or_default();
        let (own, other) = match served.address {
            None => (anywhere, bound),
            Some(_) => (bound, anywhere),
        };
        if let Some(other) = other {
            return Err(key.error(format!(
                "cannot serve {served} - zone overlap listener capacity with {other}"
            )));
        }
        own.get_or_insert(served);
    }
    Ok(())
}
