//! From the index and a question to records: straight into the reply, nothing allocated.

mod address;
mod apex;
pub(in crate::plugins) mod endpoints;
mod negative;
mod pointer;
mod service;

use super::config::{Answers, Pods};
use super::index::{Entry, Index};
use super::parse::{Dialect, Subject, pod_address};
use crate::dns::reply::Rdata;
use crate::dns::{Class, Name, Owner, RecordType, Reply, Section, Zone};
use std::net::IpAddr;
use std::sync::Arc;

/// What a question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugins) enum Found {
    /// Records were written.
    Answered,
    /// An alias was found that leads out of the cluster's zones; only its CNAME is written, and
    /// the target (wire form, lower case) starts at this offset of the message.
    Alias(usize),
    /// The name exists, without such records.
    Nodata,
    /// The name does not exist.
    Nothing,
}

/// What answers are made from.
pub(in crate::plugins) struct Source<'s> {
    /// The cluster: namespaces, pods, addresses.
    pub cluster: &'s Index,
    /// Where the services of the zone are: in the cluster, or among the imported ones.
    pub services: &'s Index,
    pub answers: &'s Answers,
    /// The largest reply that the client takes, in octets: more need not be written.
    pub limit: usize,
    /// What names the zone has.
    pub dialect: Dialect,
}

/// The family of addresses that a type asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugins) enum Family {
    V4,
    V6,
    /// No address: only whether the name exists.
    None,
}

impl Family {
    pub(in crate::plugins) const fn of(qtype: RecordType) -> Self {
        match qtype {
            RecordType::A => Self::V4,
            RecordType::AAAA => Self::V6,
            _ => Self::None,
        }
    }

    pub(in crate::plugins) const fn has(self, ip: IpAddr) -> bool {
        matches!(
            (self, ip),
            (Self::V4, IpAddr::V4(_)) | (Self::V6, IpAddr::V6(_))
        )
    }
}

impl Source<'_> {
    /// Answers a question for `name`, which is in `zone`, into `reply`.
    pub(super) fn answer(
        &self,
        name: &Name,
        qtype: RecordType,
        zone: &Zone,
        reply: &mut Reply,
    ) -> Found {
        let labels = zone.label_count();
        if name.label_count() == labels {
            return self.apex(qtype, reply);
        }
        if qtype == RecordType::SOA {
            return Found::Nodata;
        }
        if zone.is_reverse() {
            return self.reverse(name, qtype, reply);
        }
        let subject = Subject::read_as(name, labels, self.dialect);
        match qtype {
            RecordType::SRV => {
                let zone_at = name.label_count() - labels;
                self.srv(&subject, zone, zone_at, reply)
            }
            RecordType::TXT => self.txt(&subject, zone, reply),
            RecordType::CNAME => self.cname(&subject, zone, reply),
            _ => self.addresses(&subject, zone, Family::of(qtype), reply),
        }
    }

    /// `dns-version.ZONE`; of every other name only what has entries of its own exists (KO-2).
    fn txt(&self, subject: &Subject<'_>, zone: &Zone, reply: &mut Reply) -> Found {
        match subject {
            Subject::Version => {
                let version = b"\x051.1.0";
                reply.push(
                    Section::Answer,
                    Owner::Query,
                    RecordType::TXT,
                    28_800,
                    version,
                );
                Found::Answered
            }
            Subject::Service(_) | Subject::Pod { .. } | Subject::NameServer => {
                self.addresses(subject, zone, Family::None, reply)
            }
            _ => Found::Nothing,
        }
    }

    /// Whether queries may see this namespace (`namespaces`, `namespace_labels`).
    pub(in crate::plugins) fn exposes(&self, namespace: &[u8]) -> bool {
        let listed = &self.answers.namespaces;
        let listed = listed.is_empty() || listed.iter().any(|name| name.as_bytes() == namespace);
        listed && (!self.answers.labelled_namespaces || self.cluster.has_namespace(namespace))
    }

    fn namespace_exists(&self, namespace: &[u8]) -> bool {
        self.exposes(namespace) && self.cluster.has_namespace(namespace)
    }

    /// Whether there are names of pods in this namespace.
    fn has_pods(&self, namespace: &[u8]) -> bool {
        self.answers.pods != Pods::Disabled && self.namespace_exists(namespace)
    }

    /// The address that a pod's name stands for, if there is such a name (KD-1 … KD-3).
    fn pod(&self, namespace: &[u8], label: &[u8]) -> Option<IpAddr> {
        if !self.has_pods(namespace) {
            return None;
        }
        let ip = pod_address(label)?;
        (self.answers.pods == Pods::Insecure || self.cluster.has_pod(namespace, ip)).then_some(ip)
    }

    fn push_address(
        &self,
        section: Section,
        owner: Owner<'_>,
        ip: IpAddr,
        reply: &mut Reply,
    ) -> bool {
        let ttl = self.answers.ttl;
        match ip {
            IpAddr::V4(ip) => {
                let a = (RecordType::A, Class::IN);
                reply.push_with(section, owner, a, ttl, |out| out.array(ip.octets()))
            }
            IpAddr::V6(ip) => {
                let aaaa = (RecordType::AAAA, Class::IN);
                reply.push_with(section, owner, aaaa, ttl, |out| out.array(ip.octets()))
            }
        }
    }
}

/// Writes an endpoint's host name: mostly one label (a pod's name may have more).
pub(in crate::plugins) fn write_host(out: &mut Rdata<'_>, host: &str) {
    host.split('.')
        .for_each(|label| out.label(label.as_bytes()));
}

/// Writes `SERVICE.NAMESPACE.svc`; the zone is to follow.
fn write_service(out: &mut Rdata<'_>, entry: &Entry) {
    out.label(entry.key.name.as_bytes());
    out.label(entry.key.namespace.as_bytes());
    out.label(b"svc");
}

/// Name servers' own addresses, found when the plugin is set up.
pub(super) type LocalAddresses = Arc<[IpAddr]>;
