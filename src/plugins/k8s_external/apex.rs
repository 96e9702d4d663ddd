//! The zone's own records: SOA, NS, and the name server's addresses (KE-4).

use super::{Found, Host, Source, hosts};
use crate::dns::reply::Rdata;
use crate::dns::{Class, Header, Owner, Rcode, RecordType, Reply, Section};
use std::net::IpAddr;

impl Source<'_> {
    /// A question for the zone itself.
    pub(super) fn zone(&self, qtype: RecordType, reply: &mut Reply) -> Found {
        match qtype {
            RecordType::SOA => self.push_soa(Section::Answer, 0, reply),
            RecordType::NS => {
                let ns = (RecordType::NS, Class::IN);
                let mut at = 0;
                let ttl = self.config.ttl;
                reply.push_with(Section::Answer, Owner::Query, ns, ttl, |out| {
                    at = out.offset();
                    self.write_below_apex(out, b"ns1", 0);
                });
                self.own_addresses(|ip| {
                    self.push_address(Section::Additional, Owner::At(at), ip, reply);
                });
            }
            _ => return Found::Nodata,
        }
        Found::Answered(Vec::new())
    }

    /// A question for `ns1.APEX.ZONE`.
    pub(super) fn name_server(&self, qtype: RecordType, reply: &mut Reply) -> Found {
        let mut found = Found::Nodata;
        self.own_addresses(|ip| {
            let of_type = match ip {
                IpAddr::V4(_) => qtype == RecordType::A,
                IpAddr::V6(_) => qtype == RecordType::AAAA,
            };
            if of_type {
                self.push_address(Section::Answer, Owner::Query, ip, reply);
                found = Found::Answered(Vec::new());
            }
        });
        found
    }

    /// A negative answer with the SOA record of the zone that starts at label `zone_at` of the
    /// question (RFC 2308).
    pub(super) fn negative(&self, rcode: Rcode, zone_at: usize, reply: &mut Reply) {
        reply.set_rcode(rcode);
        reply.set_flag(Header::AA, true);
        self.push_soa(Section::Authority, zone_at, reply);
    }

    fn push_soa(&self, section: Section, zone_at: usize, reply: &mut Reply) {
        let (ttl, serial) = (self.config.ttl, self.serial());
        let soa = (RecordType::SOA, Class::IN);
        reply.push_with(section, Owner::Suffix(zone_at), soa, ttl, |out| {
            self.write_below_apex(out, b"ns1", zone_at);
            self.write_below_apex(out, b"hostmaster", zone_at);
            for number in [serial, 7200, 1800, 86_400, ttl] {
                out.u32(number);
            }
        });
    }

    /// `LABEL.APEX.ZONE`.
    fn write_below_apex(&self, out: &mut Rdata<'_>, label: &[u8], zone_at: usize) {
        out.label(label);
        self.config.apex.labels().for_each(|label| out.label(label));
        out.question_suffix(zone_at);
    }

    /// The addresses at which this server is reached from outside: of the services that it is an
    /// endpoint of, and where it is none, its own.
    pub(super) fn own_addresses(&self, mut each: impl FnMut(IpAddr)) {
        let mut any = false;
        self.cluster.own_services(|entry| {
            any = true;
            let headless = entry.service.as_ref().is_some_and(|s| s.headless);
            if self.config.headless && headless {
                let same = entry.endpoints.chunk_by(|a, b| a.ip == b.ip);
                same.for_each(|same| each(same[0].ip));
                return;
            }
            for host in hosts(entry) {
                if let Host::Address(ip) = host {
                    each(ip);
                }
            }
        });
        if !any {
            self.cluster.answers.local.iter().for_each(|&ip| each(ip));
        }
    }
}
