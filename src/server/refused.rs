//! Counters of what the server refuses before any plugin sees it: zone label `dropped` (SC-39).

use crate::dns::{Query, RecordType};
use crate::metrics::{Cells, Counter, Labels, Registry, Shard};
use crate::plugin::{Client, Transport};
use std::sync::Arc;

/// Requests refused on one listening address.
#[derive(Clone, Debug)]
pub struct Refused {
    requests: Arc<Cells>,
    responses: Counter,
}

/// Types that have a label of their own in `coredns_dns_requests_total` (PR-5).
pub const LABELLED_TYPES: [RecordType; 19] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::DNSKEY,
    RecordType::DS,
    RecordType::MX,
    RecordType::NSEC3,
    RecordType::NSEC,
    RecordType::NS,
    RecordType::PTR,
    RecordType::RRSIG,
    RecordType::SOA,
    RecordType::SRV,
    RecordType::TXT,
    RecordType::HTTPS,
    RecordType::SVCB,
    RecordType::IXFR,
    RecordType::AXFR,
    RecordType::ANY,
];

impl Refused {
    /// The counters of the server with this label (`dns://:53`).
    pub fn new(registry: &Registry, server: &str) -> Self {
        let base = |more: &[(&'static str, &str)]| -> Labels {
            let all = [("server", server), ("zone", "dropped"), ("view", "")];
            let all = all.iter().chain(more);
            all.map(|&(name, value)| (name, value.to_owned())).collect()
        };
        let types = || {
            LABELLED_TYPES
                .iter()
                .filter_map(|t| t.mnemonic())
                .chain(["other"])
        };
        let requests = registry.row(
            "coredns_dns_requests_total",
            "Counter of DNS requests made per zone, protocol and family.",
            base(&[]),
            || {
                let families = ["udp", "tcp"]
                    .into_iter()
                    .flat_map(|proto| [(proto, "1"), (proto, "2")]);
                let sets =
                    families.flat_map(|(proto, family)| types().map(move |t| (proto, family, t)));
                sets.map(|(proto, family, t)| {
                    base(&[("proto", proto), ("family", family), ("type", t)])
                })
                .collect()
            },
        );
        let responses = registry.counter(
            "coredns_dns_responses_total",
            "Counter of response status codes.",
            base(&[("rcode", "REFUSED"), ("plugin", "")]),
        );
        Self {
            requests,
            responses,
        }
    }

    /// Counts a refused query.
    pub fn count(&self, shard: Shard, query: &Query<'_>, client: &Client) {
        let kinds = LABELLED_TYPES.len() + 1;
        let proto = usize::from(!matches!(
            client.transport,
            Transport::Udp | Transport::Quic
        ));
        let family = usize::from(client.addr.is_ipv6());
        let kind = LABELLED_TYPES.iter().position(|&t| t == query.qtype());
        let index = (proto * 2 + family) * kinds + kind.unwrap_or(kinds - 1);
        self.requests.add(shard, index, 1);
        self.responses.add(shard, 1);
    }
}
