//! A stand-in for the API server, so that its work does not take the CPUs from what is measured: lists,
//! watches, creations and replacements of whole objects, as JSON over HTTP/1.1.

use crate::scale::shape::Size;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Events that are kept for watches that begin at an earlier version.
const KEPT: usize = 10_000;
/// How long a watch says nothing before it sends a bookmark.
const BOOKMARK: Duration = Duration::from_secs(60);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The stand-in; copies are handles of one.
#[derive(Clone)]
pub struct StandIn {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// The newest version.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By collection (`/api/v1/services`), namespace and name; as JSON.
    objects: BTreeMap<(String, String, String), Bytes>,
    /// Version, collection and line of each event, oldest first.
    events: VecDeque<(u64, String, Bytes)>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates or replaces an object, and tells the watches.
    fn put(&self, collection: &str, namespace: &str, object: Value) -> Bytes {
        let (object, version) = {
            let mut state = self.state();
            let object = state.put(collection, namespace, object);
            (object, state.version)
        };
        self.changes.send_replace(version);
        object
    }
}

impl StandIn {
    /// Listens on a free port of 127.0.0.1, with the objects of a cluster of this size.
    pub async fn start(size: &Size) -> Result<Self, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(|error| error.to_string())?;
        let addr = listener.local_addr().map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared::default());
        let stand_in = Self {
            addr,
            shared: shared.clone(),
        };
        {
            let mut state = shared.state();
            for index in 0..size.namespaces {
                state.put("/api/v1/namespaces", "", size.namespace_object(index));
            }
            for index in 0..size.services {
                let namespace = size.namespace(index);
                state.put("/api/v1/services", &namespace, size.service(index));
            }
            for index in 0..size.slices {
                let slice = size.slice(index);
                let namespace = slice["metadata"]["namespace"].as_str().map(str::to_owned);
                let namespace = namespace.unwrap_or_else(|| size.namespace(index));
                state.put(SLICES, &namespace, slice);
            }
            state.events.clear();
        }
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                let service =
                    hyper::service::service_fn(move |request| answer(Arc::clone(&shared), request));
                let serve = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                // A connection that breaks is the client's affair.
                tokio::spawn(async move { drop(serve.await) });
            }
        });
        Ok(stand_in)
    }

    /// Creates or replaces an object without a request, which would cost more than what is measured.
    pub fn put(&self, path: &str, object: Value) {
        let (collection, namespace, _) = parts(path);
        self.shared.put(&collection, &namespace, object);
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, path: &Path) -> Result<(), String> {
        let text = crate::scale::front::kubeconfig(self.addr);
        std::fs::write(path, text).map_err(|error| error.to_string())
    }
}

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

impl State {
    /// Creates or replaces an object; and how it is now, as JSON.
    fn put(&mut self, collection: &str, namespace: &str, mut object: Value) -> Bytes {
        self.version += 1;
        let metadata = &mut object["metadata"];
        if !namespace.is_empty() {
            metadata["namespace"] = json!(namespace);
        }
        metadata["resourceVersion"] = json!(self.version.to_string());
        let name = metadata["name"].as_str().unwrap_or_default().to_owned();
        let key = (collection.to_owned(), namespace.to_owned(), name);
        let is_new = !self.objects.contains_key(&key);
        if is_new {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        if collection.ends_with("/services") && object["spec"]["clusterIP"].is_null() {
            let number = u32::try_from(self.version).unwrap_or_default();
            let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) | number);
            object["spec"]["clusterIP"] = json!(ip.to_string());
            object["spec"]["clusterIPs"] = json!([ip.to_string()]);
        }
        let object = Bytes::from(object.to_string());
        let mut event = Vec::new();
        line(
            if is_new { "ADDED" } else { "MODIFIED" },
            &object,
            &mut event,
        );
        self.events
            .push_back((self.version, key.0.clone(), event.into()));
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
        self.objects.insert(key, object.clone());
        object
    }

    /// The objects of a collection, and the version that they are of.
    fn of(&self, collection: &str) -> (Vec<Bytes>, u64) {
        let first = (collection.to_owned(), String::new(), String::new());
        let from_there = self.objects.range(first..);
        let of_it = from_there.take_while(|((of, ..), _)| of == collection);
        (
            of_it.map(|(_, object)| object.clone()).collect(),
            self.version,
        )
    }

    /// The lines of a collection's events after a version, and the version that they lead to.
    fn since(&self, collection: &str, version: u64) -> (Bytes, u64) {
        let from = self.events.partition_point(|(at, ..)| *at <= version);
        let events = self.events.range(from..);
        let lines = events.filter(|(_, of, _)| of == collection);
        let lines: Vec<&[u8]> = lines.map(|(.., line)| &line[..]).collect();
        (lines.concat().into(), self.version)
    }
}

/// The lines of a streamed list of this version.
fn initial(objects: &[Bytes], version: u64) -> Bytes {
    let mut lines = Vec::new();
    for object in objects {
        line("ADDED", object, &mut lines);
    }
    bookmark(
        version,
        json!({"k8s.io/initial-events-end": "true"}),
        &mut lines,
    );
    lines.into()
}

fn bookmark(version: u64, annotations: Value, lines: &mut Vec<u8>) {
    let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
    line(
        "BOOKMARK",
        json!({"metadata": metadata}).to_string().as_bytes(),
        lines,
    );
}

fn line(kind: &str, object: &[u8], lines: &mut Vec<u8>) {
    lines.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
    lines.extend_from_slice(object);
    lines.extend_from_slice(b"}\n");
}

/// Collection, namespace and name of a path.
fn parts(path: &str) -> (String, String, String) {
    let Some((root, rest)) = path.split_once("/namespaces/") else {
        return (path.to_owned(), String::new(), String::new());
    };
    let mut rest = rest.split('/');
    let mut next = || rest.next().unwrap_or_default().to_owned();
    let (namespace, resource, name) = (next(), next(), next());
    match resource.is_empty() {
        true => (format!("{root}/namespaces"), String::new(), namespace),
        false => (format!("{root}/{resource}"), namespace, name),
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let (collection, namespace, _) = parts(head.uri.path());
    if head.method == Method::POST || head.method == Method::PUT {
        let body = body.collect().await.map(|body| body.to_bytes());
        let object = body
            .ok()
            .and_then(|body| serde_json::from_slice(&body).ok());
        let Some(object) = object else {
            return Ok(whole(StatusCode::BAD_REQUEST, Bytes::new()));
        };
        let object = shared.put(&collection, &namespace, object);
        return Ok(whole(StatusCode::CREATED, object));
    }
    let query = head.uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(found, value)| (found == name).then_some(value))
    };
    let version = parameter("resourceVersion").and_then(|version| version.parse().ok());
    let first = match parameter("watch") {
        None => {
            let (objects, version) = shared.state().of(&collection);
            let mut list = format!(
                "{{\"kind\":\"List\",\"metadata\":{{\"resourceVersion\":\"{version}\"}},\"items\":["
            );
            let texts: Vec<_> = objects
                .iter()
                .map(|text| String::from_utf8_lossy(text))
                .collect();
            list.push_str(&texts.join(","));
            list.push_str("]}");
            return Ok(whole(StatusCode::OK, list.into()));
        }
        Some(_) if parameter("sendInitialEvents") == Some("true") => {
            // Written without the lock, for which changes would have to wait.
            let (objects, version) = shared.state().of(&collection);
            (initial(&objects, version), version)
        }
        Some(_) => shared.state().since(&collection, version.unwrap_or(0)),
    };
    let changes = shared.changes.subscribe();
    let follow = stream::unfold(
        (shared, changes, collection, first),
        |(shared, mut changes, collection, mut next)| async move {
            let until = Instant::now() + BOOKMARK;
            while next.0.is_empty() {
                match timeout_at(until, changes.changed()).await {
                    Ok(changed) => {
                        changed.ok()?;
                        next = shared.state().since(&collection, next.1);
                    }
                    Err(_) => {
                        let mut line = Vec::new();
                        bookmark(next.1, json!({}), &mut line);
                        next.0 = line.into();
                    }
                }
            }
            let frame = Frame::data(next.0);
            let state = (shared, changes, collection, (Bytes::new(), next.1));
            Some((Ok(frame), state))
        },
    );
    let body = BodyExt::boxed_unsync(StreamBody::new(follow));
    Ok(json_response(StatusCode::OK, body))
}

fn whole(status: StatusCode, body: Bytes) -> Answer {
    json_response(status, Full::new(body).boxed_unsync())
}

fn json_response(status: StatusCode, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let of = |path| {
            let (collection, namespace, name) = parts(path);
            [collection, namespace, name].join(" ")
        };
        assert_eq!(of("/api/v1/namespaces"), "/api/v1/namespaces  ");
        assert_eq!(of("/api/v1/namespaces/a"), "/api/v1/namespaces  a");
        assert_eq!(of("/api/v1/services"), "/api/v1/services  ");
        assert_eq!(
            of("/api/v1/namespaces/a/services/b"),
            "/api/v1/services a b"
        );
    }

    #[test]
    fn watches_begin_where_lists_end() {
        let mut state = State::default();
        let service = json!({"metadata": {"name": "web"}, "spec": {}});
        let made = state.put("/api/v1/services", "default", service.clone());
        let made: Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(made["spec"]["clusterIP"], "10.96.0.1");
        let (objects, version) = state.of("/api/v1/services");
        let lines = String::from_utf8(initial(&objects, version).to_vec()).unwrap();
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.contains("initial-events-end"));
        state.put(SLICES, "default", service.clone());
        state.put("/api/v1/services", "default", made);
        let (lines, version) = state.since("/api/v1/services", version);
        assert!(lines.starts_with(b"{\"type\":\"MODIFIED\",\"object\":{"));
        assert_eq!(version, 3);
        assert!(state.since("/api/v1/services", version).0.is_empty());
    }
}
