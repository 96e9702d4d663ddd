//! Connections that carry many queries at a time: what TLS and HTTPS have in common.
//!
//! A connection is opened by a task of its own, and queries wait for it together: that one of them
//! is given up stops nothing, and a crowd of queries opens no crowd of connections.

use super::encryption::{DohMethod, tls_error};
use super::{Cause, ExchangeError, Operation, PoolSettings, Protocol, protocol};
use crate::limits::{UPSTREAM_TLS_CONNECTIONS, UPSTREAM_TLS_IN_FLIGHT, UPSTREAM_TLS_TARGET};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long opening a connection goes on, whoever still waits for it.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that carries many queries at a time. It closes when it is dropped.
pub(super) trait Line: Send + Sync + Sized + 'static {
    /// Connects.
    fn open(dialer: &Dialer) -> impl Future<Output = Result<Self, ExchangeError>> + Send;

    /// Whether it still takes queries.
    fn is_open(&self) -> bool;

    /// Sends `query`, which has a question, and gives its reply.
    fn ask(&self, query: &mut [u8]) -> impl Future<Output = Result<Vec<u8>, ExchangeError>> + Send;
}

/// The connections to one upstream.
#[derive(Debug)]
pub(super) struct LinePool<L> {
    dialer: Arc<Dialer>,
    settings: PoolSettings,
    links: Mutex<Vec<Arc<Link<L>>>>,
    room: Arc<Semaphore>,
}

type Opened<L> = Option<Result<Arc<L>, ExchangeError>>;

/// A connection, open or being opened.
#[derive(Debug)]
struct Link<L> {
    opened: Instant,
    line: watch::Receiver<Opened<L>>,
    state: Mutex<State>,
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct State {
    in_flight: usize,
    last_used: Instant,
    last_heard: Instant,
    /// No further query goes out on it.
    retired: bool,
}

impl<L: Line> LinePool<L> {
    pub(super) fn new(dialer: Dialer, settings: PoolSettings) -> Self {
        Self {
            dialer: Arc::new(dialer),
            settings,
            links: Mutex::default(),
            room: Arc::new(Semaphore::new(UPSTREAM_TLS_CONNECTIONS)),
        }
    }

    /// Sends `query` on some connection and waits for its reply, `timeout` at most and as long for
    /// the connection; `reused` is told whether the (first) connection was there before.
    pub(super) async fn exchange(
        &self,
        query: &mut [u8],
        timeout: Duration,
        reused: impl FnOnce(bool),
    ) -> Result<Vec<u8>, ExchangeError> {
        protocol::question(query).ok_or(ExchangeError::NoQuestion)?;
        let started = Instant::now();
        let lease = self.lease(None)?;
        reused(!lease.is_new);
        let was_open = lease.link.line.borrow().is_some();
        let answered = self.ask(&lease, query, timeout).await;
        drop(lease);
        match answered {
            // Closed by the server while it was idle, or meanwhile (FW-15): a connection that is
            // younger than the query gets it, once.
            Err(error) if was_open && error.cause().is_some_and(Cause::is_closed) => {
                let lease = self.lease(Some(started))?;
                self.ask(&lease, query, timeout).await
            }
            answered => answered,
        }
    }

    async fn ask(
        &self,
        lease: &Lease<'_, L>,
        query: &mut [u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, ExchangeError> {
        let link = &lease.link;
        let timed_out = |operation| self.dialer.error(operation, None, Cause::Timeout);
        let line = match timeout_at(Instant::now() + timeout, link.line()).await {
            Err(_) => return Err(timed_out(Operation::Dial)),
            Ok(None) => return Err(self.dialer.error(Operation::Dial, None, Cause::Eof)),
            Ok(Some(line)) => line.inspect_err(|_| link.state().retired = true)?,
        };
        let sent = Instant::now();
        match timeout_at(sent + timeout, line.ask(query)).await {
            Ok(Ok(reply)) => {
                link.state().last_heard = Instant::now();
                Ok(reply)
            }
            Ok(Err(error)) => {
                let answered = matches!(
                    error,
                    ExchangeError::OtherQuestion { .. } | ExchangeError::Http { .. }
                );
                link.state().retired |= !answered;
                Err(error)
            }
            Err(_) => {
                let mut state = link.state();
                // Nothing comes any more: the way may be broken without an end being told of it.
                state.retired |= state.last_heard <= sent;
                Err(timed_out(Operation::Read))
            }
        }
    }

    /// A connection for one more query; one that was opened at `youngest` or later, if given.
    fn lease(&self, youngest: Option<Instant>) -> Result<Lease<'_, L>, ExchangeError> {
        let now = Instant::now();
        let mut links = self.lock();
        links.retain(|link| link.is_usable(now, &self.settings));
        let fits = |link: &&Arc<Link<L>>| youngest.is_none_or(|youngest| link.opened >= youngest);
        let mut fitting = links.iter().filter(fits);
        let spare = fitting.find(|link| link.in_flight() < UPSTREAM_TLS_TARGET);
        if let Some(link) = spare {
            return Ok(self.enter(Arc::clone(link), now, false));
        }
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            let link = self.open(now, room);
            links.push(Arc::clone(&link));
            return Ok(self.enter(link, now, true));
        }
        let fullest = links
            .iter()
            .filter(fits)
            .min_by_key(|link| link.in_flight());
        match fullest.filter(|link| link.in_flight() < UPSTREAM_TLS_IN_FLIGHT) {
            Some(link) => Ok(self.enter(Arc::clone(link), now, false)),
            None => Err(ExchangeError::Busy {
                remote: self.dialer.remote,
            }),
        }
    }

    fn enter(&self, link: Arc<Link<L>>, now: Instant, is_new: bool) -> Lease<'_, L> {
        {
            let mut state = link.state();
            state.in_flight += 1;
            state.last_used = now;
        }
        Lease {
            pool: self,
            link,
            is_new,
        }
    }

    fn open(&self, now: Instant, room: OwnedSemaphorePermit) -> Arc<Link<L>> {
        let (opened, line) = watch::channel(None);
        let dialer = Arc::clone(&self.dialer);
        tokio::spawn(async move {
            let dial = timeout_at(now + DIAL_TIMEOUT, L::open(&dialer));
            let line = tokio::select! {
                line = dial => line,
                () = opened.closed() => return,
            };
            let timeout = |_| Err(dialer.error(Operation::Dial, None, Cause::Timeout));
            let line = line.unwrap_or_else(timeout);
            // The receiver is gone with the pool, and then the connection goes too.
            let _ = opened.send(Some(line.map(Arc::new)));
        });
        Arc::new(Link {
            opened: now,
            line,
            state: Mutex::new(State {
                in_flight: 0,
                last_used: now,
                last_heard: now,
                retired: false,
            }),
            _room: room,
        })
    }

    /// Closes connections that were idle for too long; gives how many are left.
    pub(super) fn sweep(&self) -> usize {
        let now = Instant::now();
        let mut links = self.lock();
        links.retain(|link| link.is_usable(now, &self.settings));
        links.len()
    }

    pub(super) fn idle(&self) -> usize {
        let links = self.lock();
        links.iter().filter(|link| link.in_flight() == 0).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Link<L>>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Line> Link<L> {
    /// The connection, as soon as it is open; `None` if the runtime that opened it is gone.
    async fn line(&self) -> Option<Result<Arc<L>, ExchangeError>> {
        let mut line = self.line.clone();
        let opened = line.wait_for(Option::is_some).await.ok()?;
        opened.clone()
    }

    fn is_usable(&self, now: Instant, settings: &PoolSettings) -> bool {
        let too_old = !settings.max_age.is_zero() && now - self.opened >= settings.max_age;
        let state = self.state();
        // A connection that expires at once is never kept.
        let is_fresh = state.in_flight > 0 || now - state.last_used < settings.expire;
        let is_open = match &*self.line.borrow() {
            None => self.line.has_changed().is_ok(),
            Some(Ok(line)) => line.is_open(),
            Some(Err(_)) => false,
        };
        !state.retired && !too_old && is_fresh && is_open
    }

    fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one query on a connection.
struct Lease<'a, L: Line> {
    pool: &'a LinePool<L>,
    link: Arc<Link<L>>,
    is_new: bool,
}

impl<L: Line> Drop for Lease<'_, L> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut links = self.pool.lock();
        {
            let mut state = self.link.state();
            state.in_flight -= 1;
            state.last_used = now;
        }
        let settings = &self.pool.settings;
        let idle = links.iter().filter(|link| link.in_flight() == 0).count();
        let is_idle = self.link.in_flight() == 0;
        let too_many = is_idle && settings.max_idle > 0 && idle > settings.max_idle;
        if too_many || !self.link.is_usable(now, settings) {
            links.retain(|link| !Arc::ptr_eq(link, &self.link));
        }
    }
}

/// How connections to one upstream are opened.
pub(super) struct Dialer {
    pub(super) remote: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) protocol: Protocol,
    pub(super) connector: TlsConnector,
    pub(super) server_name: ServerName<'static>,
    pub(super) method: DohMethod,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dialer({}, {:?})", self.remote, self.server_name)
    }
}

impl Dialer {
    /// A connection on which TLS is spoken, and its own address.
    pub(super) async fn connect(
        &self,
    ) -> Result<(TlsStream<TcpStream>, SocketAddr), ExchangeError> {
        let connect = async {
            let socket = match self.remote {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            if let Some(source) = self.source {
                socket.bind((source, 0).into())?;
            }
            let stream = socket.connect(self.remote).await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok((stream, local))
        };
        let connected: io::Result<_> = connect.await;
        let (stream, local) =
            connected.map_err(|error| self.io_error(Operation::Dial, None, &error))?;
        let shaken = self.connector.connect(self.server_name.clone(), stream);
        let stream = shaken.await.map_err(|error| {
            let error = self.io_error(Operation::Read, Some(local), &error);
            match error.cause() {
                Some(Cause::Eof) => ExchangeError::Tls {
                    remote: self.remote,
                    why: "the server closed the connection during the handshake".into(),
                },
                _ => error,
            }
        })?;
        Ok((stream, local))
    }

    pub(super) fn io_error(
        &self,
        operation: Operation,
        local: Option<SocketAddr>,
        error: &io::Error,
    ) -> ExchangeError {
        tls_error(self.remote, error).unwrap_or_else(|| self.error(operation, local, error.into()))
    }

    pub(super) const fn error(
        &self,
        operation: Operation,
        local: Option<SocketAddr>,
        cause: Cause,
    ) -> ExchangeError {
        ExchangeError::Io {
            operation,
            protocol: self.protocol,
            local,
            remote: self.remote,
            cause,
        }
    }
}
