//! SRV (KV-1 … KV-5).

use super::super::index::Entry;
use super::super::parse::{Part, ServiceName, Subject};
use super::endpoints::Host;
use super::{Family, Found, Source, write_host, write_service};
use crate::dns::name::MAX_NAME;
use crate::dns::reply::Rdata;
use crate::dns::{Class, Owner, RecordType, Reply, Section, Zone};

/// Which of a service's addresses a name stands for.
pub(super) enum Matching {
    /// The service's own.
    Service,
    /// Those of [`Source::endpoints`].
    Endpoints,
    /// None, but the name exists.
    Nodata,
    /// None.
    Nothing,
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
        let zonal = matches!(asked.part, Part::Zone { .. } | Part::ZoneBranch);
        if zonal && !service.headless {
            return Matching::Nothing;
        }
        let of_endpoint = matches!(asked.part, Part::Endpoint(_) | Part::Imported { .. });
        if service.headless || of_endpoint {
            if !self.endpoints(entry, asked).is_empty() {
                return Matching::Endpoints;
            }
            let mut slices = entry.slices.iter();
            let on_the_way = self.leads_to_endpoints(entry, asked)
                || asked.part.leads_to_any(&service.ports)
                || slices.any(|slice| asked.part.leads_to_any(&slice.ports));
            return if on_the_way {
                Matching::Nodata
            } else {
                Matching::Nothing
            };
        }
        // An import without ports has no name: none is made up for it as for services (KX-2a).
        let nameless = self.dialect.clusters && service.ports.is_empty();
        if asked.part.asks_for_any(&service.ports) && !nameless {
            Matching::Service
        } else {
            Matching::Nothing
        }
    }

    /// SRV records with their addresses.
    pub(super) fn srv(
        &self,
        subject: &Subject<'_>,
        zone: &Zone,
        zone_at: usize,
        reply: &mut Reply,
    ) -> Found {
        match subject {
            Subject::Service(asked) => {
                let found = self.entry(asked, |entry| {
                    self.srv_of_entry(entry, asked, zone, zone_at, reply)
                });
                found.unwrap_or(Found::Nothing)
            }
            Subject::Pod { namespace, label } => match self.pod(namespace, label) {
                Some(ip) => {
                    let target = |out: &mut Rdata<'_>| {
                        out.label(label);
                        out.label(namespace);
                        out.label(b"pod");
                        out.question_suffix_in_full(zone_at);
                    };
                    let at = self.push_srv(100, 0, target, reply);
                    self.push_address(Section::Additional, Owner::At(at), ip, reply);
                    Found::Answered
                }
                None => Found::Nothing,
            },
            _ => self.addresses(subject, zone, Family::None, reply),
        }
    }

    fn srv_of_entry(
        &self,
        entry: &Entry,
        asked: &ServiceName<'_>,
        zone: &Zone,
        zone_at: usize,
        reply: &mut Reply,
    ) -> Found {
        let Some(service) = &entry.service else {
            return Found::Nothing;
        };
        if service.external_name.is_some() {
            return match (&entry.alias, asked.part) {
                (Some(_), Part::Whole) => Found::Nodata,
                _ => Found::Nothing,
            };
        }
        match self.matching(entry, asked) {
            Matching::Service => {
                let ports = || {
                    let ports = service.ports.iter();
                    ports.filter(|port| asked.part.asks_for(port))
                };
                let weight = weight(ports().count() * service.cluster_ips.len());
                let mut at = None;
                for (index, port) in ports().enumerate() {
                    if ports().take(index).any(|before| before.port == port.port) {
                        continue;
                    }
                    let target = |out: &mut Rdata<'_>| {
                        write_service(out, entry);
                        out.question_suffix_in_full(zone_at);
                    };
                    let offset = self.push_srv(weight, port.port, target, reply);
                    at.get_or_insert(offset);
                }
                let Some(at) = at else { return Found::Nodata };
                for &ip in service.cluster_ips.iter() {
                    self.push_address(Section::Additional, Owner::At(at), ip, reply);
                }
                Found::Answered
            }
            Matching::Endpoints => self.srv_of_endpoints(entry, asked, zone, zone_at, reply),
            Matching::Nodata => Found::Nodata,
            Matching::Nothing => Found::Nothing,
        }
    }

    fn srv_of_endpoints(
        &self,
        entry: &Entry,
        asked: &ServiceName<'_>,
        zone: &Zone,
        zone_at: usize,
        reply: &mut Reply,
    ) -> Found {
        let endpoints = self.endpoints(entry, asked);
        let weight = weight(endpoints.count());
        // What with the labels behind it is too long for a name has none.
        let key = &entry.key;
        let behind = key.name.len() + key.namespace.len() + 6 + zone.wire().len();
        let is_name = |host: &Host<'_, '_>| host.name().len() + 1 + behind <= MAX_NAME;
        // What follows the host name in every target stands here first.
        let mut tail = None;
        for host in endpoints.by_host().filter(is_name) {
            if reply.len() > self.limit {
                break;
            }
            host.ports(|port| {
                let mut tail_at = 0;
                let target = |out: &mut Rdata<'_>| {
                    write_host(out, &host.name());
                    tail_at = out.offset();
                    write_service(out, entry);
                    out.question_suffix_in_full(zone_at);
                };
                self.push_srv(weight, port, target, reply);
                tail.get_or_insert((tail_at, reply.message().len()));
            });
        }
        let Some((tail, tail_end)) = tail else {
            return Found::Nodata;
        };
        let answers_end = reply.message().len();
        let mut next = reply.records_offset();
        for host in endpoints.by_host().filter(is_name) {
            if reply.len() > self.limit {
                break;
            }
            let mut ports = 0;
            host.ports(|_| ports += 1);
            if ports == 0 {
                continue;
            }
            // Its targets are the next ones, each as long as the other.
            let target = next + SRV_TARGET;
            next += ports * (SRV_TARGET + host.name().len() + 1 + tail_end - tail);
            if next > answers_end {
                break;
            }
            let mut name = [0; LONGEST_OWNER];
            let owner = owner_at(target, &host.name(), tail, &mut name);
            for ip in host.addresses() {
                self.push_address(Section::Additional, owner, ip, reply);
            }
        }
        Found::Answered
    }

    /// Writes an SRV record, and gives the offset of its target. The target must be written in
    /// full: SRV is no type whose names may be compressed (RFC 2782).
    fn push_srv(
        &self,
        weight: u16,
        port: u16,
        target: impl FnOnce(&mut Rdata<'_>),
        reply: &mut Reply,
    ) -> usize {
        let at = reply.message().len() + SRV_TARGET;
        let srv = (RecordType::SRV, Class::IN);
        let ttl = self.answers.ttl;
        reply.push_with(Section::Answer, Owner::Query, srv, ttl, |out| {
            out.u16(0);
            out.u16(weight);
            out.u16(port);
            target(out);
        });
        at
    }
}

/// Where in an SRV record whose owner is a pointer the target starts.
const SRV_TARGET: usize = 18;

/// A host name, a cluster, and a pointer.
const LONGEST_OWNER: usize = 64 + 64 + 2;

/// The owner `HOST.TAIL`: a pointer to where it stands, or, where that is too far for a pointer,
/// `host` and a pointer to `tail`.
fn owner_at<'n>(
    at: usize,
    host: &str,
    tail: usize,
    name: &'n mut [u8; LONGEST_OWNER],
) -> Owner<'n> {
    if at < 0x4000 {
        return Owner::At(at);
    }
    let mut len = 0;
    for label in host.split('.') {
        // Fits: a host name has at most 63 octets, and so has a cluster.
        name[len] = label.len() as u8;
        name[len + 1..=len + label.len()].copy_from_slice(label.as_bytes());
        len += label.len() + 1;
    }
    name[len..len + 2].copy_from_slice(&(0xc000 | tail as u16).to_be_bytes());
    Owner::Wire(&name[..len + 2])
}

/// A hundredth part for each of `count` candidates, at least 1 (KV-1).
fn weight(count: usize) -> u16 {
    (100 / count.max(1)).max(1) as u16
}
