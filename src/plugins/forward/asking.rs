//! Asking the upstreams of a stanza: carries out what the [`Course`] of a query says.

use super::course::{Course, Next, View};
use super::failure::Tale;
use super::health::Standing;
use super::message::{is_truncated, rcode};
use super::peer::{Peer, Reason};
use super::stanza::{Answered, REFUSALS, Stanza};
use crate::dns::Rcode;
use crate::plugin::OwnedContext;
use crate::upstream::marker::Origin;
use crate::upstream::protocol::truncated;
use crate::upstream::{Cause, ExchangeError, Operation, Protocol, lane};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Fuse, FusedFuture};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// How long the exchange over TCP takes that follows a truncated reply, unless the Corefile says.
const TCP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a query waits that only finds out whether an upstream is back.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A query that is asked.
#[derive(Clone, Copy)]
struct Asked<'a> {
    packet: &'a [u8],
    /// Who forwards it.
    origin: Origin,
    protocol: Protocol,
    /// A longer UDP reply is taken as truncated.
    limit: usize,
}

/// An attempt that ended.
struct Ended {
    index: usize,
    asked: Instant,
    result: Result<(Bytes, Rcode), ExchangeError>,
}

impl Stanza {
    /// Asks upstreams until one answers or the bounds are reached. A UDP reply longer than `limit`
    /// is taken as truncated. What is to be said of it goes to `cx`.
    pub(super) async fn ask(
        &self,
        packet: &[u8],
        protocol: Protocol,
        limit: usize,
        cx: Option<&OwnedContext>,
    ) -> Answered {
        let note = |text: &dyn Fn() -> String| cx.into_iter().for_each(|cx| cx.note(text));
        note(&|| self.describe());
        let asked = Asked {
            packet,
            origin: self.origin,
            protocol,
            limit,
        };
        let mut now = Instant::now();
        let order = self.config.policy.order(self.peers.len());
        let mut run = Run {
            stanza: self,
            course: Course::new(self.rules(), &order, now),
            tale: Tale::default(),
            refusal: None,
            refusals: SmallVec::new(),
            before: None,
        };
        self.try_those_passed_over(asked, now);
        // The first attempt is part of this future; only those after it, which are rare, are
        // allocated.
        let mut first = pin!(Fuse::terminated());
        let mut others = Vec::new();
        let mut timer = pin!(None);
        let mut is_first = true;
        loop {
            match run.next(now) {
                Next::Ask(index, time) => {
                    let attempt = self.attempt(index, asked, time, now);
                    if std::mem::take(&mut is_first) {
                        first.set(attempt.fuse());
                    } else {
                        others.push(Box::pin(attempt));
                    }
                    continue;
                }
                Next::Wait(until) => timer.set(until.map(sleep_until)),
                Next::End => break,
            }
            let event = poll_fn(|cx| poll(cx, first.as_mut(), &mut others, timer.as_mut()));
            let ended = event.await;
            now = Instant::now();
            if let Some(ended) = ended {
                let peer = &self.peers[ended.index];
                note(&|| ended.describe(peer));
                if let Some(answered) = run.ended(ended, now) {
                    return answered;
                }
            }
        }
        if run.course.all_down() && self.config.fail_fast {
            note(&|| "all upstreams are down, and `failfast_all_unhealthy_upstreams`".into());
        }
        run.give_up(protocol, now)
    }

    /// Real queries find out whether those upstreams are back that this query passes over; nobody
    /// waits for them.
    fn try_those_passed_over(&self, asked: Asked<'_>, now: Instant) {
        let standings = || {
            let peers = self.peers.iter();
            peers.map(|peer| peer.standing(self.config.max_fails, now))
        };
        if self.peers.len() < 2 || standings().all(|standing| standing == Standing::Good) {
            return;
        }
        let best = standings().min().unwrap_or(Standing::Good);
        for (peer, standing) in self.peers.iter().zip(standings()) {
            if standing > best && peer.health.take_trial(now) {
                let (peer, mut packet) = (Arc::clone(peer), asked.packet.to_vec());
                let Asked {
                    origin, protocol, ..
                } = asked;
                let max_fails = self.config.max_fails;
                lane::background().spawn(async move {
                    peer.try_out(&mut packet, origin, protocol, max_fails).await;
                });
            }
        }
    }

    async fn attempt(
        &self,
        index: usize,
        asked: Asked<'_>,
        time: Duration,
        started: Instant,
    ) -> Ended {
        let peer = &*self.peers[index];
        // Each attempt writes its own id.
        let mut packet: SmallVec<[u8; 128]> = SmallVec::from_slice(asked.packet);
        let mut result = exchange(peer, &mut packet, asked, time, started).await;
        if let Ok((message, _)) = &result
            && peer.upstream.protocol(asked.protocol) == Protocol::Udp
            && is_truncated(message)
        {
            // In a box: it is rare, and would make every query's future larger.
            if let Some(whole) = Box::pin(self.ask_whole(peer, asked, time)).await {
                result = Ok(whole);
            }
        }
        Ended {
            index,
            asked: started,
            result,
        }
    }
}

impl Stanza {
    /// Asks over TCP what was truncated over UDP.
    async fn ask_whole(
        &self,
        peer: &Peer,
        asked: Asked<'_>,
        time: Duration,
    ) -> Option<(Bytes, Rcode)> {
        peer.count_retry(Reason::Truncated);
        let mut packet = asked.packet.to_vec();
        let asked = Asked {
            protocol: Protocol::Tcp,
            ..asked
        };
        let given = self.config.times_given;
        let limit = if given { time } else { time.min(TCP_TIMEOUT) };
        let whole = exchange(peer, &mut packet, asked, limit, Instant::now());
        // Connecting counts, so that the truncated reply still comes in time.
        timeout(limit, whole).await.ok()?.ok()
    }
}

/// One exchange. What is too long over UDP is taken as truncated (FW-14).
async fn exchange(
    peer: &Peer,
    packet: &mut [u8],
    asked: Asked<'_>,
    time: Duration,
    started: Instant,
) -> Result<(Bytes, Rcode), ExchangeError> {
    let protocol = peer.upstream.protocol(asked.protocol);
    let message = asked
        .origin
        .sends(peer.upstream.exchange(packet, protocol, time))
        .await?;
    let rcode = rcode(&message);
    peer.observe(started.elapsed(), rcode);
    if protocol == Protocol::Udp && message.len() > asked.limit {
        return Ok((truncated(&message).into(), rcode));
    }
    Ok((message, rcode))
}

impl Peer {
    /// Asks a query of which only is wanted that it is answered.
    async fn try_out(
        self: &Arc<Self>,
        packet: &mut [u8],
        origin: Origin,
        protocol: Protocol,
        max_fails: u32,
    ) {
        let asked = Asked {
            packet: &[],
            origin,
            protocol,
            limit: usize::MAX,
        };
        let result = exchange(self, packet, asked, TRIAL_TIMEOUT, Instant::now()).await;
        let now = Instant::now();
        match result {
            Ok((_, Rcode::NOERROR | Rcode::NXDOMAIN)) => self.health.succeeded(now),
            Ok(_) => self.health.heard(),
            Err(error) => self.failed(&error, now, max_fails),
        }
    }

    /// Takes note of an attempt that failed.
    fn failed(self: &Arc<Self>, error: &ExchangeError, now: Instant, max_fails: u32) {
        match error {
            ExchangeError::OtherQuestion { .. } | ExchangeError::Malformed { .. } => {
                self.health.erred(now);
                return;
            }
            // Not of its making.
            ExchangeError::Busy { .. } | ExchangeError::NoQuestion => {}
            _ => self.health.failed(now),
        }
        if max_fails > 0 {
            self.check(max_fails);
        }
    }
}

/// The first of: the end of an attempt, or `None` when the timer ends.
fn poll<F: Future<Output = Ended>>(
    cx: &mut Context<'_>,
    mut first: Pin<&mut Fuse<F>>,
    others: &mut Vec<Pin<Box<F>>>,
    timer: Pin<&mut Option<Sleep>>,
) -> Poll<Option<Ended>> {
    if !first.is_terminated()
        && let Poll::Ready(ended) = first.as_mut().poll(cx)
    {
        return Poll::Ready(Some(ended));
    }
    for at in 0..others.len() {
        if let Poll::Ready(ended) = others[at].as_mut().poll(cx) {
            drop(others.swap_remove(at));
            return Poll::Ready(Some(ended));
        }
    }
    match timer.as_pin_mut() {
        Some(timer) => timer.poll(cx).map(|()| None),
        None => Poll::Pending,
    }
}

impl Ended {
    fn describe(&self, peer: &Peer) -> String {
        let to = peer.upstream.remote();
        let millis = self.asked.elapsed().as_secs_f64() * 1e3;
        match &self.result {
            Ok((_, rcode)) => format!("upstream {to} answered {rcode} after {millis:.1} ms"),
            Err(error) => format!("upstream {to} failed after {millis:.1} ms: {error}"),
        }
    }
}

/// A query under way.
struct Run<'a> {
    stanza: &'a Stanza,
    course: Course,
    tale: Tale,
    /// The answer that is relayed if there is no better one.
    refusal: Option<(Bytes, Rcode, usize)>,
    /// Who refused.
    refusals: SmallVec<[u8; 4]>,
    /// The attempt that was the last to end without use, or else to begin.
    before: Option<(usize, Reason)>,
}

impl Run<'_> {
    fn next(&mut self, now: Instant) -> Next {
        let (stanza, were_down) = (self.stanza, self.course.all_down());
        let next = self.course.next(now, |index| {
            let peer = &stanza.peers[index];
            View {
                standing: peer.standing(stanza.config.max_fails, now),
                wait: peer.health.wait(),
            }
        });
        if !were_down && self.course.all_down() {
            stanza.broken.inc();
        }
        if let Next::Ask(index, _) = next {
            if let Some((before, reason)) = self.before {
                stanza.peers[before].count_retry(reason);
            }
            self.before = Some((index, Reason::Slow));
        }
        next
    }

    /// Judges an attempt; gives the answer if it brought it.
    fn ended(&mut self, ended: Ended, now: Instant) -> Option<Answered> {
        let index = ended.index;
        let (stanza, peer) = (self.stanza, &self.stanza.peers[index]);
        let to = peer.upstream.remote();
        match ended.result {
            Ok((message, rcode)) if stanza.is_refusal(rcode) => {
                self.before = Some((index, rcode.into()));
                peer.health.heard();
                self.tale.answered(to, rcode);
                self.refusals.push(index as u8);
                // FW-20 wants the last of them; else it is the first that says most.
                if self.refusal.is_none() || !stanza.config.failover.is_empty() {
                    self.refusal = Some((message, rcode, index));
                }
                self.course.refused(index, now);
                None
            }
            Ok((message, _)) => {
                peer.health.succeeded(now);
                for &index in &self.refusals {
                    stanza.peers[usize::from(index)].health.erred(now);
                }
                self.give_late_ones_up(now, index);
                Some(Answered::Message {
                    message,
                    from: to,
                    remark: None,
                })
            }
            Err(error) => {
                self.before = Some((index, (&error).into()));
                peer.failed(&error, now, stanza.config.max_fails);
                match error {
                    ExchangeError::OtherQuestion { .. } => self.course.mistaken(index, now),
                    _ => self.course.failed(index, now),
                }
                self.tale.failed(to, error);
                None
            }
        }
    }

    /// Those that should have answered before another one did have failed.
    fn give_late_ones_up(&self, now: Instant, winner: usize) {
        let max_fails = self.stanza.config.max_fails;
        for index in self.course.late(now).filter(|&index| index != winner) {
            let peer = &self.stanza.peers[index];
            peer.health.failed(now);
            if max_fails > 0 {
                peer.check(max_fails);
            }
        }
    }

    /// No upstream had an answer of use.
    fn give_up(mut self, protocol: Protocol, now: Instant) -> Answered {
        for index in self.course.unanswered() {
            let peer = &self.stanza.peers[index];
            let error = ExchangeError::Io {
                operation: Operation::Read,
                protocol,
                local: None,
                remote: peer.upstream.remote(),
                cause: Cause::Timeout,
            };
            peer.failed(&error, now, self.stanza.config.max_fails);
            self.tale.failed(peer.upstream.remote(), error);
        }
        match self.refusal {
            Some((message, rcode, index)) => Answered::Message {
                message,
                from: self.stanza.peers[index].upstream.remote(),
                remark: REFUSALS.contains(&rcode).then(|| self.tale.remark()),
            },
            None => Answered::Failed(self.tale.into_failure()),
        }
    }
}
