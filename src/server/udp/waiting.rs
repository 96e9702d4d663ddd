//! The queries of a worker that wait for an answer from elsewhere, as tasks of its own thread.

use super::Worker;
use crate::dns::Reply;
use crate::limits::{PENDING_TIME, UDP_BATCH};
use crate::metrics::Shard;
use crate::net::{Batch, Peer, UdpSocket, watch};
use crate::server::answer::Later;
use crate::server::lifecycle::{Overload, Slot};
use crate::upstream::lane;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind::WouldBlock};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How often a worker whose queries wait looks whether it has to stop.
const LOOK: Duration = Duration::from_millis(500);
/// After how many batches without a waiting query the runtime stops watching the socket: that costs
/// every packet a little.
const QUIET: u32 = 256;
/// How often tasks are looked at before the socket is looked at again, whatever the tasks have to do:
/// some for each query of a batch, so that they do not fall behind either.
const TURN: u32 = 4 * UDP_BATCH as u32;
/// Queries that were dropped and not answered yet, beyond which further ones are not taken.
const DYING: usize = 1024;

thread_local! {
    /// Queries of this thread that were not answered yet.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// Those of them that were dropped, and are answered when it is their turn.
    static DROPPED: Cell<usize> = const { Cell::new(0) };
    static DONE: RefCell<Done> = const { RefCell::new(Done { replies: Vec::new(), waker: None }) };
}

/// What the tasks leave for the thread.
struct Done {
    replies: Vec<(Reply, Peer)>,
    /// Wakes the thread for the replies.
    waker: Option<Waker>,
}

/// The queries of a worker's thread that wait, each of them a task.
pub(super) struct Waiting {
    runtime: Runtime,
    socket: Arc<UdpSocket>,
    slot: Arc<Slot>,
    shard: Shard,
    watched: Option<AsyncFd<Arc<UdpSocket>>>,
    quiet: u32,
    look: Option<Pin<Box<Sleep>>>,
    queue: Queue,
}

/// The queries that wait, oldest first.
struct Queue {
    /// How many may wait.
    share: usize,
    /// Not tasks yet: they become some where the runtime does not have to be woken for it.
    added: Vec<Query>,
    /// Among them tasks that have ended, for a while.
    tasks: VecDeque<(std::time::Instant, AbortHandle)>,
}

impl Waiting {
    /// None yet. To be called on the worker's thread.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(worker: &Worker) -> io::Result<Self> {
        lane::enter(worker.runtime.clone());
        Ok(Self {
            runtime: Builder::new_current_thread()
                .enable_all()
                .event_interval(TURN)
                .build()?,
            socket: Arc::clone(&worker.socket),
            slot: Arc::clone(&worker.slot),
            shard: worker.shard,
            watched: None,
            quiet: 0,
            look: None,
            queue: Queue {
                share: worker.share,
                added: Vec::new(),
                tasks: VecDeque::new(),
            },
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

    /// Adds a query; it is looked at with the next [`Self::receive`]. The oldest ones make room for it
    /// where too many wait.
    ///
    /// # Errors
    /// Those that were dropped have not been answered yet: gives the query back.
    pub(super) fn add(&mut self, later: Later, peer: Peer) -> Result<(), Later> {
        if COUNT.get() >= self.queue.share + DYING {
            return Err(later);
        }
        COUNT.set(COUNT.get() + 1);
        self.slot.shared.pending.add(1);
        self.queue.added.push(Query {
            later,
            peer,
            slot: Arc::clone(&self.slot),
            shard: self.shard,
            answered: false,
        });
        Ok(())
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
            queue,
            ..
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
                queue.turn();
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
                queue.turn();
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
    pub(super) fn finish(mut self, batch: &mut Batch, grace: Duration) {
        let finished = poll_fn(|cx| {
            self.queue.turn();
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

impl Queue {
    /// Makes tasks of what was added, and drops the oldest queries: those that have waited too long,
    /// and those that are too many. To be called on the runtime.
    fn turn(&mut self) {
        for query in self.added.drain(..) {
            let received = query.later.received();
            let task = tokio::spawn(query.answer()).abort_handle();
            self.tasks.push_back((received, task));
        }
        let now = std::time::Instant::now();
        while let Some((received, task)) = self.tasks.front() {
            let ended = task.is_finished();
            // A query is looked at in time, not only afterwards.
            let too_old = now.duration_since(*received) + LOOK >= PENDING_TIME;
            let too_many = COUNT.get() - DROPPED.get() > self.share;
            if !ended && !too_old && !too_many {
                break;
            }
            if !ended {
                DROPPED.set(DROPPED.get() + 1);
                task.abort();
            }
            self.tasks.pop_front();
        }
        // One that waits long keeps those in line behind it that have ended.
        if self.tasks.len() > 2 * COUNT.get() + UDP_BATCH {
            self.tasks.retain(|(_, task)| !task.is_finished());
        }
    }
}

/// A query that waits. Whatever becomes of it, it leaves a reply.
struct Query {
    later: Later,
    peer: Peer,
    slot: Arc<Slot>,
    shard: Shard,
    answered: bool,
}

impl Query {
    async fn answer(mut self) {
        let routes = self.slot.routes.load_full();
        let reply = self.later.finish(&routes).await;
        self.answered = true;
        done(reply.map(|reply| (reply, self.peer)));
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        if !self.answered {
            let too_old = self.later.received().elapsed() + LOOK >= PENDING_TIME;
            let why = if too_old {
                Overload::Time
            } else {
                Overload::Number
            };
            let mut reply = Reply::new();
            self.later.abandon(&mut reply, why.text());
            done(Some((reply, self.peer)));
            self.slot.shared.dropped(why).add(self.shard, 1);
            let _ = DROPPED.try_with(|count| count.set(count.get().saturating_sub(1)));
        }
        self.slot.shared.pending.add(-1);
        let _ = COUNT.try_with(|count| count.set(count.get().saturating_sub(1)));
    }
}

/// Leaves a reply for the thread to send, and wakes it.
fn done(reply: Option<(Reply, Peer)>) {
    // The thread may be at its end.
    let _ = DONE.try_with(|done| {
        let mut done = done.borrow_mut();
        done.replies.extend(reply);
        if let Some(waker) = done.waker.take() {
            waker.wake();
        }
    });
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

#[cfg(test)]
mod tests;
