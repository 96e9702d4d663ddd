//! Queries over TCP that wait for an answer, those of all connections together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The queries that wait, in the order in which they came.
///
/// There is a bound to their number: beyond it the one that has waited longest makes room, because its
/// client is the likeliest to have given up.
#[derive(Debug)]
pub(in crate::server) struct Line {
    bound: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A query's place in the line, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    line: Arc<Line>,
    number: u64,
    called: oneshot::Receiver<()>,
}

impl Line {
    /// A line of at most `bound` queries, at least one.
    pub fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            bound,
            places: Mutex::default(),
        })
    }

    /// The last place; at the bound it costs the first query its own.
    pub(super) fn join(self: &Arc<Self>) -> Place {
        let (call, called) = oneshot::channel();
        let mut places = self.places();
        if places.taken.len() >= self.bound
            && let Some((_, first)) = places.taken.pop_first()
        {
            // One that is being answered at this moment needs no place any more either.
            let _ = first.send(());
        }
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, call);
        Place {
            line: Arc::clone(self),
            number,
            called,
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Nothing panics while it holds the lock.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until the query has to make room for others.
    pub async fn lost(&mut self) {
        // The line keeps the other end until it sends or this place is dropped.
        let _ = (&mut self.called).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.places().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_one_that_has_waited_longest_makes_room() {
        let line = Line::new(3);
        let mut places: Vec<_> = (0..3).map(|_| line.join()).collect();
        let lost = |place: &mut Place| place.lost().now_or_never().is_some();
        assert!(!places.iter_mut().any(lost));
        drop(places.remove(0));
        places.push(line.join());
        assert!(!places.iter_mut().any(lost), "there was room");
        places.extend([line.join(), line.join()]);
        let told: Vec<_> = places.iter_mut().map(lost).collect();
        assert_eq!(told, [true, true, false, false, false]);
        places.drain(..2);
        assert_eq!(line.places().taken.len(), 3);
        places.clear();
        assert_eq!(line.places().taken.len(), 0);
    }
}
