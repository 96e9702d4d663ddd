#![doc = include_str!("README.md")]

mod apex;
mod config;
mod parse;
mod service;
#[cfg(test)]
mod tests;
mod transfer;

use crate::corefile::Error;
use crate::dns::{ExtendedError, Header, Name, Owner, Rcode, RecordType, Reply, Section, Zone};
use crate::plugin::transfer::Source as Transfers;
use crate::plugin::{Context, Hooks, Outcome, Plugin, Setup, Step};
use crate::plugins::kubernetes::follow::{Wanted, follow};
use crate::plugins::kubernetes::index::Entry;
use crate::plugins::kubernetes::{self, Provided};
use config::Config;
use parse::Subject;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// Builds the plugin from its occurrence in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let directive = setup.only_one()?;
    let config = Arc::new(Config::read(directive, &setup.block.zones)?);
    if !setup.loaded.contains(&"kubernetes") {
        return Err(directive.error("kubernetes plugin not loaded"));
    }
    // The cluster is set up after this plugin.
    let cluster = Arc::new(OnceLock::new());
    let (slot, provided) = (Arc::clone(&cluster), Arc::clone(setup.provided));
    let known = Arc::clone(&config);
    setup.hooks.start.push(Hooks::hook(move || async move {
        if let Some(found) = provided.get::<kubernetes::Provided>() {
            let zones = transfer::Zones::new(known, Arc::clone(&found));
            provided.provide(Arc::new(Transfers(Arc::new(zones))));
            // Set once: the hook runs once.
            let _ = slot.set(found);
        }
    }));
    setup.add(External { config, cluster });
    Ok(())
}

/// Answers for services that are reached from outside.
struct External {
    config: Arc<Config>,
    cluster: Arc<OnceLock<Arc<Provided>>>,
}

/// What a question came to.
#[derive(Clone, Debug)]
enum Found {
    /// Records were written; these are still to be asked for.
    Answered(Vec<Wanted>),
    /// The name exists, without such records.
    Nodata,
    /// The name does not exist.
    Nothing,
}

/// What answers are made from.
struct Source<'s> {
    config: &'s Config,
    cluster: &'s Provided,
}

impl Plugin for External {
    fn name(&self) -> &'static str {
        "k8s_external"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let name = cx.query.name();
        let Some(zone) = Zone::longest(&self.config.zones, name) else {
            return Step::Next;
        };
        let qtype = cx.query.qtype();
        let Some(cluster) = self.cluster.get() else {
            return Step::Done(Outcome::failed("kubernetes plugin not loaded"));
        };
        if matches!(qtype, RecordType::AXFR | RecordType::IXFR) {
            return Step::Done(Outcome::Unwritten {
                rcode: Rcode::REFUSED,
                error: None,
            });
        }
        let source = Source {
            config: &self.config,
            cluster,
        };
        let zone_at = name.label_count() - zone.label_count();
        match source.answer(name, qtype, zone, reply) {
            Found::Answered(wanted) if wanted.is_empty() => reply.set_flag(Header::AA, true),
            Found::Answered(wanted) => return follow(cx, reply, wanted),
            Found::Nodata => source.negative(Rcode::NOERROR, zone_at, reply),
            Found::Nothing if self.config.fallthrough.covers(name) => return Step::Next,
            Found::Nothing if cluster.index.is_synced() => {
                source.negative(Rcode::NXDOMAIN, zone_at, reply);
            }
            Found::Nothing => {
                source.negative(Rcode::SERVFAIL, zone_at, reply);
                let why = "the cluster's objects are not known yet";
                reply.add_extended_error(ExtendedError::new(ExtendedError::NOT_READY, why));
            }
        }
        reply.set_cluster_data();
        Step::Done(Outcome::Written)
    }
}

impl Source<'_> {
    /// Answers a question for `name`, which is in `zone`, into `reply`.
    fn answer(&self, name: &Name, qtype: RecordType, zone: &Zone, reply: &mut Reply) -> Found {
        let labels = name.label_count() - zone.label_count();
        match Subject::read(name, labels, &self.config.apex) {
            Subject::Zone => self.zone(qtype, reply),
            Subject::Apex => Found::Nodata,
            Subject::NameServer => self.name_server(qtype, reply),
            Subject::Unknown => Found::Nothing,
            subject => {
                let ip = kubernetes::parse::reverse_address(name);
                if let (RecordType::PTR, Some(ip)) = (qtype, ip) {
                    return self.pointer(ip, reply);
                }
                match subject {
                    Subject::Namespace(namespace) if self.sees(namespace) => Found::Nodata,
                    Subject::Service(asked) if self.sees(asked.namespace) => {
                        self.service(&asked, labels, qtype, reply)
                    }
                    _ => Found::Nothing,
                }
            }
        }
    }

    /// Whether there is such a namespace, for those outside.
    fn sees(&self, namespace: &[u8]) -> bool {
        self.cluster.exposes(namespace) && self.cluster.index.has_namespace(namespace)
    }

    /// PTR: the names of services by one of their external addresses (KE-5).
    fn pointer(&self, ip: IpAddr, reply: &mut Reply) -> Found {
        let mut found = Found::Nothing;
        let listed = &self.cluster.answers.namespaces;
        self.cluster.index.by_external_address(ip, |key| {
            if !listed.is_empty() && !listed.iter().any(|name| **name == *key.namespace) {
                return;
            }
            let ptr = (RecordType::PTR, crate::dns::Class::IN);
            let ttl = self.config.ttl;
            reply.push_with(Section::Answer, Owner::Query, ptr, ttl, |out| {
                out.label(key.name.as_bytes());
                out.label(key.namespace.as_bytes());
                out.octets(self.config.primary.wire());
            });
            found = Found::Answered(Vec::new());
        });
        found
    }

    /// When something that answers depend on last changed (KE-6).
    fn serial(&self) -> u32 {
        let index = &self.cluster.index;
        if self.config.headless {
            return index.external_serial().max(index.serial());
        }
        index.external_serial()
    }

    fn push_address(&self, section: Section, owner: Owner<'_>, ip: IpAddr, reply: &mut Reply) {
        let ttl = self.config.ttl;
        match ip {
            IpAddr::V4(ip) => reply.push(section, owner, RecordType::A, ttl, &ip.octets()),
            IpAddr::V6(ip) => reply.push(section, owner, RecordType::AAAA, ttl, &ip.octets()),
        };
    }
}

/// An external address of a service as the API gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host<'e> {
    /// An address.
    Address(IpAddr),
    /// The name of a load balancer.
    Name(&'e str),
}

/// The external addresses of a service, each once, in order.
fn hosts(entry: &Entry) -> impl Iterator<Item = Host<'_>> {
    let texts = entry.service.as_ref().map_or(&[][..], |s| &s.external_ips);
    let host = |text: &'_ str| match text.parse::<IpAddr>() {
        Ok(ip) => Ok(ip.to_canonical()),
        Err(_) => Err(()),
    };
    texts.iter().enumerate().filter_map(move |(at, text)| {
        let first = !texts[..at].contains(text);
        first.then(|| host(text).map_or(Host::Name(text), Host::Address))
    })
}
