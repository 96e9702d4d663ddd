//! A, AAAA and CNAME, and whether a name exists at all.

use super::super::index::Entry;
use super::super::parse::{Part, ServiceName, Subject};
use super::service::Matching;
use super::{Family, Found, Source};
use crate::dns::{Class, Name, Owner, RecordType, Reply, Section, Zone};
use std::net::IpAddr;

/// Most aliases that are followed from a first one (KA-7).
const CHAIN: usize = 10;

/// What is looked for, and how far the aliases have led.
#[derive(Clone, Copy)]
struct Way<'w> {
    /// The zone of the question; what lies in others is asked of the whole server.
    zone: &'w Zone,
    family: Family,
    /// The owner of the next record.
    owner: Owner<'w>,
    /// How many aliases were followed.
    depth: usize,
    /// Where the zone stands, in lower case, once there was an alias.
    zone_at: Option<usize>,
}

impl Source<'_> {
    /// Writes the addresses of `family` that a subject in `zone` has.
    pub(in super::super) fn addresses(
        &self,
        subject: &Subject<'_>,
        zone: &Zone,
        family: Family,
        reply: &mut Reply,
    ) -> Found {
        let way = Way {
            zone,
            family,
            owner: Owner::Query,
            depth: 0,
            zone_at: None,
        };
        self.follow(subject, way, reply)
    }

    fn follow(&self, subject: &Subject<'_>, way: Way<'_>, reply: &mut Reply) -> Found {
        match subject {
            Subject::Apex | Subject::Branch => Found::Nodata,
            Subject::Namespace(namespace) if self.namespace_exists(namespace) => Found::Nodata,
            Subject::PodNamespace(namespace) if self.has_pods(namespace) => Found::Nodata,
            Subject::Service(service) => {
                // On the stack: nothing is allocated to follow it.
                let mut alias = None;
                let found = self.entry(service, |entry| {
                    if let Some(target) = entry.alias.as_deref() {
                        alias = Some(target.clone());
                    }
                    self.of_entry(entry, service, way, reply)
                });
                match alias {
                    // Nothing lies below an alias.
                    Some(target) if service.part == Part::Whole => self.alias(&target, way, reply),
                    _ => found.unwrap_or(Found::Nothing),
                }
            }
            Subject::Pod { namespace, label } => match self.pod(namespace, label) {
                Some(ip) => self.write([ip], way, reply),
                None => Found::Nothing,
            },
            Subject::NameServer => self.name_server(way.family, way.owner, reply),
            Subject::Namespace(_)
            | Subject::PodNamespace(_)
            | Subject::Version
            | Subject::Unknown => Found::Nothing,
        }
    }

    /// The service of this name, if there is one that queries may see.
    pub(super) fn entry<R>(
        &self,
        service: &ServiceName<'_>,
        take: impl FnOnce(&Entry) -> R,
    ) -> Option<R> {
        if !self.exposes(service.namespace) {
            return None;
        }
        self.services.service(service.namespace, service.name, take)
    }

    /// What a service that is no alias has.
    fn of_entry(
        &self,
        entry: &Entry,
        asked: &ServiceName<'_>,
        way: Way<'_>,
        reply: &mut Reply,
    ) -> Found {
        let Some(service) = entry.service.as_ref().filter(|s| s.external_name.is_none()) else {
            return Found::Nothing;
        };
        match self.matching(entry, asked) {
            Matching::Service => self.write(service.cluster_ips.iter().copied(), way, reply),
            Matching::Endpoints => {
                let endpoints = self.endpoints(entry, asked);
                self.write(endpoints.addresses(way.family), way, reply)
            }
            Matching::Nodata => Found::Nodata,
            Matching::Nothing => Found::Nothing,
        }
    }

    fn write(
        &self,
        ips: impl IntoIterator<Item = IpAddr>,
        way: Way<'_>,
        reply: &mut Reply,
    ) -> Found {
        let mut found = Found::Nodata;
        for ip in ips.into_iter().filter(|&ip| way.family.has(ip)) {
            found = Found::Answered;
            let fits = self.push_address(Section::Answer, way.owner, ip, reply);
            if !fits || reply.len() > self.limit {
                break;
            }
        }
        found
    }

    /// Writes an alias, and what its target has where that is in the same zone (KA-5).
    fn alias(&self, target: &Name, way: Way<'_>, reply: &mut Reply) -> Found {
        if way.family == Family::None || way.depth > CHAIN {
            return Found::Nodata;
        }
        // Where in the target the zone starts, if it lies in it.
        let inside = way.zone.contains(target);
        let inner = inside.then(|| target.wire().len() - way.zone.wire().len());
        let before = reply.mark();
        let mut at = 0;
        let alias = (RecordType::CNAME, Class::IN);
        let ttl = self.answers.ttl;
        reply.push_with(Section::Answer, way.owner, alias, ttl, |out| {
            at = out.offset();
            match (inner, way.zone_at) {
                (Some(inner), Some(zone_at)) => {
                    out.octets(&target.wire()[..inner]);
                    out.pointer(zone_at);
                }
                _ => out.name(target),
            }
        });
        let Some(inner) = inner else {
            return Found::Alias(at);
        };
        let subject = Subject::read_as(target, way.zone.label_count(), self.dialect);
        let way = Way {
            owner: Owner::At(at),
            depth: way.depth + 1,
            zone_at: way.zone_at.or(Some(at + inner)),
            ..way
        };
        match self.follow(&subject, way, reply) {
            found @ (Found::Answered | Found::Alias(_)) => found,
            // An alias to nothing is not shown.
            Found::Nodata | Found::Nothing => {
                reply.rewind(before);
                Found::Nodata
            }
        }
    }

    /// CNAME: only the record itself (KO-1).
    pub(super) fn cname(&self, subject: &Subject<'_>, zone: &Zone, reply: &mut Reply) -> Found {
        if let Subject::Service(asked) = subject
            && asked.part == Part::Whole
        {
            let (cname, ttl) = (RecordType::CNAME, self.answers.ttl);
            let written = self.entry(asked, |entry| {
                let target = entry.alias.as_ref()?;
                reply.push(Section::Answer, Owner::Query, cname, ttl, target.wire());
                Some(Found::Answered)
            });
            if let Some(Some(found)) = written {
                return found;
            }
        }
        self.addresses(subject, zone, Family::None, reply)
    }
}
