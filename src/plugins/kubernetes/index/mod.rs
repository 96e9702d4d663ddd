//! The live index of the cluster: what sources tell it, ready to be answered from.
//!
//! Readers take no lock: services, addresses, pods and namespaces lie in tables of
//! immutable shards, and a change rebuilds the shards that it touches. Writers take turns (one
//! lock), so that an entry is always put together from its newest parts.

mod client;
mod external;
mod service;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub use service::{Endpoint, Entry, Naming, host_of};

use super::object::{Key, Kind};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use table::Table;
use writer::Writer;

/// Shards of the services: an event copies the rows of one.
const SHARDS: usize = 1024;

/// The cluster as it is known.
pub struct Index {
    services: Table<Arc<Entry>>,
    /// Address → the services that it leads to, cluster IPs first.
    addresses: Table<Arc<Address>>,
    pods: Table<(IpAddr, Box<str>)>,
    namespaces: Table<Box<str>>,
    synced: [AtomicBool; 4],
    wanted: Box<[Kind]>,
    serial: AtomicU64,
    counts: [AtomicI64; 4],
    writer: Mutex<Writer>,
    naming: Naming,
    changes: tokio::sync::watch::Sender<u64>,
    clients: client::Clients,
    externals: external::Externals,
}

/// What an address leads to.
struct Address {
    ip: IpAddr,
    services: Box<[Arc<Key>]>,
}

impl Index {
    /// An empty index that is synced once every kind of `wanted` is.
    pub fn new(wanted: &[Kind], naming: Naming) -> Self {
        Self {
            services: Table::new(SHARDS),
            addresses: Table::new(SHARDS),
            pods: Table::new(SHARDS),
            namespaces: Table::new(64),
            synced: Default::default(),
            wanted: wanted.into(),
            serial: AtomicU64::new(0),
            counts: Default::default(),
            writer: Mutex::default(),
            naming,
            changes: tokio::sync::watch::Sender::new(0),
            clients: client::Clients::new(),
            externals: external::Externals::new(),
        }
    }

    /// Whether every kind has been listed once. It stays true.
    #[inline]
    pub fn is_synced(&self) -> bool {
        self.wanted
            .iter()
            .all(|&kind| self.synced[kind as usize].load(Relaxed))
    }

    /// When something that answers depend on last changed, in Unix seconds; 0 before.
    pub fn serial(&self) -> u32 {
        self.serial.load(Relaxed) as u32
    }

    /// Objects of `kind`.
    pub fn count(&self, kind: Kind) -> i64 {
        self.counts[kind as usize].load(Relaxed)
    }

    /// Whether the namespace exists (name in lower case).
    #[inline]
    pub fn has_namespace(&self, name: &[u8]) -> bool {
        let hash = self.namespaces.hash([name, b""]);
        self.namespaces
            .get(hash, |known| known.as_bytes() == name, |_| ())
            .is_some()
    }

    /// What `take` makes of the service of this namespace and name (lower case).
    #[inline]
    pub fn service<R>(
        &self,
        namespace: &[u8],
        name: &[u8],
        take: impl FnOnce(&Entry) -> R,
    ) -> Option<R> {
        let hash = self.services.hash([namespace, name]);
        let is = |entry: &Arc<Entry>| {
            entry.key.name.as_bytes() == name && entry.key.namespace.as_bytes() == namespace
        };
        self.services.get(hash, is, |entry| take(entry))
    }

    /// Calls `f` for the services that an address leads to, in the order of their names.
    #[inline]
    pub fn by_address(&self, ip: IpAddr, mut f: impl FnMut(&Entry)) {
        let hash = self.address_hash(ip);
        self.addresses.get(
            hash,
            |address| address.ip == ip,
            |address| {
                for key in &address.services {
                    self.service(key.namespace.as_bytes(), key.name.as_bytes(), &mut f);
                }
            },
        );
    }

    /// Whether a pod of this namespace (lower case) has this address.
    #[inline]
    pub fn has_pod(&self, namespace: &[u8], ip: IpAddr) -> bool {
        let hash = self.pod_hash(ip, namespace);
        let is = |pod: &(IpAddr, Box<str>)| pod.0 == ip && pod.1.as_bytes() == namespace;
        self.pods.get(hash, is, |_| ()).is_some()
    }

    /// Calls `f` for every service, and every name that only endpoint slices know, in no order.
    pub fn entries(&self, mut f: impl FnMut(&Entry)) {
        self.services.for_each(|entry| f(entry));
    }

    /// Every namespace, in no order.
    pub fn namespaces(&self, mut f: impl FnMut(&str)) {
        self.namespaces.for_each(|name| f(name));
    }

    /// Counts every change that answers depend on; a receiver wakes when there was one.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn address_hash(&self, ip: IpAddr) -> u64 {
        self.addresses.hash([&octets(ip), b""])
    }

    fn pod_hash(&self, ip: IpAddr, namespace: &[u8]) -> u64 {
        self.pods.hash([&octets(ip), namespace])
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
