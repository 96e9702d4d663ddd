//! A service as queries see it: the object, its endpoint slices, and what is derived from both.

use super::super::object::{EndpointSlice, Key, Port, Service};
use crate::dns::Name;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// How endpoints and services become names; part of what defines an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Naming {
    /// `endpoint_pod_names`: endpoints without a host name are called like their pods.
    pub endpoint_pod_names: bool,
    /// Whether the cluster of an endpoint's slice belongs to its host name: `HOST.CLUSTER`, as in
    /// multicluster zones (KX-2).
    pub clusters: bool,
}

/// A service, or the name of one that only endpoint slices know.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Namespace and name.
    pub key: Arc<Key>,
    /// The object; `None` while only slices are known.
    pub service: Option<Arc<Service>>,
    /// The target of a service of type ExternalName that is an alias: an address is none (KA-6).
    pub alias: Option<Box<Name>>,
    /// Its slices, by name.
    pub slices: Box<[(Box<str>, Arc<EndpointSlice>)]>,
    /// Every ready endpoint, sorted by host name, then by slice.
    pub endpoints: Box<[Endpoint]>,
}

/// An address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What its name starts with, in lower case (spec 4.7): a label, or the labels of a pod's name,
    /// at most 63 octets; then, with [`Naming::clusters`], a dot and the cluster's label.
    pub host: Box<str>,
    /// The address.
    pub ip: IpAddr,
    /// Which slice of the entry it is from; that one has its ports.
    pub slice: u32,
    /// Its topology zone in lower case, if the slice says.
    pub zone: Option<Box<str>>,
    /// The last endpoint before it in the order that has the same address, if there is one.
    pub twin: Option<u32>,
}

impl Entry {
    /// Puts an entry together.
    pub fn new(
        key: Arc<Key>,
        service: Option<Arc<Service>>,
        slices: Box<[(Box<str>, Arc<EndpointSlice>)]>,
        naming: Naming,
    ) -> Self {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (index, (_, slice)) in slices.iter().enumerate() {
            for endpoint in &slice.endpoints {
                let pod = endpoint
                    .target
                    .as_deref()
                    .filter(|_| naming.endpoint_pod_names);
                let host = endpoint.hostname.as_deref().or(pod);
                let mut host = host
                    .filter(|host| is_host(host))
                    .map_or_else(|| host_of(endpoint.ip), str::to_ascii_lowercase);
                let cluster = slice.cluster.as_deref().filter(|_| naming.clusters);
                if let Some(cluster) = cluster.filter(|cluster| is_host(cluster)) {
                    host.push('.');
                    host.push_str(cluster);
                }
                endpoints.push(Endpoint {
                    host: host.into(),
                    zone: endpoint.zone.clone(),
                    ip: endpoint.ip,
                    slice: index as u32,
                    twin: None,
                });
            }
        }
        endpoints.sort_by(|a, b| (&a.host, a.slice, a.ip).cmp(&(&b.host, b.slice, b.ip)));
        let mut last = HashMap::new();
        for (at, endpoint) in endpoints.iter_mut().enumerate() {
            endpoint.twin = last.insert(endpoint.ip, at as u32);
        }
        let target = service.as_ref().and_then(|s| s.external_name.as_deref());
        let target = target.filter(|target| target.parse::<IpAddr>().is_err());
        Self {
            key,
            alias: target.and_then(|target| Name::from_text(target).ok().map(Box::new)),
            service,
            slices,
            endpoints: endpoints.into(),
        }
    }

    /// Whether neither a service nor a slice is left.
    pub fn is_empty(&self) -> bool {
        self.service.is_none() && self.slices.is_empty()
    }

    /// The ports of an endpoint.
    pub fn ports(&self, endpoint: &Endpoint) -> &[Port] {
        self.slices
            .get(endpoint.slice as usize)
            .map_or(&[], |(_, slice)| &slice.ports)
    }

    /// Where the endpoints of this host name (lower case) lie.
    pub fn hosts(&self, host: &[u8]) -> Range<usize> {
        let first = self
            .endpoints
            .partition_point(|endpoint| endpoint.host.as_bytes() < host);
        let rest = &self.endpoints[first..];
        let count = rest.partition_point(|endpoint| endpoint.host.as_bytes() == host);
        first..first + count
    }

    /// Every address that leads to this entry: cluster IPs, then endpoints.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let service = self
            .service
            .iter()
            .flat_map(|service| service.cluster_ips.iter().copied());
        service.chain(self.endpoints.iter().map(|endpoint| endpoint.ip))
    }

    /// Whether `ip` is one of the service's own addresses.
    pub fn has_cluster_ip(&self, ip: IpAddr) -> bool {
        self.service
            .as_ref()
            .is_some_and(|service| service.cluster_ips.contains(&ip))
    }
}

/// Whether a name can stand in front of a service's (a source does not promise that).
fn is_host(name: &str) -> bool {
    name.len() <= 63 && name.split('.').all(|label| !label.is_empty())
}

/// The host label of an address: its text with dots or colons as dashes; a trailing dash gets a
/// `0` (spec 4.7).
pub fn host_of(ip: IpAddr) -> String {
    let mut host = ip.to_string().replace(['.', ':'], "-");
    if host.ends_with('-') {
        host.push('0');
    }
    host
}
