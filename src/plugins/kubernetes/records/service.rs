//! SRV, and which ports and endpoints a name stands for.

use super::super::index::{Endpoint, Entry};
use super::super::object::Port;
use super::super::parse::{Part, ServiceName, Subject};
use super::address::Matching;
use super::{Family, Found, Source};
use crate::dns::{Class, Name, Owner, RecordType, Reply, Section};

/// Whether a port is one that the name asks for (KQ-3).
pub(super) fn asks_for(part: &Part<'_>, port: &Port) -> bool {
    match part {
        Part::Whole | Part::Endpoint(_) => true,
        Part::Port {
            port: name,
            protocol,
        } => {
            port.name.as_bytes().eq_ignore_ascii_case(name)
                && port.protocol.as_bytes().eq_ignore_ascii_case(protocol)
        }
    }
}

/// Whether ports that the API does not list can be asked for: only without naming any.
fn any_port(part: &Part<'_>) -> bool {
    !matches!(part, Part::Port { .. })
}

fn some_match(part: &Part<'_>, ports: &[Port]) -> bool {
    ports.iter().any(|port| asks_for(part, port)) || ports.is_empty() && any_port(part)
}

/// Whether `_PROTOCOL.SERVICE` lies on the way to a port's name: an empty non-terminal (RFC 8020).
fn leads_to_a_port(part: &Part<'_>, ports: &[Port]) -> bool {
    let Part::Endpoint(label) = part else {
        return false;
    };
    let Some(protocol) = label.strip_prefix(b"_") else {
        return false;
    };
    let mut named = ports.iter().filter(|port| !port.name.is_empty());
    named.any(|port| port.protocol.as_bytes().eq_ignore_ascii_case(protocol))
}

impl Source<'_> {
    /// Which addresses of a service, that is no alias, a name stands for.
    pub(super) fn matching(&self, entry: &Entry, asked: &ServiceName<'_>) -> Matching {
        let Some(service) = &entry.service else {
            return Matching::Nothing;
        };
        if self.answers.ignore_empty_service && !service.headless && entry.endpoints.is_empty() {
            return Matching::Nothing;
        }
        if service.headless || matches!(asked.part, Part::Endpoint(_)) {
            if self.endpoints(entry, asked).next().is_some() {
                return Matching::Endpoints;
            }
            let mut slices = entry.slices.iter();
            let on_the_way = leads_to_a_port(&asked.part, &service.ports)
                || slices.any(|(_, slice)| leads_to_a_port(&asked.part, &slice.ports));
            return if on_the_way {
                Matching::Nodata
            } else {
                Matching::Nothing
            };
        }
        if some_match(&asked.part, &service.ports) {
            Matching::Service
        } else {
            Matching::Nothing
        }
    }

    /// The endpoints that a name stands for, sorted by host name.
    pub(super) fn endpoints<'e>(
        &self,
        entry: &'e Entry,
        asked: &ServiceName<'_>,
    ) -> impl Iterator<Item = &'e Endpoint> + Clone {
        let endpoints = match asked.part {
            Part::Endpoint(host) => entry.hosts(host),
            _ => &entry.endpoints,
        };
        let endpoints = if self.answers.noendpoints {
            &[]
        } else {
            endpoints
        };
        let part = asked.part;
        endpoints
            .iter()
            .filter(move |endpoint| some_match(&part, entry.ports(endpoint)))
    }

    /// SRV records with their addresses (KV-1 … KV-5).
    pub(super) fn srv(
        &self,
        name: &Name,
        subject: &Subject<'_>,
        zone_labels: usize,
        reply: &mut Reply,
    ) -> Found {
        match subject {
            Subject::Service(asked) => self
                .entry(asked, |entry| {
                    self.srv_of_entry(entry, asked, name, zone_labels, reply)
                })
                .unwrap_or(Found::Nothing),
            Subject::Pod { namespace, label } => match self.pod(namespace, label) {
                Some(ip) => {
                    let at = self.push_srv(100, 0, &Target::Question, reply);
                    self.push_address(Section::Additional, Owner::At(at), ip, reply);
                    Found::Answered
                }
                None => Found::Nothing,
            },
            _ => self.addresses(subject, Family::None, Owner::Query, reply),
        }
    }

    fn srv_of_entry(
        &self,
        entry: &Entry,
        asked: &ServiceName<'_>,
        name: &Name,
        zone_labels: usize,
        reply: &mut Reply,
    ) -> Found {
        let Some(service) = &entry.service else {
            return Found::Nothing;
        };
        let zone_at = name.label_count() - zone_labels;
        match self.matching(entry, asked) {
            _ if service.external_name.is_some() => match asked.part {
                Part::Endpoint(_) => Found::Nothing,
                _ => Found::Nodata,
            },
            Matching::Service => {
                let ports = || {
                    service
                        .ports
                        .iter()
                        .filter(|port| asks_for(&asked.part, port))
                };
                let weight = weight(ports().count() * service.cluster_ips.len());
                let mut at = None;
                for (index, port) in ports().enumerate() {
                    if ports().take(index).any(|before| before.port == port.port) {
                        continue;
                    }
                    let target = Target::of(None, entry, zone_at);
                    let offset = self.push_srv(weight, port.port, &target, reply);
                    at.get_or_insert(offset);
                }
                let Some(at) = at else { return Found::Nodata };
                for &ip in &service.cluster_ips {
                    self.push_address(Section::Additional, Owner::At(at), ip, reply);
                }
                Found::Answered
            }
            Matching::Endpoints => self.srv_of_endpoints(entry, asked, zone_at, reply),
            Matching::Nodata => Found::Nodata,
            Matching::Nothing => Found::Nothing,
        }
    }

    fn srv_of_endpoints(
        &self,
        entry: &Entry,
        asked: &ServiceName<'_>,
        zone_at: usize,
        reply: &mut Reply,
    ) -> Found {
        let candidates = self.endpoints(entry, asked).map(|endpoint| {
            let ports = entry.ports(endpoint);
            ports
                .iter()
                .filter(|port| asks_for(&asked.part, port))
                .count()
                .max(1)
        });
        let weight = weight(candidates.sum());
        let ports = |endpoint: &Endpoint| {
            let ports = entry.ports(endpoint).iter();
            ports.filter(|port| asks_for(&asked.part, port) && port.port != 0)
        };
        let mut tail = None;
        // Endpoints of one host name stand side by side: one record for each of their ports.
        let mut group: Option<(usize, &str)> = None;
        for (index, endpoint) in self.endpoints(entry, asked).enumerate() {
            let first = match group {
                Some((first, host)) if host == &*endpoint.host => first,
                _ => index,
            };
            group = Some((first, &endpoint.host));
            for (nth, port) in ports(endpoint).enumerate() {
                let same = |before: &Port| before.port == port.port;
                let of_others = (first < index)
                    && self
                        .endpoints(entry, asked)
                        .skip(first)
                        .take(index - first)
                        .any(|other| ports(other).any(same));
                if of_others || ports(endpoint).take(nth).any(same) {
                    continue;
                }
                let target = Target::of(Some(&endpoint.host), entry, zone_at);
                let at = self.push_srv(weight, port.port, &target, reply);
                tail.get_or_insert(at + 1 + endpoint.host.len());
            }
        }
        let Some(tail) = tail else {
            return Found::Nodata;
        };
        for endpoint in self.endpoints(entry, asked) {
            let mut owner = [0u8; 66];
            let len = endpoint.host.len().min(63);
            owner[0] = len as u8;
            owner[1..=len].copy_from_slice(&endpoint.host.as_bytes()[..len]);
            owner[len + 1..len + 3].copy_from_slice(&(0xc000 | tail as u16).to_be_bytes());
            let owner = Owner::Wire(&owner[..len + 3]);
            if !self.push_address(Section::Additional, owner, endpoint.ip, reply) {
                break;
            }
        }
        Found::Answered
    }
}

/// The target of an SRV record.
enum Target<'e> {
    /// The name asked for.
    Question,
    /// `[HOST.]SERVICE.NAMESPACE.svc.` and the question's zone from this label on, as typed.
    Service {
        host: Option<&'e str>,
        entry: &'e Entry,
        zone_at: usize,
    },
}

impl<'e> Target<'e> {
    const fn of(host: Option<&'e str>, entry: &'e Entry, zone_at: usize) -> Self {
        Self::Service {
            host,
            entry,
            zone_at,
        }
    }
}

impl Source<'_> {
    /// Writes an SRV record, and gives the offset of its target. The target is written in full:
    /// SRV is no type whose names may be compressed (RFC 2782).
    fn push_srv(&self, weight: u16, port: u16, target: &Target<'_>, reply: &mut Reply) -> usize {
        let mut at = 0;
        let srv = (RecordType::SRV, Class::IN);
        reply.push_with(
            Section::Answer,
            Owner::Query,
            srv,
            self.answers.ttl,
            |out| {
                out.u16(0);
                out.u16(weight);
                out.u16(port);
                at = out.offset();
                match target {
                    Target::Question => out.question_suffix_in_full(0),
                    Target::Service {
                        host,
                        entry,
                        zone_at,
                    } => {
                        if let Some(host) = host {
                            out.label(host.as_bytes());
                        }
                        out.label(entry.key.name.as_bytes());
                        out.label(entry.key.namespace.as_bytes());
                        out.label(b"svc");
                        out.question_suffix_in_full(*zone_at);
                    }
                }
            },
        );
        at
    }
}

/// A hundredth part for each of `count` candidates, at least 1 (KV-1).
fn weight(count: usize) -> u16 {
    (100 / count.max(1)).max(1) as u16
}
