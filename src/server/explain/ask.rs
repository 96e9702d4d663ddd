//! Asking the question: through the chain of the block that the name belongs to, recorded.

use super::{Listeners, Question};
use crate::dns::{ExtendedError, Rcode, Reply};
use crate::plugin::trace::Recorded;
use crate::plugin::{Client, Outcome, OwnedContext, Trace};
use crate::server::routes::Routing;
use crate::server::{ListenKey, Routes, answer, panics};
use hickory_proto::op::Message;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question with everything that is to be said of it.
pub(super) struct Explained {
    pub(super) question: Question,
    /// The listening address.
    pub(super) listener: String,
    /// The other listening addresses.
    pub(super) other_listeners: Vec<String>,
    pub(super) routing: Routing,
    pub(super) steps: Vec<Recorded>,
    pub(super) end: End,
    pub(super) took: Duration,
}

/// How it ended.
pub(super) enum End {
    /// The client gets this message, with these extended errors.
    Reply(Box<Message>, Vec<ExtendedError>),
    /// The client gets no reply.
    Nothing,
    /// The client waits still.
    Late(Duration),
    /// The server failed; the client gets SERVFAIL.
    Panicked,
    /// The reply is no message (and a defect of the server).
    Unreadable(String),
}

/// Asks, and waits for the answer.
///
/// # Errors
/// There is no such listener.
pub(super) async fn explain(
    listeners: &Listeners,
    question: Question,
    runtime: &tokio::runtime::Handle,
) -> Result<Explained, String> {
    let (key, routes) = choose(listeners, &question)?;
    let routing = {
        let view = question.query.view();
        routes.explain(view.name(), view.qtype(), view.qclass())
    };
    let trace = Arc::new(Trace::default());
    let started = Instant::now();
    let asked = ask(Arc::clone(routes), key, &question, Arc::clone(&trace));
    let task = runtime.spawn(panics::catch_in(asked));
    // Whoever asked may be gone by now, and the question with him.
    let _end_with_us = Abort(task.abort_handle());
    let end = match tokio::time::timeout(PATIENCE, task).await {
        Err(_) => End::Late(PATIENCE),
        Ok(Err(_)) => End::Panicked,
        Ok(Ok(Err(panic))) => {
            panic.report(&routes.panics, None, &routes.server);
            End::Panicked
        }
        Ok(Ok(Ok(end))) => end,
    };
    Ok(Explained {
        listener: show(key),
        other_listeners: listeners.keys().filter(|&k| k != key).map(show).collect(),
        routing,
        steps: trace.steps(),
        end,
        took: started.elapsed(),
        question,
    })
}

/// A listening address as it is shown and given: `dns://:53`, `dns://127.0.0.1:53`.
pub(super) fn show(key: &ListenKey) -> String {
    if key.addr.ip().is_unspecified() {
        format!("{}://:{}", key.scheme, key.addr.port())
    } else {
        format!("{}://{}", key.scheme, key.addr)
    }
}

/// The listener that was asked for, else the first that has a block for the name, else the first.
fn choose<'l>(
    listeners: &'l Listeners,
    question: &Question,
) -> Result<(&'l ListenKey, &'l Arc<Routes>), String> {
    if let Some(wanted) = &question.listener {
        let found = listeners.iter().find(|(key, _)| show(key) == *wanted);
        return found.ok_or_else(|| {
            let all: Vec<_> = listeners.keys().map(show).collect();
            format!("no listener {wanted:?}; there are {}", all.join(", "))
        });
    }
    let view = question.query.view();
    let serves = |routes: &Routes| {
        let found = routes.find(view.name(), view.qtype(), view.qclass());
        found.is_some()
    };
    let serving = listeners.iter().find(|(_, routes)| serves(routes));
    serving
        .or_else(|| listeners.iter().next())
        .ok_or_else(|| "no server block listens yet".into())
}

struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a client would get.
fn ask(
    routes: Arc<Routes>,
    key: &ListenKey,
    question: &Question,
    trace: Arc<Trace>,
) -> impl Future<Output = End> + Send + use<> {
    let client = Client {
        addr: question.client,
        local: key.addr,
        transport: question.transport,
    };
    let query = question.query.clone();
    async move {
        let chain = {
            let view = query.view();
            let found = routes.find(view.name(), view.qtype(), view.qclass());
            found.map(Arc::clone)
        };
        let Some(chain) = chain else {
            let view = query.view();
            let mut reply = Reply::new();
            reply.start(&view);
            reply.set_rcode(Rcode::REFUSED);
            return read(reply.finish(&view, view.udp_limit()), Vec::new());
        };
        let cx = OwnedContext {
            query,
            client,
            received: Instant::now(),
            chain: Arc::clone(&chain),
            position: 0,
            depth: 0,
            trace: Some(trace),
        };
        let (outcome, mut reply) = chain.ask(0, cx.clone()).await;
        if outcome == Outcome::Dropped {
            return End::Nothing;
        }
        let view = cx.view();
        answer::conclude(&view, &mut reply, &outcome);
        read(reply.message(), reply.extended_errors().to_vec())
    }
}

fn read(message: &[u8], errors: Vec<ExtendedError>) -> End {
    match Message::from_vec(message) {
        Ok(message) => End::Reply(Box::new(message), errors),
        Err(error) => End::Unreadable(error.to_string()),
    }
}
