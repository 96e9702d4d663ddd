#![doc = include_str!("README.md")]

mod config;
mod search;
#[cfg(test)]
mod tests;

use crate::corefile::Error;
use crate::dns::{Opcode, OwnedQuery, Rcode, Reply, Zone};
use crate::metrics::Counter;
use crate::plugin::{Answer, Context, Flow, Hooks, Outcome, OwnedContext, Plugin, Setup, Step};
use crate::plugins::kubernetes;
use config::{Config, Source};
pub(crate) use config::{OWN as RESOLV_CONF, domains as search_domains};
use search::{Candidate, Lists, Search};
use smallvec::SmallVec;
use std::sync::{Arc, OnceLock};

/// Builds the plugin from its occurrence in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let directive = setup.only_one()?;
    let (base, check_only) = (setup.process.base_dir(), setup.process.check_only);
    let config = Config::read(directive, &setup.block.zones, &base, check_only)?;
    let cluster = OnceLock::new();
    let lists = match config.source {
        Source::Domains(list) => Lists::Domains { list, cluster },
        Source::Plugin(name) => {
            let loaded = setup.loaded.contains(&name.as_str());
            if !loaded {
                tracing::warn!(
                    target: "plugin/autopath",
                    "{name} is not in this server block: no name is completed"
                );
            } else if name != "kubernetes" {
                let what = format!("{name} does not implement the AutoPather interface");
                return Err(directive.error(what));
            }
            let own = if check_only { Vec::new() } else { own_list() };
            Lists::Pods { cluster, own }
        }
    };
    let plugin = Autopath(Arc::new(Inner {
        zones: config.zones,
        lists,
        completed: setup.process.metrics.counter(
            "coredns_autopath_success_total",
            "Counter of requests that did autopath.",
            vec![("server", setup.block.server.clone())],
        ),
    }));
    // The cluster is set up after this plugin.
    let (inner, provided) = (Arc::clone(&plugin.0), Arc::clone(setup.provided));
    setup.hooks.start.push(Hooks::hook(move || async move {
        let (Lists::Pods { cluster, .. } | Lists::Domains { cluster, .. }) = &inner.lists;
        if let Some(found) = provided.get::<kubernetes::Provided>() {
            // Set once: the hook runs once.
            let _ = cluster.set(found);
        }
    }));
    setup.add(plugin);
    Ok(())
}

/// The search list of the server's own machine; without a readable one there is none.
fn own_list() -> Vec<Zone> {
    let text = std::fs::read_to_string(config::OWN).unwrap_or_default();
    config::domains(&text).unwrap_or_else(|error| {
        tracing::warn!(target: "plugin/autopath", "{}: {error}", config::OWN);
        Vec::new()
    })
}

/// The plugin.
struct Autopath(Arc<Inner>);

struct Inner {
    zones: Vec<Zone>,
    lists: Lists,
    completed: Counter,
}

/// What a reply says of the name that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It exists.
    Exists,
    /// It does not.
    Nothing,
    /// Neither: a failure.
    Doubt,
}

fn verdict(outcome: &Outcome, reply: &Reply) -> Verdict {
    match (outcome, reply.rcode()) {
        (Outcome::Written, Rcode::NOERROR) => Verdict::Exists,
        (Outcome::Written, Rcode::NXDOMAIN) => Verdict::Nothing,
        _ => Verdict::Doubt,
    }
}

impl Plugin for Autopath {
    fn name(&self) -> &'static str {
        "autopath"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let inner = &self.0;
        let Some(search) = inner.begin(cx) else {
            return Step::Next;
        };
        match cx.chain.walk(cx.position + 1, cx, reply) {
            Flow::Done(outcome) => match verdict(&outcome, reply) {
                Verdict::Nothing => inner.complete(cx, reply, search),
                Verdict::Exists => {
                    inner.completed.add(cx.shard, 1);
                    Step::Done(outcome)
                }
                Verdict::Doubt => Step::Done(outcome),
            },
            Flow::Wait(pending) => {
                let (inner, cx) = (Arc::clone(inner), cx.to_owned());
                Step::Wait(Box::pin(async move {
                    let (outcome, reply) = pending.finish(&cx).await;
                    match verdict(&outcome, &reply) {
                        Verdict::Nothing => inner.rest(cx, search, Some((outcome, reply))).await,
                        Verdict::Exists => {
                            inner.completed.inc();
                            (outcome, reply)
                        }
                        Verdict::Doubt => (outcome, reply),
                    }
                }))
            }
        }
    }
}

impl Inner {
    #[inline]
    fn begin(&self, cx: &Context<'_>) -> Option<Search> {
        // What the server asks itself has no search list.
        if cx.depth > 0 || cx.query.header().opcode() != Opcode::QUERY {
            return None;
        }
        let name = cx.query.name();
        if !self.zones.iter().any(|zone| zone.contains(name)) {
            return None;
        }
        self.lists.begin(cx)
    }

    /// Tries the candidates as long as none has to wait. The name as asked does not exist.
    fn complete(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        reply: &mut Reply,
        mut search: Search,
    ) -> Step {
        let mut packet = SmallVec::new();
        while let Some(candidate) = self.lists.next(&cx.query, &mut search) {
            let Some(query) = cx.query.renamed(&candidate.name, &mut packet) else {
                continue;
            };
            let mut inner = Context {
                query,
                chain: cx.chain,
                ..*cx
            };
            reply.start(&inner.query);
            match cx.chain.walk(cx.position + 1, &mut inner, reply) {
                Flow::Done(outcome) => match judge(&outcome, reply, &candidate) {
                    Verdict::Exists if reply.rename(&cx.query).is_ok() => {
                        self.completed.add(cx.shard, 1);
                        return Step::Done(outcome);
                    }
                    Verdict::Nothing => {}
                    Verdict::Exists | Verdict::Doubt => break,
                },
                Flow::Wait(pending) => {
                    let (this, inner, cx) = (Arc::clone(self), inner.to_owned(), cx.to_owned());
                    return Step::Wait(Box::pin(async move {
                        let (outcome, mut reply) = pending.finish(&inner).await;
                        match judge(&outcome, &reply, &candidate) {
                            Verdict::Exists if reply.rename(&cx.query.view()).is_ok() => {
                                this.completed.inc();
                                (outcome, reply)
                            }
                            Verdict::Nothing => this.rest(cx, search, None).await,
                            Verdict::Exists | Verdict::Doubt => as_asked(cx).await,
                        }
                    }));
                }
            }
        }
        // It was overwritten; what is answered from memory is answered again as cheaply.
        reply.start(&cx.query);
        match cx.chain.walk(cx.position + 1, cx, reply) {
            Flow::Done(outcome) => Step::Done(outcome),
            Flow::Wait(pending) => {
                let cx = cx.to_owned();
                Step::Wait(Box::pin(async move { pending.finish(&cx).await }))
            }
        }
    }

    /// Tries the candidates from `search` on, waiting for each. `first` is the answer to the name as
    /// asked, if it is at hand.
    fn rest(
        self: Arc<Self>,
        cx: OwnedContext,
        mut search: Search,
        first: Option<(Outcome, Reply)>,
    ) -> Answer {
        Box::pin(async move {
            loop {
                let next = self.lists.next(&cx.query.view(), &mut search);
                let Some(candidate) = next else { break };
                let mut inner = cx.clone();
                let view = cx.query.view();
                let (qtype, qclass) = (view.qtype(), view.qclass());
                inner.query = OwnedQuery::with_question(&view, &candidate.name, qtype, qclass);
                let from = cx.position + 1;
                let (outcome, mut reply) = Arc::clone(&cx.chain).ask(from, inner).await;
                match judge(&outcome, &reply, &candidate) {
                    Verdict::Exists if reply.rename(&cx.query.view()).is_ok() => {
                        self.completed.inc();
                        return (outcome, reply);
                    }
                    Verdict::Nothing => {}
                    Verdict::Exists | Verdict::Doubt => break,
                }
            }
            match first {
                Some(first) => first,
                None => as_asked(cx).await,
            }
        })
    }
}

/// As [`verdict`]; there is none after a candidate that is decided.
fn judge(outcome: &Outcome, reply: &Reply, candidate: &Candidate) -> Verdict {
    match verdict(outcome, reply) {
        Verdict::Nothing if candidate.decided => Verdict::Doubt,
        verdict => verdict,
    }
}

/// The answer to the name as asked: the client goes on through its list on its own.
async fn as_asked(cx: OwnedContext) -> (Outcome, Reply) {
    let from = cx.position + 1;
    Arc::clone(&cx.chain).ask(from, cx).await
}
