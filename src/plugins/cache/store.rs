//! A store of entries that readers search without a lock.

use super::Key;
use super::entry::{Entry, Millis};
use arc_swap::{ArcSwap, Guard};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Shards at least; more where a shard would hold more than [`SHARD_ENTRIES`].
const SHARDS: usize = 256;
/// Entries of a shard at most.
const SHARD_ENTRIES: usize = 64;
/// Entries that a shard can hold at least, however small the capacity (CA-3).
const SHARD_ENTRIES_MIN: usize = 4;

/// Entries by key, in shards that are replaced whole.
///
/// A reader loads one pointer and searches a short slice; it writes nothing that another thread
/// writes. A writer copies the slice of one shard under the shard's own lock. Entries that are
/// too old stay until they are replaced or evicted.
///
/// Invariant: what is allocated for the store and its entries is `bytes` octets, and no more than
/// `budget`. Writers add to `bytes` what they are about to store, and take from it afterwards.
#[derive(Debug)]
pub(super) struct Store {
    shards: Box<[Shard]>,
    shard_capacity: usize,
    budget: usize,
    len: AtomicUsize,
    bytes: AtomicUsize,
    /// The shard that is next to give up an entry when there are too many octets.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Shard {
    /// One bit for each hash in the shard: without its bit a key is not there.
    filter: AtomicU64,
    slots: ArcSwap<Slots>,
    /// The place at which the search for an entry to evict goes on.
    hand: Mutex<usize>,
}

#[derive(Debug, Default)]
struct Slots {
    hashes: Box<[u64]>,
    entries: Box<[Arc<Entry>]>,
}

/// An entry that was found, as long as it is looked at.
pub(super) struct Found {
    slots: Guard<Arc<Slots>>,
    index: usize,
}

impl Deref for Found {
    type Target = Arc<Entry>;

    #[inline]
    fn deref(&self) -> &Arc<Entry> {
        &self.slots.entries[self.index]
    }
}

impl Slots {
    #[inline]
    fn find(&self, hash: u64, key: &Key<'_>) -> Option<usize> {
        let mut from = 0;
        while let Some(at) = self.hashes[from..].iter().position(|&h| h == hash) {
            if self.entries[from + at].is_for(key) {
                return Some(from + at);
            }
            from += at + 1;
        }
        None
    }
}

/// The filter's bit for a hash: of other bits than those that choose the shard.
#[inline]
const fn filter_bit(hash: u64) -> u64 {
    1 << (hash >> 58)
}

/// Octets that an entry takes, its place in the shard included.
fn cost(entry: &Entry) -> usize {
    entry.cost() + size_of::<u64>() + size_of::<Arc<Entry>>()
}

impl Store {
    /// A store of about `capacity` entries, a whole number in each shard (CA-3), which take
    /// `budget` octets at most.
    pub(super) fn new(capacity: usize, budget: usize) -> Self {
        let shards = capacity.div_ceil(SHARD_ENTRIES).clamp(SHARDS, 1 << 20);
        // The shards themselves are a small part of the budget.
        let shards = shards.min((budget / 4096).max(SHARDS));
        let shards = shards.next_power_of_two();
        let shard_capacity = (capacity / shards).clamp(SHARD_ENTRIES_MIN, SHARD_ENTRIES);
        let shard = |_| Shard {
            filter: AtomicU64::new(0),
            slots: ArcSwap::default(),
            hand: Mutex::new(0),
        };
        let of_a_shard = size_of::<Shard>() + 2 * size_of::<usize>() + size_of::<Slots>();
        Self {
            shards: (0..shards).map(shard).collect(),
            shard_capacity,
            budget,
            len: AtomicUsize::new(0),
            bytes: AtomicUsize::new(shards * of_a_shard),
            turn: AtomicUsize::new(0),
        }
    }

    /// Entries that are stored, those that are too old included.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Octets that are allocated.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Octets that may be allocated.
    pub(super) const fn budget(&self) -> usize {
        self.budget
    }

    /// Entries that can be stored.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.shards.len() * self.shard_capacity
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        // The number of shards is a power of two.
        &self.shards[hash as usize & (self.shards.len() - 1)]
    }

    /// The entry of `key`, of whatever age.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &Key<'_>) -> Option<Found> {
        let shard = self.shard(hash);
        if shard.filter.load(Relaxed) & filter_bit(hash) == 0 {
            return None;
        }
        let slots = shard.slots.load();
        let index = slots.find(hash, key)?;
        Some(Found { slots, index })
    }

    /// Stores an entry in the place of the one of its key, if there is one. Gives how many others
    /// had to go: of its own shard where that is full, of all shards in turn where the octets are
    /// too many.
    pub(super) fn insert(&self, hash: u64, entry: Arc<Entry>, now: Millis, window: u32) -> u64 {
        let octets = cost(&entry);
        let mut evicted = 0;
        let mut bytes = self.bytes.fetch_add(octets, Relaxed) + octets;
        while bytes > self.budget {
            if !self.evict(now, window) {
                // Others fill the whole budget at this moment.
                self.bytes.fetch_sub(octets, Relaxed);
                return evicted;
            }
            evicted += 1;
            bytes = self.bytes();
        }
        let shard = self.shard(hash);
        let mut hand = shard.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let old = shard.slots.load_full();
        let mut hashes = old.hashes.to_vec();
        let mut entries = old.entries.to_vec();
        if let Some(at) = old.find(hash, &entry.key()) {
            self.bytes.fetch_sub(cost(&entries[at]), Relaxed);
            entries[at] = entry;
        } else {
            if entries.len() >= self.shard_capacity {
                let at = victim(&entries, &mut hand, now, window);
                hashes.remove(at);
                let gone = entries.remove(at);
                self.bytes.fetch_sub(cost(&gone), Relaxed);
                evicted += 1;
            } else {
                self.len.fetch_add(1, Relaxed);
            }
            hashes.push(hash);
            entries.push(entry);
        }
        shard.swap(hashes, entries);
        evicted
    }

    /// Evicts an entry of the next shard that has one which was not used lately. False if there is
    /// none in any.
    fn evict(&self, now: Millis, window: u32) -> bool {
        // The first round takes every mark away.
        for _ in 0..2 * self.shards.len() {
            let turn = self.turn.fetch_add(1, Relaxed);
            let shard = &self.shards[turn & (self.shards.len() - 1)];
            if shard.filter.load(Relaxed) == 0 {
                continue;
            }
            let mut hand = shard.hand.lock().unwrap_or_else(PoisonError::into_inner);
            let entries = &shard.slots.load_full().entries;
            if entries.is_empty() {
                continue;
            }
            if let Some(at) = unused(entries, &mut hand, now, window) {
                self.take_out(shard, |index, _| index != at);
                return true;
            }
        }
        false
    }

    /// Removes the entry of `key`.
    pub(super) fn remove(&self, hash: u64, key: &Key<'_>) {
        // Nearly always there is none: look before the lock is taken.
        if self.find(hash, key).is_none() {
            return;
        }
        let shard = self.shard(hash);
        let mut hand = shard.hand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = shard.slots.load_full().find(hash, key) {
            *hand -= usize::from(at < *hand);
            self.take_out(shard, |index, _| index != at);
        }
    }

    /// Removes the entries that are not to be kept.
    pub(super) fn retain(&self, keep: impl Fn(&Entry) -> bool) {
        for shard in &self.shards {
            let mut hand = shard.hand.lock().unwrap_or_else(PoisonError::into_inner);
            if !shard.slots.load().entries.iter().all(|entry| keep(entry)) {
                *hand = 0;
                self.take_out(shard, |_, entry| keep(entry));
            }
        }
    }

    /// Called with the lock on the shard's `hand` held.
    fn take_out(&self, shard: &Shard, keep: impl Fn(usize, &Entry) -> bool) {
        let old = shard.slots.load_full();
        let (mut hashes, mut entries) = (Vec::new(), Vec::new());
        for (index, (&hash, entry)) in old.hashes.iter().zip(old.entries.iter()).enumerate() {
            if keep(index, entry) {
                hashes.push(hash);
                entries.push(Arc::clone(entry));
            } else {
                self.bytes.fetch_sub(cost(entry), Relaxed);
                self.len.fetch_sub(1, Relaxed);
            }
        }
        shard.swap(hashes, entries);
    }
}

impl Shard {
    /// Called with the lock on `hand` held.
    fn swap(&self, hashes: Vec<u64>, entries: Vec<Arc<Entry>>) {
        let filter = hashes.iter().fold(0, |bits, &hash| bits | filter_bit(hash));
        // Readers between the two see an entry too late or search for one in vain, no more.
        self.slots.store(Arc::new(Slots {
            hashes: hashes.into(),
            entries: entries.into(),
        }));
        self.filter.store(filter, Relaxed);
    }
}

/// The index of the entry to evict; `entries` is not empty.
fn victim(entries: &[Arc<Entry>], hand: &mut usize, now: Millis, window: u32) -> usize {
    // The first search takes every mark away; readers may set some again.
    unused(entries, hand, now, window)
        .or_else(|| unused(entries, hand, now, window))
        .unwrap_or(*hand)
}

/// The index of an entry that is not servable at `now` (with `window` seconds beyond its TTL), or
/// of the first from the hand on that was not used since the hand passed it (SIEVE). `entries` is
/// not empty; the hand points to one of them afterwards, if they were all used.
fn unused(entries: &[Arc<Entry>], hand: &mut usize, now: Millis, window: u32) -> Option<usize> {
    if let Some(at) = entries.iter().position(|e| !e.is_servable(now, window)) {
        // What the hand points to moves up with the entries behind the evicted one.
        *hand -= usize::from(at < *hand);
        return Some(at);
    }
    *hand %= entries.len();
    for _ in 0..entries.len() {
        if !entries[*hand].unvisit() {
            return Some(*hand);
        }
        *hand = (*hand + 1) % entries.len();
    }
    None
}
