//! The cluster as the test changes it, and what may be answered meanwhile.

use super::objects::{namespace, pod, service, slice};
use crate::support::kube::Api;
use portolan::dns::RecordType;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// A name and a type.
pub type Question = (String, RecordType);

/// What was right in turn: sorted rdata; none is NXDOMAIN.
#[derive(Debug)]
pub struct History {
    states: Vec<Vec<String>>,
    /// The oldest state that may still be answered.
    floor: usize,
}

/// The right answers.
#[derive(Debug, Default)]
pub struct Ledger {
    histories: Mutex<BTreeMap<Question, History>>,
}

impl Ledger {
    fn histories(&self) -> MutexGuard<'_, BTreeMap<Question, History>> {
        self.histories.lock().unwrap()
    }

    /// From now on this may be answered.
    pub fn push(&self, question: Question, mut state: Vec<String>) {
        state.sort();
        let mut histories = self.histories();
        let history = histories.entry(question).or_insert(History {
            // Before it was there it was not.
            states: vec![Vec::new()],
            floor: 0,
        });
        history.states.push(state);
    }

    /// From now on only the newest state may be answered.
    pub fn settle(&self) {
        for history in self.histories().values_mut() {
            history.floor = history.states.len() - 1;
        }
    }

    /// Every question, with the oldest state that may be answered if it is asked now.
    pub fn questions(&self) -> Vec<(Question, usize)> {
        let histories = self.histories();
        let all = histories.iter();
        all.map(|(question, history)| (question.clone(), history.floor))
            .collect()
    }

    /// The floor of one question.
    pub fn floor(&self, question: &Question) -> usize {
        self.histories()[question].floor
    }

    /// Whether an answer is right to a question that was asked when `floor` held. What was answered
    /// once is not taken back later.
    pub fn judge(
        &self,
        question: &Question,
        floor: usize,
        answer: &[String],
    ) -> Result<(), String> {
        let mut histories = self.histories();
        let history = histories.get_mut(question).unwrap();
        let at = history.states[floor..]
            .iter()
            .position(|state| state == answer);
        let Some(at) = at else {
            return Err(format!(
                "{question:?} gave {answer:?}, which is not one of {:?}",
                &history.states[floor..]
            ));
        };
        history.floor = history.floor.max(floor + at);
        Ok(())
    }
}

/// A change of the cluster.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// A service gets a new address, and exists.
    Service(u8),
    ServiceGone(u8),
    /// A headless service gets other endpoints.
    Endpoints(u8),
    Pod(u8),
    /// The pod is over: it leaves the selection.
    PodOver(u8),
    PodGone(u8),
    Namespace(u8),
    NamespaceGone(u8),
}

impl Change {
    /// One of all changes.
    pub const fn numbered(number: u16) -> Self {
        let which = (number >> 3) as u8 % 6;
        match number % 8 {
            0 | 1 => Self::Service(which),
            2 => Self::ServiceGone(which),
            3 => Self::Endpoints(which),
            4 => Self::Pod(which),
            5 => Self::PodGone(which),
            6 if which < 3 => Self::PodOver(which),
            6 => Self::Namespace(which),
            _ => Self::NamespaceGone(which),
        }
    }
}

/// The cluster.
pub struct World {
    pub api: Arc<Api>,
    pub ledger: Arc<Ledger>,
    /// Counts addresses, so that no two states have the same.
    next: u32,
    random: u32,
}

impl World {
    /// A cluster with what never changes: services, headless ones, pods.
    pub fn new(api: Arc<Api>) -> Self {
        let mut world = Self {
            api,
            ledger: Arc::default(),
            next: 0,
            random: 1,
        };
        world.api.apply([namespace("default"), namespace("spare")]);
        for n in 1..=3 {
            let ip = format!("10.10.0.{n}");
            world.api.apply([service(&format!("stable{n}"), &ip)]);
            world.push(&name(&format!("stable{n}")), RecordType::A, vec![ip]);
            let pointer = format!("{}.", name(&format!("stable{n}")));
            let reverse = format!("{n}.0.10.10.in-addr.arpa");
            world.push(&reverse, RecordType::PTR, vec![pointer]);
        }
        let addresses = ["10.11.0.1".to_owned(), "10.11.0.2".to_owned()];
        world.api.apply([
            service("still", "None"),
            slice("still-1", "still", &addresses),
            pod("pod", "10.12.0.1", "Running"),
            pod("job", "10.12.0.2", "Succeeded"),
        ]);
        world.push(&name("still"), RecordType::A, addresses.into());
        let of_pod = "10-12-0-1.default.pod.cluster.local";
        world.push(of_pod, RecordType::A, vec!["10.12.0.1".into()]);
        world.push(&name("absent"), RecordType::A, vec![]);
        world.push("10-12-0-2.default.pod.cluster.local", RecordType::A, vec![]);
        for which in 0..6 {
            world.change(Change::Endpoints(which));
            world
                .api
                .apply([service(&format!("headless{which}"), "None")]);
            if which % 2 == 0 {
                world.change(Change::Service(which));
            } else {
                world.push(&name(&format!("changing{which}")), RecordType::A, vec![]);
            }
        }
        world
    }

    fn push(&self, name: &str, qtype: RecordType, state: Vec<String>) {
        self.ledger.push((name.to_owned(), qtype), state);
    }

    fn address(&mut self, net: u8) -> String {
        self.next += 1;
        format!("10.{net}.{}.{}", self.next >> 8, self.next & 0xff)
    }

    fn has(&self, resource: &str, name: &str) -> bool {
        let objects = self.api.objects(resource);
        objects
            .iter()
            .any(|object| object["metadata"]["name"] == name)
    }

    fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let there = self.has(resource, name);
        if there {
            self.api.delete(resource, namespace, name);
        }
        there
    }

    /// Makes a change. What may be answered is known before the server says so.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Service(which) => {
                let (service_name, ip) = (format!("changing{which}"), self.address(20));
                self.push(&name(&service_name), RecordType::A, vec![ip.clone()]);
                self.api.apply([service(&service_name, &ip)]);
            }
            Change::ServiceGone(which) => {
                let service_name = format!("changing{which}");
                if self.has("services", &service_name) {
                    self.push(&name(&service_name), RecordType::A, vec![]);
                    self.delete("services", "default", &service_name);
                }
            }
            Change::Endpoints(which) => {
                let addresses = [self.address(30), self.address(30)];
                let service_name = format!("headless{which}");
                self.push(&name(&service_name), RecordType::A, addresses.to_vec());
                let slice_name = format!("{service_name}-1");
                self.api
                    .apply([slice(&slice_name, &service_name, &addresses)]);
            }
            Change::Pod(which) => {
                let ip = self.address(40);
                self.api
                    .apply([pod(&format!("pod{which}"), &ip, "Running")]);
            }
            Change::PodOver(which) => {
                let ip = self.address(40);
                self.api
                    .apply([pod(&format!("pod{which}"), &ip, "Succeeded")]);
            }
            Change::PodGone(which) => {
                self.delete("pods", "default", &format!("pod{which}"));
            }
            Change::Namespace(which) => self.api.apply([namespace(&format!("space{which}"))]),
            Change::NamespaceGone(which) => {
                self.delete("namespaces", "", &format!("space{which}"));
            }
        }
    }

    /// Makes so many changes, the same in every run.
    pub fn changes(&mut self, count: usize) {
        for _ in 0..count {
            // A linear congruential generator: its upper half is random enough.
            self.random = self
                .random
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223);
            self.change(Change::numbered((self.random >> 16) as u16));
        }
    }
}

/// The name of a service.
fn name(service: &str) -> String {
    format!("{service}.default.svc.cluster.local")
}
