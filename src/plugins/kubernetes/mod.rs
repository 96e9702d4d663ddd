#![doc = include_str!("README.md")]

pub mod config;
pub mod index;
pub mod object;
pub mod parse;
mod records;
pub mod source;

use crate::corefile::Error;
use crate::dns::{
    Class, ExtendedError, Header, Name, OwnedQuery, Owner, Rcode, RecordType, Records, Reply,
    Section, Spelled, Zone,
};
use crate::plugin::{Context, Hooks, Outcome, Plugin, Process, Setup, Step};
use config::{Answers, Config};
use index::{Index, Naming};
use object::{Kind, Sink};
use records::{Found, Source};
use source::Running;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Builds the plugin from its occurrence in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    setup_with(setup, source::Timing::default())
}

/// As [`setup`], with other waits than the usual ones.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup_with(setup: &mut Setup<'_>, timing: source::Timing) -> Result<(), Error> {
    let directive = setup.only_one()?;
    let base = setup.process.base_dir();
    let mut config = Config::read(directive, &setup.block.zones, &base)?;
    config.settings.timing = timing;
    config.answers.local = local_addresses(&setup.block.bind);
    // The same objects are watched once, however many blocks and configurations look at them.
    let naming = Naming {
        endpoint_pod_names: config.endpoint_pod_names,
    };
    let identity = format!("{:?} {naming:?}", config.settings);
    let cluster = setup.process.shared.get_or(&identity, || Cluster {
        index: Arc::new(Index::new(&config.kinds(), naming)),
        running: Mutex::new(None),
    });
    if !setup.process.check_only {
        cluster
            .start(&config, setup.process)
            .map_err(|error| directive.error(error))?;
    }
    count_objects(&setup.process.metrics, &cluster, &config.kinds());
    let (waited, patience) = (Arc::clone(&cluster), config.startup_timeout);
    setup
        .hooks
        .start
        .push(Hooks::hook(move || wait_for_sync(waited, patience)));
    setup.provided.provide(Arc::new(Provided {
        index: Arc::clone(&cluster.index),
        answers: config.answers.clone(),
    }));
    setup.add(Kubernetes {
        answers: config.answers,
        cluster,
    });
    Ok(())
}

/// What other plugins of the block get to know of the cluster ([`crate::plugin::Provided`]).
#[derive(Debug)]
pub struct Provided {
    /// The live index.
    pub index: Arc<Index>,
    /// What this occurrence of the plugin answers.
    pub answers: Answers,
}

/// An index and what keeps it current.
struct Cluster {
    index: Arc<Index>,
    /// Set once the source runs; it stops when the last configuration that uses it is dropped.
    running: Mutex<Option<Running>>,
}

impl Cluster {
    fn start(&self, config: &Config, process: &Arc<Process>) -> Result<(), String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            let sink: Arc<dyn Sink> = self.index.clone();
            let started = source::start(&config.settings, sink, &process.runtime, &process.metrics);
            *running = Some(started.map_err(|error| error.to_string())?);
        }
        Ok(())
    }
}

/// Addresses that name this server: those of `bind`, else those of the interfaces.
fn local_addresses(bind: &[std::net::IpAddr]) -> records::LocalAddresses {
    if !bind.is_empty() {
        return bind.into();
    }
    let all = crate::net::interfaces::addresses().unwrap_or_default();
    all.into_iter()
        .map(|(_, ip)| ip)
        .filter(|ip| !ip.is_loopback())
        .collect()
}

fn count_objects(metrics: &crate::metrics::Registry, cluster: &Arc<Cluster>, kinds: &[Kind]) {
    for &kind in kinds {
        let cluster = Arc::downgrade(cluster);
        metrics.read_gauge(
            "portolan_kubernetes_objects",
            "Objects of the cluster in the index.",
            vec![("kind", format!("{kind:?}"))],
            move || Some(cluster.upgrade()?.index.count(kind) as f64),
        );
    }
}

/// Delays the start until every kind was listed, or `patience` is over (KS-1).
async fn wait_for_sync(cluster: Arc<Cluster>, patience: Duration) {
    let end = tokio::time::Instant::now() + patience;
    let mut said = tokio::time::Instant::now();
    while !cluster.index.is_synced() {
        let now = tokio::time::Instant::now();
        if now >= end {
            tracing::warn!(target: "plugin/kubernetes", "starting server with unsynced Kubernetes API");
            return;
        }
        if now - said >= Duration::from_millis(500) {
            said = now;
            tracing::info!(target: "plugin/kubernetes", "waiting for Kubernetes API before starting server");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Answers for the cluster's zones.
struct Kubernetes {
    answers: Answers,
    cluster: Arc<Cluster>,
}

impl Plugin for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let name = cx.query.name();
        let Some(zone) = Zone::longest(&self.answers.zones, name) else {
            return Step::Next;
        };
        let qtype = cx.query.qtype();
        if matches!(qtype, RecordType::AXFR | RecordType::IXFR) {
            return Step::Done(Outcome::Unwritten {
                rcode: Rcode::REFUSED,
                error: None,
            });
        }
        let source = Source {
            index: &self.cluster.index,
            answers: &self.answers,
        };
        let zone_at = name.label_count() - zone.label_count();
        let found = source.answer(name, qtype, zone, reply);
        match found {
            Found::Answered => reply.set_flag(Header::AA, true),
            Found::Alias(target) => return follow(cx, reply, target),
            Found::Nodata => source.negative(Rcode::NOERROR, zone_at, reply),
            Found::Nothing if self.answers.fallthrough.covers(name) => return Step::Next,
            Found::Nothing if source.index.is_synced() => {
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

    fn ready(&self) -> Option<bool> {
        Some(self.cluster.index.is_synced())
    }
}

/// Asks the server for the target of an alias that leads out of the cluster (KA-5). The reply holds
/// the CNAME records that lead there.
fn follow(cx: &Context<'_>, reply: &Reply, target: usize) -> Step {
    let Ok((target, _)) = Name::read(reply.message(), target) else {
        return Step::Done(Outcome::failed("an alias that is no name"));
    };
    let mut inner = cx.to_owned();
    inner.query = OwnedQuery::with_question(&cx.query, target.wire(), cx.query.qtype(), Class::IN);
    let (aliases, counts) = (
        reply.message()[reply.records_offset()..].to_vec(),
        reply.counts(),
    );
    let answer = cx.chain.resolve(inner);
    let cx = cx.to_owned();
    Step::Wait(Box::pin(async move {
        let inner = match answer {
            Some(answer) => Some(answer.await),
            None => None,
        };
        let view = cx.view();
        let mut reply = Reply::new();
        reply.start(&view.query);
        reply.set_flag(Header::AA, true);
        reply.set_cluster_data();
        reply.push_wire(Section::Answer, &aliases, counts[0]);
        if let Some((outcome, inner)) = inner
            && outcome != Outcome::Dropped
        {
            append_answers(&inner, &mut reply);
        }
        (Outcome::Written, reply)
    }))
}

/// Appends addresses and aliases of another reply's answer section, their names in full and as they
/// are spelled there.
fn append_answers(from: &Reply, to: &mut Reply) {
    to.set_flag(Header::TC, from.has_flag(Header::TC));
    let message = from.message();
    let spelled = |at: usize| Spelled::read(message, at).map(|(name, _)| name);
    let records = Records::at(message, from.records_offset(), [from.counts()[0], 0, 0]);
    // The last alias's target, and where it stands in `to`: mostly the next owner.
    let mut last: Option<(Spelled, usize)> = None;
    for record in records.map_while(Result::ok) {
        let Ok(owner) = spelled(record.start) else {
            return;
        };
        let owner = match &last {
            Some((name, at)) if name.wire() == owner.wire() && *at < 0x4000 => Owner::At(*at),
            _ => Owner::Wire(owner.wire()),
        };
        let (rtype, ttl) = (record.rtype, record.ttl);
        match rtype {
            RecordType::A | RecordType::AAAA => {
                to.push(Section::Answer, owner, rtype, ttl, &message[record.rdata]);
            }
            RecordType::CNAME => {
                let Ok(target) = spelled(record.rdata.start) else {
                    return;
                };
                if to.push(Section::Answer, owner, rtype, ttl, target.wire()) {
                    let at = to.message().len() - target.wire().len();
                    last = Some((target, at));
                }
            }
            _ => {}
        }
    }
}
