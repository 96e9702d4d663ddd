//! What this process has in flight towards upstreams, so that it knows its own queries when they
//! come back to it.
//!
//! A query is marked with a keyed fingerprint of its id, its question as it was spelled, and the
//! server block that forwards it, in a table of fixed size: to mark and to look are one access each,
//! without a lock. A later query may take an earlier one's place, which then is not known any more;
//! never the other way round.

use crate::dns::Zone;
use crate::limits::UPSTREAM_MARKS;
use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

static IN_FLIGHT: [AtomicU64; UPSTREAM_MARKS] = [const { AtomicU64::new(0) }; UPSTREAM_MARKS];
/// Unknown outside, so that nobody can choose a query that looks like another one.
static KEY: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);

thread_local! {
    /// On whose behalf the future that is polled sends queries.
    static ORIGIN: Cell<Option<Origin>> = const { Cell::new(None) };
}

/// Who forwards: a server block. The same block of the next configuration has the same origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(u64);

impl Origin {
    /// The server block with this label and these zones.
    pub fn of_block(server: &str, zones: &[Zone]) -> Self {
        let mut hasher = KEY.build_hasher();
        server.hash(&mut hasher);
        zones.iter().for_each(|zone| zone.wire().hash(&mut hasher));
        Self(hasher.finish())
    }

    /// Runs `exchange` with its queries marked as this block's.
    pub const fn sends<F: Future>(self, exchange: F) -> SentBy<F> {
        sent_by(Some(self), exchange)
    }

    /// Whether this block has sent a query with this id and question, as they are spelled here,
    /// and waits for the reply.
    pub fn has_in_flight(self, id: u16, question: &[u8]) -> bool {
        slot(id).load(Relaxed) == self.fingerprint(id, question)
    }

    fn fingerprint(self, id: u16, question: &[u8]) -> u64 {
        // Zero is an empty place.
        KEY.hash_one((self, id, question)) | 1
    }
}

/// Who forwards, in the future that is polled.
pub(super) fn origin() -> Option<Origin> {
    ORIGIN.get()
}

/// Runs `exchange` on behalf of somebody.
pub(super) const fn sent_by<F: Future>(origin: Option<Origin>, exchange: F) -> SentBy<F> {
    SentBy { origin, exchange }
}

pin_project_lite::pin_project! {
    /// An exchange with its queries marked. (An `async fn` would hold the exchange twice.)
    #[derive(Debug)]
    pub struct SentBy<F> {
        origin: Option<Origin>,
        #[pin]
        exchange: F,
    }
}

impl<F: Future> Future for SentBy<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let before = ORIGIN.replace(*this.origin);
        let polled = this.exchange.poll(cx);
        ORIGIN.set(before);
        polled
    }
}

const fn slot(id: u16) -> &'static AtomicU64 {
    &IN_FLIGHT[id as usize % UPSTREAM_MARKS]
}

/// The mark of a query in flight; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Mark {
    id: u16,
    fingerprint: u64,
}

impl Mark {
    /// Marks a query. `None` if nobody forwards it.
    pub(super) fn set(id: u16, question: &[u8]) -> Option<Self> {
        let fingerprint = origin()?.fingerprint(id, question);
        slot(id).store(fingerprint, Relaxed);
        Some(Self { id, fingerprint })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = slot(self.id).compare_exchange(self.fingerprint, 0, Relaxed, Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marks_are_of_id_question_and_block() {
        let [ours, others] = ["dns://:53", "dns://:54"].map(|label| Origin::of_block(label, &[]));
        assert!(Mark::set(7, b"A").is_none(), "nobody forwards it");
        let mark = ours.sends(async { Mark::set(7, b"A").unwrap() }).await;
        assert!(ours.has_in_flight(7, b"A"));
        assert!(!ours.has_in_flight(7, b"a"), "another spelling");
        assert!(!ours.has_in_flight(7 + UPSTREAM_MARKS as u16, b"A"));
        assert!(!others.has_in_flight(7, b"A"));
        let later = others.sends(async { Mark::set(7, b"A").unwrap() }).await;
        assert!(!ours.has_in_flight(7, b"A"), "its place was taken");
        drop(mark);
        assert!(others.has_in_flight(7, b"A"), "and is not given free");
        drop(later);
        assert!(!others.has_in_flight(7, b"A"));
    }
}
