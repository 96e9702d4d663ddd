//! A bound on how often something happens.

use std::time::{Duration, Instant};

/// Lets `per_second` through in a second, and as many at once after a pause.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    /// When everything that was let through will be forgotten: each one pushes it on by its share
    /// of a second.
    busy_until: Instant,
}

impl Rate {
    /// A bound from `now` on.
    pub(super) const fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second,
            busy_until: now,
        }
    }

    /// Whether one more may pass at `now`; it counts then.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let share = Duration::from_secs(1) / self.per_second.max(1);
        let next = self.busy_until.max(now) + share;
        let may = next <= now + Duration::from_secs(1);
        if may {
            self.busy_until = next;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut rate = Rate::new(10, start);
        let taken = |rate: &mut Rate, millis| (0..30).filter(|_| rate.take(at(millis))).count();
        assert_eq!(taken(&mut rate, 0), 10);
        assert_eq!(taken(&mut rate, 99), 0);
        assert_eq!(taken(&mut rate, 100), 1);
        assert_eq!(taken(&mut rate, 600), 5);
        assert_eq!(taken(&mut rate, 60_000), 10);
    }
}
