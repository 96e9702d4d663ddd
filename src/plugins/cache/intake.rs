//! Taking in what the plugins behind the cache answer.

use super::classify::{Kind, classify};
use super::config::{Class, SHORT_TTL};
use super::entry::{Entry, Facts, pause_after};
use super::{Inner, Key, is_failure, is_question, wants_ad};
use crate::dns::{
    ExtendedError, Header, Normalised, Query, Rcode, RecordType, Reply, Section, edns,
};
use crate::plugin::{Context, Outcome};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds after which a further failure is the first one again.
const IN_TURN: u32 = 300;

/// How a reply comes to be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intake {
    /// A client's question that missed.
    Missed,
    /// A question asked ahead of expiry.
    Ahead,
    /// A question asked because the entry was stale: only some replies may take its place.
    Stale,
}

impl Inner {
    /// Lowers TTLs to the maximum, and changes nothing else.
    pub(super) fn cap(&self, reply: &mut Reply) {
        let negative = reply.rcode() != Rcode::NOERROR || reply.counts()[0] == 0;
        let class = if negative {
            &self.settings.denial
        } else {
            &self.settings.success
        };
        let max = class.max_ttl;
        reply.map_ttls(|ttl| ttl.min(max));
    }

    /// Takes a reply from the plugins behind: bounds its TTLs, stores it where it may be stored,
    /// and makes it what a hit would have given. Gives whether it may take the place of a stale
    /// entry; one that may not is left out of the store (but see `prefer_positive`).
    pub(super) fn take_in(
        &self,
        cx: &Context<'_>,
        reply: &mut Reply,
        intake: Intake,
        old: Option<&Entry>,
    ) -> bool {
        let query = &cx.query;
        let kind = if is_question(query) {
            classify(query, reply)
        } else {
            Kind::Other
        };
        let refreshed = if self.settings.stale.prefer_positive {
            kind == Kind::Success { answering: true }
        } else {
            !matches!(kind, Kind::Other | Kind::Failure)
        };
        keep_errors_only(reply);
        if reply.is_adopted() && !matches!(kind, Kind::Other | Kind::Failure) {
            self.state.recovery.answered(self.millis(latest(cx)));
        }
        if reply.is_cluster_data() {
            cx.note(|| "not stored: made from the cluster's index".into());
            self.cap(reply);
            return refreshed;
        }
        if intake == Intake::Stale && !refreshed && !self.settings.stale.prefer_positive {
            return false;
        }
        match kind {
            Kind::Other => {
                cx.note(|| "not stored: no kind of reply that is".into());
                self.cap(reply);
            }
            _ if !is_same_question(query, reply) => {
                cx.note(|| "not stored: the reply is to another question".into());
                self.metrics.drops.add(cx.shard, 1);
            }
            _ => self.store(cx, reply, kind, old),
        }
        // After it is stored, for the next client may want it.
        if !wants_ad(query) {
            reply.set_flag(Header::AD, false);
        }
        refreshed
    }

    /// Keeps in mind that no upstream gave an answer: for a second, and for twice as long after each
    /// further failure, as long as a SERVFAIL is kept at most (RFC 9520 §3.2).
    pub(super) fn take_in_failure(&self, cx: &Context<'_>, reply: &Reply, outcome: &Outcome) {
        let most = self.settings.servfail;
        if !is_question(&cx.query) || !is_resolution_failure(reply, outcome) || most == 0 {
            cx.note(|| "not stored: no plugin wrote a reply".into());
            return;
        }
        if !self.settings.denial.stores(cx.query.name()) {
            cx.note(|| "not stored: `disable` names its zone".into());
            return;
        }
        let key = Key::new(&cx.query);
        let hash = key.hash(&self.state.hasher);
        let now = self.millis(latest(cx));
        let mut before = 0;
        if let Some(last) = self.state.denial.find(hash, &key)
            && is_failure(last.rcode())
        {
            if last.is_servable(now, 0) {
                // Of questions that failed together, one counts.
                return;
            }
            let in_turn =
                last.is_servable(now, IN_TURN) && !self.state.recovery.is_over(&last, now);
            before = if in_turn { last.failures() } else { 0 };
        }
        let failures = before.saturating_add(1);
        let pause = pause_after(failures, Duration::from_secs(most.into()));
        // Below five minutes.
        let lifetime = (pause / 1000) as u32;
        let options = stored_options(reply);
        if let Some(entry) = Entry::of_failure(&key, &options, (failures, lifetime), now) {
            cx.note(|| format!("failure no. {failures} in turn, stored for {lifetime} s"));
            self.insert(cx, key, Arc::new(entry), true);
        }
    }

    fn store(&self, cx: &Context<'_>, reply: &mut Reply, kind: Kind, old: Option<&Entry>) {
        let denial = matches!(kind, Kind::Denial | Kind::Failure);
        let class: &Class = if denial {
            &self.settings.denial
        } else {
            &self.settings.success
        };
        let bound = |ttl| match kind {
            Kind::Failure => self.settings.servfail.min(ttl),
            _ => class.clamp(ttl),
        };
        let Ok(mut records) = Normalised::of_reply(reply) else {
            // Malformed rdata of a known type, or too long in full: the client may know better.
            cx.note(|| "not stored: malformed records".into());
            self.metrics.drops.add(cx.shard, 1);
            reply.map_ttls(bound);
            return;
        };
        match soa_minimum(reply).filter(|_| kind == Kind::Denial) {
            // RFC 2308 §5.
            Some(minimum) => records.map_record_ttls(|record| match record.rtype {
                RecordType::SOA => bound(record.ttl.min(minimum)),
                _ => bound(record.ttl),
            }),
            None => records.map_ttls(bound),
        }
        let lifetime = match kind {
            Kind::Failure => self.settings.servfail,
            Kind::Delegation => class.clamp(SHORT_TTL),
            _ => {
                let least = records.walk().map(|record| record.ttl).min();
                least.unwrap_or_else(|| class.clamp(SHORT_TTL))
            }
        };
        records.replace(reply);
        if lifetime == 0 || !class.stores(cx.query.name()) {
            cx.note(|| match lifetime {
                0 => "not stored: its TTL is 0".into(),
                _ => "not stored: `disable` names its zone".into(),
            });
            return;
        }
        let answering = kind == Kind::Success { answering: true };
        // An upstream's authority is not ours.
        let flags = [Header::AA, Header::RA, Header::AD]
            .into_iter()
            .filter(|&flag| reply.has_flag(flag) && !(flag == Header::AA && reply.is_adopted()))
            .sum();
        let facts = Facts {
            flags,
            rcode: reply.rcode(),
            answering,
            options: &stored_options(reply),
            lifetime,
        };
        let key = Key::new(&cx.query);
        let Some(entry) = Entry::new(&key, &records, &facts, self.millis(cx.received)) else {
            cx.note(|| "not stored: too long".into());
            self.metrics.oversize.add(cx.shard, 1);
            return;
        };
        if let Some(old) = old {
            entry.inherit_hits(old);
        }
        cx.note(|| format!("stored for {lifetime} s"));
        self.insert(cx, key, Arc::new(entry), denial);
    }

    fn insert(&self, cx: &Context<'_>, key: Key<'_>, entry: Arc<Entry>, denial: bool) {
        let (now, window) = (self.millis(cx.received), self.settings.stale.window);
        let prefer_positive = self.settings.stale.prefer_positive;
        let hash = key.hash(&self.state.hasher);
        if denial {
            let evicted = self.state.denial.insert(hash, entry, now, window);
            self.metrics.evictions_denial.add(cx.shard, evicted);
            return;
        }
        let answering = entry.answering;
        if prefer_positive && !answering {
            let known = self.state.success.find(hash, &key);
            if known.is_some_and(|known| known.answering && known.is_servable(now, window)) {
                return;
            }
        }
        let evicted = self.state.success.insert(hash, entry, now, window);
        self.metrics.evictions_success.add(cx.shard, evicted);
        // It is the newest that is known of the name (CA-15).
        if answering || !prefer_positive {
            self.state.denial.remove(hash, &key);
        }
    }
}

/// When a reply came, not before its question did.
fn latest(cx: &Context<'_>) -> Instant {
    Instant::now().max(cx.received)
}

/// Whether upstreams were asked, and gave no answer. What the server itself refuses, or does not
/// know yet, is asked again.
fn is_resolution_failure(reply: &Reply, outcome: &Outcome) -> bool {
    let Outcome::Unwritten { rcode, .. } = outcome else {
        return false;
    };
    let by_upstreams = |error: &ExtendedError| {
        matches!(
            error.code,
            ExtendedError::NO_REACHABLE_AUTHORITY
                | ExtendedError::NETWORK_ERROR
                | ExtendedError::INVALID_DATA
        )
    };
    *rcode == Rcode::SERVFAIL
        && !reply.is_cluster_data()
        && reply.extended_errors().iter().any(by_upstreams)
}

/// The MINIMUM field, the last one, of the SOA records that come with a denial; the least.
fn soa_minimum(reply: &Reply) -> Option<u32> {
    let soa = |record: &crate::dns::Record| {
        record.section == Section::Authority && record.rtype == RecordType::SOA
    };
    let minimum = |record: crate::dns::Record| {
        let (_, last) = reply.message()[record.rdata].split_last_chunk::<4>()?;
        Some(u32::from_be_bytes(*last))
    };
    reply.records().filter(soa).filter_map(minimum).min()
}

/// Whether the reply carries the query's question.
fn is_same_question(query: &Query<'_>, reply: &Reply) -> bool {
    let question = reply.message().get(12..reply.records_offset());
    question.is_some_and(|question| question.eq_ignore_ascii_case(query.question()))
}

fn errors_of(options: &[u8]) -> impl Iterator<Item = &[u8]> {
    edns::options(options)
        .filter(|(code, _)| *code == edns::option::EXTENDED_ERROR)
        .map(|(_, data)| data)
}

fn push_error(out: &mut Vec<u8>, data: [&[u8]; 2]) {
    let len = (data[0].len() + data[1].len()) as u16;
    out.extend_from_slice(&edns::option::EXTENDED_ERROR.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(data[0]);
    out.extend_from_slice(data[1]);
}

/// Removes what an upstream said with EDNS, but extended errors: the rest is from hop to hop.
fn keep_errors_only(reply: &mut Reply) {
    if reply.upstream_options().is_empty() {
        return;
    }
    let mut errors = Vec::new();
    for data in errors_of(reply.upstream_options()) {
        push_error(&mut errors, [data, &[]]);
    }
    reply.set_upstream_options(&errors);
}

/// The options to store: all extended errors of the reply.
fn stored_options(reply: &Reply) -> Vec<u8> {
    let mut errors = reply.upstream_options().to_vec();
    for error in reply.extended_errors() {
        // Texts are the server's own, or from the Corefile; the longest fits an option.
        let text = &error.text.as_bytes()[..error.text.floor_char_boundary(1024)];
        push_error(&mut errors, [&error.code.to_be_bytes(), text]);
    }
    errors
}
