//! The pods that ask, for metadata: which pod an address belongs to, and its labels.
//!
//! An index needs less of a pod, and there are many of them: this is filled only where `metadata` and
//! `pods verified` ask for it.

use super::index::Index;
use super::object::{Key, Kind, Object, Pod, Sink};
use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// Pods by address. Readers take a lock, since only who reads a label comes here.
#[derive(Debug, Default)]
pub struct Clients(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    pods: HashMap<Arc<Key>, Client>,
    by_ip: HashMap<IpAddr, BTreeSet<Arc<Key>>>,
    /// Counts lists.
    generation: u64,
}

#[derive(Debug)]
struct Client {
    ip: IpAddr,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// The list in which, or after which, it was last set.
    generation: u64,
}

impl Clients {
    /// Writes the value of `client-namespace`, `client-pod-name` or `client-label/KEY` of the pod
    /// that has this address; of several (of the host's network) the first by name. Says whether
    /// there is one.
    pub fn write(&self, ip: IpAddr, label: &str, out: &mut dyn Write) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = known.by_ip.get(&ip).and_then(BTreeSet::first) else {
            return false;
        };
        let value = match label {
            "client-namespace" => Some(key.namespace.as_str()),
            "client-pod-name" => Some(key.name.as_str()),
            label => label.strip_prefix("client-label/").and_then(|name| {
                let labels = &known.pods.get(key)?.labels;
                let found = labels.iter().find(|(of, _)| **of == *name);
                found.map(|(_, value)| &**value)
            }),
        };
        value.is_some_and(|value| out.write_str(value).is_ok())
    }

    fn set(&self, key: &Key, pod: Pod) {
        // Until it is really gone, a pod keeps what it had (KM-5).
        if pod.deleted {
            self.0
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .still_there(key);
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
        if let Some(ip) = pod.ip {
            let key = Arc::new(key.clone());
            let client = Client {
                ip,
                labels: pod.labels.into(),
                generation: known.generation,
            };
            known.by_ip.entry(ip).or_default().insert(Arc::clone(&key));
            known.pods.insert(key, client);
        }
    }

    fn delete(&self, key: &Key) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
    }

    fn list_start(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.generation += 1;
    }

    fn list_end(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let now = known.generation;
        let pods = known.pods.iter();
        let gone = pods.filter(|(_, client)| client.generation != now);
        let gone: Vec<_> = gone.map(|(key, _)| Arc::clone(key)).collect();
        for key in gone {
            known.remove(&key);
        }
    }
}

impl Known {
    fn still_there(&mut self, key: &Key) {
        let generation = self.generation;
        if let Some(client) = self.pods.get_mut(key) {
            client.generation = generation;
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(client) = self.pods.remove(key) else {
            return;
        };
        if let Some(keys) = self.by_ip.get_mut(&client.ip) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_ip.remove(&client.ip);
            }
        }
    }
}

/// An index whose pods are told to [`Clients`] as well.
pub struct WithClients {
    /// The index.
    pub index: Arc<Index>,
    /// The clients.
    pub clients: Arc<Clients>,
}

impl fmt::Debug for WithClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithClients").finish_non_exhaustive()
    }
}

impl Sink for WithClients {
    fn list_start(&self, kind: Kind) {
        if kind == Kind::Pod {
            self.clients.list_start();
        }
        self.index.list_start(kind);
    }

    fn set(&self, key: Key, object: Object) {
        match object {
            Object::Pod(pod) => {
                let less = Pod {
                    labels: Vec::new(),
                    ..pod
                };
                self.clients.set(&key, pod);
                self.index.set(key, Object::Pod(less));
            }
            object => self.index.set(key, object),
        }
    }

    fn keep(&self, kind: Kind, key: &Key) {
        self.index.keep(kind, key);
    }

    fn delete(&self, kind: Kind, key: &Key) {
        if kind == Kind::Pod {
            self.clients.delete(key);
        }
        self.index.delete(kind, key);
    }

    fn list_end(&self, kind: Kind) {
        if kind == Kind::Pod {
            self.clients.list_end();
        }
        self.index.list_end(kind);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::index::Naming;
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            namespace: "default".into(),
            name: name.into(),
        }
    }

    fn pod(ip: &str, app: &str) -> Object {
        Object::Pod(Pod {
            ip: ip.parse().ok(),
            labels: vec![("app".into(), app.into())],
            ..Pod::default()
        })
    }

    #[test]
    fn clients_follow_their_pods() {
        let sink = WithClients {
            index: Arc::new(Index::new(&[Kind::Pod], Naming::default())),
            clients: Arc::default(),
        };
        let of = |ip: &str, label: &str| {
            let mut text = String::new();
            let known = sink.clients.write(ip.parse().unwrap(), label, &mut text);
            known.then_some(text)
        };
        let name = |ip| of(ip, "client-pod-name").unwrap_or_default();
        sink.list_start(Kind::Pod);
        sink.set(key("b"), pod("10.0.0.1", "x"));
        sink.set(key("a"), pod("10.0.0.1", "y"));
        sink.set(key("c"), pod("10.0.0.2", ""));
        sink.set(key("d"), pod("", "none"));
        sink.list_end(Kind::Pod);
        assert_eq!(name("10.0.0.1"), "a");
        assert_eq!(
            of("10.0.0.1", "client-namespace").as_deref(),
            Some("default")
        );
        assert_eq!(of("10.0.0.1", "client-label/app").as_deref(), Some("y"));
        assert_eq!(of("10.0.0.2", "client-label/app").as_deref(), Some(""));
        for (ip, label) in [
            ("10.0.0.1", "client-label/tier"),
            ("10.0.0.1", "client-other"),
            ("10.0.0.3", "client-pod-name"),
        ] {
            assert_eq!(of(ip, label), None, "{ip} {label}");
        }
        sink.delete(Kind::Pod, &key("a"));
        assert_eq!(name("10.0.0.1"), "b");
        sink.set(key("b"), pod("10.0.0.3", "z"));
        assert_eq!(
            (name("10.0.0.1"), name("10.0.0.3")),
            (String::new(), "b".into())
        );
        // A pod on its way out stays, in a list too; one that the list does not have is gone.
        let going = Pod {
            deleted: true,
            ..Pod::default()
        };
        sink.list_start(Kind::Pod);
        assert_eq!(name("10.0.0.2"), "c");
        sink.set(key("b"), Object::Pod(going));
        sink.list_end(Kind::Pod);
        assert_eq!(
            (name("10.0.0.2"), name("10.0.0.3")),
            (String::new(), "b".into())
        );
        assert_eq!(sink.index.count(Kind::Pod), 1);
        assert!(sink.index.is_synced());
    }
}
