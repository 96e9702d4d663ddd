//! How long a change of endpoints took to get here (spec 4.13).

use crate::metrics::{Histogram, Registry, Shard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `coredns_kubernetes_dns_programming_duration_seconds`.
#[derive(Clone, Debug)]
pub struct Programming {
    cluster_ip: Histogram,
    headless: Histogram,
}

/// Upper bounds, 1 ms to about 9 minutes, in nanoseconds.
const BUCKETS: &[u64] = &{
    let mut buckets = [0; 20];
    let mut at = 0;
    while at < buckets.len() {
        buckets[at] = 1_000_000 << at;
        at += 1;
    }
    buckets
};

impl Programming {
    /// The histograms of this registry.
    pub fn new(metrics: &Registry) -> Self {
        let of_kind = |kind: &str| {
            metrics.histogram(
                "coredns_kubernetes_dns_programming_duration_seconds",
                "Histogram of the time (in seconds) it took to program a dns instance.",
                vec![("service_kind", kind.into())],
                BUCKETS,
                1e9,
            )
        };
        Self {
            cluster_ip: of_kind("cluster_ip"),
            headless: of_kind("headless_with_selector"),
        }
    }

    /// Observes that a change of `triggered` (Unix nanoseconds) is answered from now on. One that
    /// is to come, by a clock that is behind, took no time.
    pub(super) fn observe(&self, headless: bool, triggered: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let took = now
            .unwrap_or_default()
            .saturating_sub(Duration::from_nanos(triggered));
        let histogram = match headless {
            true => &self.headless,
            false => &self.cluster_ip,
        };
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        histogram.observe(Shard::SHARED, nanos);
    }
}
