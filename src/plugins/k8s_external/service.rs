//! A, AAAA and SRV of services and endpoints (KE-1, KE-3).

use super::{Found, Host, Source, hosts};
use crate::dns::header::HEADER_LEN;
use crate::dns::name::MAX_NAME;
use crate::dns::reply::Rdata;
use crate::dns::{Class, Name, Owner, RecordType, Reply, Section};
use crate::plugins::kubernetes::follow::Wanted;
use crate::plugins::kubernetes::index::{Entry, Service};

use crate::plugins::kubernetes::parse::{Part, ServiceName};
use crate::plugins::kubernetes::records::{Family, write_host};
use smallvec::SmallVec;

/// What of a service answers a name.
enum Side {
    /// Its external addresses.
    Hosts,
    /// Its endpoints (`headless`).
    Endpoints,
}

impl Source<'_> {
    /// A question for something of a service; `left` labels stand left of the zone.
    pub(super) fn service(
        &self,
        asked: &ServiceName<'_>,
        left: usize,
        qtype: RecordType,
        reply: &mut Reply,
    ) -> Found {
        let index = &self.cluster.index;
        let found = index.service(asked.namespace, asked.name, |entry| {
            let service = entry.service.as_ref()?;
            let side = self.side(entry, service, asked)?;
            Some(match (qtype, side) {
                (RecordType::A | RecordType::AAAA, Side::Hosts) => {
                    self.addresses(entry, qtype, reply)
                }
                (RecordType::A | RecordType::AAAA, Side::Endpoints) => {
                    self.endpoint_addresses(entry, asked, qtype, reply)
                }
                (RecordType::SRV, Side::Hosts) => self.srv(entry, service, asked, left - 2, reply),
                (RecordType::SRV, Side::Endpoints) => {
                    self.endpoint_srv(entry, asked, left - 2, reply)
                }
                _ => Found::Nodata,
            })
        });
        found.flatten().unwrap_or(Found::Nothing)
    }

    /// What answers a name; `None` where nothing does.
    fn side(&self, entry: &Entry, service: &Service, asked: &ServiceName<'_>) -> Option<Side> {
        if !service.external_ips.is_empty() {
            // CoreDNS: a label in front of such a service, that no endpoint has, stands for it.
            return asked
                .part
                .asks_for_any(&service.ports)
                .then_some(Side::Hosts);
        }
        let headless = service.headless || matches!(asked.part, Part::Endpoint(_));
        let has = || !self.cluster.source().endpoints(entry, asked).is_empty();
        (self.config.headless && headless && has()).then_some(Side::Endpoints)
    }

    fn addresses(&self, entry: &Entry, qtype: RecordType, reply: &mut Reply) -> Found {
        let mut wanted = Vec::new();
        let before = reply.mark();
        let mut any = false;
        for host in hosts(entry) {
            match host {
                Host::Address(ip) if Family::of(qtype).has(ip) => {
                    self.push_address(Section::Answer, Owner::Query, ip, reply);
                    any = true;
                }
                Host::Address(_) => {}
                Host::Name(text) => {
                    let Ok(name) = Name::from_text(text) else {
                        continue;
                    };
                    let (section, cname) = (Section::Answer, RecordType::CNAME);
                    // CoreDNS: aliases have the TTL of *kubernetes*.
                    let ttl = self.cluster.answers.ttl;
                    reply.push(section, Owner::Query, cname, ttl, name.wire());
                    wanted.push(Wanted {
                        name,
                        qtype,
                        section,
                    });
                    any = true;
                }
            }
        }
        if any {
            return Found::Answered(wanted);
        }
        reply.rewind(before);
        Found::Nodata
    }

    fn endpoint_addresses(
        &self,
        entry: &Entry,
        asked: &ServiceName<'_>,
        qtype: RecordType,
        reply: &mut Reply,
    ) -> Found {
        let mut found = Found::Nodata;
        let source = self.cluster.source();
        for ip in source.endpoints(entry, asked).addresses(Family::of(qtype)) {
            self.push_address(Section::Answer, Owner::Query, ip, reply);
            found = Found::Answered(Vec::new());
        }
        found
    }

    /// SRV of a service: every port at its own name, and at those of its load balancers.
    fn srv(
        &self,
        entry: &Entry,
        service: &Service,
        asked: &ServiceName<'_>,
        service_at: usize,
        reply: &mut Reply,
    ) -> Found {
        Self::each_srv(entry, service, &asked.part, |weight, port, name| {
            self.push_srv(weight, port, reply, |out| match name {
                Some(name) => out.name(name),
                None => out.question_suffix_in_full(service_at),
            });
        });
        if reply.counts()[0] == 0 {
            return Found::Nodata;
        }
        let mut wanted = Vec::new();
        for host in hosts(entry) {
            match host {
                Host::Address(ip) => {
                    let owner = Owner::Suffix(service_at);
                    self.push_address(Section::Additional, owner, ip, reply);
                }
                Host::Name(text) => {
                    let Ok(name) = Name::from_text(text) else {
                        continue;
                    };
                    wanted.extend([RecordType::A, RecordType::AAAA].map(|qtype| Wanted {
                        name: name.clone(),
                        qtype,
                        section: Section::Additional,
                    }));
                }
            }
        }
        Found::Answered(wanted)
    }

    /// Calls `each` with weight, port and target of every SRV record of a service with external
    /// addresses; no target is the service itself.
    pub(super) fn each_srv(
        entry: &Entry,
        service: &Service,
        part: &Part<'_>,
        mut each: impl FnMut(u16, u16, Option<&Name>),
    ) {
        let ports = || service.ports.iter().filter(|port| part.asks_for(port));
        // CoreDNS: an address that stands there twice counts twice.
        let weight = weight(ports().count().max(1) * service.external_ips.len());
        let mut itself = false;
        for host in hosts(entry) {
            let name = match host {
                Host::Address(_) if itself => continue,
                Host::Address(_) => None,
                Host::Name(text) => match Name::from_text(text) {
                    Ok(name) => Some(name),
                    Err(_) => continue,
                },
            };
            itself |= name.is_none();
            for (at, port) in ports().enumerate() {
                if !ports().take(at).any(|before| before.port == port.port) {
                    each(weight, port.port, name.as_ref());
                }
            }
        }
    }

    /// SRV of endpoints: every port at the name of every endpoint.
    fn endpoint_srv(
        &self,
        entry: &Entry,
        asked: &ServiceName<'_>,
        service_at: usize,
        reply: &mut Reply,
    ) -> Found {
        let source = self.cluster.source();
        let endpoints = source.endpoints(entry, asked);
        let weight = weight(endpoints.count());
        for host in endpoints.by_host() {
            host.ports(|port| {
                self.push_srv(weight, port, reply, |out| {
                    write_host(out, &host.name());
                    out.question_suffix_in_full(service_at);
                });
            });
        }
        if reply.counts()[0] == 0 {
            return Found::Nodata;
        }
        for host in endpoints.by_host() {
            let owner = below_question(&host.name(), reply, service_at);
            for ip in host.addresses() {
                self.push_address(Section::Additional, Owner::Wire(&owner), ip, reply);
            }
        }
        Found::Answered(Vec::new())
    }

    fn push_srv(
        &self,
        weight: u16,
        port: u16,
        reply: &mut Reply,
        target: impl FnOnce(&mut Rdata<'_>),
    ) {
        let srv = (RecordType::SRV, Class::IN);
        // CoreDNS: SRV records have the TTL of *kubernetes*.
        let ttl = self.cluster.answers.ttl;
        reply.push_with(Section::Answer, Owner::Query, srv, ttl, |out| {
            out.u16(0);
            out.u16(weight);
            out.u16(port);
            target(out);
        });
    }
}

/// `HOST` and a pointer to the question's name without its first `labels` labels.
fn below_question(host: &str, reply: &Reply, labels: usize) -> SmallVec<[u8; MAX_NAME]> {
    let mut name = SmallVec::new();
    for label in host.split('.') {
        // At most 63 octets, as every host name.
        name.push(label.len() as u8);
        name.extend_from_slice(label.as_bytes());
    }
    let mut at = HEADER_LEN;
    for _ in 0..labels {
        at += usize::from(reply.message()[at]) + 1;
    }
    name.extend_from_slice(&(0xc000 | at as u16).to_be_bytes());
    name
}

/// A hundredth part for each of `count` candidates, at least 1.
pub(super) fn weight(count: usize) -> u16 {
    (100 / count.max(1)).max(1) as u16
}
