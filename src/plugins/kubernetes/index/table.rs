//! A sharded table of immutable shards: readers take no lock, a change rebuilds one shard.

use arc_swap::ArcSwap;
use foldhash::quality::FixedState;
use smallvec::SmallVec;
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
        let empty: Arc<Box<[Row<T>]>> = Arc::default();
        Self {
            shards: (0..shards)
                .map(|_| ArcSwap::new(Arc::clone(&empty)))
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

    /// What `take` makes of the rows of this hash: the first result that is one.
    #[inline]
    pub(super) fn find<R>(&self, hash: u64, take: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let rows = self.shard(hash).load();
        let first = rows.partition_point(|row| row.hash < hash);
        let same = rows[first..].iter().take_while(|row| row.hash == hash);
        same.map(|row| &row.value).find_map(take)
    }

    /// Changes the rows of this hash.
    pub(super) fn edit(&self, hash: u64, change: impl FnOnce(&mut SmallVec<[T; 4]>)) {
        let shard = self.shard(hash);
        let rows = shard.load();
        let first = rows.partition_point(|row| row.hash < hash);
        let same = rows[first..].iter().take_while(|row| row.hash == hash);
        let mut values: SmallVec<[T; 4]> = same.map(|row| row.value.clone()).collect();
        let last = first + values.len();
        change(&mut values);
        // Exactly as long as it has to be: shards are many, and live long.
        let mut new = Vec::with_capacity(rows.len() - (last - first) + values.len());
        new.extend_from_slice(&rows[..first]);
        new.extend(values.into_iter().map(|value| Row { hash, value }));
        new.extend_from_slice(&rows[last..]);
        shard.store(Arc::new(new.into()));
    }

    /// All values, shard by shard.
    pub(super) fn for_each(&self, mut f: impl FnMut(&T)) {
        for shard in &self.shards {
            shard.load().iter().for_each(|row| f(&row.value));
        }
    }

    /// Octets of the shards themselves; what values refer to is not counted.
    pub(super) fn bytes(&self) -> usize {
        let rows = |shard: &Shard<T>| shard.load().len() * size_of::<Row<T>>() + 48;
        self.shards.iter().map(rows).sum()
    }
}
