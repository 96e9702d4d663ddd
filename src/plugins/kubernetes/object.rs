//! The objects that DNS needs, with only the fields that it needs, and how sources hand them over.
//!
//! A source (the API server, a folder of manifests) drives a [`Sink`]; it neither answers queries
//! nor keeps objects. Names and labels are as the API stores them (lower case).

use compact_str::CompactString;
use std::net::IpAddr;

/// What the server lists and watches, as (API group, resource), in the order of [`Kind`]; nothing
/// else is asked of the API server. `deploy/coredns.yaml` grants exactly this.
pub const WATCHED: &[(&str, &str)] = &[
    ("", "namespaces"),
    ("", "services"),
    ("discovery.k8s.io", "endpointslices"),
    ("", "pods"),
];

/// What `multicluster` watches besides.
pub const WATCHED_IMPORTS: &[(&str, &str)] = &[("multicluster.x-k8s.io", "serviceimports")];

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// core/v1 Namespace.
    Namespace,
    /// core/v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// core/v1 Pod.
    Pod,
}

/// The identity of an object of some kind; `namespace` is empty for namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// `metadata.namespace`.
    pub namespace: CompactString,
    /// `metadata.name`.
    pub name: CompactString,
}

/// A port of a service or of an endpoint slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Port {
    /// Its name, empty if it has none.
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`, in lower case; empty if the slice does not say.
    pub protocol: Box<str>,
    /// The number; 0 if the slice does not say (all ports).
    pub port: u16,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `spec.clusterIPs`, or `spec.clusterIP` alone; empty for headless and ExternalName services.
    pub cluster_ips: Vec<IpAddr>,
    /// Whether the first cluster IP is `None`.
    pub headless: bool,
    /// `spec.externalName`, for type ExternalName only.
    pub external_name: Option<Box<str>>,
    /// `spec.externalIPs`, then addresses and host names of `status.loadBalancer.ingress`.
    pub external_ips: Vec<Box<str>>,
    /// `spec.ports`.
    pub ports: Vec<Port>,
}

/// An address of an endpoint slice that is ready (`conditions.ready` is true or not set).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// `hostname`, if it is set.
    pub hostname: Option<Box<str>>,
    /// `targetRef.name`, if it is set and shorter than 64 octets.
    pub target: Option<Box<str>>,
    /// `zone` in lower case, if it is set.
    pub zone: Option<Box<str>>,
}

/// An endpoint slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The label `kubernetes.io/service-name`, for slices of imports
    /// `multicluster.kubernetes.io/service-name`; empty if it is not set.
    pub service: CompactString,
    /// The ready addresses, each on its own (an endpoint of several addresses gives several).
    pub endpoints: Vec<Endpoint>,
    /// `ports`.
    pub ports: Vec<Port>,
    /// The label `multicluster.kubernetes.io/source-cluster` in lower case, for slices of imports.
    pub cluster: Option<Box<str>>,
    /// The annotation `endpoints.kubernetes.io/last-change-trigger-time`, in Unix nanoseconds.
    pub triggered: Option<u64>,
}

/// Names and values of labels.
pub type Labels = Vec<(Box<str>, Box<str>)>;

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `status.podIP`, if it has one.
    pub ip: Option<IpAddr>,
    /// Whether `metadata.deletionTimestamp` is set. (Such an update is ignored: the pod keeps its
    /// last record until it is deleted, KM-5.)
    pub deleted: bool,
    /// `spec.hostNetwork`: its address is that of its node.
    pub host_network: bool,
    /// `metadata.labels`, if they were asked for ([`super::source::Settings::pod_labels`]). An
    /// index does not keep them.
    pub labels: Labels,
}

/// An object without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A namespace has nothing but its name.
    Namespace,
    /// A service.
    Service(Service),
    /// An endpoint slice.
    EndpointSlice(EndpointSlice),
    /// A pod.
    Pod(Pod),
}

impl Object {
    /// The kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Namespace => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Pod(_) => Kind::Pod,
        }
    }
}

/// Where sources put objects.
///
/// One source drives each kind, from one task. A list of a kind is [`Sink::list_start`], then
/// [`Sink::set`] for every object, then [`Sink::list_end`], which removes what was not set since.
/// While a list runs everything known before is still served; relisting is a diff, never a copy.
pub trait Sink: Send + Sync + 'static {
    /// A complete list of `kind` begins.
    fn list_start(&self, kind: Kind);
    /// An object exists in this form.
    fn set(&self, key: Key, object: Object);
    /// An object exists, in a form that cannot be read: what is known of it stays as it is.
    fn keep(&self, kind: Kind, key: &Key);
    /// An object is gone.
    fn delete(&self, kind: Kind, key: &Key);
    /// The list of `kind` is complete: what was not set since it began is gone, and the kind is
    /// synced from now on.
    fn list_end(&self, kind: Kind);
}
