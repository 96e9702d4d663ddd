//! A UDP worker: a thread with a socket of its own that takes packets in batches.
//!
//! As long as no query waits for an answer from elsewhere the thread sleeps in the system call that
//! receives. Queries that wait are tasks of the same thread ([`waiting`]): no reply changes threads.

mod waiting;

use super::Routes;
use super::answer::{self, Answered, Received};
use super::lifecycle::{Overload, Slot};
use crate::dns::Reply;
use crate::limits::UDP_BATCH;
use crate::metrics::Shard;
use crate::net::{Batch, UdpSocket};
use crate::plugin::{Client, Transport};
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use waiting::Waiting;

/// How long queries that wait are answered after the listening address was given up.
const GRACE: Duration = Duration::from_secs(5);

/// What a worker works with.
pub(super) struct Worker {
    pub socket: Arc<UdpSocket>,
    pub slot: Arc<Slot>,
    pub shard: Shard,
    pub runtime: tokio::runtime::Handle,
    /// How many queries may wait.
    pub share: usize,
}

/// Serves the socket until the listening address is given up.
///
/// # Errors
/// The thread's own runtime cannot be built.
pub(super) fn run(worker: &Worker) -> std::io::Result<()> {
    let mut batch = Batch::new(UDP_BATCH);
    let mut reply = Reply::with_full_capacity();
    let mut routes = arc_swap::Cache::new(&worker.slot.routes);
    let mut waiting = Waiting::new(worker)?;
    while !worker.slot.closed.load(Relaxed) {
        let received = match waiting.count() {
            0 => batch.receive(&worker.socket),
            _ => waiting.receive(&mut batch),
        };
        let count = match received {
            Ok(count) => count,
            // Nothing came in time.
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => {
                waiting.look();
                // A configuration that is not served any more must not live on in here.
                routes.load();
                continue;
            }
            // Whatever it is, it does not get better by asking at once.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let at = Instant::now();
        let routes = routes.load();
        for slot in 0..count {
            worker.serve(&mut batch, slot, routes, at, &mut reply, &mut waiting);
        }
        // A reply that the kernel refuses (no route back) is lost, like one lost on the way.
        let _ = batch.flush(&worker.socket);
    }
    waiting.finish(&mut batch, GRACE);
    Ok(())
}

impl Worker {
    #[inline]
    fn serve(
        &self,
        batch: &mut Batch,
        slot: usize,
        routes: &Routes,
        at: Instant,
        reply: &mut Reply,
        waiting: &mut Waiting,
    ) {
        let Some(peer) = batch.peer(slot) else { return };
        let local = self.socket.local();
        let received = Received {
            packet: batch.packet(slot),
            client: Client {
                addr: peer.addr(),
                local: SocketAddr::new(peer.destination().unwrap_or(local.ip()), local.port()),
                transport: Transport::Udp,
            },
            at,
            shard: self.shard,
        };
        match answer::answer(routes, received, reply) {
            Answered::Reply => {}
            Answered::Nothing => return,
            Answered::Later(later) => {
                let Err(later) = waiting.add(later, peer) else {
                    return;
                };
                let dropped = self.slot.shared.dropped(Overload::Number);
                dropped.add(self.shard, 1);
                later.abandon(reply, Overload::Number.text());
            }
        }
        let _ = batch.reply(&self.socket, &peer, reply.message());
    }
}
