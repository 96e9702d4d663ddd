//! The registry: every metric of the process by name and labels.

use super::{Cells, Counter, Gauge, Histogram};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Labels with their values, in the order in which they are shown.
pub type Labels = Vec<(&'static str, String)>;

/// One metric under one set of labels.
#[derive(Clone)]
pub(super) enum Value {
    Counter(Counter),
    /// Several label sets in one row of cells; those that are zero are not shown.
    Row(Arc<Cells>, Arc<[Labels]>),
    Gauge(Gauge),
    /// Read when scraped; `None` is not shown.
    Read(Arc<dyn Fn() -> Option<f64> + Send + Sync>),
    Histogram(Histogram),
}

/// The kind of a family, as the text formats name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All metrics of one name.
pub(super) struct Family {
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) series: BTreeMap<Labels, Value>,
}

/// All metrics of the process. Names are full (`coredns_dns_requests_total`).
pub struct Registry {
    pub(super) families: Mutex<BTreeMap<&'static str, Family>>,
    workers: usize,
}

impl Registry {
    /// An empty registry for `workers` UDP workers.
    pub fn new(workers: usize) -> Self {
        Self {
            families: Mutex::default(),
            workers,
        }
    }

    fn series<T>(
        &self,
        (name, help, kind): (&'static str, &'static str, Kind),
        labels: Labels,
        make: impl FnOnce() -> Value,
        take: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| Family {
            help,
            kind,
            series: BTreeMap::new(),
        });
        take(family.series.entry(labels).or_insert_with(make))
    }

    /// The counter of this name and these labels. The name ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: Labels) -> Counter {
        let new = || Counter(Arc::new(Cells::new(1, self.workers)));
        let make = || Value::Counter(new());
        self.series(
            (name, help, Kind::Counter),
            labels,
            make,
            |value| match value {
                Value::Counter(counter) => Some(counter.clone()),
                _ => None,
            },
        )
        .unwrap_or_else(new)
    }

    /// Counters of many label sets in one row of cells: for labels that are known only when the
    /// query is. `key` tells rows of one name apart; sets that stay zero are not shown.
    pub fn row(
        &self,
        name: &'static str,
        help: &'static str,
        key: Labels,
        sets: impl FnOnce() -> Vec<Labels>,
    ) -> Arc<Cells> {
        let workers = self.workers;
        let make = || {
            let sets = sets();
            Value::Row(Arc::new(Cells::new(sets.len(), workers)), sets.into())
        };
        self.series(
            (name, help, Kind::Counter),
            key,
            make,
            |value| match value {
                Value::Row(cells, _) => Some(Arc::clone(cells)),
                _ => None,
            },
        )
        .unwrap_or_else(|| Arc::new(Cells::new(1, workers)))
    }

    /// The gauge of this name and these labels.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: Labels) -> Gauge {
        let make = || Value::Gauge(Gauge::default());
        self.series(
            (name, help, Kind::Gauge),
            labels,
            make,
            |value| match value {
                Value::Gauge(gauge) => Some(gauge.clone()),
                _ => None,
            },
        )
        .unwrap_or_default()
    }

    /// A gauge that is read when it is scraped; the newest reader of the same labels counts.
    /// It is not shown while `read` gives `None` (what it looked at is gone).
    pub fn read_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.set_read((name, help, Kind::Gauge), labels, Arc::new(read));
    }

    /// A counter that is read when it is scraped; as [`Self::read_gauge`].
    pub fn read_counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.set_read((name, help, Kind::Counter), labels, Arc::new(read));
    }

    fn set_read(
        &self,
        key: (&'static str, &'static str, Kind),
        labels: Labels,
        read: Arc<dyn Fn() -> Option<f64> + Send + Sync>,
    ) {
        let value = Value::Read(read);
        let copy = value.clone();
        self.series(key, labels.clone(), move || copy, |_| None::<()>);
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.get_mut(key.0) {
            family.series.insert(labels, value);
        }
    }

    /// The histogram of this name and these labels, with upper bounds in an integer unit of which
    /// `scale` make one unit of what is exposed (1e9 for seconds from nanoseconds).
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        buckets: &'static [u64],
        scale: f64,
    ) -> Histogram {
        let new = || Histogram {
            cells: Arc::new(Cells::new(buckets.len() + 2, self.workers)),
            buckets,
            scale,
        };
        let make = || Value::Histogram(new());
        self.series(
            (name, help, Kind::Histogram),
            labels,
            make,
            |value| match value {
                Value::Histogram(histogram) => Some(histogram.clone()),
                _ => None,
            },
        )
        .unwrap_or_else(new)
    }

    /// Removes a series (gauges of what a configuration no longer has).
    pub fn remove(&self, name: &'static str, labels: &Labels) {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.get_mut(name) {
            family.series.remove(labels);
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}
