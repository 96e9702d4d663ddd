//! From a packet to a reply, whatever the transport.

use super::Routes;
use super::panics::{self, Panic};
use crate::dns::{ExtendedError, Query, Rcode, Reject, Reply};
use crate::metrics::{Observed, Shard};
use crate::plugin::{Client, Context, Flow, Outcome, OwnedContext, Pending};
use std::time::Instant;

/// What becomes of a packet.
pub enum Answered {
    /// The reply is in the buffer, ready to send.
    Reply,
    /// There is no reply.
    Nothing,
    /// The reply comes later.
    Later(Later),
}

/// A reply under way.
pub struct Later {
    pending: Option<Pending>,
    cx: OwnedContext,
}

/// A packet received.
#[derive(Clone, Copy)]
pub struct Received<'p> {
    /// The message.
    pub packet: &'p [u8],
    /// Who sent it.
    pub client: Client,
    /// When.
    pub at: Instant,
    /// The metrics cells of the thread.
    pub shard: Shard,
}

/// Answers a packet. The message to send is `reply.message()` where it says [`Answered::Reply`].
#[inline]
pub fn answer(routes: &Routes, received: Received<'_>, reply: &mut Reply) -> Answered {
    match panics::catch(|| try_answer(routes, received, reply)) {
        Ok(answered) => answered,
        Err(panic) => failed(routes, &received, reply, &panic),
    }
}

#[cold]
fn failed(routes: &Routes, received: &Received<'_>, reply: &mut Reply, panic: &Panic) -> Answered {
    let Ok(query) = Query::read(received.packet) else {
        panic.report(&routes.panics, None, &routes.server);
        return Answered::Nothing;
    };
    let chain = routes.find(query.name(), query.qtype(), query.qclass());
    let block = chain.map(|chain| chain.block());
    panic.report(&routes.panics, block, &routes.server);
    reply.start(&query);
    server_written(reply, &query, Rcode::SERVFAIL);
    reply.finish(&query, limit(&query, &received.client));
    Answered::Reply
}

#[inline]
fn try_answer(routes: &Routes, received: Received<'_>, reply: &mut Reply) -> Answered {
    let mut query = Query::unread(received.packet);
    match query.read_here() {
        Ok(()) => {}
        Err(Reject::Drop) => return Answered::Nothing,
        Err(Reject::Reply(rcode)) => {
            reply.reject(received.packet, rcode);
            return Answered::Reply;
        }
    }
    reply.start(&query);
    if query.edns().is_some_and(|edns| edns.version != 0) {
        reply.set_rcode(Rcode::BADVERS);
        reply.finish(&query, limit(&query, &received.client));
        return Answered::Reply;
    }
    let Some(chain) = routes.find(query.name(), query.qtype(), query.qclass()) else {
        server_written(reply, &query, Rcode::REFUSED);
        count_refused(routes, &received, &query);
        reply.finish(&query, limit(&query, &received.client));
        return Answered::Reply;
    };
    let mut cx = Context {
        query,
        client: received.client,
        received: received.at,
        shard: received.shard,
        chain,
        position: 0,
        depth: 0,
        trace: None,
    };
    match chain.walk(0, &mut cx, reply) {
        Flow::Done(outcome) => conclude(&cx, reply, &outcome),
        Flow::Wait(pending) => Answered::Later(Later {
            pending: Some(pending),
            cx: cx.to_owned(),
        }),
    }
}

impl Later {
    /// Waits for the reply; `None` if there is none. Call once.
    pub async fn finish(&mut self, routes: &Routes) -> Option<Reply> {
        let pending = self.pending.take()?;
        let (outcome, mut reply) = match panics::catch_in(pending.finish(&self.cx)).await {
            Ok(finished) => finished,
            Err(panic) => {
                let block = self.cx.chain.block();
                panic.report(&routes.panics, Some(block), &block.server);
                let mut reply = Reply::new();
                self.abandon(&mut reply, "the server failed");
                return Some(reply);
            }
        };
        let cx = self.cx.view();
        match conclude(&cx, &mut reply, &outcome) {
            Answered::Reply => Some(reply),
            Answered::Nothing | Answered::Later(_) => None,
        }
    }

    /// When the query came.
    pub const fn received(&self) -> Instant {
        self.cx.received
    }

    /// Gives up on the reply: SERVFAIL, for this reason.
    pub fn abandon(&self, reply: &mut Reply, why: &'static str) {
        let cx = self.cx.view();
        reply.start(&cx.query);
        reply.add_extended_error(ExtendedError::new(ExtendedError::OTHER, why));
        server_written(reply, &cx.query, Rcode::SERVFAIL);
        reply.finish(&cx.query, cx.reply_limit());
    }
}

/// Makes the reply ready to send.
#[inline]
pub(super) fn conclude(cx: &Context<'_>, reply: &mut Reply, outcome: &Outcome) -> Answered {
    match outcome {
        Outcome::Written => {}
        Outcome::Unwritten { rcode, .. } => server_written(reply, &cx.query, *rcode),
        Outcome::Dropped => return Answered::Nothing,
    }
    reply.finish(&cx.query, cx.reply_limit());
    Answered::Reply
}

/// The message that the server writes where no plugin did: empty, but for the extended errors.
fn server_written(reply: &mut Reply, query: &Query<'_>, rcode: Rcode) {
    reply.restart(query);
    reply.set_rcode(rcode);
}

fn count_refused(routes: &Routes, received: &Received<'_>, query: &Query<'_>) {
    let observed = Observed {
        tcp: received.client.transport.proto() == "tcp",
        ipv6: received.client.addr.is_ipv6(),
        qtype: query.qtype(),
        dnssec_ok: query.dnssec_ok(),
        request_size: received.packet.len(),
        response_size: 0,
        rcode: Rcode::REFUSED,
        by_plugin: false,
        nanos: 0,
    };
    routes.refused.count(received.shard, &observed);
}

fn limit(query: &Query<'_>, client: &Client) -> usize {
    match client.transport {
        crate::plugin::Transport::Udp => query.udp_limit(),
        _ => crate::dns::MAX_MESSAGE,
    }
}
