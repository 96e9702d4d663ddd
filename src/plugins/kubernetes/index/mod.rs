//! The live index of the cluster: what sources tell it, ready to be answered from.
//!
//! Readers take no lock: services, addresses, pods and namespaces lie in tables of
//! immutable shards, and a change rebuilds the shards that it touches. Writers take turns (one
//! lock), so that an entry is always put together from its newest parts.
//!
//! What is kept is packed: an object that is told again is compared with what is there and only
//! marked as seen, ports that many services have are kept once, and neither a decoded object nor a
//! second copy of the world exists at any time.

mod build;
mod entry;
mod external;
mod host;
mod intern;
mod lists;
mod pods;
mod programming;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub use entry::{Endpoint, Entry, Naming, Service, Slice};
pub use host::HostName;
pub use programming::Programming;

use super::object::{Key, Kind, Object, Pod};
use compact_str::CompactString;
use pods::Pods;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use table::Table;
use writer::Writer;

/// Shards of the tables: an event copies the rows of one.
const SHARDS: usize = 1024;

/// The cluster as it is known.
pub struct Index {
    services: Table<Named>,
    /// Address → the services that it leads to, in the order of their names.
    addresses: Table<Arc<Key>>,
    pods: Pods,
    namespaces: Table<Arc<Namespace>>,
    synced: [AtomicBool; 4],
    wanted: Box<[Kind]>,
    serial: AtomicU64,
    counts: [AtomicI64; 4],
    writer: Mutex<Writer>,
    naming: Naming,
    changes: tokio::sync::watch::Sender<u64>,
    programming: OnceLock<Programming>,
    externals: external::Externals,
}

/// An entry, with its key beside it: a look-up that compares the one has the other on its way from
/// memory meanwhile.
#[derive(Clone)]
struct Named {
    key: Arc<Key>,
    entry: Arc<Entry>,
}

impl From<Entry> for Named {
    fn from(entry: Entry) -> Self {
        Self {
            key: Arc::clone(&entry.key),
            entry: Arc::new(entry),
        }
    }
}

impl Deref for Named {
    type Target = Arc<Entry>;

    #[inline]
    fn deref(&self) -> &Arc<Entry> {
        &self.entry
    }
}

/// A namespace.
struct Namespace {
    name: Box<str>,
    /// The list in which it was seen last.
    mark: AtomicU32,
}

impl Index {
    /// An empty index that is synced once every kind of `wanted` is.
    pub fn new(wanted: &[Kind], naming: Naming) -> Self {
        Self {
            services: Table::new(SHARDS),
            addresses: Table::new(SHARDS),
            pods: Pods::new(SHARDS),
            namespaces: Table::new(64),
            synced: Default::default(),
            wanted: wanted.into(),
            serial: AtomicU64::new(0),
            counts: Default::default(),
            writer: Mutex::default(),
            naming,
            changes: tokio::sync::watch::Sender::new(0),
            programming: OnceLock::new(),
            externals: external::Externals::new(),
        }
    }

    /// Observes from now on how old changes of endpoints are when they arrive. The first call counts.
    pub fn observe(&self, programming: Programming) {
        let _ = self.programming.set(programming);
    }

    /// Whether every kind has been listed once. It stays true.
    #[inline]
    pub fn is_synced(&self) -> bool {
        let mut wanted = self.wanted.iter();
        wanted.all(|&kind| self.synced[kind as usize].load(Relaxed))
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
        let is = |known: &Arc<Namespace>| (known.name.as_bytes() == name).then_some(());
        self.namespaces.find(hash, is).is_some()
    }

    /// What `take` makes of the service of this namespace and name (lower case).
    #[inline]
    pub fn service<R>(
        &self,
        namespace: &[u8],
        name: &[u8],
        take: impl FnOnce(&Entry) -> R,
    ) -> Option<R> {
        // Slices without a service lie under the empty name.
        if name.is_empty() {
            return None;
        }
        let hash = self.services.hash([namespace, name]);
        let mut take = Some(take);
        self.services.find(hash, |entry| {
            let key = &entry.key;
            let is = key.name.as_bytes() == name && key.namespace.as_bytes() == namespace;
            is.then(|| take.take().map(|take| take(entry))).flatten()
        })
    }

    /// Calls `f` for the services that an address leads to, in the order of their names.
    #[inline]
    pub fn by_address(&self, ip: IpAddr, mut f: impl FnMut(&Entry)) {
        let found: Option<()> = self.addresses.find(self.address_hash(ip), |key| {
            self.service(key.namespace.as_bytes(), key.name.as_bytes(), |entry| {
                // Another address may have the same hash.
                if entry.has_cluster_ip(ip) || entry.has_endpoint(ip) {
                    f(entry);
                }
            });
            None
        });
        debug_assert!(found.is_none());
    }

    /// Whether a pod of this namespace (lower case) has this address.
    #[inline]
    pub fn has_pod(&self, namespace: &[u8], ip: IpAddr) -> bool {
        self.pods.has(namespace, ip)
    }

    /// What `take` makes of the namespace that a client of this address is in.
    ///
    /// `None` where that is not certain: no pod has the address, more than one has it (one of them
    /// is about to go), or it is a node's.
    #[inline]
    pub fn client<R>(&self, ip: IpAddr, take: impl FnOnce(&str) -> R) -> Option<R> {
        self.pods.only(ip, take)
    }

    /// Calls `f` for every service, and every name that only endpoint slices know, in no order.
    pub fn entries(&self, mut f: impl FnMut(&Arc<Entry>)) {
        self.services.for_each(|entry| {
            if !entry.key.name.is_empty() {
                f(entry);
            }
        });
    }

    /// Every namespace, in no order.
    pub fn namespaces(&self, mut f: impl FnMut(&str)) {
        self.namespaces.for_each(|known| f(&known.name));
    }

    /// Counts every change that answers depend on; a receiver wakes when there was one.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Calls `each` for every object of `kind`, in no order, with what is kept of it: of a pod
    /// neither its name (its address stands for it) nor more than one address is.
    pub fn export(&self, kind: Kind, each: &mut dyn FnMut(Key, Object)) {
        match kind {
            Kind::Namespace => self.namespaces(|name| {
                let (namespace, name) = (CompactString::default(), name.into());
                each(Key { namespace, name }, Object::Namespace);
            }),
            Kind::Service => self.services.for_each(|entry| entry.unpack(each)),
            Kind::EndpointSlice => self.services.for_each(|entry| entry.unpack_slices(each)),
            Kind::Pod => self.pods.for_each(|namespace, ip, host_network| {
                let key = Key {
                    namespace: namespace.into(),
                    name: (&*HostName::of_address(ip)).into(),
                };
                let ip = Some(ip);
                let pod = Pod {
                    ip,
                    host_network,
                    ..Pod::default()
                };
                each(key, Object::Pod(pod));
            }),
        }
    }

    /// About how many octets the objects of `kind` take, with what is shared between kinds counted
    /// with services. It walks the index.
    pub fn bytes(&self, kind: Kind) -> usize {
        let sum = |which: usize| {
            let mut sum = 0;
            self.services.for_each(|entry| sum += entry.bytes()[which]);
            sum
        };
        match kind {
            Kind::Namespace => self.namespaces.bytes() + 64 * self.count(kind).max(0) as usize,
            Kind::Service => self.services.bytes() + self.addresses.bytes() + sum(0),
            Kind::EndpointSlice => sum(1) + self.writer().slices_bytes(),
            Kind::Pod => self.pods.bytes() + self.writer().pods_bytes(),
        }
    }

    fn address_hash(&self, ip: IpAddr) -> u64 {
        self.addresses.hash([&octets(ip), b""])
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
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
