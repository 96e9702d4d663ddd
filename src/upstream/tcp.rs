//! TCP connections to one upstream: one query at a time on each, reused oldest first (RFC 7766).

use super::marker::Mark;
use super::protocol::{self, Verdict};
use super::{Cause, ExchangeError, Operation, PoolSettings, Protocol};
use crate::limits::UPSTREAM_TCP_CONNECTIONS;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The connections to one upstream.
#[derive(Debug)]
pub(super) struct TcpPool {
    remote: SocketAddr,
    settings: PoolSettings,
    idle: Mutex<VecDeque<Connection>>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    local: SocketAddr,
    remote: SocketAddr,
    opened: Instant,
    last_used: Instant,
    _room: OwnedSemaphorePermit,
}

impl TcpPool {
    pub(super) fn new(remote: SocketAddr, settings: PoolSettings) -> Self {
        Self {
            remote,
            settings,
            idle: Mutex::default(),
            room: Arc::new(Semaphore::new(UPSTREAM_TCP_CONNECTIONS)),
        }
    }

    /// Sends `query` on some connection and waits for its reply; `reused` is told whether the
    /// (first) connection was open before.
    pub(super) async fn exchange(
        &self,
        query: &mut [u8],
        timeout: Duration,
        reused: impl FnOnce(bool),
    ) -> Result<Vec<u8>, ExchangeError> {
        let id = rand::random();
        protocol::set_id(query, id);
        let question = protocol::question(query).ok_or(ExchangeError::NoQuestion)?;
        let _mark = Mark::set(id, question);
        // A message is no longer than the packet it came in.
        let mut frame = Vec::with_capacity(query.len() + 2);
        frame.extend_from_slice(&(query.len() as u16).to_be_bytes());
        frame.extend_from_slice(query);
        let mut reused = Some(reused);
        loop {
            let pooled = self.take();
            let was_pooled = pooled.is_some();
            if let Some(reused) = reused.take() {
                reused(was_pooled);
            }
            let mut connection = match pooled {
                Some(connection) => connection,
                None => self.dial(timeout).await?,
            };
            let asked = connection.ask(&frame, id, question);
            let answered = timeout_at(Instant::now() + timeout, asked).await;
            match answered {
                Ok(Ok(reply)) => {
                    self.put(connection);
                    return Ok(reply);
                }
                // Closed by the server while it was idle (FW-15). The loop ends: each turn takes
                // a connection out of the pool, and a new one is never retried.
                Ok(Err(error)) if was_pooled && error.cause().is_some_and(Cause::is_closed) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(connection.error(Operation::Read, Cause::Timeout)),
            }
        }
    }

    async fn dial(&self, timeout: Duration) -> Result<Connection, ExchangeError> {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| ExchangeError::Busy {
            remote: self.remote,
        })?;
        let connect = async {
            let socket = match self.remote {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            if let Some(source) = self.settings.source {
                socket.bind((source, 0).into())?;
            }
            let stream = socket.connect(self.remote).await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok((stream, local))
        };
        let connected = timeout_at(Instant::now() + timeout, connect).await;
        let connected = connected
            .map_err(|_| Cause::Timeout)
            .and_then(|done: io::Result<_>| done.map_err(|error| Cause::from(&error)));
        let (stream, local) = connected.map_err(|cause| ExchangeError::Io {
            operation: Operation::Dial,
            protocol: Protocol::Tcp,
            local: None,
            remote: self.remote,
            cause,
        })?;
        let now = Instant::now();
        Ok(Connection {
            stream,
            local,
            remote: self.remote,
            opened: now,
            last_used: now,
            _room: room,
        })
    }

    fn take(&self) -> Option<Connection> {
        let now = Instant::now();
        let mut idle = self.lock();
        while let Some(connection) = idle.pop_front() {
            if connection.is_usable(now, &self.settings) {
                return Some(connection);
            }
        }
        None
    }

    fn put(&self, mut connection: Connection) {
        let now = Instant::now();
        connection.last_used = now;
        let mut idle = self.lock();
        let bound = match self.settings.max_idle {
            0 => UPSTREAM_TCP_CONNECTIONS,
            bound => bound,
        };
        if idle.len() < bound && connection.is_usable(now, &self.settings) {
            idle.push_back(connection);
        }
    }

    /// Closes connections that were idle for too long; gives how many are left.
    pub(super) fn sweep(&self) -> usize {
        let now = Instant::now();
        let mut idle = self.lock();
        idle.retain(|connection| connection.is_usable(now, &self.settings));
        idle.len()
    }

    pub(super) fn idle(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn is_usable(&self, now: Instant, settings: &PoolSettings) -> bool {
        let too_old = !settings.max_age.is_zero() && now - self.opened >= settings.max_age;
        // A connection that expires at once is never kept.
        !too_old && now - self.last_used < settings.expire
    }

    async fn ask(
        &mut self,
        frame: &[u8],
        id: u16,
        question: &[u8],
    ) -> Result<Vec<u8>, ExchangeError> {
        if let Err(error) = self.stream.write_all(frame).await {
            return Err(self.error(Operation::Write, (&error).into()));
        }
        loop {
            let message = match read_frame(&mut self.stream).await {
                Ok(message) => message,
                Err(error) => return Err(self.error(Operation::Read, (&error).into())),
            };
            match protocol::judge(id, question, &message) {
                // The connection proves the source: the case of letters adds nothing to it.
                Verdict::Reply | Verdict::OtherCase => return Ok(message),
                Verdict::BareError => return Ok(protocol::with_question(&message, question)),
                Verdict::Stray => {}
                Verdict::OtherQuestion => {
                    return Err(ExchangeError::OtherQuestion {
                        remote: self.remote,
                    });
                }
            }
        }
    }

    const fn error(&self, operation: Operation, cause: Cause) -> ExchangeError {
        ExchangeError::Io {
            operation,
            protocol: Protocol::Tcp,
            local: Some(self.local),
            remote: self.remote,
            cause,
        }
    }
}

/// Reads a message with its length (RFC 1035 §4.2.2).
async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = stream.read_u16().await?;
    let mut message = vec![0; usize::from(len)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
