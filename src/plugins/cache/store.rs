//! A store of entries that readers search without a lock.

use super::Key;
use super::entry::Entry;
use arc_swap::{ArcSwap, Guard};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

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
#[derive(Debug)]
pub(super) struct Store {
    shards: Box<[Shard]>,
    shard_capacity: usize,
    len: AtomicUsize,
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

impl Store {
    /// A store of about `capacity` entries: a whole number in each shard (CA-3).
    pub(super) fn new(capacity: usize) -> Self {
        let shards = capacity.div_ceil(SHARD_ENTRIES).clamp(SHARDS, 1 << 20);
        let shards = shards.next_power_of_two();
        let shard_capacity = (capacity / shards).clamp(SHARD_ENTRIES_MIN, SHARD_ENTRIES);
        let shard = |_| Shard {
            filter: AtomicU64::new(0),
            slots: ArcSwap::default(),
            hand: Mutex::new(0),
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            shard_capacity,
            len: AtomicUsize::new(0),
        }
    }

    /// Entries that are stored, those that are too old included.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
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

    /// Stores an entry in the place of the one of its key, if there is one. Gives whether another
    /// one had to go: one that is not servable at `now` (with `window` seconds beyond its TTL), or
    /// the first from the hand on that was not used since the hand passed it (SIEVE).
    pub(super) fn insert(&self, hash: u64, entry: Arc<Entry>, now: Instant, window: u32) -> bool {
        let shard = self.shard(hash);
        let mut hand = shard.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let old = shard.slots.load_full();
        let mut hashes = old.hashes.to_vec();
        let mut entries = old.entries.to_vec();
        let mut evicted = false;
        if let Some(at) = old.find(hash, &entry.key()) {
            entries[at] = entry;
        } else {
            if entries.len() >= self.shard_capacity {
                let at = victim(&entries, &mut hand, now, window);
                hashes.remove(at);
                entries.remove(at);
                evicted = true;
            } else {
                self.len.fetch_add(1, Relaxed);
            }
            hashes.push(hash);
            entries.push(entry);
        }
        shard.swap(hashes, entries);
        evicted
    }

    /// Removes the entry of `key`.
    pub(super) fn remove(&self, hash: u64, key: &Key<'_>) {
        // Nearly always there is none: look before the lock is taken.
        if self.find(hash, key).is_none() {
            return;
        }
        let shard = self.shard(hash);
        let mut hand = shard.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let old = shard.slots.load_full();
        if let Some(at) = old.find(hash, key) {
            let mut hashes = old.hashes.to_vec();
            let mut entries = old.entries.to_vec();
            hashes.remove(at);
            entries.remove(at);
            if *hand > at {
                *hand -= 1;
            }
            self.len.fetch_sub(1, Relaxed);
            shard.swap(hashes, entries);
        }
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
fn victim(entries: &[Arc<Entry>], hand: &mut usize, now: Instant, window: u32) -> usize {
    if let Some(at) = entries.iter().position(|e| !e.is_servable(now, window)) {
        // What the hand points to moves up with the entries behind the evicted one.
        *hand -= usize::from(at < *hand);
        return at;
    }
    let mut at = *hand % entries.len();
    // One round takes every mark away; readers may set some again, so the rounds are counted.
    for _ in 0..2 * entries.len() {
        if !entries[at].unvisit() {
            break;
        }
        at = (at + 1) % entries.len();
    }
    *hand = at;
    at
}
