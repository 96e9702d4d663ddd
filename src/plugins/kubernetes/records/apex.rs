//! The zone's own records: SOA, NS, and the name server's addresses.

use super::super::index::{Endpoint, Entry};
use super::{Family, Found, Source, write_host, write_service};
use crate::dns::{Class, Owner, RecordType, Records, Reply, Section};
use std::net::IpAddr;

impl Source<'_> {
    pub(super) fn apex(&self, qtype: RecordType, reply: &mut Reply) -> Found {
        match qtype {
            RecordType::SOA => {
                self.push_soa(Section::Answer, 0, reply);
                Found::Answered
            }
            RecordType::NS => self.name_servers(reply),
            RecordType::TXT => Found::Nothing,
            _ => Found::Nodata,
        }
    }

    /// Writes the SOA record of the zone that starts at label `zone_at` of the question (KO-4).
    pub(in super::super) fn push_soa(&self, section: Section, zone_at: usize, reply: &mut Reply) {
        let ttl = self.answers.ttl;
        let serial = self.services.serial();
        let soa = (RecordType::SOA, Class::IN);
        reply.push_with(section, Owner::Suffix(zone_at), soa, ttl.min(300), |out| {
            out.label(b"ns");
            out.label(b"dns");
            out.question_suffix(zone_at);
            out.label(b"hostmaster");
            out.question_suffix(zone_at);
            for number in [serial, 7200, 1800, 86_400, ttl] {
                out.u32(number);
            }
        });
    }

    /// NS: the services that this server is an endpoint of, else `ns.dns.ZONE` (KO-6).
    fn name_servers(&self, reply: &mut Reply) -> Found {
        let ns = (RecordType::NS, Class::IN);
        let ttl = self.answers.ttl;
        let mut any = false;
        self.own_services(|entry, headless| {
            any = true;
            reply.push_with(Section::Answer, Owner::Query, ns, ttl, |out| {
                if let Some(endpoint) = self.own_endpoints(entry).next().filter(|_| headless) {
                    write_host(out, &endpoint.host());
                }
                write_service(out, entry);
                out.question_suffix(0);
            });
        });
        let mut next = reply.records_offset();
        if !any {
            reply.push_with(Section::Answer, Owner::Query, ns, ttl, |out| {
                out.label(b"ns");
                out.label(b"dns");
                out.question_suffix(0);
            });
            let target = next_target(reply, &mut next);
            for &ip in self.answers.local.iter() {
                self.push_address(Section::Additional, target, ip, reply);
            }
            return Found::Answered;
        }
        // The services are met in the same order again: their names stand in the NS records.
        self.own_services(|entry, headless| {
            let target = next_target(reply, &mut next);
            if headless {
                let first = self.own_endpoints(entry).next();
                if let Some(endpoint) = first {
                    self.push_address(Section::Additional, target, endpoint.ip, reply);
                }
            } else {
                for &ip in entry
                    .service
                    .iter()
                    .flat_map(|service| &service.cluster_ips)
                {
                    self.push_address(Section::Additional, target, ip, reply);
                }
            }
        });
        Found::Answered
    }

    /// `ns.dns.ZONE` (KO-8).
    pub(super) fn name_server(&self, family: Family, owner: Owner<'_>, reply: &mut Reply) -> Found {
        let mut found = Found::Nodata;
        let mut any = false;
        let mut push = |ip: IpAddr, reply: &mut Reply| {
            if family.has(ip) {
                self.push_address(Section::Answer, owner, ip, reply);
                found = Found::Answered;
            }
        };
        self.own_services(|entry, headless| {
            any = true;
            let Some(service) = &entry.service else {
                return;
            };
            if headless {
                self.own_endpoints(entry)
                    .for_each(|endpoint| push(endpoint.ip, reply));
            } else {
                service.cluster_ips.iter().for_each(|&ip| push(ip, reply));
            }
        });
        if !any {
            self.answers.local.iter().for_each(|&ip| push(ip, reply));
        }
        found
    }

    /// The services that one of this machine's addresses is an endpoint of, each once.
    fn own_services(&self, mut f: impl FnMut(&Entry, bool)) {
        let local = &self.answers.local;
        for (at, &ip) in local.iter().enumerate() {
            self.cluster.by_address(ip, |entry| {
                let Some(service) = &entry.service else {
                    return;
                };
                let has = |ip: IpAddr| entry.has_endpoint(ip);
                // A service of several of our addresses is met at the first of them.
                if has(ip) && !local[..at].iter().any(|&before| has(before)) {
                    f(entry, service.headless);
                }
            });
        }
    }

    /// The endpoints of an entry that are this server.
    fn own_endpoints<'e>(&self, entry: &'e Entry) -> impl Iterator<Item = &'e Endpoint> {
        let local = &self.answers.local;
        let endpoints = entry.endpoints.iter();
        endpoints.filter(|endpoint| local.contains(&endpoint.ip))
    }
}

/// The target of the NS record at `next`, which then is where the one after it starts.
fn next_target(reply: &Reply, next: &mut usize) -> Owner<'static> {
    let record = Records::at(reply.message(), *next, [1, 0, 0]).next();
    // There is a record: the caller wrote it. A pointer to the question does no harm.
    let Some(Ok(record)) = record else {
        return Owner::Query;
    };
    *next = record.rdata.end;
    Owner::At(record.rdata.start)
}
