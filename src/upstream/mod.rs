//! Exchanges with other name servers over UDP, TCP, TLS and HTTPS: octets in, octets out.
//!
//! An [`Upstream`] is one server with its pools of sockets and connections. The module
//! knows nothing of policy: which server is asked, how often and what becomes of the reply is the
//! caller's business. What always holds:
//!
//! - a reply is given to a query only if it came from the upstream's own address and port, carries
//!   the query's id and repeats its question (RFC 5452 §9); everything else is as if it had not
//!   come. The right id with another question is an error of its own: at once over TCP, over UDP
//!   when the time is up, since a forger can send it too;
//! - over UDP the question goes out with its letters in random case, and the reply has to repeat
//!   that ([`spelling`]); what does not is asked again over TCP;
//! - where many datagrams answer nothing, somebody guesses: the queries of that socket are asked
//!   again over TCP;
//! - a reply is well formed, spelled as the query was, and holds no record that was not asked for
//!   ([`sanitize`]);
//! - ids come from a CSPRNG, source ports from the kernel's ephemeral range, and a UDP socket is
//!   replaced after [`limits::UPSTREAM_UDP_USES`](crate::limits::UPSTREAM_UDP_USES) queries, after
//!   `expire` without a query, and as soon as a query on it failed;
//! - sockets, connections and queries in flight are bounded;
//! - the only clock is tokio's.
//!
//! [`protocol`] holds what does not depend on sockets.

mod encryption;
mod error;
mod https;
pub mod lane;
pub mod marker;
mod metrics;
mod pool;
pub mod protocol;
pub mod sanitize;
pub mod spelling;
mod tcp;
mod tls;
mod udp;

pub use encryption::{ClientTls, DohMethod, Encryption};
pub use error::{Cause, ExchangeError, Operation};
pub use metrics::UpstreamMetrics;

use crate::limits::UPSTREAM_LANES;
use crate::metrics::Shard;
use bytes::Bytes;
use sanitize::Checked;
use spelling::{Flips, Spelling};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;
use tokio::time::sleep;

/// How a query travels to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Plain UDP (RFC 1035 §4.2.1).
    Udp,
    /// Plain TCP (RFC 7766).
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484).
    Https,
}

impl Protocol {
    /// `udp`, `tcp`, `tcp-tls` or `https`: the label `proto` of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tcp-tls",
            Self::Https => "https",
        }
    }

    /// What carries it: `udp` or `tcp`.
    pub const fn network(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp | Self::Tls | Self::Https => "tcp",
        }
    }
}

/// How sockets and connections are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolSettings {
    /// How long a socket is kept without a query.
    pub expire: Duration,
    /// How long a socket is used at most; zero for no bound.
    pub max_age: Duration,
    /// How many idle connections (TCP, TLS, HTTPS) are kept; zero for no bound of its own.
    pub max_idle: usize,
    /// The address that queries are sent from.
    pub source: Option<IpAddr>,
    /// Whether names go out in the case that the client chose.
    pub keep_case: bool,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            expire: Duration::from_secs(10),
            max_age: Duration::ZERO,
            max_idle: 0,
            source: None,
            keep_case: false,
        }
    }
}

/// A name server that is asked.
///
/// Cloning gives another handle to the same pools; they close with the last one.
#[derive(Clone, Debug)]
pub struct Upstream {
    pools: Arc<Pools>,
}

#[derive(Debug)]
struct Pools {
    remote: SocketAddr,
    settings: PoolSettings,
    /// One for each lane.
    udp: [udp::UdpPool; UPSTREAM_LANES],
    tcp: tcp::TcpPool,
    spelling: Spelling,
    encrypted: Option<Encrypted>,
    metrics: Option<UpstreamMetrics>,
    swept: AtomicBool,
}

#[derive(Debug)]
enum Encrypted {
    Tls(pool::LinePool<tls::Pipeline>),
    Https(pool::LinePool<https::Session>),
}

impl Upstream {
    /// The server at `remote`. Nothing is opened before the first query.
    pub fn new(
        remote: SocketAddr,
        settings: PoolSettings,
        metrics: Option<UpstreamMetrics>,
    ) -> Self {
        Self::with_encryption(remote, settings, None, metrics)
    }

    /// The same; with `encryption` every query goes over TLS or HTTPS, whatever protocol it is
    /// asked to take.
    pub fn with_encryption(
        remote: SocketAddr,
        settings: PoolSettings,
        encryption: Option<&Encryption>,
        metrics: Option<UpstreamMetrics>,
    ) -> Self {
        let encrypted = encryption.map(|encryption| {
            let dialer = encryption.dialer(remote, settings.source);
            match encryption.protocol() {
                Protocol::Https => Encrypted::Https(pool::LinePool::new(dialer, settings.clone())),
                _ => Encrypted::Tls(pool::LinePool::new(dialer, settings.clone())),
            }
        });
        let mismatched = metrics.as_ref().map(|metrics| metrics.mismatched.clone());
        let udp = |_| udp::UdpPool::new(remote, settings.clone(), mismatched.clone());
        Self {
            pools: Arc::new(Pools {
                remote,
                encrypted,
                udp: std::array::from_fn(udp),
                tcp: tcp::TcpPool::new(remote, settings.clone()),
                spelling: Spelling::new(settings.keep_case),
                settings,
                metrics,
                swept: AtomicBool::new(false),
            }),
        }
    }

    /// Where the server is.
    pub fn remote(&self) -> SocketAddr {
        self.pools.remote
    }

    /// The protocol that a query takes which is asked to take `plain`: it differs only where the
    /// upstream is encrypted.
    pub fn protocol(&self, plain: Protocol) -> Protocol {
        match &self.pools.encrypted {
            None => plain,
            Some(Encrypted::Tls(_)) => Protocol::Tls,
            Some(Encrypted::Https(_)) => Protocol::Https,
        }
    }

    /// Sends `query` (a whole message with one question; its id is replaced) and waits for the
    /// reply, `timeout` at most; connecting over TCP, TLS or HTTPS may take as long again, and so may
    /// asking again what came back doubtful. The reply carries the id that was sent. It is well formed:
    /// of one that is cut, header and question are given over UDP, with TC set.
    ///
    /// Must be polled on a tokio runtime. Dropping the future gives the query up.
    ///
    /// # Errors
    /// [`ExchangeError`]; a pooled connection that the server had closed meanwhile is none.
    pub async fn exchange(
        &self,
        query: &mut [u8],
        protocol: Protocol,
        timeout: Duration,
    ) -> Result<Bytes, ExchangeError> {
        let protocol = self.protocol(protocol);
        let result = match protocol {
            Protocol::Udp => self.exchange_udp(query, timeout).await,
            _ => Box::pin(self.exchange_stream(query, protocol, timeout)).await,
        };
        if let (Err(ExchangeError::Busy { .. }), Some(metrics)) = (&result, &self.pools.metrics) {
            metrics.rejected.inc();
        }
        self.sweep_later();
        self.checked(result?, protocol)
    }

    /// An exchange over UDP. What came back doubtful is asked again.
    async fn exchange_udp(
        &self,
        query: &mut [u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, ExchangeError> {
        let random = self.pools.spelling.is_random();
        match self.ask_udp(query, timeout, random).await {
            // In a box: it is rare, and would make every query's future larger.
            Err(
                error @ (ExchangeError::Guessed { .. }
                | ExchangeError::Bare { .. }
                | ExchangeError::OtherCase { .. }),
            ) => Box::pin(self.ask_again(query, timeout, error)).await,
            asked => asked,
        }
    }

    /// Asks over TCP, which proves the source, what came back doubtful over UDP.
    async fn ask_again(
        &self,
        query: &mut [u8],
        timeout: Duration,
        error: ExchangeError,
    ) -> Result<Vec<u8>, ExchangeError> {
        let asked = self.exchange_stream(query, Protocol::Tcp, timeout).await;
        match (error, &asked) {
            (ExchangeError::OtherCase { .. }, _) => {}
            // An upstream without TCP: there is no better reply.
            (ExchangeError::Bare { reply, .. }, Err(ExchangeError::Io { .. })) => return Ok(reply),
            _ => return asked,
        }
        let pools = &*self.pools;
        if let Some(metrics) = &pools.metrics {
            metrics.case_ignored.inc();
        }
        let asked = match asked {
            // An upstream without TCP: a forger would have to guess another id and port.
            Err(ExchangeError::Io { .. }) => self.ask_udp(query, timeout, false).await,
            asked => asked,
        };
        if asked.is_ok() && pools.spelling.ignored() {
            tracing::warn!(
                target: "plugin/forward",
                "upstream {} does not keep the case of names: for an hour they go out as clients \
                 spell them",
                pools.remote
            );
        }
        asked
    }

    /// Asks over UDP, with the letters of the question in random case or in the client's.
    async fn ask_udp(
        &self,
        query: &mut [u8],
        timeout: Duration,
        random: bool,
    ) -> Result<Vec<u8>, ExchangeError> {
        let pools = &*self.pools;
        let pool = &pools.udp[lane::number()];
        let reused = |reused: bool| pools.count(Protocol::Udp, reused);
        let Some(flips) = Flips::for_query(query).filter(|_| random) else {
            return pool.exchange(query, false, timeout, reused).await;
        };
        flips.apply(query);
        let mut asked = pool.exchange(query, true, timeout, reused).await;
        flips.apply(query);
        match &mut asked {
            Ok(reply) => {
                flips.restore(reply);
                pools.spelling.kept();
            }
            Err(ExchangeError::Bare { reply, .. }) => flips.restore(reply),
            Err(_) => {}
        }
        asked
    }

    /// An exchange on a connection.
    async fn exchange_stream(
        &self,
        query: &mut [u8],
        protocol: Protocol,
        timeout: Duration,
    ) -> Result<Vec<u8>, ExchangeError> {
        match lane::is_own() {
            true => self.exchange_elsewhere(query, protocol, timeout).await,
            false => self.pools.exchange(query, protocol, timeout).await,
        }
    }

    /// An exchange on a connection from a thread with a lane of its own: connections are shared, and
    /// must not wait for that thread.
    async fn exchange_elsewhere(
        &self,
        query: &[u8],
        protocol: Protocol,
        timeout: Duration,
    ) -> Result<Vec<u8>, ExchangeError> {
        let (pools, mut query) = (Arc::clone(&self.pools), query.to_vec());
        let origin = marker::origin();
        let exchange = lane::background().spawn(async move {
            marker::sent_by(origin, pools.exchange(&mut query, protocol, timeout)).await
        });
        let busy = ExchangeError::Busy {
            remote: self.pools.remote,
        };
        Giving(exchange).await.unwrap_or(Err(busy))
    }

    /// Takes out of a reply what was not asked for.
    fn checked(&self, reply: Vec<u8>, protocol: Protocol) -> Result<Bytes, ExchangeError> {
        match sanitize::check(&reply) {
            Checked::Clean => Ok(reply.into()),
            Checked::Cleaned { message, removed } => {
                if let Some(metrics) = &self.pools.metrics {
                    metrics.removed.add(Shard::SHARED, u64::from(removed));
                }
                Ok(message.into())
            }
            Checked::Malformed if protocol == Protocol::Udp => {
                Ok(protocol::truncated(&reply).into())
            }
            Checked::Malformed => Err(ExchangeError::Malformed {
                remote: self.pools.remote,
            }),
        }
    }

    /// Open UDP sockets and idle connections, for tests and diagnosis.
    pub fn pooled(&self) -> (usize, usize) {
        let udp = self.pools.udp.iter().map(udp::UdpPool::len);
        let encrypted = match &self.pools.encrypted {
            None => 0,
            Some(Encrypted::Tls(pool)) => pool.idle(),
            Some(Encrypted::Https(pool)) => pool.idle(),
        };
        (udp.sum(), self.pools.tcp.idle() + encrypted)
    }

    /// Starts the task that closes what was idle for too long, unless it runs.
    fn sweep_later(&self) {
        if self.pools.swept.swap(true, SeqCst) {
            return;
        }
        let pools = Arc::downgrade(&self.pools);
        // Below a second a sweep costs more than what it closes.
        let interval = self.pools.settings.expire.max(Duration::from_secs(1));
        lane::background().spawn(async move {
            loop {
                sleep(interval).await;
                let Some(pools) = pools.upgrade() else { return };
                let udp: usize = pools.udp.iter().map(udp::UdpPool::sweep).sum();
                let encrypted = match &pools.encrypted {
                    None => 0,
                    Some(Encrypted::Tls(pool)) => pool.sweep(),
                    Some(Encrypted::Https(pool)) => pool.sweep(),
                };
                let kept = udp + pools.tcp.sweep() + encrypted;
                if kept == 0 {
                    pools.swept.store(false, SeqCst);
                    return;
                }
            }
        });
    }
}

/// A task that ends when nobody waits for it any more.
struct Giving<T>(tokio::task::JoinHandle<T>);

impl<T> Future for Giving<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for Giving<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pools {
    /// An exchange on a connection, whose tasks run on the runtime of the caller.
    async fn exchange(
        &self,
        query: &mut [u8],
        protocol: Protocol,
        timeout: Duration,
    ) -> Result<Vec<u8>, ExchangeError> {
        let reused = |reused: bool| self.count(protocol, reused);
        match &self.encrypted {
            None => self.tcp.exchange(query, timeout, reused).await,
            Some(Encrypted::Tls(pool)) => pool.exchange(query, timeout, reused).await,
            Some(Encrypted::Https(pool)) => pool.exchange(query, timeout, reused).await,
        }
    }

    fn count(&self, protocol: Protocol, reused: bool) {
        if let Some(metrics) = &self.metrics {
            let cells = if reused {
                &metrics.hits
            } else {
                &metrics.misses
            };
            // An upstream is asked over UDP and TCP, or over its one encrypted protocol.
            let cell = usize::from(protocol == Protocol::Tcp);
            cells.add(Shard::SHARED, cell, 1);
        }
    }
}
