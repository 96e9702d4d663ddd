//! The families that count queries and replies (`coredns_dns_…`), with CoreDNS's names and labels.

use super::{Cells, Histogram, Labels, Registry, SIZE_BUCKETS, Shard, TIME_BUCKETS};
use crate::dns::{Rcode, RecordType};
use std::sync::Arc;

/// The types that have a `type` label of their own; the others share `other`.
const TYPES: [RecordType; 19] = [
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
/// Label sets of `requests_total` for one `proto` and `family`.
const TYPE_LABELS: usize = TYPES.len() + 1;
const PROTOS: [&str; 2] = ["udp", "tcp"];
/// As CoreDNS names them: IPv4 and IPv6.
const FAMILIES: [&str; 2] = ["1", "2"];
/// Response codes with a cell; those beyond (unassigned) share the last one's.
const RCODES: u16 = 24;

/// What is counted of a query and its reply.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// Whether the transport counts as `tcp`.
    pub tcp: bool,
    /// Whether the client's address is an IPv6 one.
    pub ipv6: bool,
    /// The type asked for.
    pub qtype: RecordType,
    /// The DO bit of the query.
    pub dnssec_ok: bool,
    /// Octets of the query.
    pub request_size: usize,
    /// Octets of the reply, 0 if the server itself writes it or there is none.
    pub response_size: usize,
    /// The response code.
    pub rcode: Rcode,
    /// Whether a plugin wrote the reply (else the `plugin` label is empty).
    pub by_plugin: bool,
    /// Nanoseconds from receiving the query to having the reply.
    pub nanos: u64,
}

/// The cells for one server and zone, resolved when the configuration is built.
#[derive(Clone, Debug)]
pub struct QueryMetrics {
    requests: Arc<Cells>,
    dnssec_ok: Arc<Cells>,
    duration: Histogram,
    request_size: [Histogram; 2],
    response_size: [Histogram; 2],
    by_plugin: Arc<Cells>,
    by_server: Arc<Cells>,
}

impl QueryMetrics {
    /// The cells of this `server` and `zone` label; `plugin` is the label of replies that a plugin
    /// wrote.
    pub fn new(registry: &Registry, server: &str, zone: &str, plugin: &str) -> Self {
        let of = |more: &[(&'static str, &str)]| labels(server, zone, more);
        let sizes = |name, help| {
            PROTOS.map(|proto| {
                registry.histogram(name, help, of(&[("proto", proto)]), &SIZE_BUCKETS, 1.0)
            })
        };
        let responses = |plugin: &str| {
            registry.row(
                "coredns_dns_responses_total",
                "Counter of response status codes.",
                of(&[("plugin", plugin)]),
                || {
                    let rcodes = (0..RCODES).map(|code| Rcode(code).to_string());
                    rcodes
                        .map(|rcode| of(&[("plugin", plugin), ("rcode", &rcode)]))
                        .collect()
                },
            )
        };
        Self {
            requests: registry.row(
                "coredns_dns_requests_total",
                "Counter of DNS requests made per zone, protocol and family.",
                of(&[]),
                || request_labels(of),
            ),
            dnssec_ok: registry.row(
                "coredns_dns_do_requests_total",
                "Counter of DNS requests with DO bit set per zone.",
                of(&[]),
                || vec![of(&[])],
            ),
            duration: registry.histogram(
                "coredns_dns_request_duration_seconds",
                "Histogram of the time (in seconds) each request took per zone.",
                of(&[]),
                &TIME_BUCKETS,
                1e9,
            ),
            request_size: sizes(
                "coredns_dns_request_size_bytes",
                "Size of the request in bytes per zone and protocol.",
            ),
            response_size: sizes(
                "coredns_dns_response_size_bytes",
                "Size of the returned response in bytes.",
            ),
            by_plugin: responses(plugin),
            by_server: responses(""),
        }
    }

    /// Counts one query.
    #[inline]
    pub fn count(&self, shard: Shard, observed: &Observed) {
        let proto = usize::from(observed.tcp);
        let family = usize::from(observed.ipv6);
        let of_type = TYPES.iter().position(|rtype| *rtype == observed.qtype);
        let of_type = of_type.unwrap_or(TYPES.len());
        let cell = (proto * FAMILIES.len() + family) * TYPE_LABELS + of_type;
        self.requests.add(shard, cell, 1);
        if observed.dnssec_ok {
            self.dnssec_ok.add(shard, 0, 1);
        }
        self.duration.observe(shard, observed.nanos);
        self.request_size[proto].observe(shard, observed.request_size as u64);
        self.response_size[proto].observe(shard, observed.response_size as u64);
        let responses = if observed.by_plugin {
            &self.by_plugin
        } else {
            &self.by_server
        };
        let rcode = observed.rcode.0.min(RCODES - 1);
        responses.add(shard, rcode.into(), 1);
    }
}

/// Labels in alphabetical order, as CoreDNS shows them.
fn labels(server: &str, zone: &str, more: &[(&'static str, &str)]) -> Labels {
    let mut labels = vec![
        ("server", server.to_owned()),
        ("view", String::new()),
        ("zone", zone.to_owned()),
    ];
    labels.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    labels.sort();
    labels
}

fn request_labels(of: impl Fn(&[(&'static str, &str)]) -> Labels) -> Vec<Labels> {
    let mut sets = Vec::with_capacity(PROTOS.len() * FAMILIES.len() * TYPE_LABELS);
    for proto in PROTOS {
        for family in FAMILIES {
            let types = TYPES
                .iter()
                .map(|rtype| rtype.mnemonic().unwrap_or("other"));
            for rtype in types.chain(["other"]) {
                sets.push(of(&[("proto", proto), ("family", family), ("type", rtype)]));
            }
        }
    }
    sets
}
