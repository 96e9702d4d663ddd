//! The zone's own records: SOA, NS, and the name server's addresses.

use super::super::index::Entry;
use super::{Family, Found, Source};
use crate::dns::{Class, Owner, RecordType, Reply, Section, Zone};
use std::net::IpAddr;

impl Source<'_> {
    pub(super) fn apex(&self, qtype: RecordType, zone: &Zone, reply: &mut Reply) -> Found {
        match qtype {
            RecordType::SOA => {
                self.push_soa(Section::Answer, 0, reply);
                Found::Answered
            }
            RecordType::NS => self.name_servers(zone, reply),
            RecordType::TXT => Found::Nothing,
            _ => Found::Nodata,
        }
    }

    /// Writes the SOA record of the zone that starts at label `zone_at` of the question (KO-4).
    pub(in super::super) fn push_soa(&self, section: Section, zone_at: usize, reply: &mut Reply) {
        let ttl = self.answers.ttl;
        let serial = self.index.serial();
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
    fn name_servers(&self, zone: &Zone, reply: &mut Reply) -> Found {
        let ns = (RecordType::NS, Class::IN);
        let ttl = self.answers.ttl;
        let mut any = false;
        self.own_services(|entry, headless| {
            let mut hosts = entry
                .endpoints
                .iter()
                .filter(|e| self.answers.local.contains(&e.ip));
            let mut push = |host: Option<&str>| {
                reply.push_with(Section::Answer, Owner::Query, ns, ttl, |out| {
                    if let Some(host) = host {
                        out.label(host.as_bytes());
                    }
                    out.label(entry.key.name.as_bytes());
                    out.label(entry.key.namespace.as_bytes());
                    out.label(b"svc");
                    out.question_suffix(0);
                });
            };
            any = true;
            match (headless, hosts.next()) {
                (true, Some(endpoint)) => push(Some(&endpoint.host)),
                _ => push(None),
            }
        });
        if !any {
            reply.push_with(Section::Answer, Owner::Query, ns, ttl, |out| {
                out.label(b"ns");
                out.label(b"dns");
                out.question_suffix(0);
            });
        }
        let mut name = [0u8; 255];
        let mut glue = |labels: [&str; 4], ip: IpAddr, reply: &mut Reply| {
            let mut len = 0;
            for label in labels.into_iter().filter(|label| !label.is_empty()) {
                let Some(room) = name.get_mut(len..len + 1 + label.len()) else {
                    return;
                };
                room[0] = label.len() as u8;
                room[1..].copy_from_slice(label.as_bytes());
                len += room.len();
            }
            let Some(room) = name.get_mut(len..len + 2) else {
                return;
            };
            // The zone stands in the question.
            room.copy_from_slice(&[0xc0, 12]);
            let owner = Owner::Wire(&name[..len + 2]);
            self.push_address(Section::Additional, owner, ip, reply);
        };
        if !any {
            for &ip in self.answers.local.iter() {
                glue(["ns", "dns", "", ""], ip, reply);
            }
        }
        self.own_services(|entry, headless| {
            let key = &entry.key;
            let Some(service) = &entry.service else {
                return;
            };
            let local = |ip: &IpAddr| self.answers.local.contains(ip);
            if headless {
                if let Some(endpoint) = entry.endpoints.iter().find(|endpoint| local(&endpoint.ip))
                {
                    glue(
                        [&endpoint.host, &key.name, &key.namespace, "svc"],
                        endpoint.ip,
                        reply,
                    );
                }
            } else {
                for &ip in &service.cluster_ips {
                    glue([&key.name, &key.namespace, "svc", ""], ip, reply);
                }
            }
        });
        debug_assert!(!zone.text().is_empty());
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
                let local = entry
                    .endpoints
                    .iter()
                    .filter(|e| self.answers.local.contains(&e.ip));
                local.for_each(|endpoint| push(endpoint.ip, reply));
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
            self.index.by_address(ip, |entry| {
                let Some(service) = &entry.service else {
                    return;
                };
                let has = |ip: IpAddr| entry.endpoints.iter().any(|endpoint| endpoint.ip == ip);
                // A service of several of our addresses is met at the first of them.
                if has(ip) && !local[..at].iter().any(|&before| has(before)) {
                    f(entry, service.headless);
                }
            });
        }
    }
}
