//! A, AAAA and CNAME, and whether a name exists at all.

use super::super::index::Entry;
use super::super::parse::{Part, ServiceName, Subject};
use super::{Family, Found, Source};
use crate::dns::{Class, Name, Owner, RecordType, Reply, Section, Zone};
use std::net::IpAddr;

/// Most aliases that are followed (KA-7).
const CHAIN: usize = 10;

/// What a service has for a question.
enum OfEntry {
    Alias(Box<str>),
    Found(Found),
}

impl Source<'_> {
    /// Writes the addresses of `family` that a subject has, under `owner`.
    pub(super) fn addresses(
        &self,
        subject: &Subject<'_>,
        family: Family,
        owner: Owner<'_>,
        reply: &mut Reply,
    ) -> Found {
        self.follow(subject, family, owner, reply, 0)
    }

    fn follow(
        &self,
        subject: &Subject<'_>,
        family: Family,
        owner: Owner<'_>,
        reply: &mut Reply,
        depth: usize,
    ) -> Found {
        match subject {
            Subject::Apex | Subject::Branch => Found::Nodata,
            Subject::Namespace(namespace) if self.namespace_exists(namespace) => Found::Nodata,
            Subject::Service(service) => {
                let found = self.entry(service, |entry| {
                    self.of_entry(entry, service, family, owner, reply)
                });
                match found {
                    Some(OfEntry::Found(found)) => found,
                    Some(OfEntry::Alias(target)) => match Name::from_text(&target) {
                        Ok(target) => self.alias(&target, family, owner, reply, depth),
                        Err(_) => Found::Nothing,
                    },
                    None => Found::Nothing,
                }
            }
            Subject::Pod { namespace, label } => match self.pod(namespace, label) {
                Some(ip) => self.write([ip], family, owner, reply),
                None => Found::Nothing,
            },
            Subject::NameServer => self.name_server(family, owner, reply),
            Subject::Namespace(_) | Subject::Version | Subject::Unknown => Found::Nothing,
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
        self.index.service(service.namespace, service.name, take)
    }

    fn of_entry(
        &self,
        entry: &Entry,
        asked: &ServiceName<'_>,
        family: Family,
        owner: Owner<'_>,
        reply: &mut Reply,
    ) -> OfEntry {
        let Some(service) = &entry.service else {
            return OfEntry::Found(Found::Nothing);
        };
        if let Some(target) = &service.external_name {
            // Nothing lies below an alias, and an address is no alias (KA-6).
            return match asked.part {
                Part::Whole | Part::Port { .. } if target.parse::<IpAddr>().is_err() => {
                    OfEntry::Alias(target.clone())
                }
                _ => OfEntry::Found(Found::Nothing),
            };
        }
        OfEntry::Found(match self.matching(entry, asked) {
            Matching::Service => {
                self.write(service.cluster_ips.iter().copied(), family, owner, reply)
            }
            Matching::Endpoints => {
                let mut any = false;
                let mut written = false;
                for endpoint in self.endpoints(entry, asked) {
                    any = true;
                    // An address that several endpoints share is written once: under one host name
                    // they stand side by side, under the service's the entry knows.
                    let again = matches!(asked.part, Part::Whole) && endpoint.repeated;
                    if !again && family.has(endpoint.ip) {
                        written = true;
                        if !self.push_address(Section::Answer, owner, endpoint.ip, reply) {
                            break;
                        }
                    }
                }
                match (any, written) {
                    (_, true) => Found::Answered,
                    (true, false) => Found::Nodata,
                    (false, false) => Found::Nothing,
                }
            }
            Matching::Nodata => Found::Nodata,
            Matching::Nothing => Found::Nothing,
        })
    }

    fn write(
        &self,
        ips: impl IntoIterator<Item = IpAddr>,
        family: Family,
        owner: Owner<'_>,
        reply: &mut Reply,
    ) -> Found {
        let mut found = Found::Nodata;
        for ip in ips.into_iter().filter(|&ip| family.has(ip)) {
            self.push_address(Section::Answer, owner, ip, reply);
            found = Found::Answered;
        }
        found
    }

    /// Writes an alias, and what its target has where that is in a zone of the cluster (KA-5).
    fn alias(
        &self,
        target: &Name,
        family: Family,
        owner: Owner<'_>,
        reply: &mut Reply,
        depth: usize,
    ) -> Found {
        if family == Family::None || depth >= CHAIN {
            return Found::Nodata;
        }
        let before = reply.mark();
        let mut at = 0;
        let alias = (RecordType::CNAME, Class::IN);
        reply.push_with(Section::Answer, owner, alias, self.answers.ttl, |out| {
            at = out.offset();
            out.name(target);
        });
        let Some(zone) = Zone::longest(&self.answers.zones, target) else {
            return Found::Alias(at);
        };
        let subject = Subject::read(target, zone.label_count());
        match self.follow(&subject, family, Owner::At(at), reply, depth + 1) {
            found @ (Found::Answered | Found::Alias(_)) => found,
            // An alias to nothing is not shown.
            Found::Nodata | Found::Nothing => {
                reply.rewind(before);
                Found::Nodata
            }
        }
    }

    /// CNAME: only the record itself (KO-1).
    pub(super) fn cname(&self, subject: &Subject<'_>, reply: &mut Reply) -> Found {
        if let Subject::Service(asked) = subject {
            let target = self.entry(asked, |entry| {
                let name = entry.service.as_ref()?.external_name.as_deref()?;
                Name::from_text(name)
                    .ok()
                    .filter(|_| name.parse::<IpAddr>().is_err())
            });
            if let (Some(Some(target)), Part::Whole | Part::Port { .. }) = (target, asked.part) {
                let ttl = self.answers.ttl;
                reply.push(
                    Section::Answer,
                    Owner::Query,
                    RecordType::CNAME,
                    ttl,
                    target.wire(),
                );
                return Found::Answered;
            }
        }
        self.addresses(subject, Family::None, Owner::Query, reply)
    }
}

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
