//! PTR: names of addresses (KP-1 … KP-8).

use super::super::index::Entry;
use super::super::parse::reverse_address;
use super::{Found, Source, write_host, write_service};
use crate::dns::{Class, Name, Owner, RecordType, Reply, Section};

impl Source<'_> {
    /// A question for a name below a reverse zone.
    pub(super) fn reverse(&self, name: &Name, qtype: RecordType, reply: &mut Reply) -> Found {
        let Some(ip) = reverse_address(name).filter(|_| qtype == RecordType::PTR) else {
            return Found::Nothing;
        };
        // A service's own address has one name, whatever endpoints share it.
        let mut found = Found::Nothing;
        self.cluster.by_address(ip, |entry| {
            let seen = found == Found::Answered;
            if !seen && entry.has_cluster_ip(ip) && self.lists(entry) {
                self.push_pointer(None, entry, reply);
                found = Found::Answered;
            }
        });
        if found == Found::Answered || self.answers.noendpoints {
            return found;
        }
        self.cluster.by_address(ip, |entry| {
            if !self.lists(entry) {
                return;
            }
            // Sorted by host name: equal ones follow each other.
            for same in entry.endpoints[entry.addressed(ip)].chunk_by(|a, b| *a.host() == *b.host())
            {
                self.push_pointer(Some(&same[0].host()), entry, reply);
                found = Found::Answered;
            }
        });
        found
    }

    /// Whether `namespaces` lets an entry be seen. (`namespace_labels` is not looked at: KP-3.)
    fn lists(&self, entry: &Entry) -> bool {
        let listed = &self.answers.namespaces;
        listed.is_empty() || listed.iter().any(|name| **name == *entry.key.namespace)
    }

    fn push_pointer(&self, host: Option<&str>, entry: &Entry, reply: &mut Reply) {
        let ptr = (RecordType::PTR, Class::IN);
        reply.push_with(
            Section::Answer,
            Owner::Query,
            ptr,
            self.answers.ttl,
            |out| {
                if let Some(host) = host {
                    write_host(out, host);
                }
                write_service(out, entry);
                out.octets(self.answers.primary.wire());
            },
        );
    }
}
