//! Which endpoints and ports of a service a name stands for.

use super::super::index::{Endpoint, Entry, HostName};
use super::super::object::Port;
use super::super::parse::{Part, ServiceName, labels_are};
use super::{Family, Source};
use crate::plugins::random;
use std::net::IpAddr;
use std::ops::Range;

impl Part<'_> {
    /// Whether a port is one that the name asks for (KQ-3).
    pub(super) fn asks_for(&self, port: &Port) -> bool {
        let is = |asked: &[u8], has: &str| {
            asked.is_empty() || has.as_bytes().eq_ignore_ascii_case(asked)
        };
        match self {
            Part::Whole
            | Part::Endpoint(_)
            | Part::Imported { .. }
            | Part::Zone { .. }
            | Part::ZoneBranch => true,
            Part::Port {
                port: name,
                protocol,
            } => is(name, &port.name) && is(protocol, &port.protocol),
        }
    }

    /// Whether the name asks for any of these ports. Where the API lists none there are ports all
    /// the same, of no name.
    pub(super) fn asks_for_any(&self, ports: &[Port]) -> bool {
        match self {
            Part::Port { .. } => ports.iter().any(|port| self.asks_for(port)),
            Part::Whole
            | Part::Endpoint(_)
            | Part::Imported { .. }
            | Part::Zone { .. }
            | Part::ZoneBranch => true,
        }
    }

    /// Whether `_PROTOCOL.SERVICE` lies on the way to a port's name: an empty non-terminal
    /// (RFC 8020).
    pub(super) fn leads_to_any(&self, ports: &[Port]) -> bool {
        let Part::Endpoint([b'_', protocol @ ..]) = self else {
            return false;
        };
        let mut named = ports.iter().filter(|port| !port.name.is_empty());
        named.any(|port| port.protocol.as_bytes().eq_ignore_ascii_case(protocol))
    }
}

/// The endpoints of an entry that a name stands for.
///
/// A reply shows as many as it has room for. Where that cannot be all of them the first one is
/// picked at random, so that each is as likely to be shown, and the ones that are not cost nothing.
pub(super) struct Endpoints<'e, 'n> {
    entry: &'e Entry,
    /// The places of those of the host name that was asked for, in the order of host names; `None`
    /// for all.
    named: Option<Range<usize>>,
    part: Part<'n>,
    /// A number that picks the first one, if all may not fit.
    start: Option<usize>,
    /// The topology zone that they must be in.
    zone: Option<&'n [u8]>,
}

/// A host name and a cluster, as an endpoint's host name in an index with clusters.
fn with_cluster<'b>(host: &[u8], cluster: &[u8], buffer: &'b mut [u8; 127]) -> &'b [u8] {
    let length = host.len() + 1 + cluster.len();
    // Two labels have 126 octets at most.
    let Some(joined) = buffer.get_mut(..length) else {
        return &[];
    };
    joined[..host.len()].copy_from_slice(host);
    joined[host.len()] = b'.';
    joined[host.len() + 1..].copy_from_slice(cluster);
    joined
}

/// Octets of an address record whose owner is a pointer: the least that an endpoint takes.
const SHORTEST_RECORD: usize = 16;

impl Source<'_> {
    /// The endpoints that a name stands for.
    pub(super) fn endpoints<'e, 'n>(
        &self,
        entry: &'e Entry,
        asked: &ServiceName<'n>,
    ) -> Endpoints<'e, 'n> {
        let named = match asked.part {
            _ if self.answers.noendpoints && !self.dialect.clusters => Some(0..0),
            Part::Endpoint(host) => Some(entry.hosts(host)),
            Part::Imported { host, cluster } => {
                Some(entry.hosts(with_cluster(host, cluster, &mut [0; 127])))
            }
            Part::Whole | Part::Port { .. } | Part::Zone { .. } => None,
            Part::ZoneBranch => Some(0..0),
        };
        let count = entry.endpoints.len();
        let all_fit = count * SHORTEST_RECORD <= self.limit;
        let mut endpoints = Endpoints {
            entry,
            named,
            part: asked.part,
            start: (!all_fit).then(|| random::with(|random| random.below(count))),
            zone: None,
        };
        if let Part::Zone { zone, prefer } = asked.part {
            endpoints.zone = Some(zone);
            if prefer && endpoints.is_empty() {
                endpoints.zone = None;
            }
        }
        endpoints
    }

    /// Whether a name of which a service has no endpoints lies on the way to names of others: an
    /// empty non-terminal (RFC 8020).
    pub(super) fn leads_to_endpoints(&self, entry: &Entry, asked: &ServiceName<'_>) -> bool {
        match asked.part {
            Part::Zone { .. } | Part::ZoneBranch => !entry.endpoints.is_empty(),
            Part::Endpoint(cluster) if self.dialect.clusters => {
                let is_of = |of: &str| of.as_bytes() == cluster;
                entry.slices.iter().any(|slice| {
                    slice.endpoints() > 0 && slice.cluster.as_deref().is_some_and(is_of)
                })
            }
            _ => false,
        }
    }
}

impl<'e> Endpoints<'e, '_> {
    pub(super) fn is_empty(&self) -> bool {
        match &self.named {
            Some(range) => !range.clone().any(|at| self.has(self.named_at(at))),
            None if self.zone.is_some() => !self
                .entry
                .endpoints
                .iter()
                .any(|endpoint| self.has(endpoint)),
            None => !self
                .entry
                .slices
                .iter()
                .any(|slice| slice.endpoints() > 0 && self.part.asks_for_any(&slice.ports)),
        }
    }

    /// The addresses of a family, each once.
    pub(super) fn addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> + '_ {
        let range = match (&self.named, family) {
            (Some(range), _) => range.clone(),
            (None, Family::V4) => 0..self.entry.ipv6_from(),
            (None, Family::V6) => self.entry.ipv6_from()..self.entry.endpoints.len(),
            (None, Family::None) => 0..0,
        };
        let get = |at| match self.named {
            Some(_) => self.named_at(at),
            None => &self.entry.endpoints[at],
        };
        // In both orders those of one address follow each other.
        let start = range.start;
        let repeats = move |at: usize| {
            let before = (start..at).rev().map(get);
            let mut same = before.take_while(|before| before.ip == get(at).ip);
            same.any(|before| self.has(before))
        };
        turned(range, self.start)
            .filter(move |&at| family.has(get(at).ip) && self.has(get(at)) && !repeats(at))
            .map(move |at| get(at).ip)
    }

    /// How many pairs of an endpoint and a port there are; an endpoint without ports counts for one.
    pub(super) fn count(&self) -> usize {
        let asked = |ports: &[Port]| {
            let asked = ports.iter().filter(|port| self.part.asks_for(port)).count();
            usize::from(self.part.asks_for_any(ports)) * asked.max(1)
        };
        match &self.named {
            Some(range) => {
                let named = range.clone().map(|at| self.named_at(at));
                named
                    .map(|endpoint| asked(self.entry.ports(endpoint)))
                    .sum()
            }
            None if self.zone.is_some() => {
                let all = self.entry.endpoints.iter();
                let in_zone = all.filter(|endpoint| is_in_zone(self.zone, endpoint));
                in_zone
                    .map(|endpoint| asked(self.entry.ports(endpoint)))
                    .sum()
            }
            None => {
                let slices = self.entry.slices.iter();
                slices
                    .map(|slice| slice.endpoints() * asked(&slice.ports))
                    .sum()
            }
        }
    }

    /// The endpoints by their host names, in the order of these.
    pub(super) fn by_host(&self) -> impl Iterator<Item = Host<'_, 'e>> {
        let all = self.named.clone().unwrap_or(0..self.entry.endpoints.len());
        let is_first = move |at: usize| at == all.start || self.entry.host_differs(at - 1, at);
        let all = self.named.clone().unwrap_or(0..self.entry.endpoints.len());
        let end = all.end;
        let firsts = turned(all, self.start).filter(move |&at| is_first(at));
        firsts.map(move |first| {
            let mut next = first + 1..end;
            let last = next.find(|&at| self.entry.host_differs(at - 1, at));
            Host {
                entry: self.entry,
                part: self.part,
                zone: self.zone,
                range: first..last.unwrap_or(end),
            }
        })
    }

    fn named_at(&self, at: usize) -> &'e Endpoint {
        self.entry.in_host_order(at)
    }

    fn has(&self, endpoint: &Endpoint) -> bool {
        is_in_zone(self.zone, endpoint) && self.part.asks_for_any(self.entry.ports(endpoint))
    }
}

/// Whether an endpoint is in a topology zone, if one is asked for.
fn is_in_zone(zone: Option<&[u8]>, endpoint: &Endpoint) -> bool {
    zone.is_none_or(|zone| endpoint.zone().is_some_and(|of| labels_are(zone, of)))
}

/// The range from some place in it on, and then its beginning.
fn turned(range: Range<usize>, start: Option<usize>) -> impl Iterator<Item = usize> {
    let turn = start.map_or(0, |start| start % range.len().max(1));
    let middle = range.start + turn;
    (middle..range.end).chain(range.start..middle)
}

/// The endpoints of one host name that a name stands for.
pub(super) struct Host<'n, 'e> {
    entry: &'e Entry,
    part: Part<'n>,
    zone: Option<&'n [u8]>,
    /// In the order of host names.
    range: Range<usize>,
}

impl<'e> Host<'_, 'e> {
    pub(super) fn name(&self) -> HostName {
        self.get(self.range.start).host()
    }

    /// Calls `each` with the numbers of the ports that are asked for, each once.
    pub(super) fn ports(&self, mut each: impl FnMut(u16)) {
        let start = self.range.start;
        for at in self.range.clone() {
            // Endpoints of one slice have the same ports.
            let same = |before| {
                let before = self.get(before);
                before.slice == self.get(at).slice && is_in_zone(self.zone, before)
            };
            if at > start && same(at - 1) {
                continue;
            }
            for (nth, number) in self.numbers(at).enumerate() {
                let before = (start..at).flat_map(|before| self.numbers(before));
                let mut before = before.chain(self.numbers(at).take(nth));
                if !before.any(|known| known == number) {
                    each(number);
                }
            }
        }
    }

    /// The addresses that have one of these ports, each once.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let has = |at| self.numbers(at).next().is_some();
        // Sorted by address.
        let repeats = move |at: usize| {
            let before = (self.range.start..at).rev();
            let mut same = before.take_while(move |&before| self.get(before).ip == self.get(at).ip);
            same.any(has)
        };
        let first = self
            .range
            .clone()
            .filter(move |&at| has(at) && !repeats(at));
        first.map(|at| self.get(at).ip)
    }

    fn get(&self, at: usize) -> &'e Endpoint {
        self.entry.in_host_order(at)
    }

    fn numbers(&self, at: usize) -> impl Iterator<Item = u16> + '_ {
        let endpoint = self.get(at);
        let ports = self.entry.ports(endpoint).iter();
        let asked = ports.filter(|port| self.part.asks_for(port));
        let numbers = asked.map(|port| port.port);
        numbers.filter(move |&port| port != 0 && is_in_zone(self.zone, endpoint))
    }
}
