//! The element of the chain: which queries are forwarded, and what the client gets back.

use super::coalesce::Key;
use super::message::rcode;
use super::private::Private;
use super::stanza::{Answered, Stanza};
use crate::dns::{Header, Name, Opcode, Rcode, Reply, edns};
use crate::plugin::{Context, Outcome, OwnedContext, Plugin, Step};
use crate::upstream::ExchangeError;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// The directive's name.
const NAME: &str = "forward";

/// One stanza in the chain.
pub(super) struct Forward(Arc<Stanza>, Private);

impl Forward {
    pub(super) const fn new(stanza: Arc<Stanza>, private: Private) -> Self {
        Self(stanza, private)
    }

    /// FW-2: below `FROM`, and below no `except`; `FROM` itself is never excepted.
    fn matches(&self, name: &Name) -> bool {
        let config = &self.0.config;
        config.from.contains(name)
            && (name.wire() == config.from.wire()
                || !config.except.iter().any(|zone| zone.contains(name)))
    }
}

impl Plugin for Forward {
    fn name(&self) -> &'static str {
        NAME
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        if !self.matches(cx.query.name()) {
            cx.note(|| {
                let from = self.0.config.from.text();
                format!("the name is not below {from}, or below an `except`")
            });
            return Step::Next;
        }
        if cx.query.header().opcode() != Opcode::QUERY {
            return Step::Done(Outcome::Unwritten {
                rcode: Rcode::REFUSED,
                error: None,
            });
        }
        if let Some(outcome) = self.1.answer(cx, reply) {
            return Step::Done(outcome);
        }
        let Some(permit) = Permit::take(&self.0) else {
            self.0.rejected.add(cx.shard, 1);
            let maximum = self.0.config.max_concurrent;
            return Step::Done(Outcome::Unwritten {
                rcode: Rcode::REFUSED,
                error: Some(format!("concurrent queries exceeded maximum {maximum}").into()),
            });
        };
        let stanza = Arc::clone(&self.0);
        let cx = cx.to_owned();
        Step::Wait(Box::pin(async move {
            let answered = ask(&stanza, &cx).await;
            drop(permit);
            finish(&stanza, cx, answered).await
        }))
    }

    /// FW-22.
    fn metadata(
        &self,
        _: &Context<'_>,
        reply: &Reply,
        label: &str,
        out: &mut dyn std::fmt::Write,
    ) -> bool {
        let upstream = reply.upstream().filter(|_| label == "forward/upstream");
        upstream.is_some_and(|upstream| write!(out, "{upstream}").is_ok())
    }
}

async fn ask(stanza: &Arc<Stanza>, cx: &OwnedContext) -> Answered {
    let (packet, key, protocol, limit) = {
        let view = cx.view();
        let protocol = stanza.protocol(view.client.transport);
        let packet = stanza.outgoing(&view.query);
        let key = Key::of(&view.query, &packet, protocol);
        (packet, key, protocol, view.query.udp_limit())
    };
    // A recorded question goes out on its own, so that there is something to record.
    let Some(key) = key.filter(|_| cx.trace.is_none()) else {
        // In a box: it is rare, and would make every query's future larger.
        return Box::pin(stanza.ask(&packet, protocol, limit, Some(cx))).await;
    };
    let (flight, joined) = stanza.coalescer.join(key, |landing| {
        let stanza = Arc::clone(stanza);
        // Built where it stays: it is long, and moving it costs.
        Box::pin(async move {
            let _landing = landing;
            stanza.ask(&packet, protocol, limit, None).await
        })
    });
    if joined {
        stanza.coalesced.inc();
    }
    flight.await
}

async fn finish(stanza: &Stanza, cx: OwnedContext, answered: Answered) -> (Outcome, Reply) {
    if let Answered::Message { message, .. } = &answered
        && hands_on(stanza, message)
        && next_forwards(&cx)
    {
        cx.note(|| "hands the question on to the next forward (`next`)".into());
        let next = cx.position + 1;
        return Arc::clone(&cx.chain).ask(next, cx).await;
    }
    let mut reply = Reply::new();
    let view = cx.view();
    let failure = match answered {
        Answered::Message {
            message,
            from,
            remark,
        } => {
            // It was walked before, and its question is the client's but for the case: it fits.
            let outcome = match reply.adopt(&view.query, &message) {
                Ok(()) => Outcome::Written,
                Err(error) => Outcome::failed(error.to_string()),
            };
            // An upstream that told its reason knows better.
            if let Some(remark) = remark
                && !edns::options(reply.upstream_options())
                    .any(|(code, _)| code == edns::option::EXTENDED_ERROR)
            {
                reply.add_extended_error(remark);
            }
            reply.set_upstream(Some(from));
            return (outcome, reply);
        }
        Answered::Failed(failure) => failure,
    };
    reply.start(&view.query);
    let error = failure.error.as_ref();
    reply.set_upstream(error.and_then(ExchangeError::remote));
    reply.add_extended_error(failure.told);
    let outcome = match failure.error {
        Some(ExchangeError::OtherQuestion { .. }) => {
            reply.set_rcode(Rcode::FORMERR);
            Outcome::Written
        }
        Some(error) => Outcome::failed(error.to_string()),
        None => Outcome::failed("no healthy proxies"),
    };
    (outcome, reply)
}

/// FW-19: whether the answer is one that the next stanza is to be asked about.
fn hands_on(stanza: &Stanza, message: &[u8]) -> bool {
    let header = Header::read(message).unwrap_or_default();
    let rcode = rcode(message);
    let no_data = rcode == Rcode::NOERROR && header.counts[1] == 0 && !header.has(Header::TC);
    stanza.config.next.contains(&rcode) || (stanza.config.next_on_nodata && no_data)
}

fn next_forwards(cx: &OwnedContext) -> bool {
    let next = cx.chain.plugins().get(cx.position + 1);
    next.is_some_and(|plugin| plugin.name() == NAME)
}

/// The right to have a query in flight (FW-11).
struct Permit(Arc<Stanza>);

impl Permit {
    fn take(stanza: &Arc<Stanza>) -> Option<Self> {
        let before = stanza.in_flight.fetch_add(1, SeqCst);
        let permit = Self(Arc::clone(stanza));
        let maximum = stanza.config.max_concurrent;
        (maximum == 0 || before < maximum).then_some(permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, SeqCst);
    }
}
