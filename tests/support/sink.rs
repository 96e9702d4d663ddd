//! A sink that keeps what it is told, and checks that it is told in order.

use portolan::plugins::kubernetes::object::{Key, Kind, Object, Sink};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// The sink.
pub struct Recorder {
    state: Mutex<State>,
    calls: watch::Sender<u64>,
}

/// What a [`Recorder`] was told.
#[derive(Debug, Default)]
pub struct State {
    pub objects: BTreeMap<(Kind, Key), Object>,
    /// Kinds that were listed.
    pub synced: BTreeSet<Kind>,
    /// How many lists were begun.
    pub lists: usize,
    /// Every deletion, by an event or at the end of a list.
    pub deleted: Vec<(Kind, Key)>,
    listing: BTreeMap<Kind, BTreeSet<Key>>,
}

impl State {
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.objects.get(&(kind, key(namespace, name)))
    }

    pub fn names(&self, kind: Kind) -> Vec<&str> {
        let of_kind = self.objects.keys().filter(|(of, _)| *of == kind);
        of_kind.map(|(_, key)| &*key.name).collect()
    }
}

pub fn key(namespace: &str, name: &str) -> Key {
    Key {
        namespace: namespace.into(),
        name: name.into(),
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            calls: watch::Sender::new(0),
        }
    }
}

impl Recorder {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until the state is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&State) -> bool) {
        let mut calls = self.calls.subscribe();
        let reached = async {
            while !wanted(&self.state()) {
                calls.changed().await.unwrap();
            }
        };
        // Generous: it only bounds a test that fails.
        if tokio::time::timeout(Duration::from_secs(30), reached)
            .await
            .is_err()
        {
            panic!("never came: {what}\n{:#?}", self.state());
        }
    }

    /// Waits until these kinds are synced.
    pub async fn synced(&self, kinds: &[Kind]) {
        let all = |state: &State| kinds.iter().all(|kind| state.synced.contains(kind));
        self.until("sync", all).await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.calls.send_modify(|calls| *calls += 1);
    }
}

impl Sink for Recorder {
    fn list_start(&self, kind: Kind) {
        self.change(|state| {
            state.lists += 1;
            state.listing.insert(kind, BTreeSet::new());
        });
    }

    fn set(&self, key: Key, object: Object) {
        self.change(|state| {
            let kind = object.kind();
            if let Some(listed) = state.listing.get_mut(&kind) {
                listed.insert(key.clone());
            }
            state.objects.insert((kind, key), object);
        });
    }

    fn keep(&self, kind: Kind, key: &Key) {
        self.change(|state| {
            if let Some(listed) = state.listing.get_mut(&kind) {
                listed.insert(key.clone());
            }
        });
    }

    fn delete(&self, kind: Kind, key: &Key) {
        self.change(|state| {
            state.objects.remove(&(kind, key.clone()));
            state.deleted.push((kind, key.clone()));
        });
    }

    fn list_end(&self, kind: Kind) {
        self.change(|state| {
            let listed = state.listing.remove(&kind).expect("a list that began");
            let State {
                objects, deleted, ..
            } = state;
            objects.retain(|(of, key), _| {
                let stays = *of != kind || listed.contains(key);
                if !stays {
                    deleted.push((kind, key.clone()));
                }
                stays
            });
            state.synced.insert(kind);
        });
    }
}
