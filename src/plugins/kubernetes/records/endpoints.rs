//! Which endpoints and ports of a service a name stands for.

use super::super::index::{Endpoint, Entry};
use super::super::object::Port;
use super::super::parse::{Part, ServiceName};
use super::Source;
use std::net::IpAddr;
use std::ops::Range;

impl Part<'_> {
    /// Whether a port is one that the name asks for (KQ-3).
    pub(in crate::plugins) fn asks_for(&self, port: &Port) -> bool {
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
    pub(in crate::plugins) fn asks_for_any(&self, ports: &[Port]) -> bool {
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
pub(in crate::plugins) struct Endpoints<'e, 'n> {
    entry: &'e Entry,
    /// Those of the host name that was asked for, or all.
    range: Range<usize>,
    part: Part<'n>,
}

impl Source<'_> {
    /// The endpoints that a name stands for.
    pub(in crate::plugins) fn endpoints<'e, 'n>(
        &self,
        entry: &'e Entry,
        asked: &ServiceName<'n>,
    ) -> Endpoints<'e, 'n> {
        let range = match asked.part {
            _ if self.answers.noendpoints => 0..0,
            Part::Endpoint(host) => entry.hosts(host),
            Part::Whole | Part::Port { .. } => 0..entry.endpoints.len(),
        };
        Endpoints {
            entry,
            range,
            part: asked.part,
        }
    }
}

impl<'e> Endpoints<'e, '_> {
    pub(in crate::plugins) fn is_empty(&self) -> bool {
        !self.range.clone().any(|at| self.has(at))
    }

    /// The addresses, each once.
    pub(in crate::plugins) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let has = |at| self.has(at);
        let first = move |&at: &usize| has(at) && !self.repeats(at, has);
        self.range.clone().filter(first).map(|at| self.get(at).ip)
    }

    /// How many pairs of an endpoint and a port there are; an endpoint without ports counts for one.
    pub(in crate::plugins) fn count(&self) -> usize {
        let having = self.range.clone().filter(|&at| self.has(at));
        having.map(|at| self.asked(at).count().max(1)).sum()
    }

    /// The endpoints by their host names, in the order of these.
    pub(in crate::plugins) fn by_host(&self) -> impl Iterator<Item = Host<'e, '_>> {
        let mut next = self.range.start;
        let all = &self.entry.endpoints[self.range.clone()];
        all.chunk_by(|a, b| a.host == b.host).map(move |same| {
            let range = next..next + same.len();
            next = range.end;
            Host(Endpoints {
                entry: self.entry,
                part: self.part,
                range,
            })
        })
    }

    fn get(&self, at: usize) -> &'e Endpoint {
        &self.entry.endpoints[at]
    }

    fn has(&self, at: usize) -> bool {
        self.part.asks_for_any(self.entry.ports(self.get(at)))
    }

    fn asked(&self, at: usize) -> impl Iterator<Item = &'e Port> + '_ {
        let ports = self.entry.ports(self.get(at)).iter();
        ports.filter(|port| self.part.asks_for(port))
    }

    /// Whether one before it that `counts` has the address of the endpoint at `at`.
    fn repeats(&self, at: usize, counts: impl Fn(usize) -> bool) -> bool {
        let twin = |&at: &usize| self.get(at).twin.map(|twin| twin as usize);
        std::iter::successors(twin(&at), twin)
            .take_while(|twin| self.range.contains(twin))
            .any(counts)
    }
}

/// The endpoints of one host name that a name stands for.
pub(in crate::plugins) struct Host<'e, 'n>(Endpoints<'e, 'n>);

impl<'e> Host<'e, '_> {
    pub(in crate::plugins) fn name(&self) -> &'e str {
        &self.0.get(self.0.range.start).host
    }

    /// Calls `each` with the numbers of the ports that are asked for, each once.
    pub(in crate::plugins) fn ports(&self, mut each: impl FnMut(u16)) {
        let slice = |at| self.0.get(at).slice;
        let start = self.0.range.start;
        for at in self.0.range.clone() {
            // Endpoints of one slice have the same ports, and stand side by side.
            if at > start && slice(at) == slice(at - 1) {
                continue;
            }
            for (nth, number) in self.numbers(at).enumerate() {
                let before = (start..at).flat_map(|before| self.numbers(before));
                if !before
                    .chain(self.numbers(at).take(nth))
                    .any(|known| known == number)
                {
                    each(number);
                }
            }
        }
    }

    /// The addresses that have one of these ports, each once.
    pub(in crate::plugins) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let has = |at| self.numbers(at).next().is_some();
        let first = move |&at: &usize| has(at) && !self.0.repeats(at, has);
        self.0
            .range
            .clone()
            .filter(first)
            .map(|at| self.0.get(at).ip)
    }

    fn numbers(&self, at: usize) -> impl Iterator<Item = u16> + '_ {
        self.0
            .asked(at)
            .map(|port| port.port)
            .filter(|&port| port != 0)
    }
}
