//! The HTTP endpoints: one thread of its own, so that probes and scrapes are answered under any
//! load of queries.

use super::explain::{self, Explain};
use crate::plugin::admin::{Endpoint, Request, Response};
use arc_swap::ArcSwap;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

/// How long a request may take (HE-1, PR-1).
const TIMEOUT: Duration = Duration::from_secs(5);
/// Connections at one time; further ones wait to be accepted.
const CONNECTIONS: usize = 256;

/// Listening addresses opened at one time.
const ADDRESSES: usize = 64;

/// What is served by listening address.
type Table = BTreeMap<SocketAddr, Served>;

/// What is served on a listening address.
#[derive(Clone, Default)]
struct Served {
    endpoints: Vec<Endpoint>,
    /// Whether `/explain` is.
    explains: bool,
}

/// The admin thread.
pub struct Admin {
    shared: Arc<Shared>,
    listeners: Mutex<BTreeMap<SocketAddr, watch::Sender<bool>>>,
    open: mpsc::Sender<(SocketAddr, std::net::TcpListener, watch::Receiver<bool>)>,
}

/// What every connection looks at.
struct Shared {
    table: ArcSwap<Table>,
    explain: Arc<Explain>,
    connections: Arc<Semaphore>,
}

/// Endpoints whose addresses are known and listened on.
#[derive(Clone)]
pub struct Opened(Table);

impl Admin {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(explain: Arc<Explain>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            table: ArcSwap::default(),
            explain,
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        });
        let (open, mut opened) = mpsc::channel(ADDRESSES);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serving = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                runtime.block_on(async {
                    while let Some((addr, listener, closed)) = opened.recv().await {
                        tokio::spawn(accept(addr, listener, closed, Arc::clone(&serving)));
                    }
                });
            })?;
        Ok(Self {
            shared,
            listeners: Mutex::default(),
            open,
        })
    }

    /// Listens on the addresses of `endpoints` that are not listened on yet.
    ///
    /// # Errors
    /// An address that is none, or cannot be listened on.
    pub fn open(&self, endpoints: Vec<Endpoint>) -> io::Result<Opened> {
        let mut table = Table::new();
        let explaining = explain::addresses(endpoints.iter());
        for endpoint in &endpoints {
            let served = table.entry(resolve(&endpoint.listen)?).or_default();
            served.explains |= explaining.contains(endpoint.listen.as_str());
            served.endpoints.push(endpoint.clone());
        }
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (addr, served) in &table {
            if listeners.contains_key(addr) {
                continue;
            }
            // At least one endpoint made the row.
            let listen = &served.endpoints[0].listen;
            let listener = listen_on(*addr).map_err(|error| {
                io::Error::new(error.kind(), format!("listen tcp {listen}: {error}"))
            })?;
            let (close, closed) = watch::channel(false);
            listeners.insert(*addr, close);
            let sent = self.open.try_send((*addr, listener, closed));
            sent.map_err(|_| io::Error::other("too many HTTP addresses at once"))?;
        }
        Ok(Opened(table))
    }

    /// Serves these endpoints from now on, and closes addresses that have none.
    pub fn serve(&self, endpoints: Opened) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|addr, close| {
            let keep = endpoints.0.contains_key(addr);
            if !keep {
                let _ = close.send(true);
            }
            keep
        });
        self.shared.table.store(Arc::new(endpoints.0));
    }

    /// Closes addresses that were opened and never served.
    pub fn give_up_unused(&self) {
        self.serve(Opened(Table::clone(&self.shared.table.load())));
    }

    /// Stops serving `path`; addresses that served nothing else refuse connections.
    pub fn close(&self, path: &str) {
        let mut table = Table::clone(&self.shared.table.load());
        for served in table.values_mut() {
            served.endpoints.retain(|endpoint| endpoint.path != path);
        }
        table.retain(|_, served| !served.endpoints.is_empty());
        self.serve(Opened(table));
    }
}

/// `:8080` is every address, `localhost:9153` the first address of the name.
fn resolve(listen: &str) -> io::Result<SocketAddr> {
    let every = listen.strip_prefix(':').map(|port| format!("[::]:{port}"));
    let addr = every.as_deref().unwrap_or(listen).to_socket_addrs();
    let explain = |error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("listen {listen}: {error}"),
        )
    };
    addr.map_err(explain)?
        .next()
        .ok_or_else(|| explain(io::ErrorKind::NotFound.into()))
}

fn listen_on(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    match crate::net::tcp_listener(addr) {
        Err(error)
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT) && addr.ip().is_unspecified() =>
        {
            crate::net::tcp_listener(SocketAddr::from(([0, 0, 0, 0], addr.port())))
        }
        result => result,
    }
}

async fn accept(
    addr: SocketAddr,
    listener: std::net::TcpListener,
    mut closed: watch::Receiver<bool>,
    shared: Arc<Shared>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        // The semaphore is never closed.
        let free = tokio::select! {
            free = Arc::clone(&shared.connections).acquire_owned() => free,
            _ = closed.changed() => return,
        };
        let Ok(permit) = free else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.changed() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request: hyper::Request<Incoming>| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(respond(&shared, addr, peer, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // A probe keeps a connection open for its next round; an idle one ends by the header
            // timeout. What goes wrong concerns only the peer.
            let _ = connection.await;
            drop(permit);
        });
    }
}

async fn respond(
    shared: &Shared,
    addr: SocketAddr,
    peer: SocketAddr,
    request: &hyper::Request<Incoming>,
) -> hyper::Response<Full<Bytes>> {
    let path = request.uri().path();
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok());
    let asked = Request {
        query: request.uri().query().unwrap_or_default(),
        accept: accept.unwrap_or_default(),
        peer,
    };
    let served = shared.table.load().get(&addr).cloned().unwrap_or_default();
    let endpoints = served.endpoints.iter().filter(|e| e.path == path);
    let responses = endpoints
        .map(|endpoint| (endpoint.handler)(&asked))
        .collect();
    let response = match merge(responses) {
        Some(response) => response,
        None if served.explains && path == explain::PATH => shared.explain.respond(&asked).await,
        None => Response::text(404, "404 page not found\n"),
    };
    let built = hyper::Response::builder()
        .status(response.status)
        .header(CONTENT_TYPE, response.content_type)
        .body(Full::new(Bytes::from(response.body)));
    // Status and content type are constants of the handlers; a wrong one shows as an empty body.
    built.unwrap_or_default()
}

/// One response for the same path of several blocks: what is wrong in any of them, else the first.
fn merge(responses: Vec<Response>) -> Option<Response> {
    let bad = || responses.iter().filter(|response| response.status != 200);
    let Some(first) = bad().next() else {
        return responses.into_iter().next();
    };
    let parts: BTreeSet<&str> = bad()
        .flat_map(|response| response.body.split(','))
        .collect();
    let body = parts.into_iter().collect::<Vec<_>>().join(",");
    Some(Response {
        body,
        ..first.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_share_an_endpoint() {
        let ok = Response::text(200, "OK");
        assert_eq!(merge(vec![]), None);
        assert_eq!(
            merge(vec![ok.clone(), Response::text(200, "other")]),
            Some(ok.clone())
        );
        let bad = vec![
            ok,
            Response::text(503, "kubernetes,b"),
            Response::text(503, "a,kubernetes"),
        ];
        assert_eq!(merge(bad), Some(Response::text(503, "a,b,kubernetes")));
    }

    #[test]
    fn addresses() {
        assert_eq!(resolve(":8080").unwrap(), "[::]:8080".parse().unwrap());
        assert_eq!(
            resolve("127.0.0.1:1").unwrap(),
            "127.0.0.1:1".parse().unwrap()
        );
        assert!(resolve("nonsense").is_err());
    }
}
