//! What sources tell the index: each event changes the entries, addresses and pods that it concerns.

use super::super::object::{EndpointSlice, Key, Kind, Object, Sink};
use super::build::{Common, Packed};
use super::entry::{Entry, Service};
use super::lists::Lists;
use super::pods::{Change, PodAt, PodNames};
use super::{Index, Named, Namespace};
use compact_str::CompactString;
use hashbrown::HashTable;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// What only writers need.
#[derive(Default)]
pub(super) struct Writer {
    /// Hash of a slice's key → hash of the entry that it is in.
    slices: HashTable<(u64, u64)>,
    pods: PodNames,
    common: Common,
    lists: Lists,
}

impl Writer {
    pub(super) fn slices_bytes(&self) -> usize {
        self.slices.allocation_size()
    }

    pub(super) fn pods_bytes(&self) -> usize {
        self.pods.bytes()
    }
}

impl Index {
    /// Wakes who waits for changes; the serial is the same if it is none of those that count.
    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn touch(&self) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.serial.store(now.as_secs(), Relaxed);
        self.changed();
    }

    fn add_count(&self, kind: Kind, n: i64) {
        self.counts[kind as usize].fetch_add(n, Relaxed);
    }

    fn hash_of(&self, key: &Key) -> u64 {
        self.services
            .hash([key.namespace.as_bytes(), key.name.as_bytes()])
    }

    fn entry(&self, key: &Key) -> Option<Arc<Entry>> {
        let is = |known: &Named| (*known.key == *key).then(|| Arc::clone(&known.entry));
        self.services.find(self.hash_of(key), is)
    }

    /// Puts `new` in the place of `old`, and the addresses of the one in the place of the other's.
    fn replace(&self, old: Option<&Entry>, new: Entry) {
        let key = Arc::clone(&new.key);
        // Slices without a service lead nowhere.
        let addresses = |entry: &Entry| match entry.key.name.is_empty() {
            true => Vec::new(),
            false => entry.addresses(),
        };
        let before = old.map(addresses).unwrap_or_default();
        let after = addresses(&new);
        let new = (!new.is_empty()).then(|| Named::from(new));
        self.services.edit(self.hash_of(&key), |rows| {
            rows.retain(|entry| entry.key != key);
            rows.extend(new);
        });
        for ip in only_in_first(&before, &after) {
            self.addresses.edit(self.address_hash(ip), |rows| {
                rows.retain(|known| *known != key);
            });
        }
        for ip in only_in_first(&after, &before) {
            self.addresses.edit(self.address_hash(ip), |rows| {
                let at = rows.partition_point(|known| *known < key);
                rows.insert(at, Arc::clone(&key));
            });
        }
    }

    fn set_service(&self, writer: &mut Writer, key: Key, new: Option<Service>) {
        let old = self.entry(&key);
        let before = old.as_ref().and_then(|entry| entry.service.as_ref());
        let mark = writer.lists.mark(Kind::Service);
        if before == new.as_ref() {
            if let Some(entry) = &old {
                entry.mark.store(mark, Relaxed);
            }
            return;
        }
        // Addresses alone do not count (KO-5).
        let counts = match (before, &new) {
            (Some(before), Some(after)) => {
                before.ports != after.ports || before.external_name != after.external_name
            }
            _ => true,
        };
        self.note_external(&key, before, new.as_ref());
        let difference = i64::from(new.is_some()) - i64::from(before.is_some());
        self.add_count(Kind::Service, difference);
        let entry = match &old {
            Some(old) => old.with_service(new, mark),
            None => Entry::new(Arc::new(key)).with_service(new, mark),
        };
        self.replace(old.as_deref(), entry);
        match counts {
            true => self.touch(),
            false => self.changed(),
        }
    }

    /// The entry that a slice is in, and its place there.
    fn slice(&self, writer: &Writer, key: &Key) -> Option<(Arc<Entry>, usize)> {
        let hash = self.hash_of(key);
        let mut owners = writer
            .slices
            .iter_hash(hash)
            .filter(|known| known.0 == hash);
        owners.find_map(|&(_, owner)| {
            self.services.find(owner, |entry| {
                let at = entry.slice_at(&key.name)?;
                (entry.key.namespace == key.namespace).then(|| (Arc::clone(entry), at))
            })
        })
    }

    fn set_slice(&self, writer: &mut Writer, key: Key, slice: &EndpointSlice) {
        let mut packed = Packed::new(
            key.name.as_str().into(),
            slice,
            self.naming,
            &mut writer.common,
        );
        let mark = writer.lists.mark(Kind::EndpointSlice);
        *packed.slice.mark.get_mut() = mark;
        let triggered = packed.slice.triggered;
        let mut old_triggered = None;
        let mut changed = true;
        match self.slice(writer, &key) {
            Some((entry, at)) if entry.key.name == slice.service => {
                old_triggered = entry.slices[at].triggered;
                if entry.is_same(at, &packed) {
                    if old_triggered == triggered {
                        entry.slices[at].mark.store(mark, Relaxed);
                        return;
                    }
                    changed = false;
                }
            }
            // The slice of another service now.
            Some(_) => self.remove_slice(writer, &key),
            None => {}
        }
        let owner = Key {
            namespace: key.namespace.clone(),
            name: slice.service.clone(),
        };
        let (hash, at) = (self.hash_of(&key), self.hash_of(&owner));
        let old = self.entry(&owner);
        let known = old.as_ref().and_then(|entry| entry.slice_at(&key.name));
        if known.is_none() {
            let table = &mut writer.slices;
            table.insert_unique(hash, (hash, at), |known| known.0);
            self.add_count(Kind::EndpointSlice, 1);
        }
        let entry = match &old {
            Some(old) => old.with_slice(packed),
            None => Entry::new(Arc::new(owner)).with_slice(packed),
        };
        let headless = entry.service.as_ref().map(|service| service.headless);
        self.replace(old.as_deref(), entry);
        if changed && !slice.service.is_empty() {
            self.touch();
        }
        // What a list shows happened before it.
        if let (Some(headless), Some(programming), Some(triggered)) =
            (headless, self.programming.get(), triggered)
            && Some(triggered) != old_triggered
            && !writer.lists.runs(Kind::EndpointSlice)
        {
            programming.observe(headless, triggered.get());
        }
    }

    fn remove_slice(&self, writer: &mut Writer, key: &Key) {
        let Some((entry, at)) = self.slice(writer, key) else {
            return;
        };
        let (hash, owner) = (self.hash_of(key), self.hash_of(&entry.key));
        let is = |known: &(u64, u64)| *known == (hash, owner);
        if let Ok(known) = writer.slices.find_entry(hash, is) {
            known.remove();
        }
        self.add_count(Kind::EndpointSlice, -1);
        self.replace(Some(&entry), entry.without_slice(at));
        if !entry.key.name.is_empty() {
            self.touch();
        }
    }

    fn set_pod(&self, writer: &mut Writer, key: &Key, new: Option<PodAt>) {
        let namespace = writer.common.texts.get(&*key.namespace);
        let mark = writer.lists.mark(Kind::Pod);
        let name = (&namespace, &*key.name);
        let difference = match self.pods.set(&mut writer.pods, name, new, mark) {
            Change::None => return,
            Change::Added => 1,
            Change::Moved => 0,
            Change::Removed => -1,
        };
        self.add_count(Kind::Pod, difference);
        self.touch();
    }

    fn set_namespace(&self, writer: &Writer, name: &str, on: bool) {
        let hash = self.namespaces.hash([name.as_bytes(), b""]);
        let mark = writer.lists.mark(Kind::Namespace);
        let known = self.namespaces.find(hash, |known| {
            (*known.name == *name).then(|| known.mark.store(mark, Relaxed))
        });
        if known.is_some() == on {
            return;
        }
        self.add_count(Kind::Namespace, if on { 1 } else { -1 });
        self.namespaces.edit(hash, |rows| {
            rows.retain(|known| *known.name != *name);
            rows.extend(on.then(|| {
                Arc::new(Namespace {
                    name: name.into(),
                    mark: AtomicU32::new(mark),
                })
            }));
        });
        self.changed();
    }

    fn remove(&self, writer: &mut Writer, kind: Kind, key: Key) {
        match kind {
            Kind::Namespace => self.set_namespace(writer, &key.name, false),
            Kind::Service => self.set_service(writer, key, None),
            Kind::EndpointSlice => self.remove_slice(writer, &key),
            Kind::Pod => self.set_pod(writer, &key, None),
        }
    }

    /// Removes what list `mark` of `kind` did not show.
    fn sweep(&self, writer: &mut Writer, kind: Kind, mark: u32) {
        let stale = |seen: &AtomicU32| seen.load(Relaxed) != mark;
        let mut keys = Vec::new();
        match kind {
            Kind::Namespace => self.namespaces.for_each(|known| {
                if stale(&known.mark) {
                    let name = (*known.name).into();
                    let namespace = CompactString::default();
                    keys.push(Key { namespace, name });
                }
            }),
            Kind::Service => self.services.for_each(|entry| {
                if entry.service.is_some() && stale(&entry.mark) {
                    keys.push(Key::clone(&entry.key));
                }
            }),
            Kind::EndpointSlice => self.services.for_each(|entry| {
                for slice in entry.slices.iter().filter(|slice| stale(&slice.mark)) {
                    let (namespace, name) = (entry.key.namespace.clone(), (*slice.name).into());
                    keys.push(Key { namespace, name });
                }
            }),
            Kind::Pod => {
                let gone = self.pods.sweep(&mut writer.pods, mark);
                if gone > 0 {
                    self.add_count(Kind::Pod, -(gone as i64));
                    self.touch();
                }
            }
        }
        for key in keys {
            self.remove(writer, kind, key);
        }
    }
}

impl Sink for Index {
    fn list_start(&self, kind: Kind) {
        self.writer().lists.start(kind);
    }

    fn set(&self, key: Key, object: Object) {
        let writer = &mut *self.writer();
        match object {
            Object::Namespace => self.set_namespace(writer, &key.name, true),
            Object::Service(service) => {
                let service = Service::pack(service, &mut writer.common);
                self.set_service(writer, key, Some(service));
            }
            Object::EndpointSlice(slice) => self.set_slice(writer, key, &slice),
            // Until it is really gone, a pod keeps its name (KM-5).
            Object::Pod(pod) if pod.deleted => {
                let mark = writer.lists.mark(Kind::Pod);
                let (namespace, name) = (&key.namespace, &key.name);
                self.pods.keep(&writer.pods, namespace, name, mark);
            }
            Object::Pod(pod) => {
                let host_network = pod.host_network;
                let at = pod.ip.map(|ip| PodAt { ip, host_network });
                self.set_pod(writer, &key, at);
            }
        }
    }

    fn keep(&self, kind: Kind, key: &Key) {
        let writer = self.writer();
        let mark = writer.lists.mark(kind);
        match kind {
            Kind::Namespace => {
                let hash = self.namespaces.hash([key.name.as_bytes(), b""]);
                self.namespaces.find(hash, |known| {
                    (*known.name == *key.name).then(|| known.mark.store(mark, Relaxed))
                });
            }
            Kind::Service => {
                if let Some(entry) = self.entry(key) {
                    entry.mark.store(mark, Relaxed);
                }
            }
            Kind::EndpointSlice => {
                if let Some((entry, at)) = self.slice(&writer, key) {
                    entry.slices[at].mark.store(mark, Relaxed);
                }
            }
            Kind::Pod => self
                .pods
                .keep(&writer.pods, &key.namespace, &key.name, mark),
        }
    }

    fn delete(&self, kind: Kind, key: &Key) {
        self.remove(&mut self.writer(), kind, key.clone());
    }

    fn list_end(&self, kind: Kind) {
        let writer = &mut *self.writer();
        if let Some(mark) = writer.lists.end(kind) {
            self.sweep(writer, kind, mark);
        }
        self.synced[kind as usize].store(true, Relaxed);
    }
}

/// What the first of two sorted sets has and the second has not.
fn only_in_first(first: &[IpAddr], second: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let mut rest = second.iter().peekable();
    let only = move |ip: &&IpAddr| {
        while rest.next_if(|other| *other < *ip).is_some() {}
        rest.peek() != Some(ip)
    };
    first.iter().filter(only).copied()
}
