//! An upstream with its health and its metrics; shared by all stanzas with the same settings.

use super::addresses::To;
use crate::dns::{Class, OwnedQuery, Rcode, RecordType, Zone};
use crate::metrics::{Counter, Histogram, Shard, TIME_BUCKETS};
use crate::plugin::Process;
use crate::upstream::{
    Encryption, ExchangeError, PoolSettings, Protocol, Upstream, UpstreamMetrics,
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::sleep;

/// The `proxy_name` label.
const PROXY_NAME: &str = "forward";
/// How long a probe waits (FW-8).
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Probes come no faster than this, whatever is configured.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

/// How an upstream that failed is probed (FW-7, FW-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) interval: Duration,
    pub(super) recurse: bool,
    pub(super) domain: Zone,
    pub(super) over_tcp: bool,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            recurse: true,
            domain: Zone::root(),
            over_tcp: false,
        }
    }
}

/// An upstream of a stanza.
pub(super) struct Peer {
    pub(super) upstream: Upstream,
    pool: PoolSettings,
    encryption: Option<Encryption>,
    probe: Probe,
    /// Probes that failed one after another.
    fails: AtomicU32,
    probing: AtomicBool,
    failures: Counter,
    durations: Durations,
}

impl Peer {
    /// The upstream `to` with these settings: that of another stanza, or of the configuration
    /// before, if there is one.
    pub(super) fn shared(
        process: &Arc<Process>,
        to: &To,
        pool: &PoolSettings,
        probe: &Probe,
    ) -> Arc<Self> {
        let encryption = to.encryption.as_ref();
        let fingerprint = encryption.map(Encryption::fingerprint);
        let to = to.address;
        let settings = format!("{to} {pool:?} {probe:?} {fingerprint:?}");
        process.shared.get_or(&settings, || {
            let labels = vec![
                ("proxy_name", PROXY_NAME.to_owned()),
                ("to", to.to_string()),
            ];
            let protocol = encryption.map(Encryption::protocol);
            let metrics = UpstreamMetrics::new(&process.metrics, PROXY_NAME, to, protocol);
            Self {
                upstream: Upstream::with_encryption(to, pool.clone(), encryption, Some(metrics)),
                pool: pool.clone(),
                encryption: encryption.cloned(),
                probe: probe.clone(),
                fails: AtomicU32::new(0),
                probing: AtomicBool::new(false),
                failures: process.metrics.counter(
                    "coredns_proxy_healthcheck_failures_total",
                    "Counter of the number of failed healthchecks.",
                    labels,
                ),
                durations: Durations::new(process, to),
            }
        })
    }

    /// Whether more than `max_fails` probes failed in a row; never if that is zero.
    pub(super) fn is_down(&self, max_fails: u32) -> bool {
        max_fails > 0 && self.fails.load(SeqCst) > max_fails
    }

    /// Counts how long a reply took.
    pub(super) fn observe(&self, took: Duration, rcode: Rcode) {
        self.durations.observe(took, rcode);
    }

    /// Probes the upstream in the background until it answers, unless that is being done. That it
    /// is down, with more than `max_fails` failed probes, is logged once, and that it is back.
    pub(super) fn check(self: &Arc<Self>, max_fails: u32) {
        if self.probing.swap(true, SeqCst) {
            return;
        }
        let peer = Arc::downgrade(self);
        let interval = self.probe.interval.max(SHORTEST_INTERVAL);
        crate::upstream::lane::background().spawn(async move {
            // Ends when no configuration refers to the upstream any more.
            while let Some(peer) = peer.upgrade() {
                let to = peer.upstream.remote();
                match peer.ask_probe().await {
                    Ok(()) => {
                        if peer.fails.swap(0, SeqCst) > max_fails {
                            tracing::info!(target: "plugin/forward", "upstream {to} is up again");
                        }
                        peer.probing.store(false, SeqCst);
                        return;
                    }
                    Err(error) => {
                        // The task is the only writer.
                        let fails = peer.fails.load(SeqCst).saturating_add(1);
                        peer.fails.store(fails, SeqCst);
                        peer.failures.inc();
                        if fails == max_fails.saturating_add(1) {
                            tracing::warn!(
                                target: "plugin/forward",
                                "upstream {to} is down: {fails} probes failed, the last one with {error}"
                            );
                        }
                    }
                }
                drop(peer);
                sleep(interval).await;
            }
        });
    }

    async fn ask_probe(&self) -> Result<(), ExchangeError> {
        let probe = &self.probe;
        let query = OwnedQuery::ask(
            probe.domain.wire(),
            RecordType::NS,
            Class::IN,
            probe.recurse,
        );
        let mut packet = query.view().packet().to_vec();
        let protocol = if probe.over_tcp {
            Protocol::Tcp
        } else {
            Protocol::Udp
        };
        // On a socket of its own: the pool's may be what is broken, or have no room.
        let settings = PoolSettings {
            expire: PROBE_TIMEOUT,
            ..self.pool.clone()
        };
        let (remote, encryption) = (self.upstream.remote(), self.encryption.as_ref());
        let upstream = Upstream::with_encryption(remote, settings, encryption, None);
        let asked = upstream.exchange(&mut packet, protocol, PROBE_TIMEOUT);
        match asked.await {
            // Whoever answers is alive, whatever the answer.
            Ok(_) | Err(ExchangeError::OtherQuestion { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// `coredns_proxy_request_duration_seconds` of one upstream, a histogram for each response code;
/// those that never came are not registered.
struct Durations {
    process: Arc<Process>,
    to: String,
    by_rcode: [OnceLock<Histogram>; 16],
}

impl Durations {
    fn new(process: &Arc<Process>, to: SocketAddr) -> Self {
        Self {
            process: Arc::clone(process),
            to: to.to_string(),
            by_rcode: Default::default(),
        }
    }

    fn observe(&self, took: Duration, rcode: Rcode) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        match self.by_rcode.get(usize::from(rcode.0)) {
            Some(known) => known
                .get_or_init(|| self.histogram(rcode))
                .observe(Shard::SHARED, nanos),
            None => self.histogram(rcode).observe(Shard::SHARED, nanos),
        }
    }

    fn histogram(&self, rcode: Rcode) -> Histogram {
        let rcode = match rcode.mnemonic() {
            Some(name) => name.to_owned(),
            None => rcode.0.to_string(),
        };
        self.process.metrics.histogram(
            "coredns_proxy_request_duration_seconds",
            "Histogram of the time each request took.",
            vec![
                ("proxy_name", PROXY_NAME.to_owned()),
                ("to", self.to.clone()),
                ("rcode", rcode),
            ],
            &TIME_BUCKETS,
            1e9,
        )
    }
}
