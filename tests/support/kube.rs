//! A Kubernetes API server in the process: lists and watches over HTTP/1.1 with the API's semantics.
//!
//! It keeps objects as JSON, one version for all of them, and every change as an event. Lists come
//! in pages whose token stands for a snapshot; watches go on from a version, or begin with all
//! objects; versions before [`Api::compact`] are gone. Faults are set by the test.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use portolan::plugins::kubernetes::source::selector::Selector;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

type Body = BoxBody<Bytes, io::Error>;

/// The server. It ends when this is dropped.
pub struct Api {
    /// Where it listens.
    pub url: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

/// What goes wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// Streaming lists are refused with 422.
    pub no_watch_list: bool,
    /// Streaming lists break off after so many objects.
    pub cut_watch_list: Option<usize>,
    /// Every request is answered with this status code.
    pub all: Option<u16>,
    /// So many tokens of further pages are expired.
    pub expired_tokens: usize,
    /// A version that is gone is an event of the stream, and not the response's status.
    pub gone_in_stream: bool,
    /// A pause before each event of a stream.
    pub slow: Option<Duration>,
    /// Streams send nothing.
    pub mute: bool,
    /// There is no definition of ServiceImports.
    pub no_imports: bool,
}

#[derive(Default)]
struct Shared {
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    requests: Mutex<Vec<String>>,
    signals: Signals,
}

struct Signals {
    /// Counts what streams have to look at.
    changes: watch::Sender<u64>,
    /// Counts cuts; streams of an earlier count break off.
    cuts: watch::Sender<u64>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            changes: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
        }
    }
}

#[derive(Default)]
struct Store {
    version: u64,
    /// Events up to this version are forgotten.
    compacted: u64,
    objects: BTreeMap<(String, String, String), Value>,
    events: Vec<Change>,
    /// The rest of a list, by its token.
    tokens: HashMap<String, (u64, Vec<Value>)>,
}

#[derive(Clone)]
struct Change {
    version: u64,
    resource: String,
    before: Option<Value>,
    after: Option<Value>,
    /// A line that is sent as it is.
    raw: Option<String>,
    bookmark: bool,
}

/// A request's parameters.
#[derive(Clone)]
struct Query {
    resource: String,
    kind: &'static str,
    group: &'static str,
    parameters: HashMap<String, String>,
    labels: Selector,
}

impl Api {
    /// Starts a server without objects.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        // Version 0 is special to the API.
        shared.store().version = 1;
        let state = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = hyper::service::service_fn(move |request| {
                    let response = respond(&state, &request);
                    async { Ok::<_, Infallible>(response) }
                });
                let io = hyper_util::rt::TokioIo::new(socket);
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(io, service).await;
                });
            }
        });
        Self { url, shared, task }
    }

    /// Creates or replaces objects.
    pub fn apply(&self, objects: impl IntoIterator<Item = Value>) {
        for mut object in objects {
            let mut store = self.shared.store();
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
            let resource = match text("/kind").unwrap() {
                "Namespace" => "namespaces",
                "Service" => "services",
                "Pod" => "pods",
                "EndpointSlice" => "endpointslices",
                "ServiceImport" => "serviceimports",
                other => panic!("no resource {other}"),
            };
            let name = text("/metadata/name").unwrap().to_owned();
            let namespace = text("/metadata/namespace").unwrap_or("").to_owned();
            store.version += 1;
            let version = store.version;
            object["metadata"]["resourceVersion"] = version.to_string().into();
            let key = (resource.to_owned(), namespace, name);
            let before = store.objects.insert(key, object.clone());
            store.events.push(Change {
                version,
                resource: resource.to_owned(),
                before,
                after: Some(object),
                raw: None,
                bookmark: false,
            });
        }
        self.changed();
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let mut store = self.shared.store();
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut before = store.objects.remove(&key).expect("an object to delete");
        store.version += 1;
        let version = store.version;
        before["metadata"]["resourceVersion"] = version.to_string().into();
        store.events.push(Change {
            version,
            resource: resource.to_owned(),
            before: Some(before),
            after: None,
            raw: None,
            bookmark: false,
        });
        drop(store);
        self.changed();
    }

    /// Sends a line to all watches of a resource as it is.
    pub fn raw_event(&self, resource: &str, line: &str) {
        self.push(resource, Some(line.to_owned()), false);
    }

    /// Sends a bookmark to all watches of a resource; and gives its version.
    pub fn bookmark(&self, resource: &str) -> u64 {
        self.push(resource, None, true)
    }

    fn push(&self, resource: &str, raw: Option<String>, bookmark: bool) -> u64 {
        let mut store = self.shared.store();
        store.version += 1;
        let change = Change {
            version: store.version,
            resource: resource.to_owned(),
            before: None,
            after: None,
            raw,
            bookmark,
        };
        let version = change.version;
        store.events.push(change);
        drop(store);
        self.changed();
        version
    }

    /// Forgets all versions but the current one.
    pub fn compact(&self) {
        let version = self.shared.store().version;
        self.compact_to(version);
    }

    /// Forgets all versions before this one.
    pub fn compact_to(&self, version: u64) {
        let mut store = self.shared.store();
        store.compacted = version;
        store.events.retain(|event| event.version > version);
        store.tokens.clear();
    }

    /// Breaks all connections of watches off, in the middle of a line.
    pub fn cut(&self) {
        self.shared.signals.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// What goes wrong from now on.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap()
    }

    /// The requests so far: paths with queries.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests so far contain a text.
    pub fn asked(&self, text: &str) -> usize {
        let requests = self.requests();
        requests.iter().filter(|r| r.contains(text)).count()
    }

    fn changed(&self) {
        self.shared
            .signals
            .changes
            .send_modify(|changes| *changes += 1);
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }
}

impl Query {
    fn new(request: &Request<Incoming>) -> Option<Self> {
        let resource = request.uri().path().rsplit('/').next()?;
        let (kind, group) = match resource {
            "namespaces" => ("Namespace", "v1"),
            "services" => ("Service", "v1"),
            "pods" => ("Pod", "v1"),
            "endpointslices" => ("EndpointSlice", "discovery.k8s.io/v1"),
            "serviceimports" => ("ServiceImport", "multicluster.x-k8s.io/v1alpha1"),
            _ => return None,
        };
        let pairs = request.uri().query().unwrap_or("").split('&');
        let parameters: HashMap<String, String> = pairs
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), unescape(value)))
            .collect();
        let labels = parameters.get("labelSelector").map_or("", String::as_str);
        Some(Self {
            resource: resource.to_owned(),
            kind,
            group,
            labels: Selector::parse(labels).unwrap(),
            parameters,
        })
    }

    fn get(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let phase = object.pointer("/status/phase").and_then(Value::as_str);
        let excluded = |field: &str| field.strip_prefix("status.phase!=") == phase;
        let fields = self.get("fieldSelector");
        self.labels.matches(|label| labels[label].as_str())
            && (fields.is_empty() || phase.is_none() || !fields.split(',').any(excluded))
    }

    fn line(&self, change: &Change) -> Option<String> {
        if let Some(raw) = &change.raw {
            return Some(format!("{raw}\n"));
        }
        if change.bookmark {
            return Some(self.bookmark(change.version, json!({})));
        }
        let was = change.before.as_ref().filter(|object| self.selects(object));
        let is = change.after.as_ref().filter(|object| self.selects(object));
        let (r#type, object) = match (was, is) {
            (None, Some(object)) => ("ADDED", object),
            (Some(_), Some(object)) => ("MODIFIED", object),
            (Some(_), None) => ("DELETED", change.after.as_ref().or(was)?),
            (None, None) => return None,
        };
        Some(format!("{}\n", json!({"type": r#type, "object": object})))
    }

    fn bookmark(&self, version: u64, annotations: Value) -> String {
        let metadata = json!({
            "resourceVersion": version.to_string(),
            "creationTimestamp": null,
            "annotations": annotations,
        });
        let object = json!({"kind": self.kind, "apiVersion": self.group, "metadata": metadata});
        format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
    }
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(&after[..2]).unwrap();
            out.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &after[2..];
        } else {
            out.push(first);
            rest = after;
        }
    }
    String::from_utf8(out).unwrap()
}

fn respond(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<Body> {
    shared
        .requests
        .lock()
        .unwrap()
        .push(request.uri().to_string());
    let Some(query) = Query::new(request) else {
        return status(404, "NotFound");
    };
    if let Some(code) = shared.faults.lock().unwrap().all {
        return status(code, "InternalError");
    }
    if query.resource == "serviceimports" && shared.faults.lock().unwrap().no_imports {
        return status(404, "NotFound");
    }
    if query.get("watch") == "true" {
        watch(shared, query)
    } else {
        list(shared, &query)
    }
}

fn status_object(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("a test says {reason}"), "reason": reason, "code": code,
    })
}

fn status(code: u16, reason: &str) -> Response<Body> {
    response(code, full(status_object(code, reason).to_string()))
}

fn response(code: u16, body: Body) -> Response<Body> {
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn full(text: String) -> Body {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed()
}

fn list(shared: &Shared, query: &Query) -> Response<Body> {
    let mut store = shared.store();
    let token = query.get("continue");
    let (version, mut items) = if token.is_empty() {
        let objects = store.objects.iter();
        let mut items: Vec<Value> = objects
            .filter(|((resource, ..), object)| *resource == query.resource && query.selects(object))
            .map(|(_, object)| object.clone())
            .collect();
        // Items of a list do not repeat what they are.
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.remove("kind");
            item.remove("apiVersion");
        }
        (store.version, items)
    } else {
        let mut faults = shared.faults.lock().unwrap();
        if faults.expired_tokens > 0 {
            faults.expired_tokens -= 1;
            return status(410, "Expired");
        }
        match store.tokens.remove(token) {
            Some(rest) => rest,
            None => return status(410, "Expired"),
        }
    };
    let limit: usize = query.get("limit").parse().unwrap_or(usize::MAX);
    let rest = items.split_off(items.len().min(limit));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if !rest.is_empty() {
        let token = format!("{}/{}+{version}", query.resource, rest.len());
        metadata["continue"] = token.clone().into();
        metadata["remainingItemCount"] = rest.len().into();
        store.tokens.insert(token, (version, rest));
    }
    let kind = format!("{}List", query.kind);
    let list =
        json!({"kind": kind, "apiVersion": query.group, "metadata": metadata, "items": items});
    response(200, full(list.to_string()))
}

fn watch(shared: &Arc<Shared>, query: Query) -> Response<Body> {
    let store = shared.store();
    let faults = shared.faults.lock().unwrap();
    let mut first = Vec::new();
    let mut cut = false;
    let from = match query.get("resourceVersion") {
        "" if query.get("sendInitialEvents") == "true" => {
            let forbidden = faults.no_watch_list
                || query.get("resourceVersionMatch") != "NotOlderThan"
                || query.get("allowWatchBookmarks") != "true";
            if forbidden {
                return status(422, "Invalid");
            }
            first.extend(initial(&store, &query));
            match faults.cut_watch_list {
                Some(count) => {
                    first.truncate(count);
                    cut = true;
                }
                None => {
                    let end = json!({"k8s.io/initial-events-end": "true"});
                    first.push(query.bookmark(store.version, end));
                }
            }
            store.version
        }
        "" | "0" => {
            first.extend(initial(&store, &query));
            store.version
        }
        version => match version.parse() {
            Ok(version) if version >= store.compacted => version,
            Ok(_) if faults.gone_in_stream => {
                let gone = json!({"type": "ERROR", "object": status_object(410, "Expired")});
                return response(200, full(format!("{gone}\n")));
            }
            Ok(_) => return status(410, "Expired"),
            Err(_) => return status(400, "BadRequest"),
        },
    };
    let (sender, receiver) = mpsc::channel(8);
    let seconds: u64 = query.get("timeoutSeconds").parse().unwrap_or(1800);
    let stream = Stream {
        shared: Arc::clone(shared),
        cuts: shared.signals.cuts.subscribe(),
        sender,
        query,
        from,
    };
    tokio::spawn(async move {
        let run = stream.run(first, cut);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), run).await;
    });
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let frame: io::Result<Bytes> = receiver.recv().await?;
        Some((frame.map(Frame::data), receiver))
    });
    response(200, BodyExt::boxed(StreamBody::new(frames)))
}

fn initial<'a>(store: &'a Store, query: &'a Query) -> impl Iterator<Item = String> + 'a {
    let objects = store.objects.iter();
    objects
        .filter(|((resource, ..), object)| *resource == query.resource && query.selects(object))
        .map(|(_, object)| format!("{}\n", json!({"type": "ADDED", "object": object})))
}

/// A watch that is open.
struct Stream {
    shared: Arc<Shared>,
    cuts: watch::Receiver<u64>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    query: Query,
    from: u64,
}

impl Stream {
    async fn run(mut self, first: Vec<String>, cut: bool) -> Option<()> {
        let mut changes = self.shared.signals.changes.subscribe();
        for line in first {
            self.send(line).await?;
        }
        if cut {
            return self.broken().await;
        }
        loop {
            changes.mark_unchanged();
            for change in self.due() {
                self.from = change.version;
                if let Some(line) = self.query.line(&change) {
                    self.send(line).await?;
                }
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = self.cuts.changed() => return self.broken().await,
                () = self.sender.closed() => return None,
            }
        }
    }

    fn due(&self) -> Vec<Change> {
        let store = self.shared.store();
        let changes = store.events.iter();
        changes
            .filter(|change| change.version > self.from && change.resource == self.query.resource)
            .cloned()
            .collect()
    }

    async fn send(&self, line: String) -> Option<()> {
        let (slow, mute) = {
            let faults = self.shared.faults.lock().unwrap();
            (faults.slow, faults.mute)
        };
        if let Some(pause) = slow {
            tokio::time::sleep(pause).await;
        }
        if mute {
            return Some(());
        }
        // In two pieces, since the network keeps no lines together.
        let (head, tail) = line.split_at(line.len() / 2);
        for piece in [head, tail] {
            let piece = Bytes::copy_from_slice(piece.as_bytes());
            self.sender.send(Ok(piece)).await.ok()?;
        }
        Some(())
    }

    async fn broken(&self) -> Option<()> {
        let half = Bytes::from_static(b"{\"type\":\"ADDED\",\"obj");
        self.sender.send(Ok(half)).await.ok()?;
        let error = io::Error::other("a test cuts the stream");
        self.sender.send(Err(error)).await.ok()
    }
}
