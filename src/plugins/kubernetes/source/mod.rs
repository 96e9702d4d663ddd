//! Sources of the cluster's objects: the API server, or a folder of manifests.
//!
//! [`start`] runs a source on the runtime; it drives a [`Sink`] until the [`Running`] that it gave
//! is dropped. A source holds no objects (manifests hold their files' objects, to know what a file
//! had before it broke), and while it cannot reach what it reads, it deletes nothing.

mod client;
pub mod decode;
mod manifests;
mod pace;
mod resource;
pub mod selector;
mod watch;

pub use pace::Pace;
pub use resource::Resource;
pub use watch::Timing;

use super::object::{Key, Kind, Sink};
use crate::limits::KUBE_QUARANTINE;
use crate::metrics::{Counter, Gauge, Registry};
use selector::Selector;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// What to watch, and where.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the objects are.
    pub origin: Origin,
    /// Whether endpoint slices are watched (not with `noendpoints`).
    pub endpoints: bool,
    /// Whether pods are watched (`pods verified`).
    pub pods: bool,
    /// Whether the labels of pods are handed over.
    pub pod_labels: bool,
    /// Whether imported services are watched (`multicluster`).
    pub imports: bool,
    /// `labels`: services, endpoint slices and pods without these labels do not exist.
    pub labels: Selector,
    /// `namespace_labels`: namespaces without these labels do not exist.
    pub namespace_labels: Selector,
    /// How fast the API server is asked.
    pub pace: Pace,
    /// How long to wait for what.
    pub timing: Timing,
}

/// Where objects are.
#[derive(Clone, Debug, Default)]
pub enum Origin {
    /// The API server of the cluster that the process runs in, with the pod's service account.
    #[default]
    InCluster,
    /// The API server of a context of a kubeconfig file.
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// The context, if not the file's current one.
        context: Option<String>,
    },
    /// The API server at a URL.
    Endpoint {
        /// The URL; without a scheme it is `http://`, or with `tls` `https://`.
        url: String,
        /// The client's certificate and the server's authority.
        tls: Option<Tls>,
    },
    /// Manifest files, or folders of them.
    Manifests(Vec<PathBuf>),
}

/// PEM files of `tls CERT KEY CACERT`.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The client's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority of the server's certificate.
    pub ca: PathBuf,
}

impl Settings {
    /// The kinds that the source drives, each of which it ends a first list of.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Namespace, Kind::Service];
        kinds.extend(self.endpoints.then_some(Kind::EndpointSlice));
        kinds.extend(self.pods.then_some(Kind::Pod));
        kinds
    }

    /// The kinds that the source drives in the sink of imports.
    pub fn import_kinds(&self) -> Vec<Kind> {
        if self.imports {
            vec![Kind::Service, Kind::EndpointSlice]
        } else {
            Vec::new()
        }
    }

    /// What the source lists and watches.
    pub fn resources(&self) -> Vec<Resource> {
        let mut resources: Vec<Resource> = self.kinds().into_iter().map(Resource::from).collect();
        for resource in &mut resources {
            if *resource == Resource::Pod && self.pod_labels {
                *resource = Resource::LabelledPod;
            }
        }
        if self.imports {
            resources.extend([Resource::ServiceImport, Resource::ImportedSlice]);
        }
        resources
    }

    /// The label selector for objects of `resource`. (Imports are selected like namespaces: what
    /// CoreDNS does, spec 4.2.)
    pub fn selector(&self, resource: Resource) -> Selector {
        match resource {
            Resource::Namespace | Resource::ServiceImport => self.namespace_labels.clone(),
            Resource::ImportedSlice => self.labels.and_present(decode::IMPORT_LABEL),
            Resource::Service | Resource::EndpointSlice | Resource::Pod | Resource::LabelledPod => {
                self.labels.clone()
            }
        }
    }
}

/// Why a source cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is no service account.
    #[error(
        "no Kubernetes service account here ({0}); outside of a cluster, say `kubeconfig FILE` or \
         `endpoint URL`"
    )]
    InCluster(String),
    /// The kubeconfig file is missing or wrong.
    #[error("kubeconfig {}: {reason}", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The URL is none.
    #[error("endpoint {url:?}: {reason}")]
    Endpoint {
        /// As it was given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A certificate or a key cannot be read.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The client cannot be built.
    #[error("Kubernetes client: {0}")]
    Client(String),
}

/// A source at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    tasks: JoinSet<()>,
}

impl Running {
    /// Ends the source. A call into the sink may be under way for a moment.
    pub fn stop(mut self) {
        self.tasks.abort_all();
    }
}

/// The sinks of a source.
#[derive(Clone)]
pub struct Sinks {
    /// Of the cluster's own objects.
    pub cluster: Arc<dyn Sink>,
    /// Of imported services and their slices, if [`Settings::imports`] says that there are any.
    pub imports: Option<Arc<dyn Sink>>,
}

impl From<Arc<dyn Sink>> for Sinks {
    fn from(cluster: Arc<dyn Sink>) -> Self {
        Self {
            cluster,
            imports: None,
        }
    }
}

impl Sinks {
    /// Where the objects of `resource` go; `None` if nobody takes them.
    fn of(&self, resource: Resource) -> Option<&Arc<dyn Sink>> {
        if resource.is_imported() {
            self.imports.as_ref()
        } else {
            Some(&self.cluster)
        }
    }
}

/// Starts the source on `runtime`. Every resource of [`Settings::resources`] is driven by one task.
///
/// # Errors
/// If credentials, certificates or manifests are missing or wrong. That the API server cannot be
/// reached is no error: the source tries until it can.
pub fn start(
    settings: &Settings,
    sinks: impl Into<Sinks>,
    runtime: &Handle,
    metrics: &Registry,
) -> Result<Running, SetupError> {
    let mut tasks = JoinSet::new();
    let sinks = sinks.into();
    if let Origin::Manifests(paths) = &settings.origin {
        let manifests = manifests::Manifests::new(paths, settings.clone(), sinks, metrics)?;
        tasks.spawn_on(manifests.run(), runtime);
        return Ok(Running { tasks });
    }
    let api = Arc::new(client::Api::new(
        &settings.origin,
        settings.pace,
        runtime,
        metrics,
    )?);
    for resource in settings.resources() {
        let Some(sink) = sinks.of(resource) else {
            continue;
        };
        let watcher = watch::Watcher::new(resource, settings, &api, sink, metrics);
        tasks.spawn_on(watcher.run(), runtime);
    }
    Ok(Running { tasks })
}

/// Says that an object is left out, and counts it.
#[derive(Clone)]
struct Quarantine {
    resource: Resource,
    total: Counter,
    now: Gauge,
    /// Those that are left out now, as far as they are counted.
    keys: Arc<Mutex<HashSet<Key>>>,
}

impl Quarantine {
    fn new(resource: Resource, metrics: &Registry) -> Self {
        let labels = || vec![("kind", resource.object().to_owned())];
        Self {
            resource,
            total: metrics.counter(
                "portolan_kubernetes_quarantined_objects_total",
                "Objects left out because they could not be read.",
                labels(),
            ),
            now: metrics.gauge(
                "portolan_kubernetes_unreadable_objects",
                "Objects that are left out now because they cannot be read.",
                labels(),
            ),
            keys: Arc::default(),
        }
    }

    /// Counts an object of which the log says elsewhere what is wrong.
    fn count(&self) {
        self.total.inc();
    }

    /// An object that cannot be read, with its name as far as that could be.
    fn object(&self, key: &Key, error: &decode::Error) {
        self.total.inc();
        tracing::warn!(
            target: "plugin/kubernetes",
            "{} {}/{} is left out: {error}",
            self.resource.object(), key.namespace, key.name
        );
        self.change(|keys| {
            if keys.len() < KUBE_QUARANTINE {
                keys.insert(key.clone());
            }
        });
    }

    /// An object that can be read, or is gone.
    fn no_longer(&self, key: &Key) {
        if self.now.get() > 0 {
            self.change(|keys| keys.retain(|known| known != key));
        }
    }

    /// A list begins: it shows what is wrong now.
    fn list_begins(&self) {
        self.change(HashSet::clear);
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<Key>)) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut keys);
        self.now.set(keys.len() as i64);
    }
}
