//! Cells: numbers that many threads count in without sharing a written cache line.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// `u64`s of one cache line.
const LINE: usize = 8;

/// Which cells a thread writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard(u16);

impl Shard {
    /// The cells that any thread may write.
    pub const SHARED: Self = Self(0);

    /// No cells: what is added is not counted. For questions that no client asked.
    pub const NOWHERE: Self = Self(u16::MAX);

    /// The cells of UDP worker `index`, which only that thread may write.
    pub const fn worker(index: u16) -> Self {
        Self(index + 1)
    }
}

/// A row of counters for each shard; the rows of two shards share no cache line.
#[derive(Debug)]
pub struct Cells {
    cells: Box<[AtomicU64]>,
    width: usize,
    stride: usize,
}

impl Cells {
    /// Rows of `width` zeros for the shared shard and `workers` workers.
    pub fn new(width: usize, workers: usize) -> Self {
        // A line between the rows, since the allocation need not start on one.
        let stride = width.next_multiple_of(LINE) + LINE;
        let cells = (0..stride * (workers + 1)).map(|_| AtomicU64::new(0));
        Self {
            cells: cells.collect(),
            width,
            stride,
        }
    }

    /// Adds `n` to cell `index`. A worker beyond the number known counts in the shared row.
    #[inline]
    pub fn add(&self, shard: Shard, index: usize, n: u64) {
        debug_assert!(index < self.width);
        match self.cells.get(shard.0 as usize * self.stride + index) {
            // The only writer of the cell: no locked instruction is needed.
            Some(cell) if shard != Shard::SHARED => cell.store(cell.load(Relaxed) + n, Relaxed),
            _ if shard == Shard::NOWHERE => {}
            _ => {
                self.cells[index].fetch_add(n, Relaxed);
            }
        }
    }

    /// The sum of cell `index` over all shards.
    pub fn sum(&self, index: usize) -> u64 {
        let rows = self.cells.chunks(self.stride);
        rows.map(|row| row[index].load(Relaxed))
            .fold(0, u64::wrapping_add)
    }

    /// Cells in a row.
    pub const fn width(&self) -> usize {
        self.width
    }
}

/// A number that only grows.
#[derive(Clone, Debug)]
pub struct Counter(pub(super) Arc<Cells>);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, shard: Shard, n: u64) {
        self.0.add(shard, 0, n);
    }

    /// Adds one from any thread.
    #[inline]
    pub fn inc(&self) {
        self.0.add(Shard::SHARED, 0, 1);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.sum(0)
    }
}

/// A number that goes up and down. One cell: not for the hot path.
#[derive(Clone, Debug, Default)]
pub struct Gauge(pub(super) Arc<AtomicI64>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`, which may be negative, and gives the value before.
    pub fn add(&self, n: i64) -> i64 {
        self.0.fetch_add(n, Relaxed)
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Observations counted by size. The unit is an integer (nanoseconds, octets).
#[derive(Clone, Debug)]
pub struct Histogram {
    /// One cell a bucket, one beyond the last bucket, and the sum.
    pub(super) cells: Arc<Cells>,
    pub(super) buckets: &'static [u64],
    /// Units in one unit of what is exposed (10^9 for seconds from nanoseconds).
    pub(super) scale: f64,
}

impl Histogram {
    /// Counts an observation.
    #[inline]
    pub fn observe(&self, shard: Shard, value: u64) {
        // One after the other: most observations are in one of the first.
        let bucket = self.buckets.iter().position(|&upper| value <= upper);
        let bucket = bucket.unwrap_or(self.buckets.len());
        self.cells.add(shard, bucket, 1);
        self.cells.add(shard, self.buckets.len() + 1, value);
    }

    /// How many observations there were.
    pub fn count(&self) -> u64 {
        (0..=self.buckets.len())
            .map(|bucket| self.cells.sum(bucket))
            .sum()
    }

    /// Count of each bucket, not cumulative; the last is beyond all bounds.
    pub(super) fn counts(&self) -> Vec<u64> {
        (0..=self.buckets.len())
            .map(|bucket| self.cells.sum(bucket))
            .collect()
    }

    /// The sum of all observations, in the exposed unit.
    pub(super) fn sum(&self) -> f64 {
        self.cells.sum(self.buckets.len() + 1) as f64 / self.scale
    }
}
