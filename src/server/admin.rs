//! The HTTP endpoints: one thread of its own, so that probes and scrapes are answered under any
//! load of queries.

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

/// Endpoints by listening address.
type Table = BTreeMap<SocketAddr, Vec<Endpoint>>;

/// The admin thread.
pub struct Admin {
    table: Arc<ArcSwap<Table>>,
    listeners: Mutex<BTreeMap<SocketAddr, watch::Sender<bool>>>,
    open: mpsc::Sender<(SocketAddr, std::net::TcpListener, watch::Receiver<bool>)>,
}

/// Endpoints whose addresses are known and listened on.
#[derive(Clone)]
pub struct Opened(Table);

impl Admin {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start() -> io::Result<Self> {
        let table = Arc::new(ArcSwap::default());
        let (open, mut opened) = mpsc::channel(ADDRESSES);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let endpoints = Arc::clone(&table);
        std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                runtime.block_on(async {
                    let connections = Arc::new(Semaphore::new(CONNECTIONS));
                    while let Some((addr, listener, closed)) = opened.recv().await {
                        let (table, connections) =
                            (Arc::clone(&endpoints), Arc::clone(&connections));
                        tokio::spawn(accept(addr, listener, closed, table, connections));
                    }
                });
            })?;
        Ok(Self {
            table,
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
        for endpoint in endpoints {
            let addr = resolve(&endpoint.listen)?;
            table.entry(addr).or_default().push(endpoint);
        }
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (addr, endpoints) in &table {
            if listeners.contains_key(addr) {
                continue;
            }
            let listen = &endpoints[0].listen;
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
        self.table.store(Arc::new(endpoints.0));
    }

    /// Closes addresses that were opened and never served.
    pub fn give_up_unused(&self) {
        self.serve(Opened(Table::clone(&self.table.load())));
    }

    /// Stops serving `path`; addresses that served nothing else refuse connections.
    pub fn close(&self, path: &str) {
        let mut table = Table::clone(&self.table.load());
        for endpoints in table.values_mut() {
            endpoints.retain(|endpoint| endpoint.path != path);
        }
        table.retain(|_, endpoints| !endpoints.is_empty());
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
    table: Arc<ArcSwap<Table>>,
    connections: Arc<Semaphore>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    loop {
        // The semaphore is never closed.
        let free = tokio::select! {
            free = Arc::clone(&connections).acquire_owned() => free,
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
        let table = Arc::clone(&table);
        tokio::spawn(async move {
            let service = service_fn(|request: hyper::Request<Incoming>| {
                let response = respond(&table.load(), addr, peer, &request);
                async move { Ok::<_, Infallible>(response) }
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

fn respond(
    table: &Table,
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
    let endpoints = table
        .get(&addr)
        .into_iter()
        .flatten()
        .filter(|e| e.path == path);
    let responses = endpoints
        .map(|endpoint| (endpoint.handler)(&asked))
        .collect();
    let response = merge(responses).unwrap_or_else(|| Response::text(404, "404 page not found\n"));
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
