//! From the text of a manifest file to objects.

use super::super::Resource;
use super::super::decode::json;
use crate::plugins::kubernetes::object::{Key, Kind, Object, Port};
use serde_json::Value;

/// What manifests are read as: version and kind.
pub(super) const RESOURCES: [((&str, &str), Resource); 5] = [
    (("v1", "Namespace"), Resource::Namespace),
    (("v1", "Service"), Resource::Service),
    (("v1", "Pod"), Resource::Pod),
    (
        ("discovery.k8s.io/v1", "EndpointSlice"),
        Resource::EndpointSlice,
    ),
    (
        ("multicluster.x-k8s.io/v1alpha1", "ServiceImport"),
        Resource::ServiceImport,
    ),
];

/// Lists in lists are none of the API's.
const DEEPEST_LIST: u8 = 4;

/// An object of a manifest.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) resource: Resource,
    pub(super) key: Key,
    pub(super) object: Object,
    /// All of it, for what only manifests need: labels, selectors, containers.
    pub(super) value: Value,
}

/// What a file has: objects, and those that are broken, each with what is wrong.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) manifests: Vec<Manifest>,
    pub(super) broken: Vec<(Resource, String)>,
}

/// Reads YAML of any number of documents, or JSON (which is YAML).
///
/// # Errors
/// If it is no YAML.
pub(super) fn read(text: &str) -> Result<Read, String> {
    // The size of the file is the bound.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1_000_000,
            max_nodes: 20_000_000,
            max_events: 80_000_000,
        },
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| error.to_string())?;
    let mut read = Read::default();
    for document in documents {
        read.add(document, None, 0);
    }
    Ok(read)
}

impl Read {
    /// Adds the objects of a document. `of` is what a list is of, for items that do not say.
    fn add(&mut self, mut value: Value, of: Option<(&str, &str)>, depth: u8) {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let group = text("apiVersion").or(of.map(|of| of.0)).unwrap_or("");
        let name = text("kind").or(of.map(|of| of.1)).unwrap_or("");
        let known = RESOURCES.iter().find(|(of, _)| *of == (group, name));
        let Some(&(_, resource)) = known else {
            if let Some(of) = name.strip_suffix("List")
                && depth < DEEPEST_LIST
            {
                let (group, of) = (group.to_owned(), of.to_owned());
                let of = (!of.is_empty()).then_some((&*group, &*of));
                if let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) {
                    for item in items {
                        self.add(item, of, depth + 1);
                    }
                }
            }
            return;
        };
        match Manifest::new(resource, value) {
            Ok(manifest) => self.manifests.push(manifest),
            Err(error) => self.broken.push((resource, error)),
        }
    }
}

impl Manifest {
    fn new(resource: Resource, value: Value) -> Result<Self, String> {
        let (meta, mut object) = json::read(resource, &value).map_err(|error| error.to_string())?;
        let mut key = meta.key();
        if key.name.is_empty() {
            return Err("no metadata.name".into());
        }
        // What follows is what the API server would have filled in.
        match resource {
            Resource::Namespace => key.namespace = "".into(),
            _ if key.namespace.is_empty() => key.namespace = "default".into(),
            _ => {}
        }
        fill_in(&mut object);
        Ok(Self {
            resource,
            key,
            object,
            value,
        })
    }

    /// An endpoint slice as one of an import.
    ///
    /// # Errors
    /// As when it was read.
    pub(super) fn as_imported(&self) -> Result<Object, String> {
        let read = json::read(Resource::ImportedSlice, &self.value);
        let (_, mut object) = read.map_err(|error| error.to_string())?;
        fill_in(&mut object);
        Ok(object)
    }

    /// A pod with its labels.
    pub(super) fn with_labels(&self) -> Object {
        let mut object = self.object.clone();
        if let (Object::Pod(pod), Some(Value::Object(labels))) =
            (&mut object, self.at("/metadata/labels"))
        {
            let labels = labels
                .iter()
                .filter_map(|(name, value)| Some((name.as_str().into(), value.as_str()?.into())));
            pod.labels = labels.collect();
        }
        object
    }

    pub(super) const fn kind(&self) -> Kind {
        self.resource.kind()
    }

    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.at("/metadata/labels")?.get(name)?.as_str()
    }

    /// What is at a JSON pointer.
    pub(super) fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }

    /// The text at a JSON pointer, empty if there is none.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.at(pointer).and_then(Value::as_str).unwrap_or("")
    }

    /// The elements of the array at a JSON pointer.
    pub(super) fn array(&self, pointer: &str) -> &[Value] {
        self.at(pointer)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// Whether a pod is not over.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(
            self.text("/status/phase"),
            "Succeeded" | "Failed" | "Unknown"
        )
    }
}

/// Says of ports what the API server would have said.
fn fill_in(object: &mut Object) {
    let ports: &mut [Port] = match object {
        Object::Service(service) => &mut service.ports,
        Object::EndpointSlice(slice) => &mut slice.ports,
        Object::Namespace | Object::Pod(_) => &mut [],
    };
    for port in ports.iter_mut().filter(|port| port.protocol.is_empty()) {
        port.protocol = "tcp".into();
    }
}
