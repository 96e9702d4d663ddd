//! Queries that come straight back: the marks of what the block has in flight.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Queries that make a loop, so many within [`WINDOW`]: one may be a client's whose id happens to fit.
const SIGHTINGS: u32 = 3;
/// See [`SIGHTINGS`].
const WINDOW: Duration = Duration::from_secs(10);
/// How long after the last query that came back there is still a loop.
const MEMORY: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Returned(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The first sighting of those that are counted, and how many there are.
    since: Option<Instant>,
    count: u32,
    /// The last sighting of a loop.
    last: Option<Instant>,
}

/// What a query that came back means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// Perhaps nothing.
    Chance,
    /// A loop; `new` if none was known.
    Loop {
        /// Whether to tell.
        new: bool,
    },
}

impl Returned {
    /// A query came back.
    pub(super) fn sight(&self, now: Instant) -> Return {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let known = is_recent(state.last, MEMORY, now);
        if !is_recent(state.since, WINDOW, now) {
            state.since = Some(now);
            state.count = 0;
        }
        state.count = state.count.saturating_add(1);
        if !known && state.count < SIGHTINGS {
            return Return::Chance;
        }
        state.last = Some(now);
        Return::Loop { new: !known }
    }

    /// Whether queries come back.
    pub(super) fn is_looping(&self, now: Instant) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        is_recent(state.last, MEMORY, now)
    }
}

fn is_recent(then: Option<Instant>, window: Duration, now: Instant) -> bool {
    then.is_some_and(|then| now.saturating_duration_since(then) < window)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn three_within_ten_seconds_are_a_loop_for_a_minute() {
        let returned = Returned::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (seconds, expected) in [
            (0, Return::Chance),
            (9, Return::Chance),
            (10, Return::Chance),
            (21, Return::Chance),
            (22, Return::Chance),
            (23, Return::Loop { new: true }),
            (24, Return::Loop { new: false }),
            (83, Return::Loop { new: false }),
            (143, Return::Chance),
        ] {
            assert_eq!(returned.sight(at(seconds)), expected, "{seconds}");
        }
        assert!(!returned.is_looping(at(143)));
        assert!(returned.is_looping(at(142)));
    }
}
