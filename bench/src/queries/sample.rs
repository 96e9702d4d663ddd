//! What one measurement gave, and the one in the middle of several.

/// Shares of the response codes, in per cent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Codes {
    pub noerror: f64,
    pub nxdomain: f64,
    pub other: f64,
}

impl Codes {
    /// From dnsperf's line `Response codes: NOERROR 7 (70.00%), NXDOMAIN 3 (30.00%)`.
    pub fn read(report: &str) -> Self {
        let mut codes = Self::default();
        let line = report
            .lines()
            .find_map(|line| line.trim().strip_prefix("Response codes:"));
        for code in line.unwrap_or_default().split(',') {
            let share = code
                .rsplit_once('(')
                .and_then(|(_, share)| share.trim().strip_suffix("%)"));
            let share: f64 = share.and_then(|share| share.parse().ok()).unwrap_or(0.0);
            match code.split_whitespace().next() {
                Some("NOERROR") => codes.noerror += share,
                Some("NXDOMAIN") => codes.nxdomain += share,
                _ => codes.other += share,
            }
        }
        codes
    }

    /// Whether the same questions were answered alike, but for the last that were cut off.
    pub fn alike(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() < 1.0;
        near(self.noerror, other.noerror) && near(self.nxdomain, other.nxdomain)
    }
}

/// A measurement of throughput.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub queries: u64,
    pub lost: u64,
    pub codes: Codes,
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

    #[test]
    fn response_codes() {
        let line = "  Response codes:       NOERROR 69 (69.00%), SERVFAIL 1 (1.00%), NXDOMAIN 30 (30.00%)\n";
        let codes = Codes::read(line);
        assert_eq!(
            (codes.noerror, codes.nxdomain, codes.other),
            (69.0, 30.0, 1.0)
        );
        assert!(codes.alike(&Codes {
            noerror: 69.9,
            nxdomain: 30.1,
            other: 0.0
        }));
        assert!(!codes.alike(&Codes {
            noerror: 100.0,
            ..Codes::default()
        }));
        assert_eq!(Codes::read(""), Codes::default());
    }
}
