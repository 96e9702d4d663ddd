//! A client that asks at a steady rate, whatever the server does, in phases.

use crate::queries::latency::Histogram;
use crate::scale::dns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Phases of a run; behind the last one the clients end.
pub const PHASES: usize = 3;
/// How long the last replies may take.
const REST: Duration = Duration::from_secs(6);
/// Questions sent in one go when the client is late; what it misses beyond that is left out.
const BURST: u32 = 8;

/// What came of the questions that were sent in a phase.
#[derive(Default)]
pub struct Tally {
    pub sent: u64,
    /// NOERROR with an answer.
    pub good: u64,
    pub servfail: u64,
    pub other: u64,
    pub latency: Histogram,
    /// When the first good answer in the phase arrived, to a question of any phase.
    pub first_good: Option<Instant>,
    /// When the last question was sent that was not answered well.
    pub last_bad: Option<Instant>,
}

impl Tally {
    /// Questions without a reply.
    pub fn lost(&self) -> u64 {
        self.sent - self.good - self.servfail - self.other
    }
}

/// A stream of questions.
pub struct Stream<N> {
    pub to: SocketAddr,
    /// Questions a second, in each phase.
    pub rates: [f64; PHASES],
    /// The name of the question of this number.
    pub name: N,
}

struct Flight {
    /// When and in which phase the question of each id was sent.
    sent: Box<[Option<(Instant, usize)>]>,
    tallies: [Tally; PHASES],
}

impl<N: Fn(u64) -> String> Stream<N> {
    /// Asks until `phase` is none any more.
    pub fn run(&self, phase: &AtomicUsize) -> std::io::Result<[Tally; PHASES]> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.to)?;
        socket.set_nonblocking(true)?;
        let mut flight = Flight {
            sent: vec![None; 1 << 16].into(),
            tallies: Default::default(),
        };
        let mut number = 0_u64;
        let mut next = Instant::now();
        loop {
            let current = phase.load(Relaxed);
            let Some(&rate) = self.rates.get(current) else {
                break;
            };
            let pause = Duration::from_secs_f64(1.0 / rate.max(0.01));
            let mut burst = 0;
            while next <= Instant::now() {
                burst += 1;
                if burst > BURST {
                    next = Instant::now();
                }
                let packet = dns::query(number as u16, &(self.name)(number), dns::A);
                flight.send(&socket, number as u16, &packet, current);
                number += 1;
                next += pause;
            }
            flight.receive(&socket, current);
            // A long pause must not hide the next phase.
            wait(
                &socket,
                next.saturating_duration_since(Instant::now())
                    .min(REST / 100),
            );
        }
        let end = Instant::now() + REST;
        while flight.waiting() && Instant::now() < end {
            flight.receive(&socket, PHASES - 1);
            wait(&socket, Duration::from_millis(50));
        }
        flight.give_up();
        Ok(flight.tallies)
    }
}

impl Flight {
    fn send(&mut self, socket: &UdpSocket, id: u16, packet: &[u8], phase: usize) {
        let now = Instant::now();
        // A full buffer is a question that is lost.
        let _ = socket.send(packet);
        self.tallies[phase].sent += 1;
        let before = self.sent[usize::from(id)].replace((now, phase));
        if let Some((sent, phase)) = before {
            self.tallies[phase].bad(sent);
        }
    }

    fn receive(&mut self, socket: &UdpSocket, current: usize) {
        let mut message = [0; 4096];
        while let Ok(len) = socket.recv(&mut message) {
            let now = Instant::now();
            let Some(reply) = dns::parse(message.get(..len).unwrap_or_default()) else {
                continue;
            };
            let Some((sent, phase)) = self.sent[usize::from(reply.id)].take() else {
                continue;
            };
            let tally = &mut self.tallies[phase];
            tally.latency.add((now - sent).as_nanos() as u64);
            match (reply.code, reply.answers) {
                (0, 1..) => {
                    tally.good += 1;
                    self.tallies[current].first_good.get_or_insert(now);
                    continue;
                }
                (2, _) => tally.servfail += 1,
                _ => tally.other += 1,
            }
            tally.bad(sent);
        }
    }

    fn waiting(&self) -> bool {
        self.sent.iter().any(Option::is_some)
    }

    fn give_up(&mut self) {
        for (sent, phase) in self.sent.iter_mut().filter_map(Option::take) {
            self.tallies[phase].bad(sent);
        }
    }
}

impl Tally {
    fn bad(&mut self, sent: Instant) {
        self.last_bad = self.last_bad.max(Some(sent));
    }
}

fn wait(socket: &UdpSocket, time: Duration) {
    // Nothing is missed by waking early.
    let time = Timespec::try_from(time).unwrap_or_default();
    let mut sockets = [PollFd::new(socket, PollFlags::IN)];
    let _ = poll(&mut sockets, Some(&time));
}

#[cfg(test)]
mod tests {
    use super::super::source::{Manner, State, start};
    use super::*;
    use std::sync::Arc;

    #[test]
    fn phases() {
        let state = Arc::new(State::default());
        let manner = Manner {
            ttl: 1,
            delay: Duration::ZERO,
        };
        let to = ([127, 0, 0, 1], start(&state, manner).unwrap()).into();
        let stream = Stream {
            to,
            rates: [500.0; PHASES],
            name: |n| format!("n{n}.example"),
        };
        let phase = AtomicUsize::new(0);
        let tallies = std::thread::scope(|scope| {
            let client = scope.spawn(|| stream.run(&phase).unwrap());
            std::thread::sleep(Duration::from_millis(100));
            state.dead.store(true, Relaxed);
            phase.store(1, Relaxed);
            std::thread::sleep(Duration::from_millis(100));
            state.dead.store(false, Relaxed);
            phase.store(PHASES, Relaxed);
            client.join().unwrap()
        });
        assert!(tallies[0].good > 0 && tallies[0].first_good.is_some());
        assert!(tallies[1].lost() > 0 && tallies[1].last_bad.is_some());
        assert_eq!(tallies[2].sent, 0);
    }
}
