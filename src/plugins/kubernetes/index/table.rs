//! A sharded table of immutable shards: readers take no lock, a change rebuilds one shard.

use arc_swap::ArcSwap;
use foldhash::quality::FixedState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// Rows by hash, in shards behind arc-swap.
///
/// Invariant: the rows of a shard are sorted by hash. Rows of equal hash are told apart by the
/// caller. One writer at a time (the index holds a lock); readers see a shard before or after a
/// change, never between.
pub(super) struct Table<T> {
    shards: Box<[Shard<T>]>,
    hasher: FixedState,
}

/// Rows sorted by hash.
type Shard<T> = ArcSwap<Box<[Row<T>]>>;

#[derive(Clone)]
struct Row<T> {
    hash: u64,
    value: T,
}

impl<T: Clone> Table<T> {
    /// An empty table of `shards` shards (a power of two), with a random seed.
    pub(super) fn new(shards: usize) -> Self {
        debug_assert!(shards.is_power_of_two());
        Self {
            shards: (0..shards)
                .map(|_| ArcSwap::from_pointee(Box::default()))
                .collect(),
            hasher: FixedState::with_seed(rand::random()),
        }
    }

    /// The hash of a key that consists of these parts.
    #[inline]
    pub(super) fn hash(&self, parts: [&[u8]; 2]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(parts[0]);
        hasher.write_u8(0);
        hasher.write(parts[1]);
        hasher.finish()
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard<T> {
        // The upper bits: the lower ones order the rows within the shard just as well.
        &self.shards[(hash >> 48) as usize & (self.shards.len() - 1)]
    }

    /// What `take` makes of the row of this hash that `is` is true of.
    #[inline]
    pub(super) fn get<R>(
        &self,
        hash: u64,
        is: impl Fn(&T) -> bool,
        take: impl FnOnce(&T) -> R,
    ) -> Option<R> {
        let rows = self.shard(hash).load();
        let first = rows.partition_point(|row| row.hash < hash);
        let same = rows[first..].iter().take_while(|row| row.hash == hash);
        same.map(|row| &row.value).find(|value| is(value)).map(take)
    }

    /// Replaces the row of this hash that `is` is true of: adds, changes or (`None`) removes it.
    pub(super) fn set(&self, hash: u64, is: impl Fn(&T) -> bool, value: Option<T>) {
        let shard = self.shard(hash);
        let rows = shard.load();
        let first = rows.partition_point(|row| row.hash < hash);
        let same = rows[first..].iter().take_while(|row| row.hash == hash);
        let found = same
            .clone()
            .position(|row| is(&row.value))
            .map(|at| first + at);
        let (until, from) = match found {
            Some(at) => (at, at + 1),
            None if value.is_none() => return,
            None => (first, first),
        };
        let new = value.into_iter().map(|value| Row { hash, value });
        let kept = rows[..until].iter().cloned();
        let rows: Vec<_> = kept
            .chain(new)
            .chain(rows[from..].iter().cloned())
            .collect();
        shard.store(Arc::new(rows.into()));
    }

    /// All values, shard by shard.
    pub(super) fn for_each(&self, mut f: impl FnMut(&T)) {
        for shard in &self.shards {
            shard.load().iter().for_each(|row| f(&row.value));
        }
    }
}
