//! The probe that finds a loop, and what is known from it.
//!
//! A question with a name that nobody else knows is sent to the server's own address. If it comes
//! by again after it was forwarded, what is forwarded comes back.

use super::returned::{Return, Returned};
use crate::dns::{Class, Name, OwnedQuery, RecordType, Zone};
use crate::plugin::Client;
use crate::upstream::{PoolSettings, Protocol, Upstream};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// Sightings of one probe that make a loop (LP-2).
const SIGHTINGS: u32 = 3;
/// How long after the start probes are sent while they fail (LP-1).
const GIVE_UP: Duration = Duration::from_secs(30);
/// The pause after a probe that failed (LP-1).
const RETRY: Duration = Duration::from_secs(1);
/// How long a probe is waited for: longer than `forward` tries its upstreams.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long after its answer a probe may still come by.
const LINGER: Duration = Duration::from_secs(2);
/// The pause before a loop that was found is looked for again.
const AGAIN: Duration = Duration::from_secs(30);

/// What a HINFO query is to the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Another question.
    NotOurs,
    /// The probe, as often as it may come by.
    Expected,
    /// The probe, once too often.
    Loop,
}

/// What is known about the block's forwarding.
#[derive(Debug)]
pub(super) struct Detector {
    zone: Zone,
    listen: SocketAddr,
    /// Whether a probe may be under way; looked at before the lock is taken.
    probing: AtomicBool,
    probe: Mutex<Probe>,
    looping: AtomicBool,
    returned: Returned,
    task: OnceLock<AbortHandle>,
}

#[derive(Debug)]
struct Probe {
    name: Name,
    sightings: u32,
}

impl Detector {
    pub(super) fn new(zone: Zone, listen: SocketAddr) -> Self {
        Self {
            zone,
            listen,
            probing: AtomicBool::new(false),
            probe: Mutex::new(Probe {
                name: Name::root(),
                sightings: 0,
            }),
            looping: AtomicBool::new(false),
            returned: Returned::default(),
            task: OnceLock::new(),
        }
    }

    /// Whether what is forwarded comes back: the probe, or other queries.
    pub(super) fn is_looping(&self) -> bool {
        self.is_probe_looping() || self.returned.is_looping(Instant::now())
    }

    /// Whether the probe came back.
    pub(super) fn is_probe_looping(&self) -> bool {
        self.looping.load(SeqCst)
    }

    /// A query came by that the block itself has in flight.
    pub(super) fn sight_returned(&self, name: &Name, client: Client) -> Return {
        let returned = self.returned.sight(Instant::now());
        if returned == (Return::Loop { new: true }) {
            tracing::error!(
                target: "plugin/loop",
                "Loop ({} -> {}) detected for zone \"{}\": the query for {name} that was forwarded \
                 came back. Queries that come back are answered SERVFAIL",
                client.addr,
                client.local,
                self.zone,
            );
        }
        returned
    }

    /// Looks at a HINFO query that came by.
    pub(super) fn sight(&self, name: &Name, client: Client) -> Sighting {
        if !self.probing.load(SeqCst) {
            return Sighting::NotOurs;
        }
        let mut probe = self.probe();
        if probe.name != *name {
            return Sighting::NotOurs;
        }
        probe.sightings += 1;
        if probe.sightings < SIGHTINGS {
            return Sighting::Expected;
        }
        if !self.looping.swap(true, SeqCst) {
            tracing::error!(
                target: "plugin/loop",
                "Loop ({} -> {}) detected for zone \"{}\", see https://coredns.io/plugins/loop#troubleshooting. \
                 Query: \"HINFO {name}\". Until it is gone, what would be forwarded is answered SERVFAIL",
                client.addr,
                client.local,
                self.zone,
            );
        }
        Sighting::Loop
    }

    /// Starts to send probes, on the runtime that this is called on.
    pub(super) fn start(self: &Arc<Self>) {
        let task = tokio::spawn(watch(Arc::downgrade(self), self.listen));
        // A configuration is started once.
        let _ = self.task.set(task.abort_handle());
    }

    /// Makes up a new probe. `None` where the zone leaves no room for its name.
    fn arm(&self) -> Option<OwnedQuery> {
        let label = || rand::random::<u64>() >> 2;
        let zone = match self.zone.text() {
            "." => "",
            text => text,
        };
        let name = Name::from_text(&format!("{}.{}.{zone}", label(), label())).ok()?;
        let query = OwnedQuery::ask(name.wire(), RecordType::HINFO, Class::IN, true);
        *self.probe() = Probe { name, sightings: 0 };
        self.probing.store(true, SeqCst);
        Some(query)
    }

    /// Whether the last probe came by too often.
    fn found(&self) -> bool {
        self.probe().sightings >= SIGHTINGS
    }

    /// No probe is under way any more; if it found none, there is no loop.
    fn disarm(&self) {
        self.probing.store(false, SeqCst);
        if self.looping.swap(false, SeqCst) {
            tracing::info!(
                target: "plugin/loop",
                "Loop for zone \"{}\" is gone: queries are forwarded again",
                self.zone
            );
        }
    }

    fn probe(&self) -> MutexGuard<'_, Probe> {
        self.probe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Sends probes until one comes back without a loop. Ends with the configuration.
async fn watch(detector: Weak<Detector>, listen: SocketAddr) {
    let started = Instant::now();
    while let Some(query) = detector.upgrade().and_then(|detector| detector.arm()) {
        let mut packet = query.view().packet().to_vec();
        // A new socket for each probe, closed behind it.
        let server = Upstream::new(listen, PoolSettings::default(), None);
        let answer = server.exchange(&mut packet, Protocol::Udp, TIMEOUT).await;
        drop(server);
        if answer.is_ok() {
            sleep(LINGER).await;
        }
        let Some(known) = detector.upgrade() else {
            return;
        };
        let pause = match (known.found(), answer) {
            (true, _) => AGAIN,
            (false, Ok(_)) => return known.disarm(),
            // Nothing is known: a loop that was found before is still taken for one.
            (false, Err(_)) if !known.is_probe_looping() && started.elapsed() >= GIVE_UP => {
                return known.disarm();
            }
            (false, Err(_)) => RETRY,
        };
        drop(known);
        sleep(pause).await;
    }
}
