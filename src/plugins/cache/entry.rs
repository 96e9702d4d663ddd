//! A stored reply.

use super::Key;
use crate::dns::{Header, Normalised, Rcode, Reply, Section};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Milliseconds of the clock of a cache's stores ([`super::Inner::millis`]).
pub(super) type Millis = u64;

/// How long a failure is kept at least, in milliseconds (RFC 9520 §3.2).
pub(super) const FAILURE_LEAST: Millis = 1000;

/// A stored reply: its records in wire form, and what else a hit needs.
///
/// Immutable but for the marks that hits and refreshes leave. Small, for there are many: times are
/// relative to `stored`, and what has a length shares one allocation.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name, behind it the records, and behind them EDNS options (extended errors), all in
    /// wire form.
    data: Box<[u8]>,
    stored: Millis,
    /// Seconds for which it is fresh.
    lifetime: u32,
    hits: AtomicU32,
    /// When the last hit that counted was, in milliseconds since it was stored.
    last_hit: AtomicU32,
    /// Before when there is no refresh, in milliseconds since it was stored.
    retry_after: AtomicU32,
    question: (u16, u16, u8),
    /// Where the sections end in the records.
    ends: [u16; 3],
    counts: [u16; 3],
    flags: u16,
    rcode: Rcode,
    name_len: u8,
    /// Whether it has what was asked for (`serve_stale_policy prefer_positive`).
    pub(super) answering: bool,
    visited: AtomicBool,
    refreshing: AtomicBool,
    /// How often asking for it failed, one time after the other.
    failures: AtomicU8,
}

/// The TTLs of the records that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ttl {
    /// Their own, less so many seconds.
    Aged(u32),
    /// The same for all.
    Fixed(u32),
}

/// What a reply is stored with besides its records.
#[derive(Debug)]
pub(super) struct Facts<'o> {
    pub(super) flags: u16,
    pub(super) rcode: Rcode,
    pub(super) answering: bool,
    /// EDNS options in wire form.
    pub(super) options: &'o [u8],
    pub(super) lifetime: u32,
}

impl Entry {
    /// An entry of these records; `None` if it is larger than entries may be.
    pub(super) fn new(
        key: &Key<'_>,
        records: &Normalised,
        facts: &Facts<'_>,
        now: Millis,
    ) -> Option<Self> {
        let wire = records.records();
        if wire.len() + facts.options.len() > crate::limits::CACHE_ENTRY {
            return None;
        }
        Some(Self {
            // Below CACHE_ENTRY, which 16 bits hold.
            ends: records.ends().map(|end| end as u16),
            counts: records.counts(),
            ..Self::bare(key, wire, facts, now)
        })
    }

    /// An entry that stands for the `failures`th failure in turn to get an answer: no records,
    /// SERVFAIL, and EDNS options that say why. `None` if these are larger than entries may be.
    pub(super) fn of_failure(
        key: &Key<'_>,
        options: &[u8],
        (failures, lifetime): (u8, u32),
        now: Millis,
    ) -> Option<Self> {
        let facts = Facts {
            flags: 0,
            rcode: Rcode::SERVFAIL,
            answering: false,
            options,
            lifetime,
        };
        (options.len() <= crate::limits::CACHE_ENTRY).then(|| Self {
            failures: AtomicU8::new(failures),
            ..Self::bare(key, &[], &facts, now)
        })
    }

    fn bare(key: &Key<'_>, wire: &[u8], facts: &Facts<'_>, now: Millis) -> Self {
        Self {
            data: [key.name, wire, facts.options].concat().into(),
            stored: now,
            lifetime: facts.lifetime,
            hits: AtomicU32::new(0),
            last_hit: AtomicU32::new(0),
            retry_after: AtomicU32::new(0),
            question: key.question,
            ends: [0; 3],
            counts: [0; 3],
            flags: facts.flags,
            rcode: facts.rcode,
            // A name has 255 octets at most (RFC 1035 §2.3.4).
            name_len: key.name.len() as u8,
            answering: facts.answering,
            visited: AtomicBool::new(false),
            refreshing: AtomicBool::new(false),
            failures: AtomicU8::new(0),
        }
    }

    /// Octets that are allocated for it, behind an [`Arc`].
    pub(super) fn cost(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        COUNTS + size_of::<Self>() + self.data.len()
    }

    #[inline]
    fn name(&self) -> &[u8] {
        &self.data[..usize::from(self.name_len)]
    }

    /// Whether this is the entry of `key`.
    #[inline]
    pub(super) fn is_for(&self, key: &Key<'_>) -> bool {
        self.question == key.question && *self.name() == *key.name
    }

    /// The key that this is the entry of.
    pub(super) fn key(&self) -> Key<'_> {
        Key {
            name: self.name(),
            question: self.question,
        }
    }

    /// The response code.
    pub(super) const fn rcode(&self) -> Rcode {
        self.rcode
    }

    /// When it was stored.
    pub(super) const fn stored(&self) -> Millis {
        self.stored
    }

    /// Whether it is one of the failures that this server saw itself ([`Self::of_failure`]), and
    /// the how manieth in turn.
    pub(super) fn failures(&self) -> u8 {
        self.failures.load(Relaxed)
    }

    /// Milliseconds since it was stored; 49 days at most.
    #[inline]
    fn since(&self, now: Millis) -> u32 {
        u32::try_from(now.saturating_sub(self.stored)).unwrap_or(u32::MAX)
    }

    /// Whole seconds since it was stored.
    #[inline]
    pub(super) fn age(&self, now: Millis) -> u32 {
        u32::try_from(now.saturating_sub(self.stored) / 1000).unwrap_or(u32::MAX)
    }

    /// Whether it is no older than its TTL, or than `window` seconds behind it.
    #[inline]
    pub(super) fn is_servable(&self, now: Millis, window: u32) -> bool {
        self.age(now) < self.lifetime.saturating_add(window)
    }

    /// Seconds for which it is fresh yet.
    pub(super) fn remaining(&self, now: Millis) -> u32 {
        self.lifetime.saturating_sub(self.age(now))
    }

    /// Seconds for which it was fresh when it was stored.
    pub(super) const fn lifetime(&self) -> u32 {
        self.lifetime
    }

    /// Writes the records, flags and options into a reply that was started.
    #[inline]
    pub(super) fn write(&self, reply: &mut Reply, ttl: Ttl, wants_ad: bool) {
        reply.set_rcode(self.rcode);
        let kept = if wants_ad { !0 } else { !Header::AD };
        reply.set_flag(Header::AA | Header::TC | Header::RA | Header::AD, false);
        reply.set_flag(self.flags & kept, true);
        let records = usize::from(self.name_len);
        let mut from = records;
        for section in Section::ALL {
            let to = records + usize::from(self.ends[section as usize]);
            reply.push_wire(section, &self.data[from..to], self.counts[section as usize]);
            from = to;
        }
        if from < self.data.len() {
            reply.set_upstream_options(&self.data[from..]);
        }
        match ttl {
            Ttl::Aged(0) => {}
            Ttl::Aged(age) => reply.map_ttls(|ttl| ttl.saturating_sub(age)),
            Ttl::Fixed(ttl) => reply.map_ttls(|_| ttl),
        }
    }

    /// Marks the entry as used; writes only if it is not marked.
    #[inline]
    pub(super) fn visit(&self) {
        if !self.visited.load(Relaxed) {
            self.visited.store(true, Relaxed);
        }
    }

    /// Takes the mark away; gives whether it was there.
    pub(super) fn unvisit(&self) -> bool {
        self.visited.swap(false, Relaxed)
    }

    /// Counts a hit, from 1 again after a pause longer than `gap`; gives whether there were
    /// `amount`. Beyond `amount` nothing is written but, now and then, the time.
    pub(super) fn count_hit(&self, now: Millis, gap: Duration, amount: u32) -> bool {
        let gap = u32::try_from(gap.as_millis()).unwrap_or(u32::MAX);
        let now = self.since(now);
        let since = now.saturating_sub(self.last_hit.load(Relaxed));
        let hits = self.hits.load(Relaxed);
        if hits > 0 && since > gap {
            self.hits.store(1, Relaxed);
            self.last_hit.store(now, Relaxed);
            return amount <= 1;
        }
        if hits == 0 || since >= gap.min(16_000) / 16 {
            self.last_hit.store(now, Relaxed);
        }
        if hits < amount {
            return self.hits.fetch_add(1, Relaxed) + 1 >= amount;
        }
        true
    }

    /// Takes over the hits of the entry that this one replaces.
    pub(super) fn inherit_hits(&self, old: &Self) {
        self.hits.store(old.hits.load(Relaxed), Relaxed);
        let last = old.stored + u64::from(old.last_hit.load(Relaxed));
        self.last_hit.store(self.since(last), Relaxed);
    }

    /// Whether asking for it failed so short a time ago that it is not asked for again.
    pub(super) fn rests(&self, now: Millis) -> bool {
        self.since(now) < self.retry_after.load(Relaxed)
    }

    /// Begins a refresh, unless one is under way or failed a short time ago.
    pub(super) fn begin_refresh(self: &Arc<Self>, now: Millis) -> Option<Refreshing> {
        let may = !self.rests(now) && !self.refreshing.load(Relaxed);
        (may && !self.refreshing.swap(true, Relaxed)).then(|| Refreshing(Arc::clone(self)))
    }

    /// Says that asking again failed at `now`. There is no refresh for a second, for twice as long
    /// after each further failure, `most` at most; and for `recheck` in any case.
    pub(super) fn refresh_failed(&self, now: Millis, recheck: Duration, most: Duration) {
        // Of questions that failed together, one counts.
        if self.rests(now) {
            return;
        }
        let failures = self.failures().saturating_add(1);
        self.failures.store(failures, Relaxed);
        let recheck = u64::try_from(recheck.as_millis()).unwrap_or(u64::MAX);
        let pause = pause_after(failures, most).max(recheck);
        let until = u64::from(self.since(now)).saturating_add(pause);
        self.retry_after
            .store(u32::try_from(until).unwrap_or(u32::MAX), Relaxed);
    }
}

/// How long after so many failures in turn there is no further attempt: a second, and twice as
/// long each time, `most` at most (RFC 9520 §3.2).
pub(super) fn pause_after(failures: u8, most: Duration) -> Millis {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    let doublings = u32::from(failures).saturating_sub(1).min(16);
    (FAILURE_LEAST << doublings).min(most)
}

/// The one refresh of an entry that is under way. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Refreshing(Arc<Entry>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Relaxed);
    }
}
