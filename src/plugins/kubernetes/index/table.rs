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
type Shard<T> = ArcSwap<Rows<T>>;

/// As many rows as most shards have in a cluster of a thousand services lie inline: one trip to memory
/// less.
type Rows<T> = SmallVec<[Row<T>; 2]>;

#[derive(Clone)]
struct Row<T> {
    hash: u64,
    value: T,
}

/// The place among `parts` equal parts of all hashes, and where in that part, as a hash again.
#[inline]
const fn scale(hash: u64, parts: usize) -> (usize, u64) {
    let wide = hash as u128 * parts as u128;
    ((wide >> 64) as usize, wide as u64)
}

impl<T: Clone> Table<T> {
    /// An empty table of `shards` shards, with a random seed.
    pub(super) fn new(shards: usize) -> Self {
        let empty: Arc<Rows<T>> = Arc::default();
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
        // By the upper end, so that the rows of a shard are spread evenly over what is left.
        let (shard, _) = scale(hash, self.shards.len());
        &self.shards[shard]
    }

    /// Where the rows of this hash begin, or would.
    #[inline]
    fn first(&self, rows: &[Row<T>], hash: u64) -> usize {
        // Hashes are spread evenly: it is where it is to be expected, or a few rows beside, which
        // costs one cache line where a binary search touches as many as it has steps.
        let (_, rest) = scale(hash, self.shards.len());
        let (mut at, _) = scale(rest, rows.len());
        while at < rows.len() && rows[at].hash < hash {
            at += 1;
        }
        while at > 0 && rows[at - 1].hash >= hash {
            at -= 1;
        }
        at
    }

    /// What `take` makes of the rows of this hash: the first result that is one.
    #[inline]
    pub(super) fn find<R>(&self, hash: u64, take: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let rows = self.shard(hash).load();
        let first = self.first(&rows, hash);
        let same = rows[first..].iter().take_while(|row| row.hash == hash);
        same.map(|row| &row.value).find_map(take)
    }

    /// Changes the rows of this hash.
    pub(super) fn edit(&self, hash: u64, change: impl FnOnce(&mut SmallVec<[T; 4]>)) {
        let shard = self.shard(hash);
        let rows = shard.load();
        let first = self.first(&rows, hash);
        let same = rows[first..].iter().take_while(|row| row.hash == hash);
        let mut values: SmallVec<[T; 4]> = same.map(|row| row.value.clone()).collect();
        let last = first + values.len();
        change(&mut values);
        // Exactly as long as it has to be: shards are many, and live long.
        let mut new = Rows::with_capacity(rows.len() - (last - first) + values.len());
        new.extend(rows[..first].iter().cloned());
        new.extend(values.into_iter().map(|value| Row { hash, value }));
        new.extend(rows[last..].iter().cloned());
        shard.store(Arc::new(new));
    }

    /// All values, shard by shard.
    pub(super) fn for_each(&self, mut f: impl FnMut(&T)) {
        for shard in &self.shards {
            shard.load().iter().for_each(|row| f(&row.value));
        }
    }

    /// Octets of the shards themselves; what values refer to is not counted.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |shard: &Shard<T>| {
            let rows = shard.load();
            let spilled = if rows.spilled() { rows.capacity() } else { 0 };
            size_of::<Shard<T>>() + 16 + size_of::<Rows<T>>() + spilled * size_of::<Row<T>>()
        };
        self.shards.iter().map(bytes).sum()
    }
}
