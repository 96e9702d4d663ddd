//! The course of one query: which upstream is asked next, when, and until when answers are waited
//! for. No sockets and no clock: it is told what happens and what time it is.

use super::health::{LONGEST_WAIT, Standing};
use super::policy::Order;
use smallvec::SmallVec;
use std::time::Duration;
use tokio::time::Instant;

/// How long a query is tried where several upstreams are there and the Corefile does not say
/// otherwise: clients give up after 2 seconds at the earliest.
const PATIENCE: Duration = Duration::from_millis(1900);
/// How much later an exchange that does not keep its time is given up.
const GRACE: Duration = Duration::from_millis(20);
/// How long after a query came a new attempt may start, one after another (FW-5).
const BUDGET: Duration = Duration::from_secs(5);
/// The pause after a round of failures where their number is not bounded: an upstream that
/// refuses at once would be asked without end otherwise.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// What the stanza says of time and number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Attempts overlap, and all is over within [`PATIENCE`]; else one follows the other, as FW-5
    /// says.
    pub(super) overlap: bool,
    /// How long an attempt takes where they do not overlap.
    pub(super) read_timeout: Duration,
    /// Failed attempts; zero for as many as fit into the time.
    pub(super) max_attempts: usize,
    /// Nothing is asked while all upstreams are down (FW-9).
    pub(super) fail_fast: bool,
}

/// What is known of an upstream when it is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) standing: Standing,
    /// How long it is waited for before another one is asked as well.
    pub(super) wait: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask the upstream of this index, and wait this long for its answer; then ask the course
    /// again.
    Ask(usize, Duration),
    /// Wait for what is under way; until then, if that is given.
    Wait(Option<Instant>),
    /// Nothing comes any more.
    End,
}

/// One query.
#[derive(Debug)]
pub(super) struct Course {
    rules: Rules,
    started: Instant,
    candidates: SmallVec<[Candidate; 4]>,
    /// When another upstream is asked even if nothing happens; `None` for never.
    due: Option<Instant>,
    running: usize,
    failed: usize,
    /// Whether an upstream answered what is no use.
    refused: bool,
    begun: bool,
    all_down: bool,
    last_resort: bool,
}

#[derive(Debug)]
struct Candidate {
    index: u8,
    asked: u16,
    running: u16,
    /// It answered: asking again would bring the same.
    answered: bool,
    /// When its answer should have come.
    due: Instant,
}

impl Course {
    /// A query that came `now`, for upstreams in this order.
    pub(super) fn new(rules: Rules, order: &Order, now: Instant) -> Self {
        let candidate = |&index| Candidate {
            index,
            asked: 0,
            running: 0,
            answered: false,
            due: now,
        };
        Self {
            rules,
            started: now,
            candidates: order.iter().map(candidate).collect(),
            due: None,
            running: 0,
            failed: 0,
            refused: false,
            begun: false,
            all_down: false,
            last_resort: false,
        }
    }

    /// What is to be done `now`.
    pub(super) fn next(&mut self, now: Instant, view: impl Fn(usize) -> View) -> Next {
        let overlaps = self.rules.overlap;
        if overlaps && now >= self.started + PATIENCE + GRACE {
            return Next::End;
        }
        let may_ask = match overlaps {
            true => now < self.started + PATIENCE,
            false => now < self.started + BUDGET,
        };
        let is_due = match self.due {
            None => self.running == 0,
            Some(due) => now >= due || (overlaps && self.running == 0),
        };
        let chosen = (may_ask && is_due).then(|| self.choose(&view)).flatten();
        if let Some(at) = chosen {
            return self.start(at, now, &view);
        }
        if self.running > 0 {
            // What is due was not there to be asked: nothing is left but waiting.
            let until = self.due.filter(|_| may_ask && !is_due);
            let end = overlaps.then(|| self.started + PATIENCE + GRACE);
            return Next::Wait(until.or(end));
        }
        match self.due {
            Some(due) if !is_due && may_ask => Next::Wait(Some(due)),
            _ => Next::End,
        }
    }

    fn start(&mut self, at: usize, now: Instant, view: &impl Fn(usize) -> View) -> Next {
        let candidate = &mut self.candidates[at];
        let index = usize::from(candidate.index);
        candidate.asked = candidate.asked.saturating_add(1);
        candidate.running += 1;
        let wait = view(index).wait;
        if candidate.running == 1 {
            candidate.due = now + wait;
        }
        self.running += 1;
        if !self.rules.overlap {
            self.due = None;
            return Next::Ask(index, self.rules.read_timeout);
        }
        // The second round is for what was lost on the way, not for what takes its time.
        let round_is_over = self.candidates.iter().all(|c| {
            let is_down = view(usize::from(c.index)).standing == Standing::Down;
            c.asked > 0 || c.answered || (is_down && !self.all_down)
        });
        self.due = Some(now + if round_is_over { LONGEST_WAIT } else { wait });
        Next::Ask(index, self.started + PATIENCE - now)
    }

    /// The best upstream that may still be asked: those asked least, of these those that stand
    /// best, of these the first by the policy. One that is down comes last of all.
    fn choose(&mut self, view: &impl Fn(usize) -> View) -> Option<usize> {
        let Rules {
            overlap,
            max_attempts,
            ..
        } = self.rules;
        if self.last_resort {
            return None;
        }
        let started = self.failed + self.running;
        if max_attempts > 0 && started >= max_attempts {
            return None;
        }
        let standing = |c: &Candidate| view(usize::from(c.index)).standing;
        let all_down = self
            .candidates
            .iter()
            .all(|c| standing(c) == Standing::Down);
        if !self.begun || !overlap {
            self.begun = true;
            self.all_down = all_down;
            if all_down && self.rules.fail_fast {
                return None;
            }
            if all_down && !overlap {
                self.last_resort = true;
                return Some(rand::random_range(0..self.candidates.len()));
            }
        }
        let rank = |c: &Candidate| {
            let standing = standing(c);
            (standing == Standing::Down, c.asked, standing)
        };
        let candidates = self.candidates.iter().enumerate();
        let open = candidates.filter(|(_, candidate)| {
            let rounds = !overlap || candidate.asked < 2;
            let wanted = match self.refused {
                false => standing(candidate) < Standing::Down || overlap,
                // Another one may know better; one that says nothing is not worth the time.
                true => candidate.asked == 0 && standing(candidate) < Standing::Silent,
            };
            rounds && wanted && !candidate.answered
        });
        let best = open.min_by_key(|(_, candidate)| rank(candidate));
        best.map(|(at, _)| at)
    }

    /// The upstream answered what another one may answer better.
    pub(super) fn refused(&mut self, index: usize, now: Instant) {
        self.refused = true;
        self.answered(index, now);
    }

    /// The upstream answered, but another question.
    pub(super) fn mistaken(&mut self, index: usize, now: Instant) {
        self.answered(index, now);
        self.failed += 1;
    }

    fn answered(&mut self, index: usize, now: Instant) {
        self.ended(index);
        if let Some(candidate) = self.candidate(index) {
            candidate.answered = true;
        }
        self.due = Some(now);
    }

    /// An attempt gave no answer.
    pub(super) fn failed(&mut self, index: usize, now: Instant) {
        self.ended(index);
        self.failed += 1;
        let Rules {
            overlap,
            max_attempts,
            ..
        } = self.rules;
        let endless = !overlap && max_attempts == 0;
        let round = endless && self.failed.is_multiple_of(self.candidates.len());
        self.due = Some(now + if round { ROUND_PAUSE } else { Duration::ZERO });
    }

    fn ended(&mut self, index: usize) {
        self.running = self.running.saturating_sub(1);
        if let Some(candidate) = self.candidate(index) {
            candidate.running = candidate.running.saturating_sub(1);
        }
    }

    fn candidate(&mut self, index: usize) -> Option<&mut Candidate> {
        let mut all = self.candidates.iter_mut();
        all.find(|candidate| usize::from(candidate.index) == index)
    }

    /// The upstreams that were asked and should have answered by `now`.
    pub(super) fn late(&self, now: Instant) -> impl Iterator<Item = usize> {
        let late = move |c: &&Candidate| c.running > 0 && now >= c.due;
        self.candidates
            .iter()
            .filter(late)
            .map(|c| usize::from(c.index))
    }

    /// The upstreams that were asked and did not answer yet.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = usize> {
        let open = self.candidates.iter().filter(|c| c.running > 0);
        open.map(|c| usize::from(c.index))
    }

    /// Whether all upstreams were down when one had to be chosen.
    pub(super) const fn all_down(&self) -> bool {
        self.all_down
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
