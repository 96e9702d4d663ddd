//! Pods: which addresses there are in which namespace, at less than a hundred octets each.

use super::octets;
use super::table::Table;
use hashbrown::HashTable;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Pods by address.
///
/// A pod's own name is not kept, but a 64-bit hash of it with a random seed: that two pods of one
/// cluster have the same is as likely as one in 10⁹ for a hundred thousand pods.
pub(super) struct Pods {
    rows: Table<Row>,
}

/// A pod that has an address. 48 octets, and 8 in the table.
struct Row {
    /// The hash of namespace and name.
    key: u64,
    namespace: Arc<str>,
    ip: IpAddr,
    host_network: bool,
    /// The list in which it was seen last.
    mark: AtomicU32,
}

/// Hash of namespace and name → hash of the address: what a writer needs to find a pod again.
#[derive(Debug, Default)]
pub(super) struct PodNames(HashTable<(u64, u64)>);

/// What a pod has that is told from others by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PodAt {
    pub(super) ip: IpAddr,
    pub(super) host_network: bool,
}

impl Clone for Row {
    fn clone(&self) -> Self {
        Self {
            namespace: Arc::clone(&self.namespace),
            mark: AtomicU32::new(self.mark.load(Relaxed)),
            ..*self
        }
    }
}

impl Pods {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            rows: Table::new(shards),
        }
    }

    #[inline]
    pub(super) fn has(&self, namespace: &[u8], ip: IpAddr) -> bool {
        let is = |row: &Row| (row.ip == ip && row.namespace.as_bytes() == namespace).then_some(());
        self.rows.find(self.at(ip), is).is_some()
    }

    /// Calls `f` with the namespace of every pod of an address, and whether that is its node's.
    #[inline]
    pub(super) fn of_address(&self, ip: IpAddr, mut f: impl FnMut(&str, bool)) {
        let found: Option<()> = self.rows.find(self.at(ip), |row| {
            if row.ip == ip {
                f(&row.namespace, row.host_network);
            }
            None
        });
        debug_assert!(found.is_none());
    }

    /// Puts a pod where it is now, or (`None`) away; marks it as seen. Whether anything changed.
    pub(super) fn set(
        &self,
        names: &mut PodNames,
        (namespace, name): (&Arc<str>, &str),
        new: Option<PodAt>,
        mark: u32,
    ) -> Change {
        let key = self.rows.hash([namespace.as_bytes(), name.as_bytes()]);
        let known = names.0.find(key, |known| known.0 == key).copied();
        let old = known.and_then(|(_, at)| {
            self.rows.find(at, |row| {
                let (ip, host_network) = (row.ip, row.host_network);
                (row.key == key).then(|| {
                    row.mark.store(mark, Relaxed);
                    PodAt { ip, host_network }
                })
            })
        });
        if old == new {
            return Change::None;
        }
        if let Some((_, at)) = known {
            self.rows.edit(at, |rows| rows.retain(|row| row.key != key));
        }
        match new {
            Some(PodAt { ip, host_network }) => {
                let at = self.at(ip);
                self.rows.edit(at, |rows| {
                    rows.push(Row {
                        key,
                        namespace: Arc::clone(namespace),
                        ip,
                        host_network,
                        mark: AtomicU32::new(mark),
                    });
                });
                let same = |known: &(u64, u64)| known.0 == key;
                match names.0.find_mut(key, same) {
                    Some(known) => known.1 = at,
                    None => drop(names.0.insert_unique(key, (key, at), |known| known.0)),
                }
            }
            None => names.forget(key),
        }
        match (old, new) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Moved,
        }
    }

    /// Marks a pod as seen.
    pub(super) fn keep(&self, names: &PodNames, namespace: &str, name: &str, mark: u32) {
        let key = self.rows.hash([namespace.as_bytes(), name.as_bytes()]);
        if let Some(&(_, at)) = names.0.find(key, |known| known.0 == key) {
            let row = |row: &Row| (row.key == key).then(|| row.mark.store(mark, Relaxed));
            self.rows.find(at, row);
        }
    }

    /// Removes the pods that were not seen in list `mark`; how many.
    pub(super) fn sweep(&self, names: &mut PodNames, mark: u32) -> usize {
        let mut stale = Vec::new();
        self.rows.for_each(|row| {
            if row.mark.load(Relaxed) != mark {
                stale.push((self.at(row.ip), row.key));
            }
        });
        for &(at, key) in &stale {
            self.rows.edit(at, |rows| rows.retain(|row| row.key != key));
            names.forget(key);
        }
        stale.len()
    }

    /// Calls `f` for every pod: namespace, address, and whether that is its node's.
    pub(super) fn for_each(&self, mut f: impl FnMut(&str, IpAddr, bool)) {
        self.rows
            .for_each(|row| f(&row.namespace, row.ip, row.host_network));
    }

    /// Octets that the rows take.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn at(&self, ip: IpAddr) -> u64 {
        self.rows.hash([&octets(ip), b""])
    }
}

impl PodNames {
    fn forget(&mut self, key: u64) {
        if let Ok(known) = self.0.find_entry(key, |known| known.0 == key) {
            known.remove();
        }
    }

    /// Octets that the table takes.
    pub(super) fn bytes(&self) -> usize {
        self.0.allocation_size()
    }
}

/// What became of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is as it was.
    None,
    /// It was not there before.
    Added,
    /// It has another address.
    Moved,
    /// It is gone.
    Removed,
}
