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
    let again = Again {
        inner: Arc::clone(inner),
        entry: Arc::clone(entry),
        owned,
        started: Instant::now(),
        intake: if stale { Intake::Stale } else { Intake::Ahead },
        _refreshing: Some(refreshing),
    };
    if again.background(asked) {
        inner.metrics.prefetches.add(cx.shard, 1);
    }
}

/// A question that is asked again.
struct Again {
    inner: Arc<Inner>,
    /// What is stored.
    entry: Arc<Entry>,
    owned: OwnedContext,
    started: Instant,
    intake: Intake,
    _refreshing: Option<Refreshing>,
}

impl Again {
    /// Finishes the question in the background. False if too many are under way; it is dropped then.
    fn background(self, asked: Asked) -> bool {
        let Ok(permit) = Arc::clone(&self.inner.state.refreshes).try_acquire_owned() else {
            self.inner.metrics.refresh_rejected.inc();
            return false;
        };
        let runtime = self.inner.runtime.clone();
        runtime.spawn(async move {
            let (outcome, mut reply) = asked.await;
            self.take_in(&outcome, &mut reply);
            drop(permit);
        });
        true
    }

    /// Stores the reply; gives whether it may take the place of the entry. If it may not, the entry
    /// is not asked for again for a time.
    fn take_in(&self, outcome: &Outcome, reply: &mut Reply) -> bool {
        let (inner, cx) = (&self.inner, self.owned.view());
        let refreshed = *outcome == Outcome::Written
            && inner.take_in(&cx, reply, self.intake, Some(&self.entry));
        if !refreshed {
            let recheck = match self.intake {
                Intake::Stale => inner.settings.stale.recheck,
                Intake::Missed | Intake::Ahead => Duration::ZERO,
            };
            let most = Duration::from_secs(inner.settings.servfail.into());
            let end = inner.millis(self.owned.received + self.started.elapsed());
            self.entry.refresh_failed(end, recheck, most);
        }
        refreshed
    }
}

/// Asks the plugins behind the cache; answers with their reply if it is NOERROR or NXDOMAIN (RFC
/// 8767 §4), and with the stale entry if it is not, or does not come within `timeout` (zero: any
/// time). `None` if that failed a short time ago, or (with RECHECK) if a refresh is under way.
pub(super) fn verify(
    inner: &Arc<Inner>,
    cx: &Context<'_>,
    entry: &Arc<Entry>,
    timeout: Duration,
) -> Option<Answer> {
    let now = inner.millis(cx.received);
    let refreshing = if inner.settings.stale.recheck.is_zero() {
        if entry.rests(now) {
            return None;
        }
        None
    } else {
        Some(entry.begin_refresh(now)?)
    };
    let owned = cx.to_owned();
    let mut asked = Arc::clone(cx.chain).ask(cx.position + 1, owned.clone());
    let again = Again {
        inner: Arc::clone(inner),
        entry: Arc::clone(entry),
        owned,
        started: Instant::now(),
        intake: Intake::Stale,
        _refreshing: refreshing,
    };
    Some(Box::pin(async move {
        let answered = if timeout.is_zero() {
            Some((&mut asked).await)
        } else {
            tokio::time::timeout(timeout, &mut asked).await.ok()
        };
        let stale =
            |again: &Again| stale_reply(&again.inner, &again.owned.query.view(), &again.entry);
        let Some((outcome, mut reply)) = answered else {
            let stale = stale(&again);
            again.background(asked);
            return (Outcome::Written, stale);
        };
        if again.take_in(&outcome, &mut reply) {
            return (Outcome::Written, reply);
        }
        (Outcome::Written, stale(&again))
    }))
}

fn stale_reply(inner: &Inner, query: &Query<'_>, entry: &Entry) -> Reply {
    let mut reply = Reply::new();
    reply.start(query);
    inner.metrics.served_stale.inc();
    inner.write_stale(query, entry, &mut reply);
    reply
}
