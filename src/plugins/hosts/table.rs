//! Addresses by name and names by address, in wire form, looked up without allocation.

use crate::dns::{Name, Zone};
use hashbrown::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

type Map<K, V> = HashMap<K, Vec<V>, foldhash::fast::RandomState>;
type Wire = Box<[u8]>;

/// What one source of entries says. Names are in lower-case wire form.
#[derive(Debug, Default)]
pub(super) struct Table {
    v4: ByName<Ipv4Addr>,
    v6: ByName<Ipv6Addr>,
    names: Map<IpAddr, Wire>,
}

/// The addresses of one family.
#[derive(Debug)]
struct ByName<A> {
    exact: Map<Wire, A>,
    /// Under the name without `*`.
    wildcard: Map<Wire, A>,
}

impl<A> Default for ByName<A> {
    fn default() -> Self {
        Self {
            exact: Map::default(),
            wildcard: Map::default(),
        }
    }
}

impl<A> ByName<A> {
    fn add(&mut self, name: &Name, address: A) {
        let (map, key) = match name.label(0) {
            b"*" => (&mut self.wildcard, name.suffix(1)),
            _ => (&mut self.exact, name.wire()),
        };
        map.entry(key.into()).or_default().push(address);
    }

    fn get(&self, name: &Name) -> &[A] {
        let found = self.exact.get(name.wire()).or_else(|| {
            // One label stands in the place of the `*`.
            let parent = (name.label_count() > 0).then(|| name.suffix(1));
            self.wildcard.get(parent?)
        });
        found.map_or(&[], Vec::as_slice)
    }

    fn len(&self) -> usize {
        let lists = self.exact.values().chain(self.wildcard.values());
        lists.map(Vec::len).sum()
    }
}

impl Table {
    /// Reads text in the style of `/etc/hosts`. Lines that make no sense and names outside of
    /// `zones` are left out; with `reverse`, addresses lead to names as well.
    pub(super) fn parse(text: &str, zones: &[Zone], reverse: bool) -> Self {
        let mut table = Self::default();
        for (address, names) in text.lines().filter_map(entry) {
            let names = names.filter_map(|name| Name::from_text(name).ok());
            for name in names.filter(|name| zones.iter().any(|zone| zone.contains(name))) {
                table.add(address, &name, reverse);
            }
        }
        table
    }

    fn add(&mut self, address: IpAddr, name: &Name, reverse: bool) {
        match address {
            IpAddr::V4(address) => self.v4.add(name, address),
            IpAddr::V6(address) => self.v6.add(name, address),
        }
        if reverse && name.label(0) != b"*" {
            let names = self.names.entry(address).or_default();
            names.push(name.wire().into());
        }
    }

    /// The IPv4 addresses of a name, in the order of the source.
    pub(super) fn v4(&self, name: &Name) -> &[Ipv4Addr] {
        self.v4.get(name)
    }

    /// The IPv6 addresses of a name, in the order of the source.
    pub(super) fn v6(&self, name: &Name) -> &[Ipv6Addr] {
        self.v6.get(name)
    }

    /// The names of an address, in the order of the source.
    pub(super) fn names_of(&self, address: IpAddr) -> &[Wire] {
        self.names.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The entries that answer questions for `name`, as lines.
    pub(super) fn lines_of(&self, name: &Name) -> Vec<String> {
        let v4 = self.v4(name).iter().copied().map(IpAddr::V4);
        let v6 = self.v6(name).iter().copied().map(IpAddr::V6);
        let mut lines: Vec<_> = v4.chain(v6).map(|ip| format!("{ip} {name}")).collect();
        if let Some(address) = reverse_address(name) {
            let names = self.names_of(address).iter();
            let names = names.filter_map(|wire| Name::read(wire, 0).ok());
            lines.extend(names.map(|(name, _)| format!("{address} {name}")));
        }
        lines
    }

    /// How many entries there are, in both directions.
    pub(super) fn len(&self) -> usize {
        let names: usize = self.names.values().map(Vec::len).sum();
        self.v4.len() + self.v6.len() + names
    }
}

/// Whether a line holds an address with names.
pub(super) fn is_entry(line: &str) -> bool {
    entry(line).is_some_and(|(_, mut names)| names.next().is_some())
}

fn entry(line: &str) -> Option<(IpAddr, impl Iterator<Item = &str>)> {
    let line = line.split_once('#').map_or(line, |(line, _)| line);
    let mut words = line.split_whitespace();
    let address = words.next()?;
    // A zone identifier (`fe80::1%eth0`) means nothing to clients.
    let address = address.split_once('%').map_or(address, |(ip, _)| ip);
    Some((address.parse::<IpAddr>().ok()?.to_canonical(), words))
}

/// The address that a reverse name stands for (RFC 1035 §3.5, RFC 3596 §2.5).
pub(super) fn reverse_address(name: &Name) -> Option<IpAddr> {
    const V4: &[u8] = b"\x07in-addr\x04arpa\0";
    const V6: &[u8] = b"\x03ip6\x04arpa\0";
    match name.label_count() {
        6 if name.suffix(4) == V4 => {
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().rev().zip(name.labels()) {
                *octet = std::str::from_utf8(label).ok()?.parse().ok()?;
            }
            Some(IpAddr::from(octets))
        }
        34 if name.suffix(32) == V6 => {
            let mut address = 0u128;
            for index in (0..32).rev() {
                let [digit] = name.label(index) else {
                    return None;
                };
                address = address << 4 | u128::from((*digit as char).to_digit(16)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(address)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reverse_names() {
        let of = |text: &str| {
            let address = reverse_address(&Name::from_text(text).unwrap());
            address.map(|address| address.to_string())
        };
        assert_eq!(of("1.2.0.10.in-addr.arpa").as_deref(), Some("10.0.2.1"));
        let six = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6.arpa";
        assert_eq!(of(six).as_deref(), Some("2001:db8::7"));
        for text in [
            ".",
            "2.0.10.in-addr.arpa",
            "x.2.0.10.in-addr.arpa",
            "256.2.0.10.in-addr.arpa",
            "5.1.2.0.10.in-addr.arpa",
            "7.ip6.arpa",
            &six.replacen('7', "77", 1),
            &six.replacen('7', "g", 1),
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn lines() {
        let zones = [Zone::from_text("example").unwrap()];
        let text = "\
            # comment\n\
            10.0.0.1 A.example a.other b.example # c.example\n\
            10.0.0.2\n\
            ::ffff:10.0.0.3 a.example\n\
            fe80::1%eth0 a.example\n\
            300.0.0.1 a.example\n\
            10.0.0.4 a..example *.w.example\n\
            name 10.0.0.5 a.example\n";
        let table = Table::parse(text, &zones, true);
        let v4 = |text: &str| {
            let found = table.v4(&Name::from_text(text).unwrap());
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(v4("a.example"), ["10.0.0.1", "10.0.0.3"]);
        assert_eq!(v4("b.example"), ["10.0.0.1"]);
        assert_eq!(v4("a.other"), [""; 0]);
        assert_eq!(v4("c.example"), [""; 0]);
        assert_eq!(v4("x.w.example"), ["10.0.0.4"]);
        assert_eq!(v4("y.x.w.example"), [""; 0]);
        assert_eq!(v4("w.example"), [""; 0]);
        assert_eq!(table.v6(&Name::from_text("a.example").unwrap()).len(), 1);
        // Five addresses, and four names of addresses: none of the wildcard.
        assert_eq!(table.len(), 9);
        assert_eq!(Table::parse(text, &zones, false).len(), 5);
    }
}
