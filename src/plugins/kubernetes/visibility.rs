//! Metrics of the index: what is in it, what it takes, how old it is.

use super::Cluster;
use super::source::Settings;
use crate::metrics::Registry;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Registers the metrics of an index with these kinds; they are shown as long as it lives. Of two
/// indexes in a process (two sets of options) the one registered last is shown.
pub(super) fn register(metrics: &Registry, cluster: &Cluster, settings: &Settings) {
    for resource in settings.resources() {
        let Some(index) = cluster.index_of(resource) else {
            continue;
        };
        let kind = resource.kind();
        let labels = || vec![("kind", resource.object().to_owned())];
        let of = Arc::downgrade(index);
        metrics.read_gauge(
            "portolan_kubernetes_objects",
            "Objects of the cluster in the index.",
            labels(),
            move || Some(of.upgrade()?.count(kind) as f64),
        );
        let of = Arc::downgrade(index);
        metrics.read_gauge(
            "portolan_kubernetes_index_bytes",
            "Memory of the index by kind of object, estimated.",
            labels(),
            move || Some(of.upgrade()?.bytes(kind) as f64),
        );
    }
    let index = &cluster.index;
    let of = Arc::downgrade(index);
    metrics.read_gauge(
        "portolan_kubernetes_synced",
        "Whether every kind of object was listed once (1) or not yet (0).",
        vec![],
        move || Some(f64::from(u8::from(of.upgrade()?.is_synced()))),
    );
    let of = Arc::downgrade(index);
    metrics.read_gauge(
        "portolan_kubernetes_index_age_seconds",
        "Time since the last change of the index that answers depend on.",
        vec![],
        move || age(of.upgrade()?.serial(), SystemTime::now()),
    );
}

/// Seconds from `serial` (Unix seconds) to `now`; zero where the clock went back. `None` before the
/// first change.
fn age(serial: u32, now: SystemTime) -> Option<f64> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    (serial > 0).then(|| (now.as_secs_f64() - f64::from(serial)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ages() {
        let now = UNIX_EPOCH + Duration::from_millis(1_000_500);
        assert_eq!(age(0, now), None);
        assert_eq!(age(1_000, now), Some(0.5));
        assert_eq!(age(1_002, now), Some(0.0));
    }
}
