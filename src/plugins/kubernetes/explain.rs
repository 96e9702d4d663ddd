//! Remarks for `/explain`: how a name was read, and which objects answered or are missing.

use super::config::Pods;
use super::index::Index;
use super::object::{EndpointSlice, Key, Kind, Object, Port, Service};
use super::parse::{Part, ServiceName, Subject, pod_address, reverse_address};
use super::records::{Found, Source};
use crate::dns::{Name, RecordType, Zone};
use crate::plugin::Context;
use std::borrow::Cow;
use std::net::IpAddr;

/// Most slices of a service, addresses of a slice, services of an address, and aliases that are named.
const NAMED: usize = 10;

const KINDS: [Kind; 4] = [
    Kind::Namespace,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

/// Leaves the remarks on a question that came to `found`.
#[cold]
pub(super) fn remarks(source: &Source<'_>, cx: &Context<'_>, zone: &Zone, found: Found) {
    let name = cx.query.name();
    let index = source.cluster;
    cx.note(|| {
        let synced = if index.is_synced() {
            "synced"
        } else {
            "not synced yet"
        };
        // Pods are mostly not watched.
        let known = |kind: &Kind| *kind != Kind::Pod || index.count(*kind) > 0;
        let counts = KINDS.into_iter().filter(known);
        let counts: Vec<_> = counts
            .map(|kind| format!("{kind:?} {}", index.count(kind)))
            .collect();
        format!(
            "zone {}, index {synced}: {}",
            zone.text(),
            counts.join(", ")
        )
    });
    let told = Told { source, cx, zone };
    if zone.is_reverse() && name.label_count() > zone.label_count() {
        told.reverse(name);
    } else {
        told.subject(
            &Subject::read_as(name, zone.label_count(), source.dialect),
            found,
            0,
        );
    }
    told.conclusion(found);
}

struct Told<'t> {
    source: &'t Source<'t>,
    cx: &'t Context<'t>,
    zone: &'t Zone,
}

impl Told<'_> {
    fn note(&self, text: String) {
        self.cx.note(|| text);
    }

    /// `aliases` of the zone have led to it.
    fn subject(&self, subject: &Subject<'_>, found: Found, aliases: usize) {
        match subject {
            Subject::Apex => self.note("read as the zone itself".into()),
            Subject::Branch => self.note("read as a branch of the zone (svc, pod)".into()),
            Subject::NameServer => self.note("read as the zone's name server".into()),
            Subject::Version => self.note("read as the schema's version".into()),
            Subject::Unknown => {
                self.note(
                    "read as no name that clusters have (SERVICE.NAMESPACE.svc, IP.NAMESPACE.pod)"
                        .into(),
                );
            }
            Subject::Namespace(namespace) => {
                self.note(format!("read as namespace {}", text(namespace)));
                self.namespace(namespace);
            }
            Subject::PodNamespace(namespace) => {
                self.note(format!("read as the pods of namespace {}", text(namespace)));
                self.namespace(namespace);
            }
            Subject::Pod { namespace, label } => self.pod(namespace, label),
            Subject::Service(asked) => self.service(asked, found, aliases),
        }
    }

    fn namespace(&self, namespace: &[u8]) {
        let name = text(namespace);
        let is = if !self.source.exposes(namespace) {
            "hidden (namespaces, namespace_labels)"
        } else if self.source.cluster.has_namespace(namespace) {
            "known"
        } else {
            "not known"
        };
        self.note(format!("Namespace {name}: {is}"));
    }

    fn pod(&self, namespace: &[u8], label: &[u8]) {
        let (name, label_text) = (text(namespace), text(label));
        self.note(format!("read as pod {label_text} in namespace {name}"));
        self.namespace(namespace);
        let Some(ip) = pod_address(label) else {
            return self.note(format!("{label_text} is no address with dashes"));
        };
        match self.source.answers.pods {
            Pods::Disabled => self.note("pods disabled: no pod has a name".into()),
            Pods::Insecure => self.note(format!("pods insecure: {ip} is not looked for")),
            Pods::Verified if self.source.cluster.has_pod(namespace, ip) => {
                self.note(format!("Pod of {name} with address {ip}: known"));
            }
            Pods::Verified => self.note(format!("Pod of {name} with address {ip}: not known")),
        }
    }

    fn reverse(&self, name: &Name) {
        let Some(ip) = reverse_address(name) else {
            return self.note("read as no whole address".into());
        };
        self.note(format!("read as address {ip}"));
        let mut count = 0;
        self.source.cluster.by_address(ip, |entry| {
            count += 1;
            if count <= NAMED {
                let (namespace, name) = (&entry.key.namespace, &entry.key.name);
                let own = if entry.has_cluster_ip(ip) {
                    "cluster IP"
                } else {
                    "endpoint"
                };
                self.note(format!("Service {namespace}/{name}: {ip} is its {own}"));
            }
        });
        match count {
            0 => self.note(format!("no Service and no EndpointSlice has {ip}")),
            1..=NAMED => {}
            more => self.note(format!("{} more Services have {ip}", more - NAMED)),
        }
    }

    fn service(&self, asked: &ServiceName<'_>, found: Found, aliases: usize) {
        let (namespace, name) = (text(asked.namespace), text(asked.name));
        let of = match asked.part {
            Part::Whole => String::new(),
            Part::Endpoint(host) => format!("endpoint {} of ", text(host)),
            Part::Imported { host, cluster } => {
                format!("endpoint {} in cluster {} of ", text(host), text(cluster))
            }
            Part::Zone { zone, prefer } => {
                let how = if prefer { "preferably " } else { "" };
                format!("endpoints {how}in topology zone {} of ", zone_text(zone))
            }
            Part::ZoneBranch => "the branch of the topology zones of ".into(),
            Part::Port { port, protocol } => {
                format!("port {} ({}) of ", any(port), any(protocol))
            }
        };
        self.note(format!("read as {of}service {namespace}/{name}"));
        self.namespace(asked.namespace);
        if !self.source.exposes(asked.namespace) {
            return;
        }
        let objects = Objects::of(self.source.services, asked);
        let Some(service) = &objects.service else {
            self.note(format!("Service {namespace}/{name}: not known"));
            return self.slices(&objects);
        };
        self.note(format!("Service {namespace}/{name}: {}", describe(service)));
        if let Some(target) = &service.external_name {
            let target = Name::from_text(target).ok();
            let inside = target.filter(|target| self.zone.contains(target));
            if let (Some(target), true) = (inside, aliases < NAMED) {
                let subject =
                    Subject::read_as(&target, self.zone.label_count(), self.source.dialect);
                self.subject(&subject, found, aliases + 1);
            }
            return;
        }
        let of_endpoint = matches!(asked.part, Part::Endpoint(_) | Part::Imported { .. });
        let by_endpoints = service.headless || of_endpoint;
        if by_endpoints {
            self.slices(&objects);
        }
        match (found, asked.part) {
            (Found::Nothing, Part::Endpoint(host) | Part::Imported { host, .. }) => {
                self.note(format!("no ready endpoint is called {}", text(host)));
            }
            (Found::Nothing, Part::Port { .. }) => self.note("it has no such port".into()),
            (Found::Nothing, Part::Whole) if by_endpoints => {
                self.note("headless, and no endpoint is ready".into());
            }
            (Found::Nothing, Part::Whole) if self.source.answers.ignore_empty_service => {
                self.note("ignore empty_service: without ready endpoints it has no name".into());
            }
            (Found::Nodata, _) => self.other_family(&objects.addresses(by_endpoints)),
            _ => {}
        }
    }

    fn slices(&self, objects: &Objects) {
        if objects.slices.is_empty() {
            return self.note("no EndpointSlice of it".into());
        }
        for (key, slice) in objects.slices.iter().take(NAMED) {
            let count = slice.endpoints.len();
            let endpoints = slice.endpoints.iter().take(NAMED);
            let mut shown: Vec<_> = endpoints
                .map(|endpoint| match &endpoint.hostname {
                    Some(host) => format!("{} ({host})", endpoint.ip),
                    None => endpoint.ip.to_string(),
                })
                .collect();
            if count > NAMED {
                shown.push(format!("{} more", count - NAMED));
            }
            let (namespace, name) = (&key.namespace, &key.name);
            let addresses = if shown.is_empty() {
                "none".into()
            } else {
                shown.join(", ")
            };
            let ports = show_ports(&slice.ports);
            self.note(format!(
                "EndpointSlice {namespace}/{name}: ready addresses {addresses}; ports {ports}"
            ));
        }
        if objects.slices.len() > NAMED {
            self.note(format!(
                "{} more EndpointSlices",
                objects.slices.len() - NAMED
            ));
        }
    }

    /// Says that addresses are there, but of the other family.
    fn other_family(&self, addresses: &[IpAddr]) {
        let has = match self.cx.query.qtype() {
            RecordType::A => "IPv6",
            RecordType::AAAA => "IPv4",
            _ => return,
        };
        if !addresses.is_empty() {
            self.note(format!("it has {has} addresses only"));
        }
    }

    fn conclusion(&self, found: Found) {
        let (name, qtype) = (self.cx.query.name(), self.cx.query.qtype());
        match found {
            Found::Answered => {}
            Found::Alias(_) => {
                self.note(
                    "an alias that leads out of the zone: this server is asked for its target"
                        .into(),
                );
            }
            Found::Nodata => {
                self.note(format!("the name exists, without {qtype} records (NODATA)"))
            }
            Found::Nothing if self.source.answers.fallthrough.covers(name) => {
                self.note("the name does not exist: it falls through".into());
            }
            Found::Nothing if self.source.cluster.is_synced() => {
                self.note("the name does not exist (NXDOMAIN)".into());
            }
            Found::Nothing => {
                self.note(
                    "the name is not known, and not everything is known yet (SERVFAIL)".into(),
                );
            }
        }
    }
}

/// The objects behind a service's name.
struct Objects {
    service: Option<Service>,
    slices: Vec<(Key, EndpointSlice)>,
}

impl Objects {
    fn of(index: &Index, asked: &ServiceName<'_>) -> Self {
        let mut objects = Self {
            service: None,
            slices: Vec::new(),
        };
        index.service(asked.namespace, asked.name, |entry| {
            entry.unpack(&mut |_, object| {
                if let Object::Service(service) = object {
                    objects.service = Some(service);
                }
            });
            entry.unpack_slices(&mut |key, object| {
                if let Object::EndpointSlice(slice) = object {
                    objects.slices.push((key, slice));
                }
            });
        });
        objects.slices.sort_by(|a, b| a.0.cmp(&b.0));
        objects
    }

    fn addresses(&self, of_endpoints: bool) -> Vec<IpAddr> {
        if of_endpoints {
            let slices = self.slices.iter();
            let endpoints = slices.flat_map(|(_, slice)| &slice.endpoints);
            return endpoints.map(|endpoint| endpoint.ip).collect();
        }
        let service = self.service.iter();
        service
            .flat_map(|service| service.cluster_ips.clone())
            .collect()
    }
}

fn describe(service: &Service) -> String {
    if let Some(target) = &service.external_name {
        return format!("ExternalName {target}");
    }
    let ports = show_ports(&service.ports);
    if service.headless {
        return format!("headless; ports {ports}");
    }
    let ips: Vec<_> = service.cluster_ips.iter().map(IpAddr::to_string).collect();
    let ips = if ips.is_empty() {
        "none".into()
    } else {
        ips.join(", ")
    };
    format!("cluster IPs {ips}; ports {ports}")
}

fn show_ports(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "none".into();
    }
    let ports = ports.iter().map(|port| {
        let Port {
            name,
            protocol,
            port,
        } = port;
        match name.is_empty() {
            true => format!("{port}/{protocol}"),
            false => format!("{name} {port}/{protocol}"),
        }
    });
    ports.collect::<Vec<_>>().join(", ")
}

fn any(label: &[u8]) -> Cow<'_, str> {
    match label {
        b"" => "any".into(),
        label => text(label),
    }
}

/// A label as it is shown.
fn text(label: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(label) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => text.into(),
        _ => label.escape_ascii().to_string().into(),
    }
}

/// Labels in wire form, without an end, as they are shown.
fn zone_text(mut labels: &[u8]) -> String {
    let mut shown = Vec::new();
    while let Some((&length, rest)) = labels.split_first() {
        let (label, rest) = rest.split_at(usize::from(length).min(rest.len()));
        shown.push(text(label));
        labels = rest;
    }
    shown.join(".")
}
