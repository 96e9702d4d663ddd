//! TCP: a task a connection. Queries are pipelined and answered in the order in which their
//! answers are known (RFC 7766 §6.2.1.1, §7). A reply of several messages (a zone transfer) is
//! written one message at a time, each when the client has taken the one before it.

mod waiting;

pub(super) use waiting::Line;

use super::answer::{self, Answered, Received};
use super::lifecycle::{Overload, Slot};
use super::panics;
use crate::dns::{More, Reply};
use crate::limits::{PENDING_TIME, TCP_CONNECTIONS, TCP_PIPELINE};
use crate::metrics::Shard;
use crate::plugin::{Client, Transport};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// How long a connection may be idle (SC-13).
const IDLE: Duration = Duration::from_secs(10);
/// How long the first query may take to arrive (SC-13).
const FIRST_READ: Duration = Duration::from_secs(3);
/// How long the client may take to accept replies (SC-13).
const WRITE: Duration = Duration::from_secs(5);
/// How often a connection that waits looks whether its listener was given up.
const LOOK: Duration = Duration::from_millis(500);
/// Octets of replies above which no further query is taken before they are written.
const OUT: usize = 1 << 17;
/// Octets read at once; a longer message makes the buffer grow to at most one message.
const READ: usize = 4096;

/// Accepts connections until the listening address is given up.
pub(super) async fn accept(listener: TcpListener, slot: Arc<Slot>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = slot.closed() => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely: wait for some to be closed.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&slot.shared);
        if shared.tcp_connections.add(1) >= TCP_CONNECTIONS as i64 {
            shared.tcp_connections.add(-1);
            shared.tcp_rejected.inc();
            continue;
        }
        let slot = Arc::clone(&slot);
        tokio::spawn(async move {
            // Whatever ends a connection (a reset, a timeout) concerns only its client.
            let _ = serve(stream, peer, &slot).await;
            slot.shared.tcp_connections.add(-1);
        });
    }
}

/// Serves a connection until the client closes it, is idle too long, or breaks the framing.
async fn serve(mut stream: TcpStream, peer: SocketAddr, slot: &Arc<Slot>) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let client = Client {
        addr: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
        local: {
            let local = stream.local_addr()?;
            SocketAddr::new(local.ip().to_canonical(), local.port())
        },
        transport: Transport::Tcp,
    };
    let (finished, mut replies) = mpsc::channel::<Option<Reply>>(TCP_PIPELINE);
    let mut connection = Connection {
        client,
        slot,
        finished,
        waiting: 0,
        reply: Reply::new(),
        out: Vec::new(),
        streams: VecDeque::new(),
    };
    let mut input = Vec::with_capacity(READ);
    let mut last = Instant::now();
    let mut patience = FIRST_READ;
    loop {
        connection.take_messages(&mut input);
        // Queries that were received already may wait behind either.
        let busy = !connection.streams.is_empty() || connection.out.len() >= OUT;
        connection.take_stream()?;
        if !connection.out.is_empty() {
            timeout(WRITE, stream.write_all(&connection.out)).await??;
            connection.out.clear();
            connection.out.shrink_to(1 << 16);
            last = Instant::now();
        }
        if busy {
            // Answers that became known meanwhile need not wait for the end of a stream.
            while let Ok(reply) = replies.try_recv() {
                connection.waiting -= 1;
                connection.append_all(reply);
            }
            continue;
        }
        // At the limit of waiting queries nothing more is read: the client feels it (TCP window).
        let may_read = connection.waiting < TCP_PIPELINE;
        tokio::select! {
            reply = replies.recv() => {
                connection.waiting -= 1;
                connection.append_all(reply.flatten());
                while let Ok(reply) = replies.try_recv() {
                    connection.waiting -= 1;
                    connection.append_all(reply);
                }
            }
            read = stream.read_buf(&mut input), if may_read => {
                if read? == 0 {
                    break;
                }
                last = Instant::now();
                patience = IDLE;
            }
            () = sleep(LOOK) => {
                let idle = connection.waiting == 0;
                if idle && (last.elapsed() >= patience || slot.is_closed()) {
                    return Ok(());
                }
            }
        }
    }
    // The client has sent its last query; it still gets every reply.
    while connection.waiting > 0 || !connection.streams.is_empty() {
        if connection.streams.is_empty() {
            let reply = replies.recv().await.flatten();
            connection.waiting -= 1;
            connection.append_all(reply);
        }
        connection.take_stream()?;
        timeout(WRITE, stream.write_all(&connection.out)).await??;
        connection.out.clear();
    }
    Ok(())
}

struct Connection<'s> {
    client: Client,
    slot: &'s Arc<Slot>,
    finished: mpsc::Sender<Option<Reply>>,
    waiting: usize,
    reply: Reply,
    out: Vec<u8>,
    /// Replies of which messages are still to come; no query is taken meanwhile, so that there are
    /// no more of them than queries that waited.
    streams: VecDeque<Box<dyn More>>,
}

impl Connection<'_> {
    /// Answers the whole messages at the start of `input`, and removes them.
    fn take_messages(&mut self, input: &mut Vec<u8>) {
        let at = Instant::now();
        let routes = self.slot.routes.load();
        let mut used = 0;
        while self.waiting < TCP_PIPELINE && self.out.len() < OUT && self.streams.is_empty() {
            let Some((head, rest)) = input[used..].split_first_chunk::<2>() else {
                break;
            };
            let len = usize::from(u16::from_be_bytes(*head));
            let Some(packet) = rest.get(..len) else {
                input.reserve((len + 2).saturating_sub(input.len() - used));
                break;
            };
            used += 2 + len;
            let received = Received {
                packet,
                client: self.client,
                at,
                shard: Shard::SHARED,
            };
            match answer::answer(&routes, received, &mut self.reply) {
                Answered::Reply => {
                    let mut reply = std::mem::take(&mut self.reply);
                    self.append(reply.message());
                    self.streams.extend(reply.take_more());
                    self.reply = reply;
                }
                Answered::Nothing => {}
                Answered::Later(later) => self.wait(later),
            }
        }
        input.drain(..used);
        if input.capacity() > READ && input.is_empty() {
            input.shrink_to(READ);
        }
    }

    fn wait(&mut self, mut later: answer::Later) {
        let shared = &self.slot.shared;
        let mut place = shared.tcp_line.join();
        shared.pending.add(1);
        self.waiting += 1;
        let finished = self.finished.clone();
        let slot = Arc::clone(self.slot);
        tokio::spawn(async move {
            let routes = slot.routes.load_full();
            let answered = tokio::select! {
                reply = later.finish(&routes) => Ok(reply),
                () = place.lost() => Err(Overload::Number),
                () = sleep(PENDING_TIME) => Err(Overload::Time),
            };
            let reply = answered.unwrap_or_else(|why| {
                let mut reply = Reply::new();
                later.abandon(&mut reply, why.text());
                slot.shared.dropped(why).inc();
                Some(reply)
            });
            slot.shared.pending.add(-1);
            drop(place);
            // There is room: the channel holds as many as may wait. It is closed if the client is
            // gone.
            let _ = finished.send(reply).await;
        });
    }

    /// Appends the next message of the first stream.
    ///
    /// # Errors
    /// The stream failed: what is left for the client is that the connection ends.
    fn take_stream(&mut self) -> io::Result<()> {
        let Some(stream) = self.streams.front_mut() else {
            return Ok(());
        };
        let mut reply = std::mem::take(&mut self.reply);
        let more = panics::catch(|| stream.next(&mut reply));
        match more {
            Ok(true) => self.append(reply.message()),
            Ok(false) => drop(self.streams.pop_front()),
            Err(panic) => {
                let routes = self.slot.routes.load();
                panic.report(&routes.panics, None, &routes.server);
                return Err(io::Error::other("a stream of messages failed"));
            }
        }
        self.reply = reply;
        Ok(())
    }

    fn append_all(&mut self, reply: Option<Reply>) {
        if let Some(mut reply) = reply {
            self.append(reply.message());
            self.streams.extend(reply.take_more());
        }
    }

    fn append(&mut self, message: &[u8]) {
        // A message is at most 65,535 octets long.
        self.out
            .extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.out.extend_from_slice(message);
    }
}
