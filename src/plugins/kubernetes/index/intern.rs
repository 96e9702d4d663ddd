//! Values that many objects have in common, kept once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// One shared copy of each value that is in use.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// At how many values the ones out of use are looked for.
    sweep_at: usize,
}

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            sweep_at: 64,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// The shared copy of `value`.
    pub(super) fn get<'v>(&mut self, value: &'v T) -> Arc<T>
    where
        Arc<T>: From<&'v T>,
    {
        if let Some(known) = self.known.get(value) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.known.shrink_to(2 * self.known.len());
            self.sweep_at = (2 * self.known.len()).max(64);
        }
        let value: Arc<T> = value.into();
        self.known.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_use_are_forgotten() {
        let mut interner = Interner::<str>::default();
        let kept = interner.get("kept");
        for number in 0..1000 {
            interner.get(&*number.to_string());
        }
        assert!(interner.known.len() <= 64);
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
    }
}
