//! The zones as *transfer* hands them to other servers (KE-6).

use super::{Config, Host, Source, hosts};
use crate::dns::{Name, RecordType, Zone};
use crate::plugin::transfer::{Data, Record, Snapshot, Transferable};
use crate::plugins::kubernetes::Provided;
use crate::plugins::kubernetes::index::{Entry, Service};
use crate::plugins::kubernetes::object::Port;
use crate::plugins::kubernetes::parse::{Part, ServiceName};
use crate::plugins::kubernetes::records::Family;
use crate::plugins::kubernetes::transfer::{port_name, push_label};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// The zones of one occurrence of the plugin, reverse zones apart.
pub(super) struct Zones {
    config: Arc<Config>,
    cluster: Arc<Provided>,
    zones: Vec<Zone>,
}

impl Zones {
    pub(super) fn new(config: Arc<Config>, cluster: Arc<Provided>) -> Self {
        let zones = config.zones.iter().filter(|zone| !zone.is_reverse());
        Self {
            zones: zones.cloned().collect(),
            config,
            cluster,
        }
    }

    fn source(&self) -> Source<'_> {
        Source {
            config: &self.config,
            cluster: &self.cluster,
        }
    }

    /// `LABEL.APEX`.
    fn below_apex(&self, label: &[u8]) -> Vec<u8> {
        let mut name = Vec::new();
        push_label(&mut name, label);
        for label in self.config.apex.labels() {
            push_label(&mut name, label);
        }
        name
    }
}

impl Transferable for Zones {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn serial(&self) -> Option<u32> {
        let synced = self.cluster.index.is_synced();
        synced.then(|| self.source().serial())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.cluster.index.changes()
    }

    fn soa(&self, zone: &Zone, serial: u32, out: &mut Snapshot) {
        let ttl = self.config.ttl;
        let mut rdata = Vec::new();
        for label in [&b"ns1"[..], b"hostmaster"] {
            rdata.extend(self.below_apex(label));
            rdata.extend_from_slice(zone.wire());
        }
        for number in [serial, 7200, 1800, 86_400, ttl] {
            rdata.extend(number.to_be_bytes());
        }
        out.push(Record {
            owner: &[],
            rtype: RecordType::SOA,
            ttl,
            data: Data::Whole(&rdata),
        });
    }

    fn records(&self, _: &Zone, out: &mut Snapshot) {
        let (source, ttl) = (self.source(), self.config.ttl);
        let server = self.below_apex(b"ns1");
        out.push(Record {
            owner: &[],
            rtype: RecordType::NS,
            ttl,
            data: Data::InZone(&server),
        });
        let mut own = HashSet::new();
        source.own_addresses(|ip| {
            if own.insert(ip) {
                push_address(out, &server, ip, ttl);
            }
        });
        let mut keys = Vec::new();
        self.cluster
            .external_services(self.config.headless, |entry| {
                let key = &entry.key;
                keys.push((key.name.clone(), key.namespace.clone()));
            });
        keys.sort_unstable();
        let mut writer = Writer {
            source: &source,
            base: Vec::new(),
            out,
        };
        for (name, namespace) in &keys {
            let (namespace, name) = (namespace.as_bytes(), name.as_bytes());
            let index = &self.cluster.index;
            index.service(namespace, name, |entry| writer.service(entry));
        }
    }
}

/// Writes services, each with what queries for its names are answered with.
struct Writer<'w> {
    source: &'w Source<'w>,
    /// `SERVICE.NAMESPACE` of the service that is written.
    base: Vec<u8>,
    out: &'w mut Snapshot,
}

impl Writer<'_> {
    fn service(&mut self, entry: &Entry) {
        let Some(service) = &entry.service else {
            return;
        };
        self.base.clear();
        for label in [&entry.key.name, &entry.key.namespace] {
            push_label(&mut self.base, label.as_bytes());
        }
        if service.external_ips.is_empty() {
            self.endpoints(entry);
        } else {
            self.hosts(entry, service);
        }
    }

    /// A service with external addresses.
    fn hosts(&mut self, entry: &Entry, service: &Service) {
        let base = self.base.clone();
        let mut addressed = false;
        for host in hosts(entry) {
            if let Host::Address(ip) = host {
                self.address(&base, ip);
                addressed = true;
            }
        }
        let mut names = hosts(entry).filter_map(|host| match host {
            Host::Name(text) => Name::from_text(text).ok(),
            Host::Address(_) => None,
        });
        // A zone has one CNAME record for a name, and nothing beside it (RFC 2181 §10.1): servers
        // refuse a zone that has more.
        let alias = if addressed { None } else { names.next() };
        match alias {
            Some(name) => {
                let ttl = self.source.cluster.answers.ttl;
                self.push(&base, RecordType::CNAME, ttl, Data::Whole(name.wire()));
            }
            None => self.host_srv(entry, service, &Part::Whole, &base),
        }
        for_each_port(service.ports.iter(), &base, |owner, part| {
            self.host_srv(entry, service, part, owner);
        });
    }

    fn host_srv(&mut self, entry: &Entry, service: &Service, part: &Part<'_>, owner: &[u8]) {
        let base = self.base.clone();
        Source::each_srv(entry, service, part, |weight, port, target| match target {
            Some(name) => self.srv(owner, weight, port, Data::Whole(name.wire())),
            None => self.srv(owner, weight, port, Data::InZone(&base)),
        });
    }

    /// A headless service without external addresses, and its endpoints.
    fn endpoints(&mut self, entry: &Entry) {
        let base = self.base.clone();
        let cluster = self.source.cluster.source();
        let all = cluster.endpoints(entry, &asked(entry, Part::Whole));
        for family in [Family::V4, Family::V6] {
            for ip in all.addresses(family) {
                self.address(&base, ip);
            }
        }
        self.endpoint_srv(entry, &asked(entry, Part::Whole), &base);
        let ports = entry.slices.iter().flat_map(|slice| slice.ports.iter());
        for_each_port(ports, &base, |owner, part| {
            self.endpoint_srv(entry, &asked(entry, *part), owner);
        });
        for host in all.by_host() {
            let host = host.name();
            let one = asked(entry, Part::Endpoint(host.as_bytes()));
            let owner = below(&host, &base);
            let endpoint = cluster.endpoints(entry, &one);
            for family in [Family::V4, Family::V6] {
                for ip in endpoint.addresses(family) {
                    self.address(&owner, ip);
                }
            }
            self.endpoint_srv(entry, &one, &owner);
        }
    }

    fn endpoint_srv(&mut self, entry: &Entry, asked: &ServiceName<'_>, owner: &[u8]) {
        let base = self.base.clone();
        let cluster = self.source.cluster.source();
        let endpoints = cluster.endpoints(entry, asked);
        let weight = super::service::weight(endpoints.count());
        for host in endpoints.by_host() {
            let target = below(&host.name(), &base);
            host.ports(|port| self.srv(owner, weight, port, Data::InZone(&target)));
        }
    }

    fn address(&mut self, owner: &[u8], ip: IpAddr) {
        if !self.is_apex(owner) {
            push_address(self.out, owner, ip, self.source.config.ttl);
        }
    }

    fn srv(&mut self, owner: &[u8], weight: u16, port: u16, target: Data<'_>) {
        let with = |target: &[u8]| {
            let numbers = [0, weight, port].map(u16::to_be_bytes);
            [numbers.as_flattened(), target].concat()
        };
        let ttl = self.source.cluster.answers.ttl;
        match target {
            Data::Whole(name) => {
                self.push(owner, RecordType::SRV, ttl, Data::Whole(&with(name)));
            }
            Data::InZone(name) => {
                self.push(owner, RecordType::SRV, ttl, Data::InZone(&with(name)));
            }
        }
    }

    fn push(&mut self, owner: &[u8], rtype: RecordType, ttl: u32, data: Data<'_>) {
        if self.is_apex(owner) {
            return;
        }
        // False for what is no name together with the zone: queries do not get that either.
        self.out.push(Record {
            owner,
            rtype,
            ttl,
            data,
        });
    }

    /// Whether queries for this owner are about the apex, not about a service.
    fn is_apex(&self, owner: &[u8]) -> bool {
        let apex = self.source.config.apex.labels();
        let mut labels = Vec::new();
        let mut rest = owner;
        while let Some((&len, after)) = rest.split_first() {
            let (label, after) = after.split_at(after.len().min(len.into()));
            labels.push(label);
            rest = after;
        }
        let same = |(a, b): (&&[u8], &[u8])| a.eq_ignore_ascii_case(b);
        let apex: Vec<_> = apex.collect();
        let at = labels.len().checked_sub(apex.len());
        at.is_some_and(|at| labels[at..].iter().zip(apex).all(same))
    }
}

fn push_address(out: &mut Snapshot, owner: &[u8], ip: IpAddr, ttl: u32) {
    let mut push = |rtype, rdata: &[u8]| {
        out.push(Record {
            owner,
            rtype,
            ttl,
            data: Data::Whole(rdata),
        });
    };
    match ip {
        IpAddr::V4(ip) => push(RecordType::A, &ip.octets()),
        IpAddr::V6(ip) => push(RecordType::AAAA, &ip.octets()),
    }
}

/// Calls `each` with the owner name of every port that has a name, each once.
fn for_each_port<'p>(
    ports: impl Iterator<Item = &'p Port>,
    base: &[u8],
    mut each: impl FnMut(&[u8], &Part<'_>),
) {
    let mut written = HashSet::new();
    for port in ports {
        let Some(owner) = port_name(&port.name, &port.protocol, base) else {
            continue;
        };
        let (name, protocol) = (port.name.as_bytes(), port.protocol.as_bytes());
        let part = Part::Port {
            port: name,
            protocol,
        };
        if written.insert(owner.clone()) {
            each(&owner, &part);
        }
    }
}

/// What a name asks of the service of this entry.
fn asked<'n>(entry: &'n Entry, part: Part<'n>) -> ServiceName<'n> {
    ServiceName {
        namespace: entry.key.namespace.as_bytes(),
        name: entry.key.name.as_bytes(),
        part,
    }
}

/// `HOST.BASE`.
fn below(host: &str, base: &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    for label in host.split('.') {
        push_label(&mut name, label.as_bytes());
    }
    name.extend_from_slice(base);
    name
}
