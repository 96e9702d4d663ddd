//! A service as queries see it: the object and the endpoints of its slices, packed.

use super::super::object::{Key, Port};
use super::host::HostName;
use crate::dns::Name;
use compact_str::CompactString;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// How endpoints and services become names; part of what defines an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Naming {
    /// `endpoint_pod_names`: endpoints without a host name are called like their pods.
    pub endpoint_pod_names: bool,
    /// `zonal`: the zones of endpoints are kept.
    pub zonal: bool,
    /// Whether the cluster of an endpoint's slice belongs to its host name: `HOST.CLUSTER`, as in
    /// multicluster zones (KX-2).
    pub clusters: bool,
}

/// A service, or the name of one that only endpoint slices know.
///
/// Invariant: every endpoint's `slice` is the place of its slice in `slices`.
#[derive(Debug)]
pub struct Entry {
    /// Namespace and name.
    pub key: Arc<Key>,
    /// The object; `None` while only slices are known.
    pub service: Option<Service>,
    /// The target of a service of type ExternalName that is an alias: an address is none (KA-6).
    pub alias: Option<Box<Name>>,
    /// Its endpoint slices, in no order.
    pub slices: Box<[Slice]>,
    /// Every ready endpoint, sorted by address (IPv4 first), then host name.
    pub endpoints: Box<[Endpoint]>,
    /// Places in `endpoints`, sorted by host name and address; empty if no endpoint has a
    /// name of its own: then the order of the addresses serves.
    pub(super) by_host: Box<[u32]>,
    /// The list in which the service was seen last.
    pub(super) mark: AtomicU32,
}

/// What is kept of a service object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its own addresses; empty for headless and ExternalName services.
    pub cluster_ips: SmallVec<[IpAddr; 2]>,
    /// Whether it is headless.
    pub headless: bool,
    /// `spec.externalName`, for type ExternalName only.
    pub external_name: Option<Box<str>>,
    /// External addresses, then addresses and host names of the load balancer.
    pub external_ips: Box<[Box<str>]>,
    /// Its ports; services that have the same ones share them.
    pub ports: Arc<[Port]>,
}

/// What is kept of an endpoint slice besides its endpoints.
#[derive(Debug)]
pub struct Slice {
    /// Its name, in the entry's namespace.
    pub name: Box<str>,
    /// Its ports; slices that have the same ones share them.
    pub ports: Arc<[Port]>,
    /// The cluster that it comes from, if it belongs to an import.
    pub cluster: Option<Arc<str>>,
    /// When the change that it shows happened, in Unix nanoseconds.
    pub(super) triggered: Option<NonZeroU64>,
    /// How many endpoints are from it.
    pub(super) count: u32,
    /// The list in which it was seen last.
    pub(super) mark: AtomicU32,
}

/// An address of a service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// Which slice of the entry it is from; that one has its ports.
    pub slice: u32,
    /// What most endpoints do not have.
    pub(super) details: Option<Arc<Details>>,
}

/// What an endpoint may have besides its address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Details {
    /// A name of its own, in lower case, its cluster included.
    pub(super) host: Option<Box<str>>,
    /// Its zone, in lower case, with [`Naming::zonal`].
    pub(super) zone: Option<Arc<str>>,
}

impl Slice {
    /// How many endpoints it has.
    pub const fn endpoints(&self) -> usize {
        self.count as usize
    }
}

impl Endpoint {
    /// What its name starts with (spec 4.7).
    pub fn host(&self) -> HostName {
        match self.given_host() {
            Some(host) => HostName::of_text(host),
            None => HostName::of_address(self.ip),
        }
    }

    /// Its zone, in lower case; only with [`Naming::zonal`].
    pub fn zone(&self) -> Option<&str> {
        self.details.as_ref()?.zone.as_deref()
    }

    pub(super) fn given_host(&self) -> Option<&str> {
        self.details.as_ref()?.host.as_deref()
    }
}

impl Entry {
    /// Whether neither a service nor a slice is left.
    pub(super) fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }

    /// The slice of an endpoint.
    pub fn slice(&self, endpoint: &Endpoint) -> Option<&Slice> {
        self.slices.get(endpoint.slice as usize)
    }

    /// The ports of an endpoint.
    pub fn ports(&self, endpoint: &Endpoint) -> &[Port] {
        self.slice(endpoint).map_or(&[], |slice| &slice.ports)
    }

    /// The endpoint at a place of the order by host name.
    pub fn in_host_order(&self, at: usize) -> &Endpoint {
        match self.by_host.get(at) {
            Some(&place) => &self.endpoints[place as usize],
            None => &self.endpoints[at],
        }
    }

    /// Whether two places of the order by host name have different host names.
    pub fn host_differs(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.in_host_order(a), self.in_host_order(b));
        match (a.given_host(), b.given_host()) {
            (None, None) => a.ip != b.ip,
            _ => *a.host() != *b.host(),
        }
    }

    /// Where, in the order by host name, the endpoints of this host name (lower case) lie.
    pub fn hosts(&self, host: &[u8]) -> Range<usize> {
        if self.by_host.is_empty() {
            return HostName::address(host).map_or(0..0, |ip| self.addressed(ip));
        }
        let compare = |&place: &u32| {
            let endpoint = &self.endpoints[place as usize];
            endpoint.host().as_bytes().cmp(host)
        };
        let first = self.by_host.partition_point(|at| compare(at).is_lt());
        let count = self.by_host[first..].partition_point(|at| compare(at).is_eq());
        first..first + count
    }

    /// Where in `endpoints` those of an address lie.
    pub fn addressed(&self, ip: IpAddr) -> Range<usize> {
        let first = self.endpoints.partition_point(|endpoint| endpoint.ip < ip);
        let count = self.endpoints[first..].partition_point(|endpoint| endpoint.ip == ip);
        first..first + count
    }

    /// Where in `endpoints` the IPv4 addresses end and the others begin.
    pub fn ipv6_from(&self) -> usize {
        self.endpoints
            .partition_point(|endpoint| endpoint.ip.is_ipv4())
    }

    /// Whether an endpoint has this address.
    pub fn has_endpoint(&self, ip: IpAddr) -> bool {
        !self.addressed(ip).is_empty()
    }

    /// Whether `ip` is one of the service's own addresses.
    pub fn has_cluster_ip(&self, ip: IpAddr) -> bool {
        let service = self.service.as_ref();
        service.is_some_and(|service| service.cluster_ips.contains(&ip))
    }

    /// Every address that leads to this entry, sorted, each once.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.ip).collect();
        all.extend(self.service.iter().flat_map(|s| s.cluster_ips.iter()));
        all.sort();
        all.dedup();
        all
    }

    /// The place of the slice of this name.
    pub(super) fn slice_at(&self, name: &str) -> Option<usize> {
        self.slices.iter().position(|slice| *slice.name == *name)
    }

    /// About how many octets the entry takes, as [service, slices]; what it shares with others is
    /// not counted.
    pub(super) fn bytes(&self) -> [usize; 2] {
        let text = |text: &CompactString| match text.is_heap_allocated() {
            true => heap(text),
            false => 0,
        };
        let of_key = size_of::<Key>() + text(&self.key.namespace) + text(&self.key.name);
        let service = self.service.as_ref().map_or(0, |service| {
            let external = service.external_ips.iter();
            let external: usize = external.map(|text| 16 + heap(text)).sum();
            let ips = &service.cluster_ips;
            let ips = if ips.spilled() {
                size_of_val(&**ips)
            } else {
                0
            };
            ips + service.external_name.as_deref().map_or(0, heap) + external
        });
        let slices: usize = self.slices.iter().map(|slice| 64 + heap(&slice.name)).sum();
        let details = self.endpoints.iter().filter_map(Endpoint::given_host);
        let details: usize = details.map(|host| 48 + heap(host)).sum();
        let own = size_of::<Self>() + 16 + of_key + service;
        let endpoints = size_of_val(&*self.endpoints) + size_of_val(&*self.by_host);
        [own, slices + endpoints + details]
    }
}

/// What the allocator takes for a text, about.
fn heap(text: &str) -> usize {
    (text.len() + 8).next_multiple_of(16).max(32)
}
