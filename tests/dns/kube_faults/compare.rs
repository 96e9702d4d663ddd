//! The index beside the server, and the server beside the oracle.

use crate::support::kube::Api;
use crate::support::kube::oracle::{Identities, Oracle};
use portolan::plugins::kubernetes::index::{HostName, Index};
use portolan::plugins::kubernetes::object::{Endpoint, Key, Kind, Object, Pod};
use portolan::plugins::kubernetes::source::decode::{self, Format};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KINDS: [(Kind, &str); 4] = [
    (Kind::Namespace, "namespaces"),
    (Kind::Service, "services"),
    (Kind::EndpointSlice, "endpointslices"),
    (Kind::Pod, "pods"),
];

type Objects = BTreeMap<(Kind, Key), Object>;

/// What the watches of a server select.
fn selected(api: &Api, resource: &str) -> Vec<Value> {
    let mut objects = api.objects(resource);
    let over = [json!("Succeeded"), json!("Failed"), json!("Unknown")];
    objects.retain(|object| !over.contains(&object["status"]["phase"]));
    objects
}

/// What the index is to hold: what the server has, decoded by the rules of the decoder. An object
/// that cannot be read is not there, nor is a pod
/// without an address, a slice of no service.
fn wanted(api: &Api) -> Objects {
    let mut all = Objects::new();
    for (kind, resource) in KINDS {
        let list = json!({"metadata": {}, "items": selected(api, resource)}).to_string();
        decode::list(Format::Json, kind, list.as_bytes(), &mut |item| {
            let answers = match &item.object {
                Ok(Object::Pod(pod)) => pod.ip.is_some() && !pod.deleted,
                other => other.is_ok(),
            };
            if let (true, Ok(object)) = (answers, item.object) {
                all.insert((kind, known_as(item.key, &object)), normal(object));
            }
        })
        .unwrap();
    }
    all
}

fn held(index: &Index) -> Objects {
    let mut all = Objects::new();
    for (kind, _) in KINDS {
        index.export(kind, &mut |key, object| {
            let before = all.insert((kind, key), normal(object));
            assert!(before.is_none(), "exported twice: {before:?}");
        });
    }
    all
}

/// What an index keeps of an object, in its order: no target without `endpoint_pod_names`, no zone
/// without `zonal`.
fn normal(mut object: Object) -> Object {
    if let Object::EndpointSlice(slice) = &mut object {
        for endpoint in &mut slice.endpoints {
            endpoint.target = None;
            endpoint.zone = None;
        }
        let order = |endpoint: &Endpoint| (endpoint.ip, endpoint.hostname.clone());
        slice.endpoints.sort_by_key(order);
    }
    object
}

/// What stands for a pod in an index: its address.
fn known_as(key: Key, object: &Object) -> Key {
    match object {
        Object::Pod(Pod { ip: Some(ip), .. }) => Key {
            name: (&*HostName::of_address(*ip)).into(),
            ..key
        },
        _ => key,
    }
}

/// Where the index differs from the server.
pub fn index_and_server(index: &Index, api: &Api) -> Result<(), String> {
    differences("index", &held(index), "server", &wanted(api))
}

/// Where the oracle differs from the server: identity, UID and version of every object.
pub fn oracle_and_server(oracle: &Oracle, api: &Api) -> Result<(), String> {
    let mut server = Identities::new();
    for (_, resource) in KINDS {
        for object in selected(api, resource) {
            let meta = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
            let key = (resource.to_owned(), meta("namespace"), meta("name"));
            server.insert(key, (meta("uid"), meta("resourceVersion")));
        }
    }
    differences("oracle", &oracle.state(), "server", &server)
}

fn differences<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    left_name: &str,
    left: &BTreeMap<K, V>,
    right_name: &str,
    right: &BTreeMap<K, V>,
) -> Result<(), String> {
    let mut text = String::new();
    for (key, value) in left {
        match right.get(key) {
            Some(other) if other == value => {}
            Some(other) => {
                text += &format!("{key:?}:\n  {left_name} {value:?}\n  {right_name} {other:?}\n");
            }
            None => text += &format!("{key:?}: only {left_name} has it\n"),
        }
    }
    for key in right.keys().filter(|key| !left.contains_key(key)) {
        text += &format!("{key:?}: only {right_name} has it\n");
    }
    match text.is_empty() {
        true => Ok(()),
        false => Err(text),
    }
}
