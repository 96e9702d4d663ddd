//! What the real queries to an upstream say about it: round-trip time and failures.
//!
//! No clock and no sockets here: every method is told the time. All state is a few words that are
//! read and written without locks; of two observations at the same instant one may be lost, which
//! an average does not mind.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// The shortest time an answer is waited for before another upstream is asked as well.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(800);
/// While the round-trip time is not known.
const UNKNOWN_WAIT: Duration = Duration::from_millis(400);
/// What a round-trip time without any variance may be exceeded by (`G` of RFC 6298).
const GRANULARITY: Duration = Duration::from_millis(50);
/// After this time an observation counts half.
const HALF_LIFE: f32 = 10_000.0;
/// The averages are not aged more often than so, in ms.
const STEP: u64 = 50;
/// Observations below which the share of failures says nothing: three of the last few seconds.
const FEW: f32 = 2.0;
/// Between two real queries to an upstream that is passed over, in ms.
const TRIAL_INTERVAL: u64 = 1000;
/// No trial yet, none under way.
const NEVER: u64 = u64::MAX;

/// How an upstream stands among the others of its stanza; the smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It answers.
    Good,
    /// It answers, but most of it is no use.
    Doubtful,
    /// The last query to it got no answer.
    Silent,
    /// The probes found it down (FW-7).
    Down,
}

impl Standing {
    /// For people.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "up",
            Self::Doubtful => "doubtful",
            Self::Silent => "silent",
            Self::Down => "down",
        }
    }
}

/// The health of one upstream, learnt from real queries.
#[derive(Debug)]
pub(super) struct Health {
    since: Instant,
    /// Smoothed round-trip time and its variation in µs (RFC 6298 §2), 32 bits each; zero while
    /// unknown.
    round_trip: AtomicU64,
    /// Observations and failures, both as `f32`, aged.
    counts: AtomicU64,
    /// To when the counts were aged, in ms.
    aged: AtomicU64,
    /// Whether the last query got no answer.
    silent: AtomicBool,
    /// When the last trial began, in ms.
    tried: AtomicU64,
}

impl Health {
    /// Nothing is known; `now` is before everything that comes.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            round_trip: AtomicU64::new(0),
            counts: AtomicU64::new(0),
            aged: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            tried: AtomicU64::new(NEVER),
        }
    }

    /// A reply came after `took`, of whatever content.
    pub(super) fn replied(&self, took: Duration) {
        let sample = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let known = self.round_trip.load(Relaxed);
        let (smoothed, variation) = ((known >> 32) as u32, known as u32);
        let (smoothed, variation) = if smoothed == 0 {
            (sample, sample / 2)
        } else {
            let off = u64::from(smoothed.abs_diff(sample));
            let variation = (3 * u64::from(variation) + off) / 4;
            let smoothed = (7 * u64::from(smoothed) + u64::from(sample)) / 8;
            // Averages of what fits.
            (smoothed.max(1) as u32, variation as u32)
        };
        let both = u64::from(smoothed) << 32 | u64::from(variation);
        self.round_trip.store(both, Relaxed);
    }

    /// A reply was of use. What an upstream that was passed over failed before is forgotten: it
    /// is back.
    pub(super) fn succeeded(&self, now: Instant) {
        if self.standing(now) == Standing::Good {
            self.count(now, 0.0);
            return;
        }
        self.silent.store(false, Relaxed);
        self.tried.store(NEVER, Relaxed);
        self.aged.store(self.millis(now), Relaxed);
        self.counts.store(pack(1.0, 0.0), Relaxed);
    }

    /// It answered, but nothing of use, while another upstream did.
    pub(super) fn erred(&self, now: Instant) {
        self.heard();
        self.count(now, 1.0);
    }

    /// It answered, and what it said counts neither way.
    pub(super) fn heard(&self) {
        if self.silent.load(Relaxed) {
            self.silent.store(false, Relaxed);
        }
    }

    /// No answer: too late, or an I/O error.
    pub(super) fn failed(&self, now: Instant) {
        if !self.silent.load(Relaxed) {
            self.silent.store(true, Relaxed);
        }
        self.count(now, 1.0);
    }

    /// How it stands, as far as real queries say.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        if self.silent.load(Relaxed) {
            return Standing::Silent;
        }
        if self.is_doubtful(now) {
            return Standing::Doubtful;
        }
        Standing::Good
    }

    /// Whether more than half of what was asked lately failed, and enough was asked to say so.
    pub(super) fn is_doubtful(&self, now: Instant) -> bool {
        let (all, failures) = self.counts();
        if failures * 2.0 <= all || all <= FEW {
            return false;
        }
        let age = self.millis(now).saturating_sub(self.aged.load(Relaxed));
        all * fading(age) > FEW
    }

    /// How long an answer is waited for before another upstream is asked as well.
    pub(super) fn wait(&self) -> Duration {
        if self.silent.load(Relaxed) {
            return SHORTEST_WAIT;
        }
        let known = self.round_trip.load(Relaxed);
        if known == 0 {
            return UNKNOWN_WAIT;
        }
        let micros = |word: u64| Duration::from_micros(word & u64::from(u32::MAX));
        let margin = (micros(known) * 4).max(GRANULARITY);
        (micros(known >> 32) + margin).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// The smoothed round-trip time, once there was a reply.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let smoothed = self.round_trip.load(Relaxed) >> 32;
        (smoothed > 0).then(|| Duration::from_micros(smoothed))
    }

    /// Whether a real query is to be tried at this upstream, which is passed over; then nobody
    /// else is told so for a second.
    pub(super) fn take_trial(&self, now: Instant) -> bool {
        let (now, last) = (self.millis(now), self.tried.load(Relaxed));
        let due = last == NEVER || now.saturating_sub(last) >= TRIAL_INTERVAL;
        due && self
            .tried
            .compare_exchange(last, now, Relaxed, Relaxed)
            .is_ok()
    }

    fn count(&self, now: Instant, failure: f32) {
        let (mut all, mut failures) = self.counts();
        let (now, aged) = (self.millis(now), self.aged.load(Relaxed));
        let age = now.saturating_sub(aged);
        if age >= STEP {
            self.aged.store(now, Relaxed);
            let fading = fading(age);
            (all, failures) = (all * fading, failures * fading);
        }
        self.counts
            .store(pack(all + 1.0, failures + failure), Relaxed);
    }

    fn counts(&self) -> (f32, f32) {
        let counts = self.counts.load(Relaxed);
        let part = |bits: u64| f32::from_bits(bits as u32);
        (part(counts >> 32), part(counts))
    }

    fn millis(&self, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.since).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}

fn pack(all: f32, failures: f32) -> u64 {
    u64::from(all.to_bits()) << 32 | u64::from(failures.to_bits())
}

/// What remains of a weight after `age` ms.
fn fading(age: u64) -> f32 {
    (-(age as f32) / HALF_LIFE).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn unknown() -> (Health, Instant) {
        let now = Instant::now();
        (Health::new(now), now)
    }

    #[test]
    fn waits_follow_the_round_trip_time() {
        for (round_trips, wait) in [
            (&[][..], 400),
            (&[1], 100),
            // 40 + 4 * 20.
            (&[40], 120),
            // 300 + 4 * 150 is too long.
            (&[300], 800),
            (&[300; 64], 350),
            (&[2000; 64], 800),
            // From 20 ± 10 to 42.5 ± 52.5.
            (&[20, 200], 252),
        ] {
            let (health, _) = unknown();
            for &took in round_trips {
                health.replied(ms(took));
            }
            assert_eq!(health.wait().as_millis(), wait, "{round_trips:?}");
        }
        let (health, now) = unknown();
        assert_eq!(health.round_trip(), None);
        health.replied(ms(300));
        assert_eq!(health.round_trip(), Some(ms(300)));
        health.failed(now);
        assert_eq!(health.wait(), SHORTEST_WAIT, "nobody waits for the silent");
    }

    #[test]
    fn more_than_half_of_three_failures_are_doubtful() {
        // `+` an answer of use, `-` one that is none, `x` no answer; all at once.
        for (history, expected) in [
            ("", Standing::Good),
            ("-", Standing::Good),
            ("--", Standing::Good),
            ("---", Standing::Doubtful),
            ("+--", Standing::Doubtful),
            ("++--", Standing::Good),
            ("++---", Standing::Doubtful),
            ("++---+", Standing::Good),
            ("x", Standing::Silent),
            ("+++++x", Standing::Silent),
            ("+++++x+", Standing::Good),
            ("xxx", Standing::Silent),
            ("xxx-", Standing::Doubtful),
            ("xxxxxx+", Standing::Good),
            ("xxxxxx+-", Standing::Good),
        ] {
            let (health, now) = unknown();
            for event in history.chars() {
                match event {
                    '+' => health.succeeded(now),
                    '-' => health.erred(now),
                    _ => health.failed(now),
                }
            }
            assert_eq!(health.standing(now), expected, "{history}");
        }
    }

    #[test]
    fn failures_are_forgotten() {
        let (health, now) = unknown();
        for _ in 0..4 {
            health.erred(now);
        }
        assert!(health.is_doubtful(now + ms(9_900)));
        assert!(!health.is_doubtful(now + ms(10_100)), "half of four");
        for _ in 0..100 {
            health.succeeded(now);
        }
        for _ in 0..60 {
            health.erred(now + ms(10_000));
        }
        let later = now + ms(10_000);
        assert!(health.is_doubtful(later), "60 against half of a hundred");
    }

    #[test]
    fn a_trial_a_second() {
        let (health, now) = unknown();
        health.failed(now);
        let taken: Vec<_> = (0..30)
            .filter(|tenth| health.take_trial(now + ms(tenth * 100)))
            .collect();
        assert_eq!(taken, [0, 10, 20]);
        health.succeeded(now + ms(3000));
        health.failed(now + ms(3001));
        assert!(health.take_trial(now + ms(3002)), "a new failure");
    }
}
