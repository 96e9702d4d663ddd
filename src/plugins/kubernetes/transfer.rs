//! The cluster's zones as *transfer* hands them to other servers (spec 4.11).

use super::config::Answers;
use super::index::{Entry, Index, Slice};
use super::parse::Dialect;
use super::records::Source;
use crate::dns::{Class, MAX_MESSAGE, Name, OwnedQuery, RecordType, Records, Reply, Section, Zone};
use crate::plugin::transfer::{Data, Record, Snapshot, Transferable};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// The zones of one occurrence of the plugin. Reverse zones are not among them: names of services
/// say nothing about the names of addresses; nor are multicluster zones.
pub(super) struct Zones {
    index: Arc<Index>,
    answers: Answers,
    zones: Vec<Zone>,
}

impl Zones {
    pub(super) fn new(index: Arc<Index>, answers: Answers) -> Self {
        let zones = answers.zones.iter();
        let zones = zones.filter(|zone| !zone.is_reverse() && !answers.dialect(zone).clusters);
        Self {
            zones: zones.cloned().collect(),
            index,
            answers,
        }
    }

    fn source(&self) -> Source<'_> {
        Source {
            cluster: &self.index,
            services: &self.index,
            answers: &self.answers,
            limit: MAX_MESSAGE,
            dialect: Dialect::default(),
        }
    }

    /// The reply to a question for the apex.
    fn apex(&self, zone: &Zone, qtype: RecordType) -> Reply {
        let query = OwnedQuery::ask(zone.wire(), qtype, Class::IN, false);
        let query = query.view();
        let mut reply = Reply::new();
        reply.start(&query);
        self.source().answer(query.name(), qtype, zone, &mut reply);
        reply
    }
}

impl Transferable for Zones {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn serial(&self) -> Option<u32> {
        self.index.is_synced().then(|| self.index.serial())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.index.changes()
    }

    fn soa(&self, zone: &Zone, serial: u32, out: &mut Snapshot) {
        let reply = self.apex(zone, RecordType::SOA);
        let message = reply.message();
        for record in reply.records() {
            // Two names, which are no longer compressed afterwards, and five numbers, of which the
            // serial is the first.
            let Ok((server, next)) = Name::read(message, record.rdata.start) else {
                continue;
            };
            let Ok((mailbox, next)) = Name::read(message, next) else {
                continue;
            };
            let serial = serial.to_be_bytes();
            let numbers = &message[next + serial.len()..record.rdata.end];
            let rdata = [server.wire(), mailbox.wire(), &serial, numbers].concat();
            out.push(Record {
                owner: &[],
                rtype: record.rtype,
                ttl: record.ttl,
                data: Data::Whole(&rdata),
            });
        }
    }

    fn records(&self, zone: &Zone, out: &mut Snapshot) {
        let reply = self.apex(zone, RecordType::NS);
        let glue = push_name_servers(&reply, zone, out);
        let mut keys = Vec::new();
        let source = self.source();
        self.index.entries(|entry| {
            let key = &entry.key;
            if entry.service.is_some() && source.exposes(key.namespace.as_bytes()) {
                keys.push((key.name.clone(), key.namespace.clone()));
            }
        });
        keys.sort_unstable();
        let mut writer = Writer {
            answers: &self.answers,
            glue: &glue,
            base: Vec::new(),
            out,
        };
        for (name, namespace) in &keys {
            let (namespace, name) = (namespace.as_bytes(), name.as_bytes());
            self.index
                .service(namespace, name, |entry| writer.service(entry));
        }
    }
}

/// Writes the NS records and their servers' addresses; gives these, as owner and address.
fn push_name_servers(reply: &Reply, zone: &Zone, out: &mut Snapshot) -> Vec<(Box<[u8]>, IpAddr)> {
    let message = reply.message();
    let mut glue = Vec::new();
    let below_apex = |at: usize| {
        let (name, _) = Name::read(message, at).ok()?;
        let labels = name.wire().strip_suffix(zone.wire())?;
        Some(Box::<[u8]>::from(labels))
    };
    for record in Records::at(message, reply.records_offset(), reply.counts()) {
        let Ok(record) = record else { break };
        if record.section == Section::Answer {
            if let Some(server) = below_apex(record.rdata.start) {
                out.push(Record {
                    owner: &[],
                    rtype: record.rtype,
                    ttl: record.ttl,
                    data: Data::InZone(&server),
                });
            }
            continue;
        }
        let rdata = &message[record.rdata];
        let ip = <[u8; 4]>::try_from(rdata)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(rdata).map(IpAddr::from));
        if let (Some(owner), Ok(ip)) = (below_apex(record.start), ip) {
            if glue.contains(&(owner.clone(), ip)) {
                continue;
            }
            out.push(Record {
                owner: &owner,
                rtype: record.rtype,
                ttl: record.ttl,
                data: Data::Whole(rdata),
            });
            glue.push((owner, ip));
        }
    }
    glue
}

/// Writes services.
struct Writer<'w> {
    answers: &'w Answers,
    /// What stands in the zone already.
    glue: &'w [(Box<[u8]>, IpAddr)],
    /// `SERVICE.NAMESPACE.svc` of the service that is written.
    base: Vec<u8>,
    out: &'w mut Snapshot,
}

impl Writer<'_> {
    fn service(&mut self, entry: &Entry) {
        let Some(service) = &entry.service else {
            return;
        };
        self.base.clear();
        let (name, namespace) = (&entry.key.name, &entry.key.namespace);
        for part in [name.as_bytes(), namespace.as_bytes(), b"svc"] {
            push_label(&mut self.base, part);
        }
        let base = self.base.clone();
        if let Some(target) = &entry.alias {
            self.push(&base, RecordType::CNAME, Data::Whole(target.wire()));
            return;
        }
        if service.external_name.is_some() {
            return;
        }
        if service.headless {
            return self.headless(entry, &base);
        }
        if self.answers.ignore_empty_service && entry.endpoints.is_empty() {
            return;
        }
        for &ip in &service.cluster_ips {
            self.address(&base, ip);
        }
        if service.cluster_ips.is_empty() {
            return;
        }
        let mut bare = HashSet::new();
        for port in service.ports.iter() {
            // The same number under two protocols is the same record.
            if bare.insert(port.port) {
                self.srv(&base, 100, port.port, &base);
            }
            if let Some(owner) = port_name(&port.name, &port.protocol, &base) {
                self.srv(&owner, 100, port.port, &base);
            }
        }
    }

    /// Endpoints of a headless service. What several slices say is written once, with the weight of
    /// the first of them.
    fn headless(&mut self, entry: &Entry, base: &[u8]) {
        if self.answers.noendpoints {
            return;
        }
        let mut written = HashSet::new();
        let mut hosts = HashSet::new();
        let mut ports = HashSet::new();
        for endpoint in &entry.endpoints {
            let mut host = Vec::new();
            let name = endpoint.host();
            for label in name.split('.') {
                push_label(&mut host, label.as_bytes());
            }
            host.extend_from_slice(base);
            if written.insert(endpoint.ip) {
                self.address(base, endpoint.ip);
            }
            if hosts.insert((host.clone(), endpoint.ip)) {
                self.address(&host, endpoint.ip);
            }
            let size = entry.slice(endpoint).map_or(1, Slice::endpoints);
            let weight = (100 / size.max(1)).max(1) as u16;
            for port in entry.ports(endpoint) {
                // Without a number it stands for all ports, which SRV cannot say.
                if port.port == 0 {
                    continue;
                }
                let Some(owner) = port_name(&port.name, &port.protocol, base) else {
                    continue;
                };
                if ports.insert((owner.clone(), port.port, host.clone())) {
                    self.srv(&owner, weight, port.port, &host);
                }
            }
        }
    }

    fn address(&mut self, owner: &[u8], ip: IpAddr) {
        let known = |(name, known): &(Box<[u8]>, IpAddr)| **name == *owner && *known == ip;
        if self.glue.iter().any(known) {
            return;
        }
        match ip {
            IpAddr::V4(ip) => self.push(owner, RecordType::A, Data::Whole(&ip.octets())),
            IpAddr::V6(ip) => self.push(owner, RecordType::AAAA, Data::Whole(&ip.octets())),
        }
    }

    fn srv(&mut self, owner: &[u8], weight: u16, port: u16, target: &[u8]) {
        let mut rdata = vec![0, 0];
        rdata.extend_from_slice(&weight.to_be_bytes());
        rdata.extend_from_slice(&port.to_be_bytes());
        rdata.extend_from_slice(target);
        self.push(owner, RecordType::SRV, Data::InZone(&rdata));
    }

    fn push(&mut self, owner: &[u8], rtype: RecordType, data: Data<'_>) {
        // False for what is no name together with the zone: queries do not get that either.
        self.out.push(Record {
            owner,
            rtype,
            ttl: self.answers.ttl,
            data,
        });
    }
}

/// `_PORT._PROTOCOL.BASE` in lower case; `None` for a port without a name, or with one that is no
/// label.
pub(in crate::plugins) fn port_name(name: &str, protocol: &str, base: &[u8]) -> Option<Vec<u8>> {
    let labels = [name, protocol];
    if labels
        .iter()
        .any(|label| label.is_empty() || label.len() > 62)
    {
        return None;
    }
    let mut owner = Vec::with_capacity(name.len() + protocol.len() + 4 + base.len());
    for label in labels {
        push_label(
            &mut owner,
            format!("_{label}").to_ascii_lowercase().as_bytes(),
        );
    }
    owner.extend_from_slice(base);
    Some(owner)
}

/// Appends a label with its length octet; at most 63 octets of it.
pub(in crate::plugins) fn push_label(out: &mut Vec<u8>, label: &[u8]) {
    let label = &label[..label.len().min(63)];
    out.push(label.len() as u8);
    out.extend_from_slice(label);
}
