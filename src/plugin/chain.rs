//! A server block's plugins in order, and the walk of a query through them.

use super::trace::Before;
use super::{Answer, Block, Context, Outcome, OwnedContext, Plugin, Step};
use crate::dns::Reply;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};

/// The plugins of one server block, in the order of the directive table.
pub struct Chain {
    block: Block,
    plugins: Box<[Arc<dyn Plugin>]>,
    /// For each position the first one from there on whose plugin is to be asked.
    asked: Box<[usize]>,
    resolver: OnceLock<Weak<dyn Resolve>>,
}

/// Answers a question as the server would answer it to a client: what a chain asks the server it
/// belongs to, to follow an alias for example.
pub trait Resolve: Send + Sync {
    /// Answers `cx.query` from the block that its name belongs to.
    fn resolve(self: Arc<Self>, cx: OwnedContext) -> Answer;
}

/// How far a walk came.
pub enum Flow {
    /// To the end.
    Done(Outcome),
    /// To a plugin that has to wait.
    Wait(Pending),
}

/// An answer under way, and where in the chain it was asked for.
pub struct Pending {
    answer: Answer,
    from: usize,
    position: usize,
}

impl Chain {
    /// A chain of these plugins.
    pub fn new(block: Block, plugins: Vec<Arc<dyn Plugin>>) -> Self {
        let mut asked: Box<[usize]> = (0..=plugins.len()).collect();
        for (position, plugin) in plugins.iter().enumerate().rev() {
            if plugin.only_looks_back() {
                asked[position] = asked[position + 1];
            }
        }
        Self {
            block,
            plugins: plugins.into(),
            asked,
            resolver: OnceLock::new(),
        }
    }

    /// The server block.
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// The plugins, first to last.
    pub fn plugins(&self) -> &[Arc<dyn Plugin>] {
        &self.plugins
    }

    /// Tells the chain which server it belongs to; the first call counts.
    pub fn set_resolver(&self, resolver: Weak<dyn Resolve>) {
        // Set once, when the configuration is put together.
        let _ = self.resolver.set(resolver);
    }

    /// Writes the value that a label of metadata (`PLUGIN/NAME`) has for a query, and says whether
    /// the query has that label: never without the directive `metadata`.
    pub fn metadata(
        &self,
        cx: &Context<'_>,
        reply: &Reply,
        label: &str,
        out: &mut dyn fmt::Write,
    ) -> bool {
        let name = cx.query.name();
        let mut zones = self.block.metadata.iter();
        let mut plugins = self.plugins.iter();
        zones.any(|zone| zone.contains(name))
            && plugins.any(|plugin| plugin.metadata(cx, reply, label, &mut *out))
    }

    /// Asks the whole server (every plugin of the block that the name belongs to).
    ///
    /// `None` where more than eight questions are nested, or the server is gone.
    pub fn resolve(&self, mut cx: OwnedContext) -> Option<Answer> {
        if cx.depth >= crate::limits::SELF_QUERY_DEPTH {
            return None;
        }
        cx.depth += 1;
        let resolver = self.resolver.get()?.upgrade()?;
        Some(resolver.resolve(cx))
    }

    /// Walks the chain from plugin `from` on.
    ///
    /// The outcome has passed every plugin from `from` on, in and out.
    pub fn walk(&self, from: usize, cx: &mut Context<'_>, reply: &mut Reply) -> Flow {
        let before = cx.position;
        let mut position = from;
        let mut outcome = loop {
            // An explanation shows the others as well.
            if cx.trace.is_none() {
                position = self.asked.get(position).map_or(position, |&asked| asked);
            }
            let Some(plugin) = self.plugins.get(position) else {
                let outcome = self.no_next();
                if let Some(trace) = cx.trace {
                    trace.end(cx, &outcome, reply);
                }
                break outcome;
            };
            cx.position = position;
            let step = plugin.query(cx, reply);
            if let Some(trace) = cx.trace {
                trace.step(cx, &step, reply);
            }
            match step {
                Step::Next => position += 1,
                Step::Done(outcome) => break outcome,
                Step::Wait(answer) => {
                    cx.position = before;
                    return Flow::Wait(Pending {
                        answer,
                        from,
                        position,
                    });
                }
            }
        };
        self.unwind(from..position, cx, reply, &mut outcome);
        cx.position = before;
        Flow::Done(outcome)
    }

    fn unwind(
        &self,
        passed: std::ops::Range<usize>,
        cx: &mut Context<'_>,
        reply: &mut Reply,
        outcome: &mut Outcome,
    ) {
        for position in passed.rev() {
            let Some(plugin) = self.plugins.get(position) else {
                continue;
            };
            cx.position = position;
            let Some(trace) = cx.trace else {
                plugin.answered(cx, reply, outcome);
                continue;
            };
            let before = Before::of(reply, outcome);
            plugin.answered(cx, reply, outcome);
            trace.way_out(cx, &before, reply, outcome);
        }
    }

    fn no_next(&self) -> Outcome {
        match self.plugins.last() {
            // The error text is made of static parts only where nothing is logged otherwise; this
            // is a configuration without an answering plugin, and may allocate.
            Some(last) => Outcome::failed(format!("plugin/{}: no next plugin found", last.name())),
            None => Outcome::Unwritten {
                rcode: crate::dns::Rcode::REFUSED,
                error: None,
            },
        }
    }

    /// Walks the chain from plugin `from` on, and waits for the answer.
    pub fn ask(
        self: Arc<Self>,
        from: usize,
        cx: OwnedContext,
    ) -> Pin<Box<dyn Future<Output = (Outcome, Reply)> + Send>> {
        Box::pin(async move {
            let mut reply = Reply::new();
            let flow = {
                let mut view = cx.view();
                reply.start(&view.query);
                self.walk(from, &mut view, &mut reply)
            };
            match flow {
                Flow::Done(outcome) => (outcome, reply),
                Flow::Wait(pending) => pending.finish(&cx).await,
            }
        })
    }
}

impl Pending {
    /// Waits for the answer, and takes it out through the plugins that had passed the query on.
    pub async fn finish(self, cx: &OwnedContext) -> (Outcome, Reply) {
        let (mut outcome, mut reply) = self.answer.await;
        let mut view = cx.view();
        if let Some(trace) = view.trace {
            view.position = self.position;
            trace.waited(&view, &outcome, &reply);
            view.position = cx.position;
        }
        cx.chain.unwind(
            self.from..self.position,
            &mut view,
            &mut reply,
            &mut outcome,
        );
        (outcome, reply)
    }
}
