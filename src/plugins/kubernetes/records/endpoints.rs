//! Which endpoints and ports of a service a name stands for.

use super::super::index::{Endpoint, Entry, HostName};
use super::super::object::Port;
use super::super::parse::{Part, ServiceName};
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
            Part::Whole | Part::Endpoint(_) => true,
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
            Part::Whole | Part::Endpoint(_) => true,
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
            _ if self.answers.noendpoints => Some(0..0),
            Part::Endpoint(host) => Some(entry.hosts(b"", host)),
            Part::Whole | Part::Port { .. } => None,
        };
        let count = entry.endpoints.len();
        let all_fit = count * SHORTEST_RECORD <= self.limit;
        Endpoints {
            entry,
            named,
            part: asked.part,
            start: (!all_fit).then(|| random::with(|random| random.below(count))),
        }
    }
}

impl<'e> Endpoints<'e, '_> {
    pub(super) fn is_empty(&self) -> bool {
        match &self.named {
            Some(range) => !range.clone().any(|at| self.has(self.named_at(at))),
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
                range: first..last.unwrap_or(end),
            }
        })
    }

    fn named_at(&self, at: usize) -> &'e Endpoint {
        self.entry.in_host_order(at)
    }

    fn has(&self, endpoint: &Endpoint) -> bool {
        self.part.asks_for_any(self.entry.ports(endpoint))
    }
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
            if at > start && self.get(at).slice == self.get(at - 1).slice {
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
        let ports = self.entry.ports(self.get(at)).iter();
        let asked = ports.filter(|port| self.part.asks_for(port));
        asked.map(|port| port.port).filter(|&port| port != 0)
    }
}
