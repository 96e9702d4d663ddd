#![doc = include_str!("README.md")]

mod clients;
pub mod config;
mod explain;
pub(in crate::plugins) mod follow;
mod handle;
pub mod index;
mod labels;
pub mod object;
pub mod parse;
pub(in crate::plugins) mod records;
pub mod snapshot;
pub mod source;
pub(in crate::plugins) mod transfer;
mod visibility;

use crate::corefile::Error;
use crate::dns::{ExtendedError, Header, Name, Rcode, RecordType, Reply, Section, Zone};
use crate::plugin::transfer::Source as Transfers;
use crate::plugin::{Context, Hooks, Outcome, Plugin, Process, Setup, Step};
use clients::{Clients, WithClients};
use config::{Answers, Config};
use follow::{Wanted, follow};
pub use handle::{ClusterZones, Provided};
use index::{Index, Naming, Programming};
use object::Sink;
use records::{Found, Source};
use snapshot::Restored;
use source::{Resource, Running, Settings, Sinks};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
    // Only labels of queries need to know who is behind an address.
    config.settings.pod_labels = config.settings.pods && setup.loaded.contains(&"metadata");
    // The same objects are watched once, however many blocks and configurations look at them.
    let naming = Naming {
        zonal: config.answers.zonal,
        endpoint_pod_names: config.endpoint_pod_names,
        clusters: false,
    };
    let identity = format!("{:?} {naming:?}", config.settings);
    let cluster = setup.process.shared.get_or(&identity, || Cluster {
        index: Arc::new(Index::new(&config.kinds(), naming)),
        imports: imports(&config.settings, naming),
        clients: config.settings.pod_labels.then(Arc::default),
        running: Mutex::new(None),
        restored: OnceLock::new(),
    });
    cluster
        .index
        .observe(Programming::new(&setup.process.metrics));
    if !setup.process.check_only {
        cluster
            .start(&config, setup.process)
            .map_err(|error| directive.error(error))?;
    }
    let snapshot = match &config.snapshot {
        Some(options) => Some(keep_snapshot(setup, &config, options, &identity, &cluster)?),
        None => None,
    };
    visibility::register(&setup.process.metrics, &cluster, &config.settings);
    let (waited, patience) = (Arc::clone(&cluster), config.startup_timeout);
    setup
        .hooks
        .start
        .push(Hooks::hook(move || wait_for_sync(waited, patience)));
    setup.provided.provide(Arc::new(Provided {
        index: Arc::clone(&cluster.index),
        imports: cluster.imports.clone(),
        answers: config.answers.clone(),
    }));
    // Held by the block while the configuration is built, and no longer.
    let all = setup.process.shared.get_or("", ClusterZones::default);
    all.add(&config.answers.zones);
    setup.provided.provide(all);
    let zones = transfer::Zones::new(Arc::clone(&cluster.index), config.answers.clone());
    setup.provided.provide(Arc::new(Transfers(Arc::new(zones))));
    setup.add(Kubernetes {
        answers: config.answers,
        cluster,
        ready_when_restored: config.snapshot.is_some_and(|snapshot| snapshot.ready),
        _snapshot: snapshot,
    });
    Ok(())
}

/// Has the cluster's snapshot written and shown.
fn keep_snapshot(
    setup: &mut Setup<'_>,
    config: &Config,
    options: &snapshot::Options,
    identity: &str,
    cluster: &Arc<Cluster>,
) -> Result<snapshot::Handle, Error> {
    let weak = Arc::downgrade(cluster);
    let restored = move || weak.upgrade()?.restored.get().cloned();
    let metrics = &setup.process.metrics;
    snapshot::show(options, &config.kinds(), metrics, &cluster.index, restored);
    let (settings, index) = (&config.settings, &cluster.index);
    snapshot::setup(setup, options, settings, identity, index)
}

/// The index of imported services, if there are any.
fn imports(settings: &Settings, naming: Naming) -> Option<Arc<Index>> {
    let kinds = settings.import_kinds();
    let naming = Naming {
        clusters: true,
        zonal: false,
        ..naming
    };
    (!kinds.is_empty()).then(|| Arc::new(Index::new(&kinds, naming)))
}

/// An index, or two, and what keeps them current.
struct Cluster {
    index: Arc<Index>,
    /// Imported services: those of multicluster zones.
    imports: Option<Arc<Index>>,
    /// Who is behind an address, if labels of queries can ask for that.
    clients: Option<Arc<Clients>>,
    /// Set once the source runs; it stops when the last configuration that uses it is dropped.
    running: Mutex<Option<Running>>,
    /// What the index had from a snapshot before the source ran.
    restored: OnceLock<Arc<Restored>>,
}

impl Cluster {
    fn start(&self, config: &Config, process: &Arc<Process>) -> Result<(), String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            if let Some(options) = &config.snapshot
                && let Some(restored) =
                    snapshot::restore(options, &config.settings, &self.index, &process.metrics)
            {
                // The lock is held, and once it runs it runs: nobody else has set it.
                let _ = self.restored.set(Arc::new(restored));
            }
            let sinks = Sinks {
                cluster: self.sink(),
                imports: self.imports.clone().map(|index| index as Arc<dyn Sink>),
            };
            let started =
                source::start(&config.settings, sinks, &process.runtime, &process.metrics);
            *running = Some(started.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let index = Arc::clone(&self.index);
        match &self.clients {
            Some(clients) => Arc::new(WithClients {
                index,
                clients: Arc::clone(clients),
            }),
            None => index,
        }
    }

    /// Whether everything was listed once.
    fn is_synced(&self) -> bool {
        self.index.is_synced() && self.imports.as_ref().is_none_or(|index| index.is_synced())
    }

    /// The index that has the objects of a resource.
    fn index_of(&self, resource: Resource) -> Option<&Arc<Index>> {
        if resource.is_imported() {
            self.imports.as_ref()
        } else {
            Some(&self.index)
        }
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

/// Delays the start until every kind was listed, or `patience` is over (KS-1).
async fn wait_for_sync(cluster: Arc<Cluster>, patience: Duration) {
    let end = tokio::time::Instant::now() + patience;
    let mut said = tokio::time::Instant::now();
    while !cluster.is_synced() {
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
    /// `snapshot PATH ready`.
    ready_when_restored: bool,
    _snapshot: Option<snapshot::Handle>,
}

impl Plugin for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let name = cx.query.name();
        let Some(zone) = Zone::longest(&self.answers.zones, name) else {
            cx.note(|| "the name is in none of its zones".into());
            return Step::Next;
        };
        let qtype = cx.query.qtype();
        if matches!(qtype, RecordType::AXFR | RecordType::IXFR) {
            return Step::Done(Outcome::Unwritten {
                rcode: Rcode::REFUSED,
                error: None,
            });
        }
        let dialect = self.answers.dialect(zone);
        let imports = self.cluster.imports.as_deref();
        let source = Source {
            cluster: &self.cluster.index,
            services: imports
                .filter(|_| dialect.clusters)
                .unwrap_or(&self.cluster.index),
            answers: &self.answers,
            limit: cx.reply_limit(),
            dialect,
        };
        let zone_at = name.label_count() - zone.label_count();
        let found = source.answer(name, qtype, zone, reply);
        if cx.trace.is_some() {
            explain::remarks(&source, cx, zone, found);
        }
        match found {
            Found::Answered => reply.set_flag(Header::AA, true),
            Found::Alias(target) => return follow_alias(cx, reply, target),
            Found::Nodata => source.negative(Rcode::NOERROR, zone_at, reply),
            Found::Nothing if self.answers.fallthrough.covers(name) => return Step::Next,
            Found::Nothing if self.cluster.is_synced() => {
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

    fn metadata(
        &self,
        cx: &Context<'_>,
        _: &Reply,
        label: &str,
        out: &mut dyn std::fmt::Write,
    ) -> bool {
        let label = label.strip_prefix("kubernetes/");
        label.is_some_and(|label| self.write_metadata(cx, label, out))
    }

    fn ready(&self) -> Option<bool> {
        let restored = self.ready_when_restored && self.cluster.restored.get().is_some();
        Some(restored || self.cluster.is_synced())
    }
}

/// Asks the server for the target of an alias that leads out of the cluster (KA-5). The reply holds
/// the CNAME records that lead there.
fn follow_alias(cx: &Context<'_>, reply: &Reply, target: usize) -> Step {
    let Ok((name, _)) = Name::read(reply.message(), target) else {
        return Step::Done(Outcome::failed("an alias that is no name"));
    };
    let wanted = Wanted {
        name,
        qtype: cx.query.qtype(),
        section: Section::Answer,
    };
    follow(cx, reply, vec![wanted])
}
