//! The counters of an upstream.

use super::Protocol;
use crate::metrics::{Cells, Counter, Registry};
use std::net::SocketAddr;
use std::sync::Arc;

/// What an upstream counts.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    pub(super) hits: Arc<Cells>,
    pub(super) misses: Arc<Cells>,
    pub(super) rejected: Counter,
    pub(super) case_ignored: Counter,
    pub(super) mismatched: Counter,
    pub(super) removed: Counter,
}

impl UpstreamMetrics {
    /// The counters for the upstream `to` of the plugin `proxy_name`, which is asked over
    /// `encrypted`, or over UDP and TCP.
    pub fn new(
        registry: &Registry,
        proxy_name: &str,
        to: SocketAddr,
        encrypted: Option<Protocol>,
    ) -> Self {
        let labels = || {
            vec![
                ("proxy_name", proxy_name.to_owned()),
                ("to", to.to_string()),
            ]
        };
        let row = |name, help| {
            registry.row(name, help, labels(), || {
                let of = |protocol: Protocol| {
                    let mut labels = labels();
                    labels.push(("proto", protocol.as_str().to_owned()));
                    labels
                };
                match encrypted {
                    Some(protocol) => vec![of(protocol)],
                    None => vec![of(Protocol::Udp), of(Protocol::Tcp)],
                }
            })
        };
        let counter = |name, help| registry.counter(name, help, labels());
        Self {
            case_ignored: counter(
                "portolan_upstream_case_ignored_total",
                "Replies that did not keep the case of the question; asked again over TCP.",
            ),
            mismatched: counter(
                "portolan_upstream_mismatched_total",
                "Datagrams from the upstream's address that were no reply to a query in flight.",
            ),
            removed: counter(
                "portolan_upstream_records_removed_total",
                "Records of replies that were not asked for, and not passed on.",
            ),
            hits: row(
                "coredns_proxy_conn_cache_hits_total",
                "Counter of connection cache hits per upstream and protocol.",
            ),
            misses: row(
                "coredns_proxy_conn_cache_misses_total",
                "Counter of connection cache misses per upstream and protocol.",
            ),
            rejected: counter(
                "portolan_upstream_rejected_total",
                "Queries that failed because too many others wait for the same upstream.",
            ),
        }
    }
}
