//! Putting entries together: an entry never changes, a change makes a new one from the old.

use super::super::object::{self, EndpointSlice, Key, Object, Port};
use super::entry::{Details, Endpoint, Entry, Naming, Service, Slice};
use super::host::{HostName, is_host};
use super::intern::Interner;
use crate::dns::Name;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What objects have in common.
#[derive(Debug, Default)]
pub(super) struct Common {
    ports: Interner<[Port]>,
    pub(super) texts: Interner<str>,
}

impl Service {
    pub(super) fn pack(service: object::Service, common: &mut Common) -> Self {
        Self {
            cluster_ips: service.cluster_ips.into(),
            headless: service.headless,
            external_name: service.external_name,
            external_ips: service.external_ips.into(),
            ports: common.ports.get(&service.ports),
        }
    }

    fn unpack(&self) -> object::Service {
        object::Service {
            cluster_ips: self.cluster_ips.to_vec(),
            headless: self.headless,
            external_name: self.external_name.clone(),
            external_ips: self.external_ips.to_vec(),
            ports: self.ports.to_vec(),
        }
    }
}

/// A slice with its endpoints, sorted as an entry's; their `slice` is still to be set.
pub(super) struct Packed {
    pub(super) slice: Slice,
    pub(super) endpoints: Vec<Endpoint>,
}

impl Packed {
    pub(super) fn new(
        name: Box<str>,
        slice: &EndpointSlice,
        naming: Naming,
        common: &mut Common,
    ) -> Self {
        let endpoints = slice.endpoints.iter().map(|endpoint| {
            let pod = endpoint.target.as_deref();
            let pod = pod.filter(|_| naming.endpoint_pod_names);
            let host = endpoint.hostname.as_deref().or(pod);
            let host = host.filter(|host| is_host(host));
            let host = host.map(str::to_ascii_lowercase);
            let host = match slice.cluster.as_deref().filter(|_| naming.clusters) {
                Some(cluster) if is_host(cluster) => {
                    let host =
                        host.unwrap_or_else(|| HostName::of_address(endpoint.ip).to_string());
                    Some(format!("{host}.{cluster}"))
                }
                _ => host,
            };
            let zone = endpoint.zone.as_deref().filter(|_| naming.zonal);
            let details = (host.is_some() || zone.is_some()).then(|| {
                Arc::new(Details {
                    host: host.map(Into::into),
                    zone: zone.map(|zone| common.texts.get(zone)),
                })
            });
            Endpoint {
                ip: endpoint.ip,
                slice: 0,
                details,
            }
        });
        let mut endpoints: Vec<_> = endpoints.collect();
        endpoints.sort_by(|a, b| order(a).cmp(&order(b)));
        Self {
            slice: Slice {
                name,
                ports: common.ports.get(&slice.ports),
                cluster: slice.cluster.as_deref().map(|text| common.texts.get(text)),
                triggered: slice.triggered.and_then(NonZeroU64::new),
                count: endpoints.len() as u32,
                mark: AtomicU32::new(0),
            },
            endpoints,
        }
    }
}

/// The order of an entry's endpoints.
fn order(endpoint: &Endpoint) -> (IpAddr, Option<&str>) {
    (endpoint.ip, endpoint.given_host())
}

impl Clone for Slice {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            ports: Arc::clone(&self.ports),
            cluster: self.cluster.clone(),
            triggered: self.triggered,
            count: self.count,
            mark: AtomicU32::new(self.mark.load(Relaxed)),
        }
    }
}

impl Entry {
    pub(super) fn new(key: Arc<Key>) -> Self {
        Self {
            key,
            service: None,
            alias: None,
            slices: Box::default(),
            endpoints: Box::default(),
            by_host: Box::default(),
            mark: AtomicU32::new(0),
        }
    }

    /// The same with another service.
    pub(super) fn with_service(&self, service: Option<Service>, mark: u32) -> Self {
        let target = service.as_ref().and_then(|s| s.external_name.as_deref());
        let target = target.filter(|target| target.parse::<IpAddr>().is_err());
        Self {
            key: Arc::clone(&self.key),
            alias: target.and_then(|target| Name::from_text(target).ok().map(Box::new)),
            service,
            slices: self.slices.clone(),
            endpoints: self.endpoints.clone(),
            by_host: self.by_host.clone(),
            mark: AtomicU32::new(mark),
        }
    }

    /// The same with a slice more, or another one of the same name.
    pub(super) fn with_slice(&self, packed: Packed) -> Self {
        let mut slices = self.slices.to_vec();
        let at = match self.slice_at(&packed.slice.name) {
            Some(at) => {
                slices[at] = packed.slice;
                at
            }
            None => {
                slices.push(packed.slice);
                slices.len() - 1
            }
        } as u32;
        let added = packed.endpoints.into_iter().map(|endpoint| Endpoint {
            slice: at,
            ..endpoint
        });
        let kept = self.endpoints.iter().filter(|e| e.slice != at).cloned();
        let mut endpoints: Vec<_> = Vec::with_capacity(self.endpoints.len() + added.len());
        endpoints.extend(kept);
        endpoints.extend(added);
        // Two runs that are sorted already: the stable sort merges them.
        endpoints.sort_by(|a, b| order(a).cmp(&order(b)));
        self.with_endpoints(slices, endpoints)
    }

    /// The same without the slice at this place.
    pub(super) fn without_slice(&self, at: usize) -> Self {
        let mut slices = self.slices.to_vec();
        slices.remove(at);
        let at = at as u32;
        let kept = self.endpoints.iter().filter(|e| e.slice != at);
        let moved = kept.map(|endpoint| Endpoint {
            slice: endpoint.slice - u32::from(endpoint.slice > at),
            ..endpoint.clone()
        });
        self.with_endpoints(slices, moved.collect())
    }

    fn with_endpoints(&self, slices: Vec<Slice>, endpoints: Vec<Endpoint>) -> Self {
        let mut entry = Self {
            key: Arc::clone(&self.key),
            service: self.service.clone(),
            alias: self.alias.clone(),
            slices: slices.into(),
            endpoints: endpoints.into(),
            by_host: Box::default(),
            mark: AtomicU32::new(self.mark.load(Relaxed)),
        };
        entry.by_host = entry.host_order();
        entry
    }

    fn host_order(&self) -> Box<[u32]> {
        if !self.endpoints.iter().any(|one| one.given_host().is_some()) {
            return Box::default();
        }
        let hosts: Vec<HostName> = self.endpoints.iter().map(Endpoint::host).collect();
        let mut places: Vec<u32> = (0..self.endpoints.len() as u32).collect();
        let key = |at: u32| (&*hosts[at as usize], at);
        places.sort_unstable_by(|&a, &b| key(a).cmp(&key(b)));
        places.into()
    }

    /// Whether the slice at this place says the same as another one.
    pub(super) fn is_same(&self, at: usize, other: &Packed) -> bool {
        let slice = &self.slices[at];
        let mine = self.endpoints.iter().filter(|e| e.slice as usize == at);
        slice.ports == other.slice.ports
            && slice.cluster == other.slice.cluster
            && slice.count == other.slice.count
            && mine
                .zip(&other.endpoints)
                .all(|(a, b)| (a.ip, &a.details) == (b.ip, &b.details))
    }

    /// The objects that it was made of, without what is not kept.
    pub fn unpack(&self, each: &mut dyn FnMut(Key, Object)) {
        if let Some(service) = &self.service {
            each(Key::clone(&self.key), Object::Service(service.unpack()));
        }
    }

    /// The slices that it was made of, without what is not kept. A pod's name that was taken for a
    /// host name is one.
    pub fn unpack_slices(&self, each: &mut dyn FnMut(Key, Object)) {
        for (at, slice) in self.slices.iter().enumerate() {
            let mine = self.endpoints.iter().filter(|e| e.slice as usize == at);
            let without_cluster = |host: &'_ str| -> Option<Box<str>> {
                let cluster = slice.cluster.as_deref();
                let alone =
                    cluster.and_then(|cluster| host.strip_suffix(cluster)?.strip_suffix('.'));
                Some(alone.unwrap_or(host).into())
            };
            let endpoints = mine.map(|endpoint| object::Endpoint {
                ip: endpoint.ip,
                hostname: endpoint.given_host().and_then(without_cluster),
                target: None,
                zone: endpoint.zone().map(Into::into),
            });
            let key = Key {
                namespace: self.key.namespace.clone(),
                name: (&*slice.name).into(),
            };
            let object = EndpointSlice {
                service: self.key.name.clone(),
                endpoints: endpoints.collect(),
                ports: slice.ports.to_vec(),
                cluster: slice.cluster.as_deref().map(Into::into),
                triggered: slice.triggered.map(NonZeroU64::get),
            };
            each(key, Object::EndpointSlice(object));
        }
    }
}
