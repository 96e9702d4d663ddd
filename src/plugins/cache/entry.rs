//! A stored reply.

use super::Key;
use crate::dns::{Header, Normalised, Rcode, Reply, Section};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A stored reply: its records in wire form, and what else a hit needs.
///
/// Immutable but for the marks that hits and refreshes leave.
#[derive(Debug)]
pub(super) struct Entry {
    name: Box<[u8]>,
    question: (u16, u16, u8),
    /// Records and behind them EDNS options (extended errors) in wire form.
    data: Box<[u8]>,
    /// Where the sections end in `data`.
    ends: [u16; 3],
    counts: [u16; 3],
    flags: u16,
    rcode: Rcode,
    /// Whether it has what was asked for (`serve_stale_policy prefer_positive`).
    pub(super) answering: bool,
    stored: Instant,
    /// Seconds for which it is fresh.
    lifetime: u32,
    visited: AtomicBool,
    hits: AtomicU32,
    /// Milliseconds of the store's clock at the last hit that counted.
    last_hit: AtomicU64,
    refreshing: AtomicBool,
    /// Milliseconds of the store's clock before which there is no refresh.
    retry_after: AtomicU64,
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
        now: Instant,
    ) -> Option<Self> {
        let wire = records.records();
        let mut data = Vec::with_capacity(wire.len() + facts.options.len());
        data.extend_from_slice(wire);
        data.extend_from_slice(facts.options);
        if data.len() > crate::limits::CACHE_ENTRY {
            return None;
        }
        Some(Self {
            name: key.name.into(),
            question: key.question,
            data: data.into(),
            // Below CACHE_ENTRY, which 16 bits hold.
            ends: records.ends().map(|end| end as u16),
            counts: records.counts(),
            flags: facts.flags,
            rcode: facts.rcode,
            answering: facts.answering,
            stored: now,
            lifetime: facts.lifetime,
            visited: AtomicBool::new(false),
            hits: AtomicU32::new(0),
            last_hit: AtomicU64::new(0),
            refreshing: AtomicBool::new(false),
            retry_after: AtomicU64::new(0),
        })
    }

    /// Whether this is the entry of `key`.
    #[inline]
    pub(super) fn is_for(&self, key: &Key<'_>) -> bool {
        self.question == key.question && *self.name == *key.name
    }

    /// The key that this is the entry of.
    pub(super) fn key(&self) -> Key<'_> {
        Key {
            name: &self.name,
            question: self.question,
        }
    }

    /// The response code.
    pub(super) const fn rcode(&self) -> Rcode {
        self.rcode
    }

    /// Whole seconds since it was stored.
    #[inline]
    pub(super) fn age(&self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.stored).as_secs();
        u32::try_from(age).unwrap_or(u32::MAX)
    }

    /// Whether it is no older than its TTL, or than `window` seconds behind it.
    #[inline]
    pub(super) fn is_servable(&self, now: Instant, window: u32) -> bool {
        self.age(now) < self.lifetime.saturating_add(window)
    }

    /// Seconds for which it is fresh yet.
    pub(super) fn remaining(&self, now: Instant) -> u32 {
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
        let mut from = 0;
        for section in Section::ALL {
            let to = usize::from(self.ends[section as usize]);
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
    pub(super) fn count_hit(&self, now_ms: u64, gap: Duration, amount: u32) -> bool {
        let gap = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        let since = now_ms.saturating_sub(self.last_hit.load(Relaxed));
        let hits = self.hits.load(Relaxed);
        if hits > 0 && since > gap {
            self.hits.store(1, Relaxed);
            self.last_hit.store(now_ms, Relaxed);
            return amount <= 1;
        }
        if hits == 0 || since >= gap.min(16_000) / 16 {
            self.last_hit.store(now_ms, Relaxed);
        }
        if hits < amount {
            return self.hits.fetch_add(1, Relaxed) + 1 >= amount;
        }
        true
    }

    /// Takes over the hits of the entry that this one replaces.
    pub(super) fn inherit_hits(&self, old: &Self) {
        self.hits.store(old.hits.load(Relaxed), Relaxed);
        self.last_hit.store(old.last_hit.load(Relaxed), Relaxed);
    }

    /// Whether a refresh may start at `now_ms`.
    pub(super) fn may_refresh(&self, now_ms: u64) -> bool {
        now_ms >= self.retry_after.load(Relaxed) && !self.refreshing.load(Relaxed)
    }

    /// Begins a refresh, unless one is under way or failed a short time ago.
    pub(super) fn begin_refresh(self: &Arc<Self>, now_ms: u64) -> Option<Refreshing> {
        (self.may_refresh(now_ms) && !self.refreshing.swap(true, Relaxed))
            .then(|| Refreshing(Arc::clone(self)))
    }
}

/// The one refresh of an entry that is under way. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Refreshing(Arc<Entry>);

impl Refreshing {
    /// The entry.
    pub(super) fn entry(&self) -> &Entry {
        &self.0
    }

    /// Says that the refresh failed: there is no other before `at_ms`.
    pub(super) fn failed(&self, at_ms: u64) {
        self.0.retry_after.store(at_ms, Relaxed);
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Relaxed);
    }
}
