//! The contract between the server and its plugins.
//!
//! A server block is a [`Chain`] of plugins in the order of the directive table. A query walks it
//! from the front: each plugin's [`Plugin::query`] either passes it on ([`Step::Next`]), answers
//! from memory on the worker's own stack ([`Step::Done`]), or hands back a future
//! ([`Step::Wait`]). Then every plugin that passed the query on sees the outcome on the way out, in
//! reverse order ([`Plugin::answered`]), whether the answer came at once or later: a plugin that
//! wraps others is written once. Only waiting allocates.
//!
//! A reply may be a stream of messages ([`crate::dns::More`]): the first passes the chain like any
//! other, the rest goes from its source to the connection.
//!
//! This module knows no plugin and no socket.

pub mod admin;
pub mod chain;
pub mod context;
pub mod process;
pub mod provided;
pub mod setup;
pub mod shared;
pub mod trace;
pub mod transfer;

pub use chain::{Chain, Flow, Pending};
pub use context::{Client, Context, OwnedContext, Transport};
pub use process::{Control, Process};
pub use provided::Provided;
pub use setup::{Block, Hooks, PluginEntry, Setup};
pub use trace::Trace;

use crate::dns::{Rcode, Reply};
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// One element of a server block's chain.
pub trait Plugin: Send + Sync + 'static {
    /// The directive's name; it stands in logs, metrics and errors.
    fn name(&self) -> &'static str;

    /// A query on its way in.
    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let _ = (cx, reply);
        Step::Next
    }

    /// Whether [`Self::query`] does nothing: only the outcome matters to the plugin, and it need not be
    /// asked before.
    fn only_looks_back(&self) -> bool {
        false
    }

    /// The outcome on its way out. Called exactly once for each query that this plugin passed on
    /// with [`Step::Next`].
    fn answered(&self, cx: &mut Context<'_>, reply: &mut Reply, outcome: &mut Outcome) {
        let _ = (cx, reply, outcome);
    }

    /// Writes the value that a label of metadata (`PLUGIN/NAME`) has for a query, and says whether
    /// the query has that label. Called when somebody reads the label ([`Chain::metadata`]); `reply`
    /// is what there is of the reply by then.
    fn metadata(
        &self,
        cx: &Context<'_>,
        reply: &Reply,
        label: &str,
        out: &mut dyn fmt::Write,
    ) -> bool {
        let _ = (cx, reply, label, out);
        false
    }

    /// Whether the plugin is ready to answer; `None` if it never is anything else (`ready` plugin).
    fn ready(&self) -> Option<bool> {
        None
    }
}

/// What a plugin does with a query.
pub enum Step {
    /// Not mine: ask the next plugin.
    Next,
    /// It is decided now.
    Done(Outcome),
    /// It is decided later.
    Wait(Answer),
}

/// An answer that has to wait: it writes its own [`Reply`].
pub type Answer = Pin<Box<dyn Future<Output = (Outcome, Reply)> + Send>>;

/// How a query ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply is written.
    Written,
    /// Nothing is written: the server writes an empty message with this response code. The error
    /// is for the log; the client sees only the code (and the reply's extended errors).
    Unwritten {
        /// The response code.
        rcode: Rcode,
        /// What went wrong, for the `errors` plugin.
        error: Option<Cow<'static, str>>,
    },
    /// No reply at all.
    Dropped,
}

impl Outcome {
    /// SERVFAIL, for this reason.
    pub fn failed(error: impl Into<Cow<'static, str>>) -> Self {
        Self::Unwritten {
            rcode: Rcode::SERVFAIL,
            error: Some(error.into()),
        }
    }

    /// The response code that the client sees, `None` if it gets no reply.
    pub fn rcode(&self, reply: &Reply) -> Option<Rcode> {
        match self {
            Self::Written => Some(reply.rcode()),
            Self::Unwritten { rcode, .. } => Some(*rcode),
            Self::Dropped => None,
        }
    }
}
