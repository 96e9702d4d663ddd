//! Metrics of a watch.

use super::super::Resource;
use crate::metrics::{Counter, Registry};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The signs of life of a watch.
pub(super) struct Signs {
    begun: Instant,
    /// Milliseconds from `begun` to the last sign.
    last: AtomicU64,
    listed: AtomicBool,
    failing: AtomicBool,
    resource: &'static str,
    relists: Counter,
    failures: Counter,
}

impl Signs {
    /// Registers the metrics; the age is shown for as long as the watch lives.
    pub(super) fn new(resource: Resource, metrics: &Registry) -> Arc<Self> {
        let labels = || vec![("resource", resource.name().to_owned())];
        let signs = Arc::new(Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            listed: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            resource: resource.name(),
            relists: metrics.counter(
                "portolan_kubernetes_relists_total",
                "Lists after the first, because the watch could not go on from its version.",
                labels(),
            ),
            failures: metrics.counter(
                "portolan_kubernetes_watch_failures_total",
                "Lists and watches that failed.",
                labels(),
            ),
        });
        let weak = Arc::downgrade(&signs);
        metrics.read_gauge(
            "portolan_kubernetes_watch_age_seconds",
            "Time since the API server last sent anything about the resource.",
            labels(),
            move || weak.upgrade().map(|signs| signs.age().as_secs_f64()),
        );
        signs
    }

    fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Relaxed));
        self.begun.elapsed().saturating_sub(last)
    }

    /// Something was received.
    pub(super) fn seen(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis());
        self.last.store(millis.unwrap_or(u64::MAX), Relaxed);
    }

    /// A list begins.
    pub(super) fn list_begins(&self) {
        if self.listed.load(Relaxed) {
            self.relists.inc();
        }
    }

    /// A list is complete.
    pub(super) fn list_ends(&self) {
        self.listed.store(true, Relaxed);
    }

    /// A list or a watch failed. The log says so once, until it works again.
    pub(super) fn failed(&self, failure: &dyn Display) {
        self.failures.inc();
        if self.failing.swap(true, Relaxed) {
            self.log(failure);
        } else {
            tracing::warn!(
                target: "plugin/kubernetes",
                "{}: {failure}; serving what is known, trying again",
                self.resource
            );
        }
    }

    /// The server does not have the resource. The log says so once, until it has.
    pub(super) fn missing(&self) {
        self.seen();
        if !self.failing.swap(true, Relaxed) {
            tracing::warn!(
                target: "plugin/kubernetes",
                "{}: the API server does not have them; there are none until it does",
                self.resource
            );
        }
    }

    /// Whether a list was complete once.
    pub(super) fn was_listed(&self) -> bool {
        self.listed.load(Relaxed)
    }

    /// The server answers.
    pub(super) fn works(&self) {
        self.seen();
        if self.failing.swap(false, Relaxed) {
            tracing::info!(
                target: "plugin/kubernetes",
                "{}: the API server answers again",
                self.resource
            );
        }
    }

    /// A line for those who debug.
    pub(super) fn log(&self, what: &dyn Display) {
        tracing::debug!(target: "plugin/kubernetes", "{}: {what}", self.resource);
    }
}
