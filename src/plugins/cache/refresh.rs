//! Asking again for what is stored already: `prefetch` and `serve_stale`.

use super::Inner;
use super::entry::{Entry, Refreshing};
use super::intake::Intake;
use crate::dns::{Query, Reply};
use crate::plugin::{Answer, Context, Outcome, OwnedContext, Transport};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Asked = Pin<Box<dyn Future<Output = (Outcome, Reply)> + Send>>;

/// Asks the plugins behind the cache in the background, and stores what they answer. One refresh
/// of an entry at a time, and a bounded number of all.
pub(super) fn spawn(inner: &Arc<Inner>, cx: &Context<'_>, entry: &Arc<Entry>, stale: bool) {
    let Some(refreshing) = entry.begin_refresh(inner.millis(cx.received)) else {
        return;
    };
    let mut owned = cx.to_owned();
    // No client waits for the reply: nothing has to fit into a UDP packet (CA-18).
    owned.client.transport = Transport::Tcp;
    cx.note(|| "asks again in the background".into());
    owned.trace = None;
    let asked = Arc::clone(cx.chain).ask(cx.position + 1, owned.clone());
    let intake = if stale { Intake::Stale } else { Intake::Ahead };
    if background(
        inner,
        asked,
        owned,
        Instant::now(),
        Some(refreshing),
        intake,
    ) {
        inner.metrics.prefetches.add(cx.shard, 1);
    }
}

/// Finishes a question in the background. False if too many are under way; it is dropped then.
fn background(
    inner: &Arc<Inner>,
    asked: Asked,
    owned: OwnedContext,
    started: Instant,
    refreshing: Option<Refreshing>,
    intake: Intake,
) -> bool {
    let Ok(permit) = Arc::clone(&inner.state.refreshes).try_acquire_owned() else {
        inner.metrics.refresh_rejected.inc();
        return false;
    };
    let task_inner = Arc::clone(inner);
    inner.runtime.spawn(async move {
        let (outcome, mut reply) = asked.await;
        let done = Done {
            inner: &task_inner,
            owned: &owned,
            started,
        };
        done.take_in(&outcome, &mut reply, refreshing.as_ref(), intake);
        drop((refreshing, permit));
    });
    true
}

/// A question that was answered.
struct Done<'d> {
    inner: &'d Inner,
    owned: &'d OwnedContext,
    started: Instant,
}

impl Done<'_> {
    /// Stores the reply; gives whether it may take the place of a stale entry.
    fn take_in(
        &self,
        outcome: &Outcome,
        reply: &mut Reply,
        refreshing: Option<&Refreshing>,
        intake: Intake,
    ) -> bool {
        let inner = self.inner;
        let old = refreshing.map(Refreshing::entry);
        let refreshed =
            *outcome == Outcome::Written && inner.take_in(&self.owned.view(), reply, intake, old);
        if let (false, Intake::Stale, Some(refreshing)) = (refreshed, intake, refreshing) {
            let end = self.owned.received + self.started.elapsed();
            let recheck = inner.settings.stale.recheck;
            if !recheck.is_zero() {
                refreshing.failed(inner.millis(end + recheck));
            }
        }
        refreshed
    }
}

/// Asks the plugins behind the cache; answers with their reply if it is NOERROR or NXDOMAIN (RFC
/// 8767 §4), and with the stale entry if it is not, or does not come within `timeout` (zero: any
/// time). `None` if a refresh is under way, or failed a short time ago (`RECHECK`).
pub(super) fn verify(
    inner: &Arc<Inner>,
    cx: &Context<'_>,
    entry: &Arc<Entry>,
    timeout: Duration,
) -> Option<Answer> {
    let mut refreshing = None;
    if !inner.settings.stale.recheck.is_zero() {
        refreshing = Some(entry.begin_refresh(inner.millis(cx.received))?);
    }
    let owned = cx.to_owned();
    let mut asked = Arc::clone(cx.chain).ask(cx.position + 1, owned.clone());
    let (inner, entry, started) = (Arc::clone(inner), Arc::clone(entry), Instant::now());
    Some(Box::pin(async move {
        let answered = if timeout.is_zero() {
            Some((&mut asked).await)
        } else {
            tokio::time::timeout(timeout, &mut asked).await.ok()
        };
        let Some((outcome, mut reply)) = answered else {
            let stale = stale_reply(&inner, &owned.query.view(), &entry);
            background(&inner, asked, owned, started, refreshing, Intake::Stale);
            return (Outcome::Written, stale);
        };
        let done = Done {
            inner: &inner,
            owned: &owned,
            started,
        };
        if done.take_in(&outcome, &mut reply, refreshing.as_ref(), Intake::Stale) {
            return (Outcome::Written, reply);
        }
        let stale = stale_reply(&inner, &owned.query.view(), &entry);
        (Outcome::Written, stale)
    }))
}

fn stale_reply(inner: &Inner, query: &Query<'_>, entry: &Entry) -> Reply {
    let mut reply = Reply::new();
    reply.start(query);
    inner.metrics.served_stale.inc();
    inner.write_stale(query, entry, &mut reply);
    reply
}
