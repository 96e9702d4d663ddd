#![doc = include_str!("README.md")]

mod classify;
mod config;
mod entry;
mod intake;
mod metrics;
mod refresh;
mod store;
#[cfg(test)]
mod tests;

use crate::corefile::Error;
use crate::dns::{ExtendedError, Header, Name, Opcode, Query, Rcode, RecordType, Reply, Zone};
use crate::plugin::{Context, Outcome, Plugin, Setup, Step};
use config::Settings;
use entry::{Entry, FAILURE_LEAST, Millis, Ttl};
use intake::Intake;
use metrics::Metrics;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;
use store::{Found, Store};

/// Builds the plugin from its occurrence in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let settings = Settings::read(setup.only_one()?, &setup.block.zones)?;
    let block: Vec<&str> = setup.block.zones.iter().map(Zone::text).collect();
    // What else is set decides what is stored and how it is served, but not where.
    let identity = format!(
        "{} {} {} {} {} {:?}",
        setup.block.server,
        block.join(","),
        settings.zones_label(),
        settings.success.capacity,
        settings.denial.capacity,
        settings.memory,
    );
    let state = setup
        .process
        .shared
        .get_or(&identity, || State::new(&settings));
    state.retain_allowed(&settings);
    let metrics = Metrics::new(
        &setup.process.metrics,
        &setup.block.server,
        &settings.zones_label(),
        &state,
    );
    let runtime = setup.process.runtime.clone();
    setup.add(Cache(Arc::new(Inner {
        settings,
        state,
        metrics,
        runtime,
    })));
    Ok(())
}

/// What survives a reload that leaves server block, zones, capacities and memory as they are.
#[derive(Debug)]
struct State {
    success: Store,
    denial: Store,
    hasher: foldhash::quality::RandomState,
    /// Where the milliseconds of entries start.
    epoch: Instant,
    refreshes: Arc<tokio::sync::Semaphore>,
    recovery: Recovery,
}

/// When upstreams answered again after a time in which none did: failures from before are over.
#[derive(Debug, Default)]
struct Recovery {
    last_reply: AtomicU64,
    recovered: AtomicU64,
}

impl Recovery {
    /// Notes that an upstream answered.
    fn answered(&self, now: Millis) {
        let silence = now.saturating_sub(self.last_reply.load(Relaxed));
        if silence >= FAILURE_LEAST {
            self.recovered.store(now, Relaxed);
        }
        // Seldom, for other threads note the same.
        if silence >= FAILURE_LEAST / 10 {
            self.last_reply.store(now, Relaxed);
        }
    }

    /// Whether this failure is of a time of silence that is over. It counts for a second in any
    /// case (RFC 9520 §3.2).
    fn is_over(&self, failure: &Entry, now: Millis) -> bool {
        failure.failures() > 0
            && failure.age(now) >= 1
            && self.recovered.load(Relaxed) > failure.stored()
    }
}

impl State {
    fn new(settings: &Settings) -> Self {
        let [success, denial] = settings.budgets();
        Self {
            success: Store::new(settings.success.capacity, success),
            denial: Store::new(settings.denial.capacity, denial),
            hasher: foldhash::quality::RandomState::default(),
            epoch: Instant::now(),
            refreshes: Arc::new(tokio::sync::Semaphore::new(crate::limits::CACHE_REFRESHES)),
            recovery: Recovery::default(),
        }
    }

    /// Removes what was stored for longer than is set now, or in a zone that is disabled now.
    fn retain_allowed(&self, settings: &Settings) {
        for (store, class) in [
            (&self.success, &settings.success),
            (&self.denial, &settings.denial),
        ] {
            store.retain(|entry| {
                let failure = is_failure(entry.rcode());
                let most = if failure {
                    settings.servfail
                } else {
                    class.max_ttl
                };
                let name = Name::read(entry.key().name, 0);
                entry.lifetime() <= most && name.is_ok_and(|(name, _)| class.stores(&name))
            });
        }
    }
}

/// What replies are told apart by (CA-4): the name in lower case, and type, class, DO and CD bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key<'k> {
    name: &'k [u8],
    question: (u16, u16, u8),
}

impl<'k> Key<'k> {
    #[inline]
    fn new(query: &'k Query<'_>) -> Self {
        let bits = u8::from(query.dnssec_ok()) | u8::from(query.header().has(Header::CD)) << 1;
        Self {
            name: query.name().wire(),
            question: (query.qtype().0, query.qclass().0, bits),
        }
    }

    #[inline]
    fn hash(&self, state: &impl BuildHasher) -> u64 {
        let (qtype, qclass, bits) = self.question;
        let mut hasher = state.build_hasher();
        hasher.write(self.name);
        hasher.write_u64(u64::from(qtype) | u64::from(qclass) << 16 | u64::from(bits) << 32);
        hasher.finish()
    }
}

/// The plugin.
struct Cache(Arc<Inner>);

struct Inner {
    settings: Settings,
    state: Arc<State>,
    metrics: Metrics,
    runtime: tokio::runtime::Handle,
}

impl Plugin for Cache {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let inner = &self.0;
        if !inner.is_in_zones(&cx.query) {
            cx.note(|| "the name is in none of its zones".into());
            return Step::Next;
        }
        inner.metrics.requests.add(cx.shard, 1);
        let now = inner.millis(cx.received);
        let Some(found) = inner.look_up(cx, now) else {
            inner.metrics.misses.add(cx.shard, 1);
            cx.note(|| "miss: it has no answer to this question".into());
            return Step::Next;
        };
        found.visit();
        let age = found.age(now);
        if age < found.lifetime() {
            cx.note(|| {
                let (rcode, left) = (found.rcode(), found.remaining(now));
                format!("hit: {rcode} stored {age} s ago, good for {left} s more")
            });
            let prefetches = inner.settings.prefetch.amount > 0 && cx.trace.is_none();
            if prefetches && inner.is_due(&found, now) {
                refresh::spawn(inner, cx, &found, false);
            }
            let ttl = Ttl::Aged(if inner.settings.keep_ttl { 0 } else { age });
            inner.write(&cx.query, &found, reply, ttl);
            return Step::Done(Outcome::Written);
        }
        cx.note(|| {
            let (rcode, over) = (found.rcode(), age - found.lifetime());
            format!("stale hit: {rcode} stored {age} s ago, over for {over} s (serve_stale)")
        });
        match inner.settings.stale.verify {
            Some(timeout) => {
                if let Some(answer) = refresh::verify(inner, cx, &found, timeout) {
                    return Step::Wait(answer);
                }
            }
            None => refresh::spawn(inner, cx, &found, true),
        }
        inner.metrics.served_stale.add(cx.shard, 1);
        inner.write_stale(&cx.query, &found, reply);
        Step::Done(Outcome::Written)
    }

    fn answered(&self, cx: &mut Context<'_>, reply: &mut Reply, outcome: &mut Outcome) {
        let inner = &self.0;
        if !inner.is_in_zones(&cx.query) {
            return;
        }
        if *outcome != Outcome::Written {
            inner.take_in_failure(cx, reply, outcome);
            return;
        }
        if reply.is_cluster_data() {
            cx.note(|| "not stored: made from the cluster's index".into());
            inner.cap(reply);
        } else {
            inner.take_in(cx, reply, Intake::Missed, None);
        }
    }
}

impl Inner {
    #[inline]
    fn is_in_zones(&self, query: &Query<'_>) -> bool {
        let zones = &self.settings.zones;
        zones.iter().any(|zone| zone.contains(query.name()))
    }

    /// Milliseconds of the store's clock.
    fn millis(&self, at: Instant) -> Millis {
        let since = at.saturating_duration_since(self.state.epoch);
        since.as_secs() * 1000 + u64::from(since.subsec_millis())
    }

    /// The entry that answers the query (CA-15, CA-20).
    #[inline]
    fn look_up(&self, cx: &Context<'_>, now: Millis) -> Option<Found> {
        if !is_question(&cx.query) {
            return None;
        }
        let stale = &self.settings.stale;
        let key = Key::new(&cx.query);
        let hash = key.hash(&self.state.hasher);
        let success = || {
            let found = self.state.success.find(hash, &key);
            found.filter(|entry| entry.is_servable(now, stale.window))
        };
        let hit = |found: Found| {
            self.metrics.hits_success.add(cx.shard, 1);
            Some(found)
        };
        if stale.prefer_positive
            && let Some(found) = success()
            && found.answering
        {
            return hit(found);
        }
        let Some(denial) = self.state.denial.find(hash, &key) else {
            return success().and_then(hit);
        };
        // A failure says nothing of what was known before it, and is never served stale.
        let failure = is_failure(denial.rcode());
        let window = if failure { 0 } else { stale.window };
        if !denial.is_servable(now, window)
            || (failure && self.state.recovery.is_over(&denial, now))
        {
            return success().and_then(hit);
        }
        // A stale denial is no better than a positive reply, even a stale one.
        if (failure || denial.age(now) >= denial.lifetime())
            && let Some(found) = success()
        {
            return hit(found);
        }
        self.metrics.hits_denial.add(cx.shard, 1);
        Some(denial)
    }

    /// Whether the entry is popular, and near its end (CA-18). Counts the hit.
    fn is_due(&self, entry: &Entry, now: Millis) -> bool {
        let prefetch = &self.settings.prefetch;
        let popular = entry.count_hit(now, prefetch.gap, prefetch.amount);
        let share = u64::from(entry.lifetime()) * u64::from(prefetch.percentage);
        // A failure is kept so that nobody asks (RFC 9520 §3.2).
        popular
            && !is_failure(entry.rcode())
            && u64::from(entry.remaining(now)) <= share.div_ceil(100)
    }

    #[inline]
    fn write(&self, query: &Query<'_>, entry: &Entry, reply: &mut Reply, ttl: Ttl) {
        entry.write(reply, ttl, wants_ad(query));
        if entry.rcode() == Rcode::SERVFAIL {
            reply.add_extended_error(ExtendedError::new(ExtendedError::CACHED_ERROR, ""));
        }
    }

    fn write_stale(&self, query: &Query<'_>, entry: &Entry, reply: &mut Reply) {
        let ttl = match self.settings.stale.ttl {
            // CoreDNS: without a TTL of its own, `keepttl` holds for stale records too.
            0 if self.settings.keep_ttl => Ttl::Aged(0),
            ttl => Ttl::Fixed(ttl),
        };
        self.write(query, entry, reply, ttl);
        let code = match entry.rcode() {
            Rcode::NXDOMAIN => ExtendedError::STALE_NXDOMAIN_ANSWER,
            _ => ExtendedError::STALE_ANSWER,
        };
        reply.add_extended_error(ExtendedError::new(code, ""));
    }
}

/// Whether replies with this code are kept as failures (CA-6).
#[inline]
fn is_failure(rcode: Rcode) -> bool {
    matches!(rcode, Rcode::SERVFAIL | Rcode::NOTIMP)
}

/// Whether the message is a question that can have a stored answer (CA-7).
#[inline]
fn is_question(query: &Query<'_>) -> bool {
    query.header().opcode() == Opcode::QUERY
        && !matches!(query.qtype(), RecordType::AXFR | RecordType::IXFR)
}

/// Whether the client wants to know of authenticated data (RFC 6840 §5.7).
#[inline]
fn wants_ad(query: &Query<'_>) -> bool {
    query.dnssec_ok() || query.header().has(Header::AD)
}
