//! The counters (CA-22).

use super::State;
use super::store::Store;
use crate::metrics::{Counter, Labels, Registry};
use std::sync::{Arc, Weak};

/// Counters of one cache, their labels resolved.
pub(super) struct Metrics {
    pub(super) requests: Counter,
    pub(super) misses: Counter,
    pub(super) hits_success: Counter,
    pub(super) hits_denial: Counter,
    pub(super) prefetches: Counter,
    pub(super) drops: Counter,
    pub(super) served_stale: Counter,
    pub(super) evictions_success: Counter,
    pub(super) evictions_denial: Counter,
    pub(super) oversize: Counter,
    pub(super) refresh_rejected: Counter,
}

impl Metrics {
    pub(super) fn new(registry: &Registry, server: &str, zones: &str, state: &Arc<State>) -> Self {
        let plain = || -> Labels {
            vec![
                ("server", server.to_owned()),
                ("zones", zones.to_owned()),
                ("view", String::new()),
            ]
        };
        let typed = |kind: &str| -> Labels {
            vec![
                ("server", server.to_owned()),
                ("type", kind.to_owned()),
                ("zones", zones.to_owned()),
                ("view", String::new()),
            ]
        };
        let gauge = |name, help, read: fn(&Store) -> usize| {
            let of: [(_, fn(&State) -> &Store); 2] = [
                ("success", |state| &state.success),
                ("denial", |state| &state.denial),
            ];
            for (kind, store) in of {
                let state: Weak<State> = Arc::downgrade(state);
                let read = move || Some(read(store(&*state.upgrade()?)) as f64);
                registry.read_gauge(name, help, typed(kind), read);
            }
        };
        gauge(
            "coredns_cache_entries",
            "The number of elements in the cache.",
            Store::len,
        );
        gauge(
            "portolan_cache_bytes",
            "Octets of memory that the entries take.",
            Store::bytes,
        );
        gauge(
            "portolan_cache_budget_bytes",
            "Octets of memory that the entries may take.",
            Store::budget,
        );
        let hits = "coredns_cache_hits_total";
        let hits_help = "The count of cache hits.";
        let evictions = "coredns_cache_evictions_total";
        let evictions_help = "The count of cache evictions.";
        Self {
            requests: registry.counter(
                "coredns_cache_requests_total",
                "The count of cache requests.",
                plain(),
            ),
            misses: registry.counter(
                "coredns_cache_misses_total",
                "The count of cache misses. Deprecated, derive misses from cache hits/requests counters.",
                plain(),
            ),
            hits_success: registry.counter(hits, hits_help, typed("success")),
            hits_denial: registry.counter(hits, hits_help, typed("denial")),
            prefetches: registry.counter(
                "coredns_cache_prefetch_total",
                "The number of times the cache has prefetched a cached item.",
                plain(),
            ),
            drops: registry.counter(
                "coredns_cache_drops_total",
                "The number responses that are not cached, because the reply is malformed.",
                plain(),
            ),
            served_stale: registry.counter(
                "coredns_cache_served_stale_total",
                "The number of requests served from stale cache entries.",
                plain(),
            ),
            evictions_success: registry.counter(evictions, evictions_help, typed("success")),
            evictions_denial: registry.counter(evictions, evictions_help, typed("denial")),
            oversize: registry.counter(
                "portolan_cache_oversize_total",
                "The count of replies that were not cached because of their size.",
                plain(),
            ),
            refresh_rejected: registry.counter(
                "portolan_cache_refresh_rejected_total",
                "The count of background refreshes not started because too many were under way.",
                plain(),
            ),
        }
    }
}
