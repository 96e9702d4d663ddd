//! Sources of the cluster's objects: the API server, or a folder of manifests.
//!
//! [`start`] runs a source on the runtime; it drives a [`Sink`] until the [`Running`] that it gave
//! is dropped. A source holds no objects (manifests hold their files' objects, to know what a file
//! had before it broke), and while it cannot reach what it reads, it deletes nothing.

mod client;
pub mod decode;
mod manifests;
pub mod selector;
mod watch;

pub use watch::Timing;

use super::object::{Kind, Sink};
use crate::metrics::Registry;
use selector::Selector;
use std::path::PathBuf;
use std::sync::Arc;
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
    /// `labels`: services, endpoint slices and pods without these labels do not exist.
    pub labels: Selector,
    /// `namespace_labels`: namespaces without these labels do not exist.
    pub namespace_labels: Selector,
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

    /// The label selector for objects of `kind`.
    pub const fn selector(&self, kind: Kind) -> &Selector {
        match kind {
            Kind::Namespace => &self.namespace_labels,
            _ => &self.labels,
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

/// Starts the source on `runtime`. Every kind of [`Settings::kinds`] is driven by one task.
///
/// # Errors
/// If credentials, certificates or manifests are missing or wrong. That the API server cannot be
/// reached is no error: the source tries until it can.
pub fn start(
    settings: &Settings,
    sink: Arc<dyn Sink>,
    runtime: &Handle,
    metrics: &Registry,
) -> Result<Running, SetupError> {
    let mut tasks = JoinSet::new();
    if let Origin::Manifests(paths) = &settings.origin {
        let manifests = manifests::Manifests::new(paths, settings.clone(), sink, metrics)?;
        tasks.spawn_on(manifests.run(), runtime);
        return Ok(Running { tasks });
    }
    let api = Arc::new(client::Api::new(&settings.origin, runtime, metrics)?);
    for kind in settings.kinds() {
        let watcher = watch::Watcher::new(kind, settings, &api, &sink, metrics);
        tasks.spawn_on(watcher.run(), runtime);
    }
    Ok(Running { tasks })
}

/// A kind as metrics and URLs name it.
const fn resource(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "namespaces",
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::Pod => "pods",
    }
}

/// Says that an object is left out, and counts it.
#[derive(Clone)]
struct Quarantine(crate::metrics::Counter);

impl Quarantine {
    fn new(kind: Kind, metrics: &Registry) -> Self {
        Self(metrics.counter(
            "portolan_kubernetes_quarantined_objects_total",
            "Objects left out because they could not be read.",
            vec![("kind", format!("{kind:?}"))],
        ))
    }

    /// Counts an object of which the log says elsewhere what is wrong.
    fn count(&self) {
        self.0.inc();
    }

    fn object(&self, kind: Kind, key: &super::object::Key, error: &decode::Error) {
        self.0.inc();
        tracing::warn!(
            target: "plugin/kubernetes",
            "{kind:?} {}/{} is left out: {error}",
            key.namespace, key.name
        );
    }
}
