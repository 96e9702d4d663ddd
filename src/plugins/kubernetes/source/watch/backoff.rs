//! How long to wait, and how fast to come back.

use std::time::Duration;

/// How long a watch waits for what. Only tests have a reason to change it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The pause after the first failure; it doubles with each further one.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long a response may take to begin, and a page to go on.
    pub response: Duration,
    /// How long a stream may be silent. (The server sends a bookmark about once a minute.)
    pub silence: Duration,
    /// The same while it lists, when the server has everything at hand.
    pub listing: Duration,
    /// The least time that the server is asked to keep a watch open; the longest is twice this.
    pub watch: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(800),
            longest_pause: Duration::from_secs(30),
            response: Duration::from_secs(60),
            silence: Duration::from_secs(150),
            listing: Duration::from_secs(15),
            watch: Duration::from_secs(300),
        }
    }
}

impl Timing {
    /// The pause after so many failures in a row: exponential with a random part, so that servers
    /// that lost the API server together do not come back to it together.
    pub(super) fn pause_after(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doubled = self.pause.saturating_mul(1 << (failures - 1).min(16));
        let jitter = rand::random_range(1.0..1.5);
        doubled.mul_f64(jitter).min(self.longest_pause)
    }

    /// The same, and no shorter than the server wants (`Retry-After`); more than the longest pause
    /// is not believed.
    pub(super) fn pause_at_least(&self, failures: u32, wanted: Duration) -> Duration {
        self.pause_after(failures)
            .max(wanted.min(self.longest_pause))
    }

    /// How long a stream may be silent, by whether it lists.
    pub(super) const fn patience(&self, lists: bool) -> Duration {
        if lists { self.listing } else { self.silence }
    }

    /// How long the server is asked to keep the next watch open.
    pub(super) fn watch_timeout(&self) -> Duration {
        self.watch.mul_f64(rand::random_range(1.0..2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KW-4.
    #[test]
    fn pauses_grow_to_a_bound() {
        let timing = Timing::default();
        assert_eq!(timing.pause_after(0), Duration::ZERO);
        for (failures, least, most) in [(1, 800, 1200), (2, 1600, 2400), (4, 6400, 9600)] {
            let pause = timing.pause_after(failures).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
        let seconds = Duration::from_secs;
        for (wanted, least, most) in [(0, 800, 1200), (5, 5000, 5000), (3600, 30_000, 30_000)] {
            let pause = timing.pause_at_least(1, seconds(wanted)).as_millis();
            assert!((least..=most).contains(&pause), "{wanted}: {pause}");
        }
        assert_eq!(timing.pause_after(40), timing.longest_pause);
        assert_eq!(timing.pause_after(u32::MAX), timing.longest_pause);
        // Watches end by themselves between five and ten minutes.
        for _ in 0..100 {
            assert!((300..=600).contains(&timing.watch_timeout().as_secs()));
        }
    }
}
