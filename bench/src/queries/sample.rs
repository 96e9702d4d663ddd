//! What one measurement gave, and the one in the middle of several.

/// A measurement of throughput.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub queries: u64,
    pub lost: u64,
    /// Queries answered a second.
    pub rate: f64,
    /// CPU microseconds of the server for a query.
    pub user: f64,
    pub system: f64,
    /// CPU seconds of the server for a second of the measurement.
    pub busy: f64,
    pub peak_kib: u64,
}

impl Sample {
    /// CPU microseconds for a query.
    pub fn total(&self) -> f64 {
        self.user + self.system
    }
}

/// A measurement of latency at a given rate, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Queries sent a second.
    pub rate: f64,
    pub lost: u64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// The sample in the middle by CPU time: a round that was, not figures of several.
pub fn median(samples: &[Sample]) -> Option<&Sample> {
    middle(samples, Sample::total)
}

/// The one in the middle by what `key` says.
pub fn middle<T>(all: &[T], key: impl Fn(&T) -> f64) -> Option<&T> {
    let mut sorted: Vec<&T> = all.iter().collect();
    sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_shown() {
        assert_eq!(middle(&[3.0, 1.0, 2.0], |&value| value), Some(&2.0));
        assert_eq!(middle(&[], |&value: &f64| value), None);
    }
}
