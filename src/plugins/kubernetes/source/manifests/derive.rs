//! The endpoint slices that the endpoint slice controller would have made.

use super::super::decode::{SERVICE_LABEL, address, lower, some};
use super::read::Manifest;
use crate::plugins::kubernetes::object::{Endpoint, EndpointSlice, Key, Kind, Object, Port};
use serde_json::Value;
use std::collections::HashSet;
use std::net::IpAddr;

/// Slices for those of `services` that have a selector and no slice of their own: one for each set
/// of ports that the selected pods have. (A named target port may be another number in each pod.)
pub(super) fn slices<'a>(
    services: impl Iterator<Item = &'a Manifest>,
    manifests: &[&Manifest],
) -> Vec<(Key, EndpointSlice)> {
    let of_kind = |kind| manifests.iter().filter(move |m| m.kind() == kind);
    let with_slices: HashSet<(&str, &str)> = of_kind(Kind::EndpointSlice)
        .filter_map(|slice| Some((&*slice.key.namespace, slice.label(SERVICE_LABEL)?)))
        .collect();
    let mut slices = Vec::new();
    for service in services {
        let key = &service.key;
        if with_slices.contains(&(&*key.namespace, &*key.name))
            || service.text("/spec/type") == "ExternalName"
        {
            continue;
        }
        let Some(Value::Object(selector)) = service.at("/spec/selector") else {
            continue;
        };
        if selector.is_empty() {
            continue;
        }
        let first = slices.len();
        for pod in of_kind(Kind::Pod).filter(|pod| pod.key.namespace == key.namespace) {
            let selected = selector
                .iter()
                .all(|(label, value)| value.as_str().is_some_and(|v| pod.label(label) == Some(v)));
            if selected && pod.is_alive() {
                add(&mut slices, first, service, pod);
            }
        }
    }
    slices
}

/// Adds a pod to the slice of its ports among those of one service, which begin at `first`.
fn add(slices: &mut Vec<(Key, EndpointSlice)>, first: usize, service: &Manifest, pod: &Manifest) {
    let unready_too = service.at("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true));
    if !(unready_too || is_ready(pod)) {
        return;
    }
    let name = &service.key.name;
    let hostname = match pod.text("/spec/subdomain") == &**name {
        true => some(pod.text("/spec/hostname")),
        false => None,
    };
    let endpoints = addresses(pod, service).into_iter().map(|ip| Endpoint {
        ip,
        hostname: hostname.clone(),
        target: (pod.key.name.len() < 64).then(|| pod.key.name.as_str().into()),
        zone: None,
    });
    let ports = ports(service, pod);
    let at = slices[first..].iter().position(|(_, s)| s.ports == ports);
    match at {
        Some(at) => slices[first + at].1.endpoints.extend(endpoints),
        None => {
            let key = Key {
                namespace: service.key.namespace.clone(),
                name: format!("{name}-pods-{}", slices.len() - first).into(),
            };
            let slice = EndpointSlice {
                cluster: None,
                service: name.clone(),
                endpoints: endpoints.collect(),
                ports,
                triggered: None,
            };
            slices.push((key, slice));
        }
    }
}

/// Whether a pod is ready: as its condition says, or else once it has an address.
fn is_ready(pod: &Manifest) -> bool {
    if pod.at("/metadata/deletionTimestamp").is_some() {
        return false;
    }
    let conditions = pod.array("/status/conditions").iter();
    let mut ready = conditions.filter(|c| c.get("type").and_then(Value::as_str) == Some("Ready"));
    ready
        .next()
        .is_none_or(|c| c.get("status").and_then(Value::as_str) == Some("True"))
}

/// A pod's addresses of the families that the service has; of both if it does not say.
fn addresses(pod: &Manifest, service: &Manifest) -> Vec<IpAddr> {
    let all = pod.array("/status/podIPs").iter();
    let mut all: Vec<IpAddr> = all
        .filter_map(|ip| address(ip.get("ip")?.as_str()?))
        .collect();
    if all.is_empty()
        && let Object::Pod(pod) = &pod.object
    {
        all.extend(pod.ip);
    }
    let families = service.array("/spec/ipFamilies");
    all.retain(|ip| {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        families.is_empty() || families.iter().any(|f| f.as_str() == Some(family))
    });
    all
}

/// The service's ports as the pod has them; a named one that the pod does not have is left out.
fn ports(service: &Manifest, pod: &Manifest) -> Vec<Port> {
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    let ports = service.array("/spec/ports").iter();
    ports
        .filter_map(|port| {
            let text = |name: &str| port.get(name).and_then(Value::as_str).unwrap_or("");
            let protocol = or_tcp(text("protocol"));
            let target = match port.get("targetPort") {
                Some(Value::String(name)) => named(pod, name, &protocol)?,
                Some(target @ Value::Number(_)) => number(target)?,
                _ => port.get("port").and_then(number)?,
            };
            Some(Port {
                name: lower(text("name")),
                protocol,
                port: target,
            })
        })
        .collect()
}

/// The number of a container's port.
fn named(pod: &Manifest, name: &str, protocol: &str) -> Option<u16> {
    let containers = pod.array("/spec/containers").iter();
    let mut ports = containers.flat_map(|c| c.get("ports").and_then(Value::as_array));
    ports.find_map(|ports| {
        let port = ports.iter().find(|port| {
            let text = |name: &str| port.get(name).and_then(Value::as_str);
            text("name") == Some(name) && *or_tcp(text("protocol").unwrap_or("")) == *protocol
        })?;
        u16::try_from(port.get("containerPort")?.as_u64()?).ok()
    })
}

fn or_tcp(protocol: &str) -> Box<str> {
    match protocol {
        "" => "tcp".into(),
        protocol => lower(protocol),
    }
}
