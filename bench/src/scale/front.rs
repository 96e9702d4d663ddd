//! A front of the API server over plain HTTP, which can make every client list everything again: it
//! cuts the watches and says 410 Gone where one is to be resumed.

use super::api::Api;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::client::Body;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// When nothing has been passed on for so long, whatever was asked for has arrived.
const QUIET: Duration = Duration::from_secs(2);
/// How long clients may take to come back and list everything again.
const PATIENCE: Duration = Duration::from_secs(180);

type Error = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, Error>>;

/// The front.
pub struct Front {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    api: Api,
    state: Mutex<State>,
    /// How often watches have been cut.
    cuts: watch::Sender<u64>,
}

struct State {
    /// When anything was passed on last.
    active: Instant,
    /// The paths that are watched now, and how many watches there are.
    watched: HashMap<String, usize>,
    /// The paths whose next resumption is refused.
    refused: Vec<String>,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Front {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(api: Api) -> Result<Self, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(|error| error.to_string())?;
        let addr = listener.local_addr().map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared {
            api,
            state: Mutex::new(State {
                active: Instant::now(),
                watched: HashMap::new(),
                refused: Vec::new(),
            }),
            cuts: watch::Sender::new(0),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = serving.clone();
                let service =
                    hyper::service::service_fn(move |request| answer(shared.clone(), request));
                let serve = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                // A connection that breaks is the client's affair.
                tokio::spawn(async move { drop(serve.await) });
            }
        });
        Ok(Self { addr, shared })
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, path: &Path) -> Result<(), String> {
        std::fs::write(path, kubeconfig(self.addr)).map_err(|error| error.to_string())
    }

    /// Waits until nothing is on its way any more.
    pub async fn quiet(&self) {
        loop {
            let idle = self.shared.state().active.elapsed();
            let Some(left) = QUIET.checked_sub(idle) else {
                return;
            };
            tokio::time::sleep(left.max(Duration::from_millis(10))).await;
        }
    }

    /// Makes every client list again, and waits until it has. How many kinds were listed.
    pub async fn relist(&self) -> Result<usize, String> {
        let kinds = {
            let mut state = self.shared.state();
            state.refused = state.watched.keys().cloned().collect();
            state.refused.len()
        };
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
        let end = Instant::now() + PATIENCE;
        while !self.shared.state().refused.is_empty() {
            if Instant::now() > end {
                return Err("the watches are not resumed".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A client waits a little after an error before it lists.
        tokio::time::sleep(QUIET).await;
        self.quiet().await;
        Ok(kinds)
    }
}

/// A kubeconfig that leads to an API server without TLS.
pub fn kubeconfig(addr: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: front, cluster: {{server: \"http://{addr}\"}}}}]\n\
         users: [{{name: none, user: {{}}}}]\n\
         contexts: [{{name: front, context: {{cluster: front, user: none}}}}]\n\
         current-context: front\n"
    )
}

/// A parameter of a request's query.
fn parameter<'u>(request: &'u Request<Incoming>, name: &str) -> Option<&'u str> {
    let query = request.uri().query()?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(found, value)| (found == name).then_some(value))
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Error> {
    let watches = matches!(parameter(&request, "watch"), Some("true" | "1"));
    let path = request.uri().path().to_owned();
    let first = parameter(&request, "sendInitialEvents") == Some("true");
    if watches && !first {
        let mut state = shared.state();
        if let Some(index) = state.refused.iter().position(|refused| *refused == path) {
            state.refused.swap_remove(index);
            state.active = Instant::now();
            return gone();
        }
    }
    let mut cuts = shared.cuts.subscribe();
    cuts.mark_unchanged();
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |uri| uri.as_str());
    let mut onwards = Request::builder()
        .method(request.method().clone())
        .uri(target);
    for name in [header::ACCEPT, header::ACCEPT_ENCODING, header::USER_AGENT] {
        if let Some(value) = request.headers().get(&name) {
            onwards = onwards.header(name, value);
        }
    }
    let response = shared.api.forward(onwards.body(Body::empty())?).await?;
    let mut back = Response::builder().status(response.status());
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
        if let Some(value) = response.headers().get(&name) {
            back = back.header(name, value);
        }
    }
    let passing = Passing {
        body: response.into_body(),
        watched: watches.then(|| Watched::new(&shared, path)),
        cuts,
        shared,
    };
    let frames = stream::unfold(Some(passing), |passing| async move {
        let mut passing = passing?;
        let frame = passing.next().await?;
        let rest = frame.is_ok().then_some(passing);
        Some((frame, rest))
    });
    Ok(back.body(StreamBody::new(frames).boxed_unsync())?)
}

/// What the API server says to a watch from a version that it does not have any more.
fn gone() -> Result<Answer, Error> {
    let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}"#;
    let body = Full::new(Bytes::from_static(status.as_bytes()));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    let answer = Response::builder().status(StatusCode::GONE);
    Ok(answer
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)?)
}

/// A watch, counted as long as it is there.
struct Watched {
    shared: Arc<Shared>,
    path: String,
}

impl Watched {
    fn new(shared: &Arc<Shared>, path: String) -> Self {
        *shared.state().watched.entry(path.clone()).or_default() += 1;
        Self {
            shared: shared.clone(),
            path,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(count) = state.watched.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                state.watched.remove(&self.path);
            }
        }
    }
}

/// A response on its way.
struct Passing {
    body: Body,
    watched: Option<Watched>,
    cuts: watch::Receiver<u64>,
    shared: Arc<Shared>,
}

impl Passing {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        let frame = match self.watched {
            None => self.body.frame().await,
            Some(_) => tokio::select! {
                frame = self.body.frame() => frame,
                _ = self.cuts.changed() => return Some(Err("cut".into())),
            },
        };
        self.shared.state().active = Instant::now();
        Some(frame?.map_err(Error::from))
    }
}
