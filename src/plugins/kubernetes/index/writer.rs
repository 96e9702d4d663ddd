//! What sources tell the index: each event changes the entries, addresses and pods that it concerns.

use super::super::object::{EndpointSlice, Key, Kind, Object, Pod, Service, Sink};
use super::{Address, Entry, Index};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// What only writers need.
#[derive(Default)]
pub(super) struct Writer {
    /// Slice → the service that it belongs to.
    slices: HashMap<Key, Box<str>>,
    /// Pod → its address.
    pods: HashMap<Key, IpAddr>,
    /// Pods of an address in a namespace, where there are several.
    pod_counts: HashMap<(IpAddr, Box<str>), u32>,
    /// What was set since the list of a kind began; `None` while there is none.
    lists: [Option<HashSet<Key>>; 4],
}

impl Index {
    fn touch(&self) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.serial.store(now.as_secs(), Relaxed);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Replaces an entry, and the addresses that led to it.
    fn update(&self, key: &Key, change: impl FnOnce(Option<&Entry>) -> Option<Entry>) {
        let (namespace, name) = (key.namespace.as_bytes(), key.name.as_bytes());
        let old: Option<Arc<Entry>> = {
            let hash = self.services.hash([namespace, name]);
            self.services
                .get(hash, |entry| *entry.key == *key, Arc::clone)
        };
        let new = change(old.as_deref())
            .filter(|entry| !entry.is_empty())
            .map(Arc::new);
        let hash = self.services.hash([namespace, name]);
        let before: HashSet<IpAddr> = old.iter().flat_map(|entry| entry.addresses()).collect();
        let after: HashSet<IpAddr> = new.iter().flat_map(|entry| entry.addresses()).collect();
        self.services.set(hash, |entry| *entry.key == *key, new);
        for &ip in before.difference(&after) {
            self.link(ip, key, false);
        }
        for &ip in after.difference(&before) {
            self.link(ip, key, true);
        }
    }

    /// Notes that an address leads to a service, or no longer does.
    fn link(&self, ip: IpAddr, key: &Key, on: bool) {
        let hash = self.address_hash(ip);
        let known = self
            .addresses
            .get(hash, |address| address.ip == ip, Arc::clone);
        let known = known.iter().flat_map(|address| address.services.iter());
        let mut services: Vec<_> = known.filter(|known| ***known != *key).cloned().collect();
        if on {
            services.push(Arc::new(key.clone()));
            services.sort();
        }
        let services: Box<[_]> = services.into();
        let new = (!services.is_empty()).then(|| Arc::new(Address { ip, services }));
        self.addresses.set(hash, |address| address.ip == ip, new);
    }

    fn set_service(&self, key: &Key, service: Option<Service>) {
        let same = |entry: &Entry| entry.service.as_deref() == service.as_ref();
        if self.service(key.namespace.as_bytes(), key.name.as_bytes(), same) == Some(true) {
            return;
        }
        self.note_external(key, service.as_ref());
        let naming = self.naming;
        let mut changed = false;
        self.update(key, |old| {
            let before = old.and_then(|entry| entry.service.as_deref());
            changed = match (before, &service) {
                // Addresses alone do not count (KO-5).
                (Some(before), Some(after)) => {
                    before.ports != after.ports || before.external_name != after.external_name
                }
                (before, after) => before.is_some() != after.is_some(),
            };
            let count = i64::from(service.is_some()) - i64::from(before.is_some());
            self.counts[Kind::Service as usize].fetch_add(count, Relaxed);
            let arc = old.map_or_else(|| Arc::new(key.clone()), |entry| Arc::clone(&entry.key));
            let slices = old.map_or_else(Box::default, |entry| entry.slices.clone());
            Some(Entry::new(arc, service.map(Arc::new), slices, naming))
        });
        if changed {
            self.touch();
        }
    }

    fn set_slice(&self, writer: &mut Writer, key: &Key, slice: Option<EndpointSlice>) {
        let owner = |service: &str| Key {
            namespace: key.namespace.clone(),
            name: service.into(),
        };
        let before = writer.slices.get(key).cloned();
        let service = slice.as_ref().map(|slice| slice.service.clone());
        if let Some(old) = before.filter(|old| service.as_ref() != Some(old)) {
            // Gone, or the slice of another service now.
            writer.slices.remove(key);
            self.counts[Kind::EndpointSlice as usize].fetch_sub(1, Relaxed);
            self.put_slice(&owner(&old), key, None);
        }
        if let (Some(slice), Some(service)) = (slice, service) {
            if writer.slices.insert(key.clone(), service.clone()).is_none() {
                self.counts[Kind::EndpointSlice as usize].fetch_add(1, Relaxed);
            }
            self.put_slice(&owner(&service), key, Some(slice));
        }
    }

    fn put_slice(&self, owner: &Key, key: &Key, slice: Option<EndpointSlice>) {
        // A slice without the label belongs to no service: it is counted, and leads nowhere.
        if owner.name.is_empty() {
            return;
        }
        let naming = self.naming;
        let mut changed = true;
        self.update(owner, |old| {
            let slices = old.map_or_else(Box::default, |entry| entry.slices.clone());
            let mut slices = Vec::from(slices);
            let at = slices.binary_search_by(|(name, _)| name.cmp(&key.name));
            match (at, slice) {
                (Ok(at), Some(slice)) => {
                    let known = &slices[at].1;
                    changed = known.endpoints != slice.endpoints || known.ports != slice.ports;
                    slices[at].1 = Arc::new(slice);
                }
                (Ok(at), None) => drop(slices.remove(at)),
                (Err(at), Some(slice)) => slices.insert(at, (key.name.clone(), Arc::new(slice))),
                (Err(_), None) => changed = false,
            }
            let arc = old.map_or_else(|| Arc::new(owner.clone()), |entry| Arc::clone(&entry.key));
            let service = old.and_then(|entry| entry.service.clone());
            Some(Entry::new(arc, service, slices.into(), naming))
        });
        if changed {
            self.touch();
        }
    }

    fn set_pod(&self, writer: &mut Writer, key: &Key, ip: Option<IpAddr>) {
        let before = match ip {
            Some(ip) => writer.pods.insert(key.clone(), ip),
            None => writer.pods.remove(key),
        };
        if before == ip {
            return;
        }
        let count = i64::from(ip.is_some()) - i64::from(before.is_some());
        self.counts[Kind::Pod as usize].fetch_add(count, Relaxed);
        for (ip, on) in before
            .map(|ip| (ip, false))
            .into_iter()
            .chain(ip.map(|ip| (ip, true)))
        {
            let count = writer
                .pod_counts
                .entry((ip, key.namespace.clone()))
                .or_default();
            *count = if on {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
            let left = *count;
            if left == 0 {
                writer.pod_counts.remove(&(ip, key.namespace.clone()));
            }
            let hash = self.pod_hash(ip, key.namespace.as_bytes());
            let is = |pod: &(IpAddr, Box<str>)| pod.0 == ip && pod.1 == key.namespace;
            self.pods
                .set(hash, is, (left > 0).then(|| (ip, key.namespace.clone())));
        }
        self.touch();
    }

    fn set_namespace(&self, name: &str, on: bool) {
        let hash = self.namespaces.hash([name.as_bytes(), b""]);
        let known = self
            .namespaces
            .get(hash, |known| **known == *name, |_| ())
            .is_some();
        let count = i64::from(on) - i64::from(known);
        self.counts[Kind::Namespace as usize].fetch_add(count, Relaxed);
        self.namespaces
            .set(hash, |known| **known == *name, on.then(|| name.into()));
    }

    fn remove(&self, writer: &mut Writer, kind: Kind, key: &Key) {
        match kind {
            Kind::Namespace => self.set_namespace(&key.name, false),
            Kind::Service => self.set_service(key, None),
            Kind::EndpointSlice => self.set_slice(writer, key, None),
            Kind::Pod => {
                let before = writer.pods.get(key).copied();
                self.clients.set(key, before, None, false);
                self.set_pod(writer, key, None);
            }
        }
    }

    /// Every object of `kind` that is known.
    fn keys(&self, writer: &Writer, kind: Kind) -> Vec<Key> {
        let mut keys = Vec::new();
        match kind {
            Kind::Namespace => self.namespaces.for_each(|name| {
                keys.push(Key {
                    namespace: Box::default(),
                    name: name.clone(),
                });
            }),
            Kind::Service => self.services.for_each(|entry| {
                if entry.service.is_some() {
                    keys.push(Key::clone(&entry.key));
                }
            }),
            Kind::EndpointSlice => keys.extend(writer.slices.keys().cloned()),
            Kind::Pod => keys.extend(writer.pods.keys().cloned()),
        }
        keys
    }
}

impl Index {
    /// Calls `each` for every object of `kind` as sources gave it, in no order: what DNS does not
    /// need is not there.
    pub fn export(&self, kind: Kind, each: &mut dyn FnMut(Key, Object)) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            Kind::Namespace => self.namespaces.for_each(|name| {
                let namespace = Box::default();
                let name = name.clone();
                each(Key { namespace, name }, Object::Namespace);
            }),
            Kind::Service => self.services.for_each(|entry| {
                if let Some(service) = &entry.service {
                    each(
                        Key::clone(&entry.key),
                        Object::Service(Service::clone(service)),
                    );
                }
            }),
            Kind::EndpointSlice => self.services.for_each(|entry| {
                for (name, slice) in &entry.slices {
                    let namespace = entry.key.namespace.clone();
                    let name = name.clone();
                    let slice = Object::EndpointSlice(EndpointSlice::clone(slice));
                    each(Key { namespace, name }, slice);
                }
            }),
            Kind::Pod => {
                for (key, &ip) in &writer.pods {
                    let pod = Pod {
                        ip: Some(ip),
                        deleted: false,
                        host_network: self.clients.is_on_host(key, ip),
                    };
                    each(key.clone(), Object::Pod(pod));
                }
            }
        }
    }
}

impl Sink for Index {
    fn list_start(&self, kind: Kind) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.lists[kind as usize] = Some(HashSet::new());
    }

    fn set(&self, key: Key, object: Object) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = &mut writer.lists[object.kind() as usize] {
            seen.insert(key.clone());
        }
        match object {
            Object::Namespace => self.set_namespace(&key.name, true),
            Object::Service(service) => self.set_service(&key, Some(service)),
            Object::EndpointSlice(slice) => self.set_slice(&mut writer, &key, Some(slice)),
            // Until it is really gone, a pod keeps its name (KM-5).
            Object::Pod(pod) if pod.deleted => {}
            Object::Pod(pod) => {
                let before = writer.pods.get(&key).copied();
                self.clients.set(&key, before, pod.ip, pod.host_network);
                self.set_pod(&mut writer, &key, pod.ip);
            }
        }
    }

    fn delete(&self, kind: Kind, key: &Key) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove(&mut writer, kind, key);
    }

    fn list_end(&self, kind: Kind) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = writer.lists[kind as usize].take() {
            for key in self.keys(&writer, kind) {
                if !seen.contains(&key) {
                    self.remove(&mut writer, kind, &key);
                }
            }
        }
        self.synced[kind as usize].store(true, Relaxed);
    }
}
