//! Lanes: threads that have sockets to upstreams of their own, and send on them in bursts.
//!
//! A UDP worker asks upstreams from its own thread: the sockets of its lane are read there, so that
//! no reply changes threads, and what a batch of queries sends goes out with one system call. All
//! other threads share lane 0, where every query is sent at once.

use super::udp::Socket;
use crate::limits::UPSTREAM_LANES;
use crate::net::Burst;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Waker;
use tokio::runtime::Handle;

/// Datagrams that are received with one system call.
const BURST: usize = 16;

thread_local! {
    static LANE: RefCell<Lane> = const { RefCell::new(Lane::shared()) };
    static BURSTS: RefCell<Burst> = RefCell::new(Burst::new(BURST, crate::dns::MAX_MESSAGE));
    /// Changes with every [`flush`].
    static ROUND: Cell<u64> = const { Cell::new(0) };
}

struct Lane {
    number: usize,
    /// Where what must not wait for this thread runs; `None` on lane 0.
    background: Option<Handle>,
    unsent: Vec<Unsent>,
    octets: Vec<u8>,
    /// Wakes what calls [`flush`].
    flusher: Option<Waker>,
}

/// A query that is to be sent: its socket, and where its octets end.
struct Unsent {
    socket: Arc<Socket>,
    end: usize,
}

impl Lane {
    const fn shared() -> Self {
        Self {
            number: 0,
            background: None,
            unsent: Vec::new(),
            octets: Vec::new(),
            flusher: None,
        }
    }
}

/// Gives this thread a lane of its own. From now on it has to call [`flush`] when it was woken by
/// the waker of [`flush_with`]; what is not for its queries alone runs on `background`.
///
/// Threads beyond [`UPSTREAM_LANES`] share lanes, which is slower.
pub fn enter(background: Handle) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = 1 + NEXT.fetch_add(1, Relaxed) % (UPSTREAM_LANES - 1);
    LANE.with_borrow_mut(|lane| {
        lane.number = number;
        lane.background = Some(background);
    });
}

/// The waker that is woken when something waits to be sent.
pub fn flush_with(waker: &Waker) {
    LANE.with_borrow_mut(|lane| match &mut lane.flusher {
        Some(known) => known.clone_from(waker),
        none => *none = Some(waker.clone()),
    });
}

/// Sends what waits to be sent.
pub fn flush() {
    ROUND.set(ROUND.get().wrapping_add(1));
    LANE.with_borrow_mut(|lane| {
        if lane.unsent.is_empty() {
            return;
        }
        let mut start = 0;
        let groups = lane
            .unsent
            .chunk_by(|a, b| Arc::ptr_eq(&a.socket, &b.socket));
        for group in groups {
            let mut from = start;
            let packets = group.iter().map(|unsent| {
                let packet = &lane.octets[from..unsent.end];
                from = unsent.end;
                packet
            });
            BURSTS.with_borrow_mut(|burst| group[0].socket.send_burst(burst, packets));
            start = group.last().map_or(start, |unsent| unsent.end);
        }
        lane.unsent.clear();
        lane.octets.clear();
    });
}

/// The number of this thread's lane.
pub(super) fn number() -> usize {
    LANE.with_borrow(|lane| lane.number)
}

/// A number that is the same for all queries that are sent with the same [`flush`]; `None` on
/// lane 0.
pub(super) fn round() -> Option<u64> {
    (number() != 0).then(|| ROUND.get())
}

/// Where to run what must not wait for this thread.
pub(crate) fn background() -> Handle {
    LANE.with_borrow(|lane| lane.background.clone())
        .unwrap_or_else(Handle::current)
}

/// Whether this thread is a lane of its own.
pub(super) fn is_own() -> bool {
    number() != 0
}

/// Queues a query; it goes out with the next [`flush`].
pub(super) fn queue(socket: &Arc<Socket>, query: &[u8]) {
    LANE.with_borrow_mut(|lane| {
        lane.octets.extend_from_slice(query);
        lane.unsent.push(Unsent {
            socket: Arc::clone(socket),
            end: lane.octets.len(),
        });
        if let Some(flusher) = lane.flusher.take() {
            flusher.wake();
        }
    });
}

/// Calls `f` with the thread's buffers for received datagrams.
pub(super) fn with_burst<T>(f: impl FnOnce(&mut Burst) -> T) -> T {
    BURSTS.with_borrow_mut(f)
}
