//! What the fields mean (KM-1 … KM-9), whatever format they came in.

use super::{Meta, Resource, time};
use crate::plugins::kubernetes::object::{Endpoint, EndpointSlice, Object, Pod, Port, Service};
use smallvec::SmallVec;
use std::net::IpAddr;

/// The label that ties an endpoint slice to its service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The label that ties an endpoint slice to the service that it is imported for.
pub(crate) const IMPORT_LABEL: &str = "multicluster.kubernetes.io/service-name";
/// The label that says which cluster the endpoints of an import are in.
pub(super) const CLUSTER_LABEL: &str = "multicluster.kubernetes.io/source-cluster";
/// The annotation with the time of the change that an endpoint slice shows.
pub(super) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// The annotation of the bookmark that ends a streaming list.
pub(super) const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A longer `targetRef.name` cannot be a label (KM-2).
const LONGEST_TARGET: usize = 63;

/// A few strings that borrow from the input.
pub(super) type Texts<'a> = SmallVec<[&'a str; 4]>;

/// The text, unless it is empty.
pub(crate) fn some(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// The text in lower case.
pub(crate) fn lower(text: &str) -> Box<str> {
    text.to_ascii_lowercase().into()
}

/// The address, an IPv4-mapped one as IPv4; `None` for anything else, such as a host name.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    Some(ip.to_canonical())
}

/// A port; 0 where the number is none.
pub(super) fn port(name: &str, protocol: &str, number: i64) -> Port {
    Port {
        name: lower(name),
        protocol: lower(protocol),
        port: u16::try_from(number).unwrap_or(0),
    }
}

/// What was read of a service.
#[derive(Default)]
pub(super) struct ServiceParts<'a> {
    pub(super) cluster_ip: &'a str,
    pub(super) cluster_ips: Texts<'a>,
    pub(super) r#type: &'a str,
    pub(super) external_name: &'a str,
    pub(super) external_ips: Vec<Box<str>>,
    pub(super) ingress: Vec<Box<str>>,
    /// `spec.ips` of an import.
    pub(super) imported_ips: Texts<'a>,
    pub(super) ports: Vec<Port>,
}

impl<'a> ServiceParts<'a> {
    /// An entry of `status.loadBalancer.ingress`: the address, or else the host name.
    pub(super) fn ingress(&mut self, ip: &str, hostname: &str) {
        let text = if ip.is_empty() { hostname } else { ip };
        self.ingress.extend(some(text));
    }

    /// As the service that an import stands for.
    pub(super) fn finish_import(self) -> Object {
        let headless = self.r#type == "Headless";
        let ips = self.imported_ips.iter().filter(|_| !headless);
        Object::Service(Service {
            cluster_ips: ips.filter_map(|ip| address(ip)).collect(),
            headless,
            ports: self.ports,
            ..Service::default()
        })
    }

    pub(super) fn finish(mut self) -> Object {
        self.cluster_ips.retain(|ip| !ip.is_empty());
        if self.cluster_ips.is_empty() && !self.cluster_ip.is_empty() {
            self.cluster_ips.push(self.cluster_ip);
        }
        let headless = self.cluster_ips.first() == Some(&"None");
        let alias = self.r#type == "ExternalName";
        let cluster_ips = match headless || alias {
            true => Vec::new(),
            false => self
                .cluster_ips
                .iter()
                .filter_map(|ip| address(ip))
                .collect(),
        };
        let mut external_ips = self.external_ips;
        external_ips.append(&mut self.ingress);
        external_ips.retain(|ip| !ip.is_empty());
        Object::Service(Service {
            cluster_ips,
            headless,
            external_name: some(self.external_name).filter(|_| alias),
            external_ips,
            ports: self.ports,
        })
    }
}

/// What was read of an endpoint.
#[derive(Default)]
pub(super) struct EndpointParts<'a> {
    pub(super) addresses: Texts<'a>,
    pub(super) ready: Option<bool>,
    pub(super) hostname: &'a str,
    pub(super) target: &'a str,
    pub(super) zone: &'a str,
}

impl EndpointParts<'_> {
    /// Appends the endpoint, once for each of its addresses, if it is ready (KM-3). Neither
    /// `serving` nor `terminating` is looked at.
    pub(super) fn append(&self, endpoints: &mut Vec<Endpoint>) {
        if self.ready == Some(false) {
            return;
        }
        let target = Some(self.target).filter(|name| name.len() <= LONGEST_TARGET);
        let addresses = self.addresses.iter().filter_map(|text| address(text));
        endpoints.extend(addresses.map(|ip| Endpoint {
            ip,
            hostname: some(self.hostname),
            target: target.and_then(some),
            zone: some(self.zone).map(|zone| lower(&zone)),
        }));
    }
}

/// An endpoint slice, of a service or of an import: some are both.
pub(super) fn slice(
    of: Resource,
    meta: &Meta<'_>,
    endpoints: Vec<Endpoint>,
    ports: Vec<Port>,
) -> Object {
    let (service, cluster) = match of {
        Resource::ImportedSlice => (&meta.imported, some(&lower(&meta.cluster))),
        _ => (&meta.service, None),
    };
    Object::EndpointSlice(EndpointSlice {
        cluster,
        service: (**service).into(),
        endpoints,
        ports,
        triggered: time::rfc3339(&meta.triggered),
    })
}

/// A pod.
pub(super) fn pod(meta: &Meta<'_>, ip: &str) -> Object {
    Object::Pod(Pod {
        ip: address(ip),
        deleted: meta.deleted,
        labels: Vec::new(),
    })
}
