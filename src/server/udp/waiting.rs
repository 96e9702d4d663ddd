//! The queries of a worker that wait for an answer from elsewhere, as tasks of its own thread.

use super::Worker;
use crate::dns::Reply;
use crate::net::{Batch, Peer, UdpSocket, watch};
use crate::server::answer::Later;
use crate::server::lifecycle::Slot;
use crate::upstream::lane;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, ErrorKind::WouldBlock};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How often a worker whose queries wait looks whether it has to stop.
const LOOK: Duration = Duration::from_millis(500);
/// After how many batches without a waiting query the runtime stops watching the socket: that costs
/// every packet a little.
const QUIET: u32 = 256;

thread_local! {
    /// Tasks of this thread that have not ended.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static DONE: RefCell<Done> = const { RefCell::new(Done { replies: Vec::new(), waker: None }) };
}

/// What the tasks leave for the thread.
struct Done {
    replies: Vec<(Reply, Peer)>,
    /// Wakes the thread for the replies.
    waker: Option<Waker>,
}

/// The tasks of a worker's thread.
pub(super) struct Waiting {
    runtime: Runtime,
    socket: Arc<UdpSocket>,
    slot: Arc<Slot>,
    watched: Option<AsyncFd<Arc<UdpSocket>>>,
    quiet: u32,
    look: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    /// None yet. To be called on the worker's thread.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(worker: &Worker) -> io::Result<Self> {
        lane::enter(worker.runtime.clone());
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            socket: Arc::clone(&worker.socket),
            slot: Arc::clone(&worker.slot),
            watched: None,
            quiet: 0,
            look: None,
        })
    }

    /// How many there are.
    #[inline]
    pub(super) fn count(&mut self) -> usize {
        let count = COUNT.get();
        if count == 0 && self.watched.is_some() {
            self.quiet += 1;
            if self.quiet > QUIET {
                let _entered = self.runtime.enter();
                self.watched = None;
            }
        }
        count
    }

    /// Adds a query; it is looked at with the next [`Self::receive`].
    pub(super) fn add(&mut self, mut later: Later, peer: Peer) {
        let slot = Arc::clone(&self.slot);
        COUNT.set(COUNT.get() + 1);
        let counted = Counted;
        self.runtime.spawn(async move {
            let _counted = counted;
            let routes = slot.routes.load_full();
            let reply = later.finish(&routes).await;
            slot.shared.pending.add(-1);
            DONE.with_borrow_mut(|done| {
                done.replies.extend(reply.map(|reply| (reply, peer)));
                if let Some(waker) = done.waker.take() {
                    waker.wake();
                }
            });
        });
    }

    /// Goes on with the queries, and sends the replies, until packets arrived or no query is left.
    ///
    /// # Errors
    /// What the system says of the socket; `WouldBlock` if nothing arrived.
    pub(super) fn receive(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let Self {
            runtime,
            socket,
            slot,
            watched,
            look,
            quiet,
        } = self;
        *quiet = 0;
        if watched.is_none() {
            let _entered = runtime.enter();
            *watched = Some(watch(Arc::clone(socket))?);
        }
        let watched = &*watched;
        let mut turns = 0;
        runtime.block_on(poll_fn(|cx| {
            turns += 1;
            if turns == 1 {
                // First the tasks, which may have been added just now.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            flush(batch, socket, cx);
            if let Some(watched) = watched
                && let Poll::Ready(received) = poll_receive(watched, batch, socket, cx)
            {
                return Poll::Ready(received);
            }
            let look = look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            if look.as_mut().poll(cx).is_ready() {
                look.as_mut().reset(Instant::now() + LOOK);
                if slot.closed.load(Relaxed) {
                    return Poll::Ready(Err(WouldBlock.into()));
                }
                cx.waker().wake_by_ref();
            }
            match COUNT.get() {
                0 => Poll::Ready(Err(WouldBlock.into())),
                _ => Poll::Pending,
            }
        }))
    }

    /// Gives tasks that nobody waits for a turn: readers of sockets that were closed, for one.
    pub(super) fn look(&self) {
        self.runtime.block_on(tokio::task::yield_now());
        lane::flush();
    }

    /// Waits until no query is left, `grace` at most.
    pub(super) fn finish(self, batch: &mut Batch, grace: Duration) {
        let finished = poll_fn(|cx| {
            flush(batch, &self.socket, cx);
            match COUNT.get() {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        let finished = async { timeout(grace, finished).await };
        let _ = self.runtime.block_on(finished);
    }
}

/// Counts a task out when it ends, or is dropped with the runtime.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = COUNT.try_with(|count| count.set(count.get().saturating_sub(1)));
    }
}

/// Sends what the tasks left: queries to upstreams and replies to clients. `cx` is woken when there
/// is more.
fn flush(batch: &mut Batch, socket: &UdpSocket, cx: &Context<'_>) {
    lane::flush();
    lane::flush_with(cx.waker());
    DONE.with_borrow_mut(|done| {
        for (reply, peer) in done.replies.drain(..) {
            let _ = batch.reply(socket, &peer, reply.message());
        }
        done.waker = Some(cx.waker().clone());
    });
    let _ = batch.flush(socket);
}

fn poll_receive(
    watched: &AsyncFd<Arc<UdpSocket>>,
    batch: &mut Batch,
    socket: &UdpSocket,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut ready = std::task::ready!(watched.poll_read_ready(cx))?;
        match batch.try_receive(socket) {
            Err(error) if error.kind() == WouldBlock => ready.clear_ready(),
            received => return Poll::Ready(received),
        }
    }
}
