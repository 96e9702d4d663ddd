//! A UDP worker: a thread with a socket of its own that takes packets in batches.

use super::Routes;
use super::answer::{self, Answered, Later, Received};
use super::lifecycle::Slot;
use crate::dns::Reply;
use crate::limits::{PENDING_QUERIES, UDP_BATCH};
use crate::metrics::Shard;
use crate::net::{Batch, Peer, UdpSocket};
use crate::plugin::{Client, Transport};
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What a worker works with.
pub(super) struct Worker {
    pub socket: Arc<UdpSocket>,
    pub slot: Arc<Slot>,
    pub shard: Shard,
    pub runtime: tokio::runtime::Handle,
}

/// Serves the socket until the listening address is given up.
pub(super) fn run(worker: &Worker) {
    let mut batch = Batch::new(UDP_BATCH);
    let mut reply = Reply::with_full_capacity();
    let mut routes = arc_swap::Cache::new(&worker.slot.routes);
    while !worker.slot.closed.load(Relaxed) {
        let count = match batch.receive(&worker.socket) {
            Ok(count) => count,
            // Nothing came in time.
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => continue,
            // Whatever it is, it does not get better by asking at once.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let at = Instant::now();
        let routes = routes.load();
        for slot in 0..count {
            worker.serve(&mut batch, slot, routes, at, &mut reply);
        }
        // A reply that the kernel refuses (no route back) is lost, like one lost on the way.
        let _ = batch.flush(&worker.socket);
    }
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
                let waiting = &self.slot.shared.pending;
                if waiting.add(1) < PENDING_QUERIES as i64 {
                    self.wait(later, peer);
                    return;
                }
                waiting.add(-1);
                self.slot.shared.pending_rejected.add(self.shard, 1);
                later.abandon(reply, "too many queries wait for an answer");
            }
        }
        let _ = batch.reply(&self.socket, &peer, reply.message());
    }

    fn wait(&self, mut later: Later, peer: Peer) {
        let socket = Arc::clone(&self.socket);
        let slot = Arc::clone(&self.slot);
        self.runtime.spawn(async move {
            let routes = slot.routes.load_full();
            if let Some(reply) = later.finish(&routes).await {
                let _ = socket.send(reply.message(), &peer);
            }
            slot.shared.pending.add(-1);
        });
    }
}
