//! A Kubernetes API server in the process: lists and watches over HTTP/1.1 with the API's semantics.
//!
//! It keeps objects as JSON, one version for all of them, and every change as an event. Lists come
//! in pages whose token stands for a snapshot; watches go on from a version, or begin with all
//! objects; versions before [`Api::compact`] are gone. It writes JSON, and protobuf where a client
//! takes it and [`Options::protobuf`] is set; it may ask for a token and speak TLS. What goes wrong
//! is set by the test: switches ([`Faults`]), or a script of strikes ([`Api::script`]).

mod answer;
pub mod fault;
mod listener;
pub mod oracle;
pub mod protobuf;
mod query;
mod store;
mod stream;
pub mod tls;

pub use store::resource;

use fault::{Faults, Script, Strike};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use store::{Payload, Store};
use tls::Authority;
use tokio::sync::watch;

/// The server. It ends when this is dropped.
pub struct Api {
    /// Where it listens.
    pub url: String,
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// What the server is like.
#[derive(Default)]
pub struct Options {
    /// Whether it writes protobuf for clients that take it.
    pub protobuf: bool,
    /// Who signs its certificate; plain HTTP if nobody.
    pub authority: Option<Authority>,
    /// The only token that it accepts, if it asks for one.
    pub token: Option<String>,
    /// The most objects of a page, whatever a client asks for.
    pub page: Option<usize>,
}

#[derive(Default)]
struct Shared {
    store: Mutex<Store>,
    options: Mutex<Options>,
    faults: Mutex<Faults>,
    script: Mutex<Script>,
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

impl Api {
    /// Starts a server without objects.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts a server without objects.
    pub async fn start_with(options: Options) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let scheme = match options.authority {
            Some(_) => "https",
            None => "http",
        };
        let shared = Arc::new(Shared::default());
        *shared.options.lock().unwrap() = options;
        // Version 0 is special to the API.
        shared.store().version = 1;
        let task = tokio::spawn(listener::run(listener, Arc::clone(&shared)));
        Self {
            url: format!("{scheme}://{addr}"),
            addr,
            shared,
            task: Mutex::new(Some(task)),
        }
    }

    /// Breaks all connections off and refuses new ones.
    pub async fn down(&self) {
        let task = self.task.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again where it did.
    pub async fn up(&self) {
        let listener = tokio::net::TcpListener::bind(self.addr).await.unwrap();
        let task = tokio::spawn(listener::run(listener, Arc::clone(&self.shared)));
        *self.task.lock().unwrap() = Some(task);
    }

    /// What the server is like from now on; open connections stay.
    pub fn options(&self) -> MutexGuard<'_, Options> {
        self.shared.options.lock().unwrap()
    }

    /// Creates or replaces objects.
    pub fn apply(&self, objects: impl IntoIterator<Item = Value>) {
        for object in objects {
            self.shared.store().apply(object);
        }
        self.changed();
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        self.shared.store().delete(resource, namespace, name);
        self.changed();
    }

    /// The objects of a resource.
    pub fn objects(&self, resource: &str) -> Vec<Value> {
        let store = self.shared.store();
        let objects = store.objects.iter();
        let of_resource = objects.filter(|((of, ..), _)| of == resource);
        of_resource.map(|(_, object)| object.clone()).collect()
    }

    /// Sends octets to all watches of a resource as they are: a line, or the content of a frame.
    pub fn raw_event(&self, resource: &str, line: &str) {
        self.push(resource, Payload::Raw(line.to_owned()));
    }

    /// Sends an event to all watches of a resource; the object is nowhere else.
    pub fn event(&self, resource: &str, r#type: &'static str, object: Value) {
        self.push(resource, Payload::Event(r#type, object));
    }

    /// Sends a bookmark to all watches of a resource; and gives its version.
    pub fn bookmark(&self, resource: &str) -> u64 {
        self.push(resource, Payload::Bookmark)
    }

    fn push(&self, resource: &str, payload: Payload) -> u64 {
        let version = self.shared.store().push(resource, payload);
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
        self.shared.store().compact_to(version);
    }

    /// Forgets all versions before the current one, which jumps ahead: what a restored server does.
    pub fn lose_history(&self) {
        let mut store = self.shared.store();
        store.version += 1000;
        let version = store.version;
        store.compact_to(version);
    }

    /// Begins with another storage: the same objects are others now, at lower versions.
    pub fn replace_storage(&self) {
        let mut store = self.shared.store();
        let before = std::mem::take(&mut *store);
        store.version = 1;
        for object in before.objects.into_values() {
            store.apply(object);
        }
    }

    /// Breaks all connections of watches off, in the middle of a line.
    pub fn cut(&self) {
        self.shared.signals.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// What goes wrong from now on.
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap()
    }

    /// What strikes whom from now on, each client alike.
    pub fn script(&self, strikes: Vec<Strike>) {
        *self.shared.script.lock().unwrap() = Script::new(strikes);
    }

    /// How often the script struck Portolan.
    pub fn struck(&self) -> usize {
        self.shared.script.lock().unwrap().struck
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
        let changes = &self.shared.signals.changes;
        changes.send_modify(|changes| *changes += 1);
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap().take() {
            task.abort();
        }
    }
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }
}
