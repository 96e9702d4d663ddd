//! What the API server keeps.

use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
pub(super) struct Store {
    pub(super) version: u64,
    /// Events up to this version are forgotten.
    pub(super) compacted: u64,
    pub(super) objects: BTreeMap<(String, String, String), Value>,
    pub(super) events: Vec<Change>,
    /// The rest of a list, by its token.
    pub(super) tokens: HashMap<String, (u64, Vec<Value>)>,
}

#[derive(Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) resource: String,
    pub(super) payload: Payload,
}

#[derive(Clone)]
pub(super) enum Payload {
    /// An object became another.
    Object {
        before: Option<Value>,
        after: Option<Value>,
    },
    /// Octets that are sent as they are.
    Raw(String),
    /// An event that is sent as it is.
    Event(&'static str, Value),
    Bookmark,
}

/// The resource of a kind.
pub fn resource(kind: &str) -> &'static str {
    match kind {
        "Namespace" => "namespaces",
        "Service" => "services",
        "Pod" => "pods",
        "EndpointSlice" => "endpointslices",
        "ServiceImport" => "serviceimports",
        other => panic!("no resource {other}"),
    }
}

impl Store {
    pub(super) fn apply(&mut self, mut object: Value) {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let resource = resource(text("/kind").unwrap());
        let name = text("/metadata/name").unwrap().to_owned();
        let namespace = text("/metadata/namespace").unwrap_or("").to_owned();
        let key = (resource.to_owned(), namespace, name);
        let version = self.version + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        object["metadata"]["uid"] = match self.objects.get(&key) {
            Some(known) => known["metadata"]["uid"].clone(),
            None => format!("00000000-0000-4000-8000-{version:012}").into(),
        };
        let before = self.objects.insert(key, object.clone());
        let after = Some(object);
        self.push(resource, Payload::Object { before, after });
    }

    pub(super) fn delete(&mut self, resource: &str, namespace: &str, name: &str) {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let mut last = self.objects.remove(&key).expect("an object to delete");
        last["metadata"]["resourceVersion"] = (self.version + 1).to_string().into();
        let (before, after) = (Some(last), None);
        self.push(resource, Payload::Object { before, after });
    }

    pub(super) fn push(&mut self, resource: &str, payload: Payload) -> u64 {
        self.version += 1;
        self.events.push(Change {
            version: self.version,
            resource: resource.to_owned(),
            payload,
        });
        self.version
    }

    pub(super) fn compact_to(&mut self, version: u64) {
        self.compacted = version;
        self.events.retain(|event| event.version > version);
        self.tokens.clear();
    }
}
