//! A histogram of latencies: constant memory, 1.6 % wide buckets.

/// Buckets for each doubling.
const FINE: u32 = 64;
/// Nanoseconds up to 2^36 (69 s).
const BUCKETS: usize = (36 * FINE) as usize;

/// Latencies, counted.
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into(),
            total: 0,
        }
    }

    /// Counts a latency.
    pub fn add(&mut self, nanos: u64) {
        self.counts[bucket(nanos).min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    pub fn count(&self) -> u64 {
        self.total
    }

    /// The latency in microseconds that a share of all do not exceed (by more than a bucket).
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return upper(bucket) as f64 / 1000.0;
            }
        }
        0.0
    }
}

/// Below 64 ns every nanosecond has a bucket; above, a doubling has 64.
fn bucket(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(FINE.ilog2() + 1);
    (u64::from(shift * FINE) + (nanos >> shift)) as usize
}

/// The largest latency of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / u64::from(FINE)).saturating_sub(1);
    ((bucket - shift * u64::from(FINE) + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_without_gaps() {
        let mut last = 0;
        for nanos in 0..1_000_000 {
            let bucket = bucket(nanos);
            assert!(bucket == last || bucket == last + 1, "{nanos}");
            assert!(upper(bucket) >= nanos);
            assert!(
                upper(bucket) as f64 <= nanos as f64 * 1.016 + 1.0,
                "{nanos}"
            );
            last = bucket;
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), 0.0);
        (1..=1000).for_each(|micros| histogram.add(micros * 1000));
        for share in [0.5, 0.99, 0.999] {
            let found = histogram.quantile(share);
            assert!((found / (share * 1000.0) - 1.0).abs() < 0.02, "{found}");
        }
        histogram.add(u64::MAX);
        assert_eq!(histogram.count(), 1001);
    }
}
