//! Metrics of the process: cells that each worker writes alone, summed when they are scraped.
//!
//! Label sets are resolved when a configuration is built; counting is then one addition to a cell
//! of the worker's own cache lines. The registry outlives configurations: the same name and labels
//! are the same cells for the life of the process.

mod cells;
mod expose;
mod queries;
mod registry;

pub use cells::{Cells, Counter, Gauge, Histogram, Shard};
pub use expose::{Format, exposition};
pub use queries::{Observed, QueryMetrics};
pub use registry::{Labels, Registry};

/// 0.25 ms · 2^k, k = 0..15, in nanoseconds: CoreDNS's buckets for durations.
pub const TIME_BUCKETS: [u64; 16] = powers(250_000, 2);
/// 0.25 ms · 10^k, k = 0..4, in nanoseconds: CoreDNS's short buckets for durations.
pub const SLIM_TIME_BUCKETS: [u64; 5] = powers(250_000, 10);
/// The buckets of message sizes, in octets.
pub const SIZE_BUCKETS: [u64; 14] = [
    0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000,
];

/// `first` · `factor`^k for k = 0..N.
pub const fn powers<const N: usize>(first: u64, factor: u64) -> [u64; N] {
    let mut out = [0; N];
    let mut value = first;
    let mut at = 0;
    while at < N {
        out[at] = value;
        value = value.saturating_mul(factor);
        at += 1;
    }
    out
}
