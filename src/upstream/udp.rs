//! Connected UDP sockets to one upstream, with many queries in flight on each.

use super::lane;
use super::marker::Mark;
use super::protocol::{Arrival, InFlight};
use super::{Cause, ExchangeError, Operation, PoolSettings, Protocol};
use crate::limits::{
    UPSTREAM_MISMATCHES, UPSTREAM_UDP_IN_FLIGHT, UPSTREAM_UDP_SOCKETS, UPSTREAM_UDP_TARGET,
    UPSTREAM_UDP_USES,
};
use crate::metrics::Counter;
use crate::net::Burst;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// A query that is given up later than this after it was sent counts as unanswered.
const LATE: Duration = Duration::from_millis(100);

type Waiter = oneshot::Sender<Result<Vec<u8>, ExchangeError>>;

/// The sockets to one upstream.
#[derive(Debug)]
pub(super) struct UdpPool {
    remote: SocketAddr,
    settings: PoolSettings,
    mismatched: Option<Counter>,
    sockets: Mutex<Sockets>,
}

#[derive(Debug, Default)]
struct Sockets {
    open: Vec<Arc<Reading>>,
    /// The socket of the queries that go out with the same flush.
    current: Option<(u64, Weak<Reading>)>,
}

/// A socket with the task that reads from it; the task ends with the last reference to this.
#[derive(Debug)]
struct Reading {
    socket: Arc<Socket>,
    task: AbortHandle,
}

#[derive(Debug)]
pub(super) struct Socket {
    io: UdpSocket,
    local: SocketAddr,
    remote: SocketAddr,
    opened: Instant,
    mismatched: Option<Counter>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    in_flight: InFlight<Waiter>,
    uses: u32,
    last_used: Instant,
    /// Datagrams that came while queries waited and were no reply to any.
    mismatches: u32,
    /// No further query goes out on it.
    retired: bool,
}

/// A query in flight; it is given up when this is dropped.
struct Lease {
    reading: Arc<Reading>,
    id: u16,
    _mark: Option<Mark>,
    sent: Instant,
    reply: oneshot::Receiver<Result<Vec<u8>, ExchangeError>>,
}

impl UdpPool {
    pub(super) fn new(
        remote: SocketAddr,
        settings: PoolSettings,
        mismatched: Option<Counter>,
    ) -> Self {
        Self {
            remote,
            settings,
            mismatched,
            sockets: Mutex::default(),
        }
    }

    /// Sends `query` on some socket and waits for its reply; with `exact`, for one that keeps the
    /// case of its question. `reused` is told whether the socket was open before.
    pub(super) async fn exchange(
        &self,
        query: &mut [u8],
        exact: bool,
        timeout: Duration,
        reused: impl FnOnce(bool),
    ) -> Result<Vec<u8>, ExchangeError> {
        if super::protocol::question(query).is_none() {
            return Err(ExchangeError::NoQuestion);
        }
        let mut lease = self.lease(query, exact, reused)?;
        let reading = Arc::clone(&lease.reading);
        let socket = &reading.socket;
        let answered = timeout_at(Instant::now() + timeout, async {
            if lane::is_own() {
                lane::queue(socket, query);
            } else if let Err(error) = socket.io.send(query).await {
                let cause = Cause::from(&error);
                if cause.is_unreachable() {
                    // It answers what another query sent, and only who comes first is told of it.
                    socket.fail(cause);
                }
                return Err(socket.error(Operation::Write, cause));
            }
            // The sender is dropped only together with the socket's reader.
            let gone = || Err(socket.error(Operation::Read, Cause::Eof));
            (&mut lease.reply).await.unwrap_or_else(|_| gone())
        })
        .await
        .unwrap_or_else(|_| Err(lease.timed_out()));
        if answered.is_err() {
            // The way of this socket may be what is broken (an address translation that leads to
            // a server that is gone, for one): what comes next takes another port.
            socket.state().retired = true;
        }
        answered
    }

    fn lease(
        &self,
        query: &mut [u8],
        exact: bool,
        reused: impl FnOnce(bool),
    ) -> Result<Lease, ExchangeError> {
        let now = Instant::now();
        let mut sockets = self.lock();
        let round = lane::round();
        if let Some((of, current)) = &sockets.current
            && round == Some(*of)
            && let Some(current) = current.upgrade()
            && let Some(lease) = current.enter(query, exact, UPSTREAM_UDP_TARGET)
        {
            reused(true);
            return Ok(lease);
        }
        let lease = self.lease_other(&mut sockets.open, (query, exact), now, reused)?;
        sockets.current = round.map(|round| (round, Arc::downgrade(&lease.reading)));
        Ok(lease)
    }

    fn lease_other(
        &self,
        sockets: &mut Vec<Arc<Reading>>,
        (query, exact): (&mut [u8], bool),
        now: Instant,
        reused: impl FnOnce(bool),
    ) -> Result<Lease, ExchangeError> {
        if let Some(lease) = self.enter_some(sockets, (query, exact), UPSTREAM_UDP_TARGET, now) {
            reused(true);
            return Ok(lease);
        }
        let mut error = ExchangeError::Busy {
            remote: self.remote,
        };
        if sockets.len() < UPSTREAM_UDP_SOCKETS {
            match self.open() {
                Ok(reading) => {
                    sockets.push(Arc::clone(&reading));
                    if let Some(lease) = reading.enter(query, exact, UPSTREAM_UDP_IN_FLIGHT) {
                        reused(false);
                        return Ok(lease);
                    }
                }
                // Out of file descriptors, for one: the open sockets have to do.
                Err(failure) => error = failure,
            }
        }
        let lease = self.enter_some(sockets, (query, exact), UPSTREAM_UDP_IN_FLIGHT, now);
        reused(lease.is_some());
        lease.ok_or(error)
    }

    /// Puts `query` in flight on one of some sockets: two at random, and the newest one, which is
    /// the likeliest to have room. Sockets that are of no use any more are closed on the way.
    fn enter_some(
        &self,
        sockets: &mut Vec<Arc<Reading>>,
        (query, exact): (&mut [u8], bool),
        limit: usize,
        now: Instant,
    ) -> Option<Lease> {
        let mut tried = 0;
        while tried < 3 && !sockets.is_empty() {
            let at = match tried {
                2 => sockets.len() - 1,
                _ => rand::random_range(0..sockets.len()),
            };
            if !sockets[at].is_usable(now, &self.settings) {
                sockets.swap_remove(at);
                continue;
            }
            if let Some(lease) = sockets[at].enter(query, exact, limit) {
                return Some(lease);
            }
            tried += 1;
        }
        None
    }

    /// Opens a socket on an ephemeral port that the kernel picks at random.
    fn open(&self) -> Result<Arc<Reading>, ExchangeError> {
        let connect = || -> io::Result<(UdpSocket, SocketAddr)> {
            let any: IpAddr = match self.remote {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = std::net::UdpSocket::bind((self.settings.source.unwrap_or(any), 0))?;
            socket.connect(self.remote)?;
            socket.set_nonblocking(true)?;
            let local = socket.local_addr()?;
            Ok((UdpSocket::from_std(socket)?, local))
        };
        let (io, local) = connect().map_err(|error| ExchangeError::Io {
            operation: Operation::Dial,
            protocol: Protocol::Udp,
            local: None,
            remote: self.remote,
            cause: (&error).into(),
        })?;
        let now = Instant::now();
        let socket = Arc::new(Socket {
            io,
            local,
            remote: self.remote,
            opened: now,
            mismatched: self.mismatched.clone(),
            state: Mutex::new(State {
                in_flight: InFlight::new(UPSTREAM_UDP_IN_FLIGHT),
                uses: 0,
                last_used: now,
                mismatches: 0,
                retired: false,
            }),
        });
        let task = tokio::spawn(Arc::clone(&socket).read()).abort_handle();
        Ok(Arc::new(Reading { socket, task }))
    }

    /// Closes sockets that no query needs any more; gives how many are left.
    pub(super) fn sweep(&self) -> usize {
        let now = Instant::now();
        let mut sockets = self.lock();
        sockets
            .open
            .retain(|reading| reading.is_usable(now, &self.settings));
        sockets.open.len()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn is_usable(&self, now: Instant, settings: &PoolSettings) -> bool {
        // The thread of the lane may have ended.
        !self.task.is_finished() && self.socket.is_usable(now, settings)
    }

    /// Puts `query` in flight, if fewer than `limit` queries are.
    fn enter(self: &Arc<Self>, query: &mut [u8], exact: bool, limit: usize) -> Option<Lease> {
        let mut state = self.socket.state();
        if state.retired || state.in_flight.len() >= limit {
            return None;
        }
        let (waiter, reply) = oneshot::channel();
        let id = state.in_flight.insert(query, exact, waiter, rand::random)?;
        state.uses += 1;
        let sent = Instant::now();
        state.last_used = sent;
        Some(Lease {
            reading: Arc::clone(self),
            id,
            _mark: super::protocol::question(query).and_then(|question| Mark::set(id, question)),
            sent,
            reply,
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lease {
    /// Why no reply came in time.
    fn timed_out(&self) -> ExchangeError {
        let socket = &self.reading.socket;
        if socket.state().in_flight.saw_other_question(self.id) {
            let remote = socket.remote;
            return ExchangeError::OtherQuestion { remote };
        }
        socket.error(Operation::Read, Cause::Timeout)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Waiters are answered under the same lock: an id whose channel is still empty is ours, one
        // that was answered may belong to another query by now.
        let mut state = self.reading.socket.state();
        if self.reply.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            state.in_flight.remove(self.id);
            // Whoever gives up after so long was answered by somebody else; as after a timeout,
            // it may be the way of this socket that is broken.
            if self.sent.elapsed() >= LATE {
                state.retired = true;
            }
        }
    }
}

impl Socket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_usable(&self, now: Instant, settings: &PoolSettings) -> bool {
        let state = self.state();
        let too_old = !settings.max_age.is_zero() && now - self.opened >= settings.max_age;
        let idle = state.in_flight.is_empty() && now - state.last_used >= settings.expire;
        !(state.retired || state.uses >= UPSTREAM_UDP_USES || too_old || idle)
    }

    async fn read(self: Arc<Self>) {
        // An ICMP error makes a socket not readable but erroneous.
        while let Ok(ready) = self.io.ready(Interest::READABLE | Interest::ERROR).await {
            let mut drained = false;
            let mut receive = |burst: &mut Burst| {
                let count = burst.receive(&self.io)?;
                burst.packets().for_each(|packet| self.deliver(packet));
                drained = count < burst.slots();
                // Spares the call that would say so: what arrives from now on is news.
                let empty = || io::ErrorKind::WouldBlock.into();
                if drained { Err(empty()) } else { Ok(()) }
            };
            let received =
                lane::with_burst(|burst| self.io.try_io(Interest::READABLE, || receive(burst)));
            match received {
                _ if drained => {}
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !ready.is_error() => {}
                // A query that was being sent took the error.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.fail(Cause::Os(libc::ECONNREFUSED));
                }
                Err(error) => return self.fail((&error).into()),
            }
            // A flood of datagrams must not keep the thread.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Sends queries; that the kernel did not take one is found when no reply comes.
    pub(super) fn send_burst<'p>(
        &self,
        burst: &mut Burst,
        packets: impl Iterator<Item = &'p [u8]>,
    ) {
        if let Err(error) = burst.send(self.io.as_raw_fd(), packets)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            self.fail((&error).into());
        }
    }

    fn deliver(&self, message: &[u8]) {
        let mut state = self.state();
        let remote = self.remote;
        // The waiter may have given up meanwhile.
        let _ = match state.in_flight.arrive(message) {
            Arrival::Reply(waiter) => waiter.send(Ok(message.to_vec())),
            Arrival::BareError(waiter, reply) => {
                waiter.send(Err(ExchangeError::Bare { remote, reply }))
            }
            Arrival::OtherCase(waiter) => waiter.send(Err(ExchangeError::OtherCase { remote })),
            Arrival::Late => Ok(()),
            Arrival::OtherQuestion | Arrival::Stray => {
                self.mismatch(&mut state);
                Ok(())
            }
        };
    }

    /// Counts a datagram that answers nothing. Many of them while queries wait are guesses of ids:
    /// the next one might be right, so that nothing is believed on this socket any more.
    fn mismatch(&self, state: &mut State) {
        if let Some(mismatched) = &self.mismatched {
            mismatched.inc();
        }
        if state.in_flight.is_empty() {
            return;
        }
        state.mismatches += 1;
        if state.mismatches >= UPSTREAM_MISMATCHES {
            state.retired = true;
            let remote = self.remote;
            for waiter in state.in_flight.drain() {
                let _ = waiter.send(Err(ExchangeError::Guessed { remote }));
            }
        }
    }

    /// Ends all queries in flight: the kernel does not say which of them an ICMP error answers,
    /// but it is about the port that all of them went to.
    fn fail(&self, cause: Cause) {
        let error = self.error(Operation::Read, cause);
        let mut state = self.state();
        state.retired = true;
        for waiter in state.in_flight.drain() {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    fn error(&self, operation: Operation, cause: Cause) -> ExchangeError {
        ExchangeError::Io {
            operation,
            protocol: Protocol::Udp,
            local: Some(self.local),
            remote: self.remote,
            cause,
        }
    }
}
