//! Random numbers that spread load and protect nothing: a generator for each thread.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A wyrand generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator with this seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not zero; the bias is below `bound` / 2^32.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let wide = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        let high = ((wide >> 64) ^ wide) as u64 >> 32;
        ((high * bound as u64) >> 32) as usize
    }
}

/// Calls `f` with the thread's own generator.
pub(crate) fn with<T>(f: impl FnOnce(&mut Random) -> T) -> T {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
    }
    STATE.with(|state| {
        let mut random = Random::new(state.get());
        let out = f(&mut random);
        state.set(random.0);
        out
    })
}
