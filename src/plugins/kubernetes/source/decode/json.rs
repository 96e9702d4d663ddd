//! Decoding of `application/json`, and of manifests that were read into JSON values.
//!
//! Strings borrow from the input where they have no escapes. Every field may be missing or null.

use super::rules::{EndpointParts, ServiceParts, pod, port, slice};
use super::{Error, Event, Item, Meta, Page, Resource, Status, item};
use crate::plugins::kubernetes::object::{Labels, Object, Port};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

pub(super) fn list(
    of: Resource,
    body: &[u8],
    each: &mut dyn FnMut(Item<'_>),
) -> Result<Page, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let page = deserializer.deserialize_map(List { of, each })?;
    deserializer.end()?;
    Ok(page)
}

pub(super) fn event(of: Resource, line: &[u8]) -> Result<Event<'_>, Error> {
    #[derive(Deserialize)]
    struct WatchEvent<'a> {
        r#type: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let event: WatchEvent<'_> = serde_json::from_slice(line)?;
    let object = event.object.get();
    match event.r#type {
        "ADDED" | "MODIFIED" => Ok(Event::Set(decode(of, object))),
        "DELETED" => {
            let meta = metadata(object)?;
            Ok(Event::Deleted(meta.key(), meta.version))
        }
        "BOOKMARK" => {
            let meta = metadata(object)?;
            Ok(Event::Bookmark {
                version: meta.version,
                initial_end: meta.initial_end,
            })
        }
        "ERROR" => Ok(Event::Error(status(object.as_bytes())?)),
        other => Err(Error::EventType(other.into())),
    }
}

pub(super) fn status(body: &[u8]) -> Result<Status, Error> {
    #[derive(Deserialize)]
    #[serde(bound(deserialize = "'de: 'a"))]
    struct Json<'a> {
        code: Option<u16>,
        reason: Option<Text<'a>>,
        message: Option<Text<'a>>,
    }
    let json: Json<'_> = serde_json::from_slice(body)?;
    Ok(Status {
        code: json.code.unwrap_or(0),
        reason: text(&json.reason).into(),
        message: text(&json.message).into(),
        ..Status::default()
    })
}

fn decode(of: Resource, json: &str) -> Item<'_> {
    match read(of, &mut serde_json::Deserializer::from_str(json)) {
        Ok((meta, mut object)) => {
            if let (Resource::LabelledPod, Object::Pod(pod)) = (of, &mut object) {
                // They are not broken: the object was read.
                pod.labels = labels(json).unwrap_or_default();
            }
            item(meta, Ok(object))
        }
        Err(error) => item(metadata(json).unwrap_or_default(), Err(error.into())),
    }
}

fn metadata(object: &str) -> Result<Meta<'_>, Error> {
    #[derive(Deserialize)]
    #[serde(bound(deserialize = "'de: 'a"))]
    struct Any<'a> {
        metadata: Option<Metadata<'a>>,
    }
    let any: Any<'_> = serde_json::from_str(object)?;
    Ok(any.metadata.map(Meta::from).unwrap_or_default())
}

/// `metadata.labels`.
fn labels(object: &str) -> Result<Labels, Error> {
    #[derive(Deserialize)]
    struct Labelled {
        metadata: OfMetadata,
    }
    #[derive(Deserialize)]
    struct OfMetadata {
        #[serde(default)]
        labels: std::collections::BTreeMap<Box<str>, Box<str>>,
    }
    let object: Labelled = serde_json::from_str(object)?;
    Ok(object.metadata.labels.into_iter().collect())
}

/// Reads an object from any deserializer (a pod without its labels).
pub(crate) fn read<'a, D: Deserializer<'a>>(
    of: Resource,
    from: D,
) -> Result<(Meta<'a>, Object), D::Error> {
    let json = Json::deserialize(from)?;
    let meta = json.metadata.map(Meta::from).unwrap_or_default();
    let object = match of {
        Resource::Namespace => Object::Namespace,
        Resource::ServiceImport => import(&json.spec.unwrap_or_default()),
        Resource::Service => {
            let (spec, status) = (
                json.spec.unwrap_or_default(),
                json.status.unwrap_or_default(),
            );
            service(&spec, &status)
        }
        Resource::EndpointSlice | Resource::ImportedSlice => {
            let mut endpoints = Vec::new();
            for endpoint in json.endpoints.iter().flatten() {
                endpoint.parts().append(&mut endpoints);
            }
            slice(of, &meta, endpoints, ports(&json.ports))
        }
        Resource::Pod | Resource::LabelledPod => {
            let (spec, status) = (
                json.spec.unwrap_or_default(),
                json.status.unwrap_or_default(),
            );
            pod(
                &meta,
                text(&status.pod_ip),
                spec.host_network.unwrap_or(false),
            )
        }
    };
    Ok((meta, object))
}

/// A string that borrows from the input if it can. (Serde never borrows an `Option<Cow<str>>`.)
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(v)))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(v.into())))
            }
        }
        from.deserialize_str(Strings)
    }
}

fn text<'a>(field: &'a Option<Text<'_>>) -> &'a str {
    field.as_ref().map_or("", |text| &text.0)
}

fn cow<'a>(field: Option<Text<'a>>) -> Cow<'a, str> {
    field.unwrap_or_default().0
}

/// The fields of all resources; no two use one name for different things.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Json<'a> {
    metadata: Option<Metadata<'a>>,
    spec: Option<Spec<'a>>,
    status: Option<StatusOf<'a>>,
    endpoints: Option<Vec<JsonEndpoint<'a>>>,
    ports: Option<Vec<JsonPort<'a>>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
struct Metadata<'a> {
    name: Option<Text<'a>>,
    namespace: Option<Text<'a>>,
    resource_version: Option<Text<'a>>,
    deletion_timestamp: Option<IgnoredAny>,
    labels: Option<KnownLabels<'a>>,
    annotations: Option<Annotations<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct KnownLabels<'a> {
    #[serde(rename = "kubernetes.io/service-name")]
    service: Option<Text<'a>>,
    #[serde(rename = "multicluster.kubernetes.io/service-name")]
    imported: Option<Text<'a>>,
    #[serde(rename = "multicluster.kubernetes.io/source-cluster")]
    cluster: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Annotations<'a> {
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    triggered: Option<Text<'a>>,
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_end: Option<Text<'a>>,
}

impl<'a> From<Metadata<'a>> for Meta<'a> {
    fn from(json: Metadata<'a>) -> Self {
        let annotations = json.annotations.unwrap_or_default();
        let labels = json.labels.unwrap_or_default();
        Self {
            name: cow(json.name),
            namespace: cow(json.namespace),
            version: cow(json.resource_version),
            deleted: json.deletion_timestamp.is_some(),
            initial_end: text(&annotations.initial_end) == "true",
            service: cow(labels.service),
            imported: cow(labels.imported),
            cluster: cow(labels.cluster),
            triggered: cow(annotations.triggered),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Text<'a>>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<Text<'a>>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<Text<'a>>>,
    external_name: Option<Text<'a>>,
    ips: Option<Vec<Text<'a>>>,
    r#type: Option<Text<'a>>,
    ports: Option<Vec<JsonPort<'a>>>,
    host_network: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
struct StatusOf<'a> {
    #[serde(rename = "podIP")]
    pod_ip: Option<Text<'a>>,
    load_balancer: Option<LoadBalancer<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct LoadBalancer<'a> {
    ingress: Option<Vec<Ingress<'a>>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Ingress<'a> {
    ip: Option<Text<'a>>,
    hostname: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct JsonPort<'a> {
    name: Option<Text<'a>>,
    protocol: Option<Text<'a>>,
    port: Option<i64>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
struct JsonEndpoint<'a> {
    addresses: Option<Vec<Text<'a>>>,
    conditions: Option<Conditions>,
    hostname: Option<Text<'a>>,
    target_ref: Option<TargetRef<'a>>,
    zone: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct TargetRef<'a> {
    name: Option<Text<'a>>,
}

impl JsonEndpoint<'_> {
    fn parts(&self) -> EndpointParts<'_> {
        let addresses = self.addresses.iter().flatten();
        EndpointParts {
            addresses: addresses.map(|address| &*address.0).collect(),
            ready: self.conditions.as_ref().and_then(|c| c.ready),
            hostname: text(&self.hostname),
            target: self.target_ref.as_ref().map_or("", |r| text(&r.name)),
            zone: text(&self.zone),
        }
    }
}

fn ports(json: &Option<Vec<JsonPort<'_>>>) -> Vec<Port> {
    let ports = json.iter().flatten();
    ports
        .map(|p| port(text(&p.name), text(&p.protocol), p.port.unwrap_or(0)))
        .collect()
}

fn import(spec: &Spec<'_>) -> Object {
    let ips = spec.ips.iter().flatten();
    let parts = ServiceParts {
        imported_ips: ips.map(|ip| &*ip.0).collect(),
        r#type: text(&spec.r#type),
        ports: ports(&spec.ports),
        ..ServiceParts::default()
    };
    parts.finish_import()
}

fn service(spec: &Spec<'_>, status: &StatusOf<'_>) -> Object {
    let cluster_ips = spec.cluster_ips.iter().flatten();
    let external_ips = spec.external_ips.iter().flatten();
    let mut parts = ServiceParts {
        cluster_ip: text(&spec.cluster_ip),
        cluster_ips: cluster_ips.map(|ip| &*ip.0).collect(),
        r#type: text(&spec.r#type),
        external_name: text(&spec.external_name),
        external_ips: external_ips.map(|ip| (*ip.0).into()).collect(),
        ports: ports(&spec.ports),
        ..ServiceParts::default()
    };
    let balancer = status.load_balancer.as_ref();
    for ingress in balancer.iter().flat_map(|b| &b.ingress).flatten() {
        parts.ingress(text(&ingress.ip), text(&ingress.hostname));
    }
    parts.finish()
}

/// A list, whose items are handed out one by one.
struct List<'f> {
    of: Resource,
    each: &'f mut dyn FnMut(Item<'_>),
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Page, A::Error> {
        #[derive(Default, Deserialize)]
        #[serde(bound(deserialize = "'de: 'a"), rename_all = "camelCase")]
        struct ListMeta<'a> {
            resource_version: Option<Text<'a>>,
            r#continue: Option<Text<'a>>,
        }
        let mut page = Page::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "metadata" => {
                    let meta: Option<ListMeta<'_>> = map.next_value()?;
                    let meta = meta.unwrap_or_default();
                    page.version = text(&meta.resource_version).into();
                    page.next = text(&meta.r#continue).into();
                }
                "items" => map.next_value_seed(Items {
                    of: self.of,
                    each: &mut *self.each,
                })?,
                _ => {
                    let IgnoredAny = map.next_value()?;
                }
            }
        }
        Ok(page)
    }
}

struct Items<'f> {
    of: Resource,
    each: &'f mut dyn FnMut(Item<'_>),
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("items")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(object) = items.next_element::<&RawValue>()? {
            (self.each)(decode(self.of, object.get()));
        }
        Ok(())
    }
}
