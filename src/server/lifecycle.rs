//! Start, reload, shutdown.

use super::admin::Admin;
use super::explain::Explain;
use super::{Configuration, ListenKey, Routes, tcp, udp};
use crate::limits::{PENDING_QUERIES, PENDING_TCP_QUERIES};
use crate::metrics::{Counter, Gauge, Registry};
use crate::net::{UdpSocket, tcp_listener};
use crate::plugin::setup::Hook;
use crate::plugin::{Chain, Process};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How often a UDP worker without traffic looks whether it has to stop.
const UDP_LOOK: Duration = Duration::from_millis(500);
/// How often a free port (port 0) is looked for that UDP and TCP can share.
const FREE_PORT_TRIES: usize = 16;
/// How long queries in flight are waited for at the end (SC-13).
const GRACE: Duration = Duration::from_secs(5);

/// What every listening address of the process shares.
pub(super) struct Shared {
    pub pending: Gauge,
    /// Those of them that came over TCP.
    pub tcp_line: Arc<tcp::Line>,
    pending_dropped: [Counter; 2],
    pub tcp_connections: Gauge,
    pub tcp_rejected: Counter,
}

/// Why a query that waits is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overload {
    /// Too many wait.
    Number,
    /// It has waited too long.
    Time,
}

impl Overload {
    /// What the client is told.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Number => "overloaded: too many queries wait for an answer",
            Self::Time => "no answer came in time",
        }
    }
}

impl Shared {
    /// Queries that were given up for this reason.
    pub fn dropped(&self, why: Overload) -> &Counter {
        &self.pending_dropped[why as usize]
    }
}

/// A listening address: what it answers by now, and whether it was given up.
pub(super) struct Slot {
    pub routes: ArcSwap<Routes>,
    pub closed: AtomicBool,
    pub shared: Arc<Shared>,
    local: SocketAddr,
    close: tokio::sync::Notify,
}

impl Slot {
    pub fn new(routes: Arc<Routes>, shared: Arc<Shared>, local: SocketAddr) -> Self {
        Self {
            routes: ArcSwap::new(routes),
            closed: AtomicBool::new(false),
            shared,
            local,
            close: tokio::sync::Notify::new(),
        }
    }

    /// Waits until the address is given up.
    pub async fn closed(&self) {
        loop {
            let notified = self.close.notified();
            if self.is_closed() {
                return;
            }
            notified.await;
        }
    }

    /// Whether the address was given up.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    fn give_up(&self) {
        self.closed.store(true, Relaxed);
        self.close.notify_waiters();
    }
}

/// A running server.
pub struct Server {
    process: Arc<Process>,
    shared: Arc<Shared>,
    slots: BTreeMap<ListenKey, Arc<Slot>>,
    admin: Admin,
    explain: Arc<Explain>,
    chains: Vec<Arc<Chain>>,
    shutdown: Vec<Hook>,
    final_shutdown: Vec<Hook>,
}

impl Server {
    /// Starts a configuration: start hooks first, then the sockets, then what wants to know that
    /// queries are served.
    ///
    /// # Errors
    /// A socket that cannot be opened.
    pub async fn start(process: Arc<Process>, configuration: Configuration) -> io::Result<Self> {
        Self::start_telling(process, configuration, || {}).await
    }

    /// As [`Server::start`]; calls `listening` once the sockets are open, before the hooks that
    /// want to know it (CF-105).
    ///
    /// # Errors
    /// A socket that cannot be opened.
    pub async fn start_telling(
        process: Arc<Process>,
        configuration: Configuration,
        listening: impl FnOnce(),
    ) -> io::Result<Self> {
        let explain = Arc::new(Explain::new(&process.metrics, process.runtime.clone()));
        let mut server = Self {
            shared: Arc::new(Shared::new(&process.metrics)),
            process,
            slots: BTreeMap::new(),
            admin: Admin::start(Arc::clone(&explain))?,
            explain,
            chains: Vec::new(),
            shutdown: Vec::new(),
            final_shutdown: Vec::new(),
        };
        server.run(configuration, listening).await?;
        Ok(server)
    }

    /// Swaps in another configuration. No query is lost: listening addresses that both have keep
    /// their sockets, and queries in flight end in the configuration that they began in.
    ///
    /// # Errors
    /// A socket that cannot be opened; the old configuration serves on then.
    pub async fn reload(&mut self, configuration: Configuration) -> io::Result<()> {
        let done = self.run(configuration, || {}).await;
        if done.is_err() {
            self.admin.give_up_unused();
        }
        done
    }

    async fn run(
        &mut self,
        configuration: Configuration,
        listening: impl FnOnce(),
    ) -> io::Result<()> {
        let Configuration {
            listeners,
            chains,
            hooks,
            endpoints,
        } = configuration;
        // Probes are answered while the start hooks wait for the API server (RE-5).
        let endpoints = self.admin.open(endpoints)?;
        let first = self.slots.is_empty();
        if first {
            self.explain.set(&listeners);
            self.admin.serve(endpoints.clone());
        }
        run_hooks(hooks.start).await;
        let mut opened = Vec::new();
        for (key, routes) in &listeners {
            if !self.slots.contains_key(key) {
                opened.push((key.clone(), self.open(key, routes)?));
            }
        }
        for (key, routes) in &listeners {
            if let Some(slot) = self.slots.get(key) {
                slot.routes.store(Arc::clone(routes));
            }
        }
        for (key, sockets) in opened {
            let slot = sockets.run(&self.process)?;
            self.slots.insert(key, slot);
        }
        self.process.listening.store(true, Relaxed);
        self.slots.retain(|key, slot| {
            let keep = listeners.contains_key(key);
            if !keep {
                slot.give_up();
            }
            keep
        });
        if !first {
            self.explain.set(&listeners);
            self.admin.serve(endpoints);
        }
        let old = std::mem::replace(&mut self.shutdown, hooks.shutdown);
        self.final_shutdown = hooks.final_shutdown;
        let old_chains = std::mem::replace(&mut self.chains, chains);
        listening();
        run_hooks(hooks.serving).await;
        run_hooks(old).await;
        drop(old_chains);
        Ok(())
    }

    /// Ends the server: shutdown hooks while queries are still answered (CF-110, CF-111), then
    /// `before_closing`, then the sockets; queries in flight get five seconds.
    pub async fn stop(mut self, before_closing: impl FnOnce()) {
        run_hooks(std::mem::take(&mut self.shutdown)).await;
        // Before the lameduck: whoever probes readiness is to look elsewhere while it lasts (RE-6).
        self.admin.close("/ready");
        run_hooks(std::mem::take(&mut self.final_shutdown)).await;
        before_closing();
        for slot in self.slots.values() {
            slot.give_up();
        }
        let end = tokio::time::Instant::now() + GRACE;
        let busy = || self.shared.pending.get() > 0;
        while busy() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where the server listens, with the real ports where port 0 was asked for.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.slots.values().map(|slot| slot.local)
    }

    fn open(&self, key: &ListenKey, routes: &Arc<Routes>) -> io::Result<Sockets> {
        let mut result = self.open_at(key.addr, routes);
        for _ in 1..FREE_PORT_TRIES {
            match &result {
                // A port that was free for UDP is taken for TCP: another one is asked for.
                Err(error) if key.addr.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {
                    result = self.open_at(key.addr, routes);
                }
                // A host without IPv6: every address is every IPv4 address.
                Err(error)
                    if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                        && key.addr.ip().is_unspecified() =>
                {
                    let every = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), key.addr.port());
                    result = self.open_at(every, routes);
                }
                _ => break,
            }
        }
        result.map_err(|error| {
            let text = format!("listen {}://{}: {error}", key.scheme, key.addr);
            io::Error::new(error.kind(), text)
        })
    }

    fn open_at(&self, mut addr: SocketAddr, routes: &Arc<Routes>) -> io::Result<Sockets> {
        if addr.port() == 0 {
            addr.set_port(free_port(addr)?);
        }
        let first = UdpSocket::bind(addr, UDP_LOOK)?;
        let local = first.local();
        let tcp = tcp_listener(local)?;
        let mut udp = vec![first];
        for _ in 1..self.process.workers {
            udp.push(UdpSocket::bind(local, UDP_LOOK)?);
        }
        Ok(Sockets {
            slot: Arc::new(Slot::new(
                Arc::clone(routes),
                Arc::clone(&self.shared),
                local,
            )),
            udp,
            tcp,
        })
    }
}

/// A port that nobody uses. Asked for a free port for a socket with SO_REUSEPORT, the kernel may
/// give one that another such socket of the same user has.
fn free_port(addr: SocketAddr) -> io::Result<u16> {
    Ok(std::net::UdpSocket::bind(addr)?.local_addr()?.port())
}

/// The open sockets of a listening address before anything reads from them.
struct Sockets {
    slot: Arc<Slot>,
    udp: Vec<UdpSocket>,
    tcp: std::net::TcpListener,
}

impl Sockets {
    fn run(self, process: &Arc<Process>) -> io::Result<Arc<Slot>> {
        let sockets: Vec<_> = self.udp.into_iter().map(Arc::new).collect();
        count_drops(&process.metrics, self.slot.local, &sockets);
        for (index, socket) in sockets.into_iter().enumerate() {
            let worker = udp::Worker {
                socket,
                slot: Arc::clone(&self.slot),
                shard: process.claim_shard(),
                runtime: process.runtime.clone(),
                share: (PENDING_QUERIES / process.workers.max(1)).max(1),
            };
            std::thread::Builder::new()
                .name(format!("udp-{index}"))
                .spawn(move || {
                    if let Err(error) = udp::run(&worker) {
                        tracing::error!("a UDP worker cannot start: {error}");
                    }
                })?;
        }
        let listener = tokio::net::TcpListener::from_std(self.tcp)?;
        process
            .runtime
            .spawn(tcp::accept(listener, Arc::clone(&self.slot)));
        Ok(self.slot)
    }
}

/// Shows what the kernel drops at an address for as long as its sockets are open.
fn count_drops(registry: &Registry, local: SocketAddr, sockets: &[Arc<UdpSocket>]) {
    let sockets: Vec<_> = sockets.iter().map(Arc::downgrade).collect();
    registry.read_counter(
        "portolan_udp_dropped_packets_total",
        "Packets that the kernel dropped because the socket's buffer was full.",
        vec![("listen", local.to_string())],
        move || {
            let open = sockets.iter().filter_map(std::sync::Weak::upgrade);
            let drops = open.map(|socket| socket.drops().ok().map(f64::from));
            drops.reduce(|sum, more| Some(sum? + more?)).flatten()
        },
    );
}

async fn run_hooks(hooks: Vec<Hook>) {
    for hook in hooks {
        hook().await;
    }
}

impl Shared {
    pub fn new(registry: &Registry) -> Self {
        Self {
            pending: registry.gauge(
                "portolan_pending_queries",
                "Queries that wait for an answer from elsewhere.",
                vec![],
            ),
            tcp_line: tcp::Line::new(PENDING_TCP_QUERIES),
            pending_dropped: ["number", "time"].map(|reason| {
                registry.counter(
                    "portolan_pending_dropped_total",
                    "Queries answered SERVFAIL because too many were waiting, or they for too long.",
                    vec![("reason", reason.into())],
                )
            }),
            tcp_connections: registry.gauge(
                "portolan_tcp_connections",
                "Open TCP connections of clients.",
                vec![],
            ),
            tcp_rejected: registry.counter(
                "portolan_tcp_rejected_total",
                "TCP connections closed at once because too many were open.",
                vec![],
            ),
        }
    }
}
