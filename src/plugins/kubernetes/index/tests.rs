//! The index against a model that is too simple to be wrong.

#![allow(clippy::unwrap_used)]

use super::super::object::{
    Endpoint as Address, EndpointSlice, Key, Kind, Object, Pod, Port, Service, Sink,
};
use super::{HostName, Index, Naming, Programming};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

const KINDS: [Kind; 4] = [
    Kind::Namespace,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];
const NAMESPACES: [&str; 2] = ["red", "green"];
const NAMES: [&str; 3] = ["", "a", "b"];

#[derive(Clone, Debug)]
enum Step {
    Start(Kind),
    Set(Key, Object),
    Keep(Kind, Key),
    Delete(Kind, Key),
    End(Kind),
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(&KINDS[..])
}

fn key(kind: Kind) -> impl Strategy<Value = Key> {
    (0..2usize, 1..3usize).prop_map(move |(namespace, name)| {
        let (namespace, name) = (NAMESPACES[namespace], NAMES[name]);
        let (namespace, name) = match kind {
            Kind::Namespace => ("", namespace),
            _ => (namespace, name),
        };
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    })
}

fn object(kind: Kind) -> BoxedStrategy<Object> {
    let ports = |count: usize| -> Vec<Port> {
        let port = |at| Port {
            name: format!("p{at}").into(),
            protocol: "tcp".into(),
            port: at as u16,
        };
        (0..count).map(port).collect()
    };
    let ips = prop::collection::vec(1..5u8, 0..3);
    match kind {
        Kind::Namespace => Just(Object::Namespace).boxed(),
        Kind::Service => (ips, 0..3usize)
            .prop_map(move |(ips, count)| {
                Object::Service(Service {
                    headless: ips.is_empty(),
                    cluster_ips: ips.into_iter().map(address).collect(),
                    ports: ports(count),
                    ..Service::default()
                })
            })
            .boxed(),
        Kind::EndpointSlice => {
            let endpoint = (1..5u8, prop::option::of(0..2usize)).prop_map(|(ip, host)| Address {
                ip: address(ip),
                hostname: host.map(|host| ["h", "g"][host].into()),
                target: None,
                zone: None,
            });
            let endpoints = prop::collection::vec(endpoint, 0..4);
            (0..3usize, endpoints, 0..2usize)
                .prop_map(move |(service, endpoints, count)| {
                    Object::EndpointSlice(EndpointSlice {
                        cluster: None,
                        service: NAMES[service].into(),
                        endpoints,
                        ports: ports(count),
                        triggered: None,
                    })
                })
                .boxed()
        }
        Kind::Pod => (prop::option::of(1..5u8), prop::bool::weighted(0.2))
            .prop_map(|(ip, deleted)| {
                let ip = ip.map(address);
                Object::Pod(Pod {
                    ip,
                    deleted,
                    ..Pod::default()
                })
            })
            .boxed(),
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => kind().prop_map(Step::Start),
        2 => kind().prop_map(Step::End),
        8 => kind().prop_flat_map(|kind| {
            (key(kind), object(kind)).prop_map(|(key, object)| Step::Set(key, object))
        }),
        3 => kind().prop_flat_map(|kind| key(kind).prop_map(move |key| Step::Delete(kind, key))),
        1 => kind().prop_flat_map(|kind| key(kind).prop_map(move |key| Step::Keep(kind, key))),
    ]
}

/// What sources said, as they said it.
#[derive(Debug, Default)]
struct Model {
    objects: BTreeMap<(Kind, Key), Object>,
    lists: BTreeMap<Kind, BTreeSet<Key>>,
    synced: BTreeSet<Kind>,
}

impl Model {
    fn step(&mut self, step: Step) {
        match step {
            Step::Start(kind) => drop(self.lists.insert(kind, BTreeSet::new())),
            Step::Set(key, object) => {
                let kind = object.kind();
                if let Some(list) = self.lists.get_mut(&kind) {
                    list.insert(key.clone());
                }
                match object {
                    Object::Pod(Pod { deleted: true, .. }) => {}
                    Object::Pod(Pod { ip: None, .. }) => drop(self.objects.remove(&(kind, key))),
                    object => drop(self.objects.insert((kind, key), object)),
                }
            }
            Step::Keep(kind, key) => {
                if let Some(list) = self.lists.get_mut(&kind) {
                    list.insert(key);
                }
            }
            Step::Delete(kind, key) => {
                self.objects.remove(&(kind, key));
            }
            Step::End(kind) => {
                if let Some(list) = self.lists.remove(&kind) {
                    let kept = |of: Kind, key: &Key| of != kind || list.contains(key);
                    self.objects.retain(|(of, key), _| kept(*of, key));
                }
                self.synced.insert(kind);
            }
        }
    }

    fn service(&self, key: &Key) -> Option<&Service> {
        match self.objects.get(&(Kind::Service, key.clone()))? {
            Object::Service(service) => Some(service),
            _ => unreachable!(),
        }
    }

    /// The slices of a service, by name.
    fn slices(&self, key: &Key) -> Vec<(&str, &EndpointSlice)> {
        let mut slices = Vec::new();
        for ((_, at), object) in &self.objects {
            if let Object::EndpointSlice(slice) = object
                && (&at.namespace, &slice.service) == (&key.namespace, &key.name)
            {
                slices.push((&*at.name, slice));
            }
        }
        slices
    }

    /// (address, slice, host) of every endpoint of a service, sorted.
    fn endpoints(&self, key: &Key) -> Vec<(IpAddr, &str, String)> {
        let mut endpoints = Vec::new();
        for (name, slice) in self.slices(key) {
            for endpoint in &slice.endpoints {
                let host = endpoint.hostname.as_deref().map(str::to_owned);
                let host = host.unwrap_or_else(|| HostName::of_address(endpoint.ip).to_string());
                endpoints.push((endpoint.ip, name, host));
            }
        }
        endpoints.sort();
        endpoints
    }
}

fn services() -> impl Iterator<Item = Key> {
    NAMESPACES.into_iter().flat_map(|namespace| {
        NAMES.map(|name| Key {
            namespace: namespace.into(),
            name: name.into(),
        })
    })
}

/// An object with its endpoints in the index's order.
fn sorted(mut object: Object) -> Object {
    if let Object::EndpointSlice(slice) = &mut object {
        slice
            .endpoints
            .sort_by(|a, b| (a.ip, &a.hostname).cmp(&(b.ip, &b.hostname)));
    }
    object
}

/// KM-8: everything is found by everything that leads to it.
fn check(index: &Index, model: &Model) {
    assert_eq!(
        index.is_synced(),
        KINDS.iter().all(|kind| model.synced.contains(kind))
    );
    for kind in KINDS {
        let count = model.objects.keys().filter(|(of, _)| *of == kind).count();
        assert_eq!(index.count(kind), count as i64, "{kind:?}");
    }
    for kind in KINDS {
        let mut found = Vec::new();
        index.export(kind, &mut |key, object| found.push((key, sorted(object))));
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let known = model.objects.iter().filter(|((of, _), _)| *of == kind);
        let known = known.map(|((_, key), object)| match object {
            Object::Pod(pod) => {
                let name = HostName::of_address(pod.ip.unwrap()).to_string().into();
                let namespace = key.namespace.clone();
                (Key { namespace, name }, object.clone())
            }
            object => (key.clone(), sorted(object.clone())),
        });
        let mut known: Vec<_> = known.collect();
        known.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, known);
    }
    for name in NAMESPACES {
        let key = Key {
            namespace: "".into(),
            name: name.into(),
        };
        let known = model.objects.contains_key(&(Kind::Namespace, key));
        assert_eq!(index.has_namespace(name.as_bytes()), known);
    }
    for key in services() {
        let (service, slices) = (model.service(&key), model.slices(&key));
        let known = service.is_some() || !slices.is_empty() && !key.name.is_empty();
        let found = index.service(key.namespace.as_bytes(), key.name.as_bytes(), |entry| {
            let endpoints = entry.endpoints.iter();
            let found: Vec<_> = endpoints
                .map(|e| (e.ip, &*entry.slice(e).unwrap().name, e.host().to_string()))
                .collect();
            assert!(found.is_sorted_by_key(|found| found.0));
            let mut sorted = found.clone();
            sorted.sort();
            assert_eq!(sorted, model.endpoints(&key), "{key:?}");
            for host in ["h", "g", "10-0-0-1", "nosuch"] {
                let hosts = entry.hosts(host.as_bytes());
                let count = found.iter().filter(|(.., of)| of == host).count();
                assert_eq!(hosts.len(), count, "{host}");
                let mut hosts = hosts.map(|at| entry.in_host_order(at));
                assert!(hosts.all(|endpoint| *endpoint.host() == *host));
            }
        });
        assert_eq!(found.is_some(), known, "{key:?}");
    }
    for ip in (1..5).map(address) {
        let mut found = Vec::new();
        index.by_address(ip, |entry| found.push(Key::clone(&entry.key)));
        let mut wanted: Vec<_> = services().filter(|key| !key.name.is_empty()).collect();
        wanted.retain(|key| {
            let of_service = model
                .service(key)
                .is_some_and(|s| s.cluster_ips.contains(&ip));
            of_service || model.endpoints(key).iter().any(|endpoint| endpoint.0 == ip)
        });
        wanted.sort();
        assert_eq!(found, wanted, "{ip}");
        for namespace in NAMESPACES {
            let has = model.objects.iter().any(|((_, key), object)| {
                matches!(object, Object::Pod(pod) if pod.ip == Some(ip))
                    && *key.namespace == *namespace
            });
            assert_eq!(index.has_pod(namespace.as_bytes(), ip), has);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_sources_say_the_index_is_as_the_model(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let index = Index::new(&KINDS, Naming::default());
        let mut model = Model::default();
        for step in steps {
            match step.clone() {
                Step::Start(kind) => index.list_start(kind),
                Step::Set(key, object) => index.set(key, object),
                Step::Keep(kind, key) => index.keep(kind, &key),
                Step::Delete(kind, key) => index.delete(kind, &key),
                Step::End(kind) => index.list_end(kind),
            }
            model.step(step);
            check(&index, &model);
        }
    }
}

#[test]
fn what_does_not_change_an_answer_leaves_the_serial() {
    let index = Index::new(&KINDS, Naming::default());
    let key = |name: &str| Key {
        namespace: "red".into(),
        name: name.into(),
    };
    index.set(key("node"), Object::Namespace);
    assert_eq!(index.serial(), 0);
    let service = |ip: u8, ports: u16| {
        let port = |port| Port {
            port,
            ..Port::default()
        };
        Object::Service(Service {
            cluster_ips: vec![address(ip)],
            ports: (1..=ports).map(port).collect(),
            ..Service::default()
        })
    };
    index.set(key("a"), service(1, 1));
    let first = index.serial();
    assert!(first > 1_700_000_000);
    // Addresses alone do not count (KO-5). The clock may go on, so it is set back.
    index.serial.store(1, std::sync::atomic::Ordering::Relaxed);
    index.set(key("a"), service(2, 1));
    assert_eq!(index.serial(), 1);
    index.set(key("a"), service(2, 2));
    assert!(index.serial() >= first);
    let slice = |ip: u8, triggered: Option<u64>| {
        Object::EndpointSlice(EndpointSlice {
            cluster: None,
            service: "a".into(),
            endpoints: vec![Address {
                ip: address(ip),
                hostname: None,
                target: None,
                zone: None,
            }],
            ports: Vec::new(),
            triggered,
        })
    };
    index.set(key("s"), slice(1, None));
    index.serial.store(1, std::sync::atomic::Ordering::Relaxed);
    index.set(key("s"), slice(1, Some(5)));
    assert_eq!(index.serial(), 1);
    index.set(key("s"), slice(2, Some(5)));
    assert!(index.serial() >= first);
}

/// KO-5, change by change.
#[test]
fn what_changes_the_serial() {
    let index = Index::new(&KINDS, Naming::default());
    let key = |name: &str| Key {
        namespace: "red".into(),
        name: name.into(),
    };
    let service = |change: &dyn Fn(&mut Service)| {
        let mut service = Service {
            cluster_ips: vec![address(1)],
            ..Service::default()
        };
        change(&mut service);
        Object::Service(service)
    };
    let slice = |ip: u8, hostname: Option<&str>, port: u16| {
        Object::EndpointSlice(EndpointSlice {
            service: "a".into(),
            endpoints: vec![Address {
                ip: address(ip),
                hostname: hostname.map(Into::into),
                target: None,
                zone: None,
            }],
            ports: vec![Port {
                port,
                ..Port::default()
            }],
            ..EndpointSlice::default()
        })
    };
    let pod = |ip: u8| {
        Object::Pod(Pod {
            ip: Some(address(ip)),
            ..Pod::default()
        })
    };
    let mut at = 0;
    let mut step = |object: Result<Object, Kind>, name: &str, counts: bool| {
        at += 1;
        index.serial.store(1, std::sync::atomic::Ordering::Relaxed);
        match object {
            Ok(object) => index.set(key(name), object),
            Err(kind) => index.delete(kind, &key(name)),
        }
        assert_eq!(index.serial() != 1, counts, "step {at}: {name}");
    };
    step(Ok(Object::Namespace), "red", false);
    step(Ok(service(&|_| ())), "a", true);
    step(Ok(service(&|_| ())), "a", false);
    step(
        Ok(service(&|s| s.cluster_ips = vec![address(2)])),
        "a",
        false,
    );
    step(Ok(service(&|s| s.ports = vec![Port::default()])), "a", true);
    let outside = |s: &mut Service| s.external_name = Some("example.com".into());
    step(Ok(service(&outside)), "a", true);
    step(Ok(slice(1, None, 80)), "s", true);
    step(Ok(slice(1, None, 80)), "s", false);
    step(Ok(slice(2, None, 80)), "s", true);
    step(Ok(slice(2, Some("h"), 80)), "s", true);
    step(Ok(slice(2, Some("h"), 81)), "s", true);
    step(Ok(pod(3)), "p", true);
    step(Ok(pod(3)), "p", false);
    step(Ok(pod(4)), "p", true);
    step(Err(Kind::Pod), "p", true);
    step(Err(Kind::EndpointSlice), "s", true);
    step(Err(Kind::Service), "a", true);
    step(Err(Kind::Service), "a", false);
}

/// spec 4.13.
#[test]
fn news_of_endpoints_are_timed_and_lists_are_not() {
    let metrics = crate::metrics::Registry::new(1);
    let index = Index::new(&KINDS, Naming::default());
    index.observe(Programming::new(&metrics));
    let key = |name: &str| Key {
        namespace: "red".into(),
        name: name.into(),
    };
    let service = |headless| {
        Object::Service(Service {
            headless,
            ..Service::default()
        })
    };
    let slice = |service: &str, triggered| {
        Object::EndpointSlice(EndpointSlice {
            service: service.into(),
            triggered,
            ..EndpointSlice::default()
        })
    };
    let counts = || {
        let text = crate::metrics::exposition(&metrics, crate::metrics::Format::Classic);
        ["cluster_ip", "headless_with_selector"].map(|kind| {
            let name = "coredns_kubernetes_dns_programming_duration_seconds_count";
            let line = format!("{name}{{service_kind=\"{kind}\"}} ");
            let count = text.lines().find_map(|text| text.strip_prefix(&line));
            count.map_or(0, |count| count.parse::<u32>().unwrap())
        })
    };
    index.set(key("a"), service(false));
    index.set(key("b"), service(true));
    index.list_start(Kind::EndpointSlice);
    index.set(key("a-1"), slice("a", Some(1)));
    index.list_end(Kind::EndpointSlice);
    // Of a service that is not known, without a time, without a later one.
    index.set(key("c-1"), slice("c", Some(1)));
    index.set(key("b-1"), slice("b", None));
    index.set(key("a-1"), slice("a", Some(1)));
    assert_eq!(counts(), [0, 0]);
    index.set(key("a-1"), slice("a", Some(2)));
    index.set(key("b-1"), slice("b", Some(u64::MAX)));
    index.set(key("b-2"), slice("b", Some(3)));
    assert_eq!(counts(), [1, 2]);
    index.delete(Kind::EndpointSlice, &key("b-2"));
    assert_eq!(counts(), [1, 2]);
}

#[test]
fn memory_comes_and_goes_with_the_objects() {
    let index = Index::new(&KINDS, Naming::default());
    let bytes = |index: &Index| KINDS.map(|kind| index.bytes(kind));
    let empty = bytes(&index);
    let key = |name: &str| Key {
        namespace: "shop".into(),
        name: name.into(),
    };
    let slice = |count: u8| EndpointSlice {
        service: "web".into(),
        endpoints: (0..count)
            .map(|number| Address {
                ip: [10, 0, 0, number].into(),
                hostname: None,
                target: None,
                zone: None,
            })
            .collect(),
        ..EndpointSlice::default()
    };
    let namespace = Key {
        namespace: "".into(),
        name: "shop".into(),
    };
    index.set(namespace, Object::Namespace);
    index.set(key("web"), Object::Service(Service::default()));
    index.set(key("web-1"), Object::EndpointSlice(slice(10)));
    let pod = Pod {
        ip: Some([10, 0, 0, 1].into()),
        ..Pod::default()
    };
    index.set(key("web-a"), Object::Pod(pod));
    let some = bytes(&index);
    assert!(
        some.iter().zip(empty).all(|(some, empty)| *some > empty),
        "{some:?}"
    );
    index.set(key("web-1"), Object::EndpointSlice(slice(200)));
    let more = bytes(&index);
    let each = (more[2] - some[2]) / 190;
    assert!((20..500).contains(&each), "{each} octets an endpoint");
    index.delete(Kind::Service, &key("web"));
    index.delete(Kind::EndpointSlice, &key("web-1"));
    index.delete(Kind::Pod, &key("web-a"));
    // Tables of hashes keep their room.
    let left = bytes(&index).into_iter().zip(empty);
    assert!(left.skip(1).all(|(left, empty)| left < empty + 1024));
}
