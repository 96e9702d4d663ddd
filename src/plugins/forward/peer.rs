//! An upstream with its health and its metrics; shared by all stanzas with the same settings.

use super::addresses::To;
use super::health::{Health, Standing};
use crate::dns::{Class, OwnedQuery, Rcode, RecordType, Zone};
use crate::metrics::{Cells, Counter, Histogram, Labels, Shard, TIME_BUCKETS};
use crate::plugin::Process;
use crate::upstream::{
    Cause, Encryption, ExchangeError, PoolSettings, Protocol, Upstream, UpstreamMetrics,
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, sleep};

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
    /// What real queries say.
    pub(super) health: Health,
    /// Probes that failed one after another.
    fails: AtomicU32,
    /// More failed probes than that are too many, as the stanza said that asked last.
    max_fails: AtomicU32,
    probing: AtomicBool,
    failures: Counter,
    retries: Arc<Cells>,
    durations: Durations,
}

/// Why another attempt was made after one at this upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its answer did not come in the time that its answers take.
    Slow,
    /// No answer came at all.
    Timeout,
    /// Another I/O error.
    Error,
    /// What came is no answer to the question.
    Invalid,
    /// It answered with this code.
    Servfail,
    /// It answered with this code.
    Refused,
    /// It answered with another code.
    Rcode,
    /// Its answer was truncated; it was asked over TCP.
    Truncated,
}

impl Reason {
    /// In the order of the discriminants.
    const LABELS: [&str; 8] = [
        "slow",
        "timeout",
        "error",
        "invalid",
        "servfail",
        "refused",
        "rcode",
        "truncated",
    ];
}

impl From<&ExchangeError> for Reason {
    fn from(error: &ExchangeError) -> Self {
        match error {
            ExchangeError::OtherQuestion { .. } | ExchangeError::Malformed { .. } => Self::Invalid,
            error if error.cause() == Some(Cause::Timeout) => Self::Timeout,
            _ => Self::Error,
        }
    }
}

impl From<Rcode> for Reason {
    fn from(rcode: Rcode) -> Self {
        match rcode {
            Rcode::SERVFAIL => Self::Servfail,
            Rcode::REFUSED => Self::Refused,
            _ => Self::Rcode,
        }
    }
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
        let peer = process.shared.get_or(&settings, || {
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
                health: Health::new(Instant::now()),
                fails: AtomicU32::new(0),
                max_fails: AtomicU32::new(u32::MAX),
                probing: AtomicBool::new(false),
                failures: process.metrics.counter(
                    "coredns_proxy_healthcheck_failures_total",
                    "Counter of the number of failed healthchecks.",
                    labels,
                ),
                retries: process.metrics.row(
                    "portolan_forward_retries_total",
                    "Further attempts for a query, by the upstream that was asked before and the reason.",
                    vec![("to", to.to_string())],
                    || Reason::LABELS.map(|reason| retry_labels(to, reason)).into(),
                ),
                durations: Durations::new(process, to),
            }
        });
        peer.show(process);
        peer
    }

    /// Shows the health, as long as there is somebody who asks.
    fn show(self: &Arc<Self>, process: &Process) {
        let labels = || vec![("to", self.upstream.remote().to_string())];
        let (state, round_trip) = (Arc::downgrade(self), Arc::downgrade(self));
        process.metrics.read_gauge(
            "portolan_forward_upstream_state",
            "Whether an upstream answers: 0 it does, 1 it is passed over while a better one exists, 2 probes found it down.",
            labels(),
            move || {
                let peer = state.upgrade()?;
                let max_fails = peer.max_fails.load(SeqCst);
                Some(match peer.standing(max_fails, Instant::now()) {
                    Standing::Good => 0.0,
                    Standing::Doubtful | Standing::Silent => 1.0,
                    Standing::Down => 2.0,
                })
            },
        );
        process.metrics.read_gauge(
            "portolan_forward_rtt_seconds",
            "Smoothed round-trip time of the queries to an upstream.",
            labels(),
            move || Some(round_trip.upgrade()?.health.round_trip()?.as_secs_f64()),
        );
    }

    /// Counts another attempt after one here.
    pub(super) fn count_retry(&self, reason: Reason) {
        self.retries.add(Shard::SHARED, reason as usize, 1);
    }

    /// How it stands among the upstreams of a stanza with this `max_fails`.
    pub(super) fn standing(&self, max_fails: u32, now: Instant) -> Standing {
        match self.is_down(max_fails) {
            true => Standing::Down,
            false => self.health.standing(now),
        }
    }

    /// Whether more than `max_fails` probes failed in a row; never if that is zero.
    pub(super) fn is_down(&self, max_fails: u32) -> bool {
        max_fails > 0 && self.fails.load(SeqCst) > max_fails
    }

    /// Takes note of a reply: whoever answers a real query is alive.
    pub(super) fn observe(&self, took: Duration, rcode: Rcode) {
        self.durations.observe(took, rcode);
        self.health.replied(took);
        if self.fails.load(SeqCst) > 0 {
            let fails = self.fails.swap(0, SeqCst);
            self.tell_of_return(fails, self.max_fails.load(SeqCst));
        }
    }

    fn tell_of_return(&self, fails: u32, max_fails: u32) {
        if fails > max_fails {
            let to = self.upstream.remote();
            tracing::info!(target: "plugin/forward", "upstream {to} is up again");
        }
    }

    /// Probes the upstream in the background until it answers, unless that is being done. That it
    /// is down, with more than `max_fails` failed probes, is logged once, and that it is back.
    pub(super) fn check(self: &Arc<Self>, max_fails: u32) {
        self.max_fails.store(max_fails, SeqCst);
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
                        peer.tell_of_return(peer.fails.swap(0, SeqCst), max_fails);
                        peer.probing.store(false, SeqCst);
                        return;
                    }
                    Err(error) => {
                        // At two a second it does not wrap for decades.
                        let fails = peer.fails.fetch_add(1, SeqCst).saturating_add(1);
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

fn retry_labels(to: SocketAddr, reason: &'static str) -> Labels {
    vec![("to", to.to_string()), ("reason", reason.to_owned())]
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
