//! The upstream: an address for every name, after a delay, or nothing while it is dead.

use portolan::dns::{Header, Owner, Query, RecordType, Reply, Section};
use portolan::net::{Batch, Peer, UdpSocket};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The address of every name.
const ADDRESS: [u8; 4] = [192, 0, 2, 1];
/// How exactly delayed replies go out.
const TICK: Duration = Duration::from_millis(2);
/// Delayed replies at one time; a further query is not answered.
const DELAYED: usize = 100_000;

/// What every upstream of a run does, and what arrived.
#[derive(Debug, Default)]
pub struct State {
    /// No reply to anything.
    pub dead: AtomicBool,
    /// Queries for names; those for the root, as health checks send them, do not count.
    pub queries: AtomicU64,
    /// Replies to them.
    pub replies: AtomicU64,
}

/// How an upstream answers.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub ttl: u32,
    pub delay: Duration,
}

/// Serves in a thread until the process ends; gives the port.
pub fn start(state: &Arc<State>, manner: Manner) -> Result<u16, String> {
    let wait = if manner.delay.is_zero() {
        Duration::from_secs(60)
    } else {
        TICK
    };
    let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into(), wait);
    let socket = socket.map_err(|error| error.to_string())?;
    let port = socket.local().port();
    let state = Arc::clone(state);
    std::thread::spawn(move || serve(&socket, &state, manner));
    Ok(port)
}

struct Delayed {
    due: Instant,
    peer: Peer,
    message: Box<[u8]>,
}

fn serve(socket: &UdpSocket, state: &State, manner: Manner) -> ! {
    let mut batch = Batch::new(32);
    let mut reply = Reply::with_full_capacity();
    let mut delayed: VecDeque<Delayed> = VecDeque::new();
    loop {
        // Nothing within the time is no error here.
        let count = batch.receive(socket).unwrap_or(0);
        for slot in 0..count {
            let Some(peer) = batch.peer(slot) else {
                continue;
            };
            let Some(counts) = answer(batch.packet(slot), manner.ttl, &mut reply) else {
                continue;
            };
            state.queries.fetch_add(u64::from(counts), Relaxed);
            if state.dead.load(Relaxed) {
                continue;
            }
            if manner.delay.is_zero() {
                state.replies.fetch_add(u64::from(counts), Relaxed);
                let _ = batch.reply(socket, &peer, reply.message());
            } else if delayed.len() < DELAYED {
                state.replies.fetch_add(u64::from(counts), Relaxed);
                delayed.push_back(Delayed {
                    due: Instant::now() + manner.delay,
                    peer,
                    message: reply.message().into(),
                });
            }
        }
        let _ = batch.flush(socket);
        let now = Instant::now();
        while delayed.front().is_some_and(|first| first.due <= now) {
            if let Some(Delayed { peer, message, .. }) = delayed.pop_front() {
                let _ = socket.send(&message, &peer);
            }
        }
    }
}

/// Whether the query counts; `None` if there is no reply.
fn answer(packet: &[u8], ttl: u32, reply: &mut Reply) -> Option<bool> {
    let query = Query::read(packet).ok()?;
    reply.start(&query);
    reply.set_flag(Header::RA, true);
    if query.qtype() == RecordType::A {
        reply.push(Section::Answer, Owner::Query, RecordType::A, ttl, &ADDRESS);
    }
    reply.finish(&query, query.udp_limit());
    // A health check asks for the root's name servers, the loop check for HINFO.
    let root = query.name().wire() == [0];
    Some(!root && query.qtype() != RecordType::HINFO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net;

    const QUERY: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x02h7\x03net\0\0\x01\0\x01";

    #[test]
    fn answers_while_it_lives() {
        let state = Arc::new(State::default());
        let delay = Duration::from_millis(20);
        let port = start(&state, Manner { ttl: 7, delay }).unwrap();
        let client = net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.1", port)).unwrap();
        let mut message = [0; 512];
        client.send(QUERY).unwrap();
        let len = client.recv(&mut message).unwrap();
        assert!(message[..len].ends_with(&[0, 7, 0, 4, 192, 0, 2, 1]));
        assert_eq!(state.queries.load(Relaxed), 1);
        state.dead.store(true, Relaxed);
        client
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        client.send(QUERY).unwrap();
        assert!(client.recv(&mut message).is_err());
        assert_eq!(state.queries.load(Relaxed), 2);
        assert_eq!(state.replies.load(Relaxed), 1);
    }

    #[test]
    fn health_checks_do_not_count() {
        let mut reply = Reply::with_full_capacity();
        let check = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01";
        assert_eq!(answer(check, 1, &mut reply), Some(false));
        assert_eq!(answer(QUERY, 1, &mut reply), Some(true));
        assert_eq!(answer(b"short", 1, &mut reply), None);
    }
}
