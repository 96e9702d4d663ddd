//! The record of one query's way through the chains: what `/explain` shows.
//!
//! Queries of clients have none ([`Context::trace`] is `None`), and pay for that with a null check.

use super::{Context, Outcome, Step};
use crate::dns::{Header, Reply};
use crate::limits::EXPLAIN_STEPS;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What happened to one query, in the order of time. Shared by all that work on the query, those
/// included that answer later.
#[derive(Debug)]
pub struct Trace {
    started: Instant,
    steps: Mutex<Vec<Recorded>>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Who says it: the plugin's name, or `server`.
    pub plugin: &'static str,
    /// How many times the server had asked itself by then: 0 for the question itself.
    pub depth: u8,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What happened, for people.
    pub text: String,
    /// Microseconds since the start.
    pub at_micros: u64,
}

/// Kinds of [`Recorded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A plugin's own remark.
    Remark,
    /// The query went on to the next plugin.
    Passed,
    /// The query was decided here.
    Decided,
    /// The query waits for an answer from elsewhere.
    Waits,
    /// The reply was changed on its way out.
    Changed,
}

impl Kind {
    /// The kind in one word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Remark => "remark",
            Self::Passed => "passed",
            Self::Decided => "decided",
            Self::Waits => "waits",
            Self::Changed => "changed",
        }
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            steps: Mutex::default(),
        }
    }
}

impl Trace {
    /// What happened so far, at most [`EXPLAIN_STEPS`] things.
    pub fn steps(&self) -> Vec<Recorded> {
        self.lock().clone()
    }

    /// Adds a remark of the server.
    pub fn server(&self, depth: u8, text: String) {
        self.add("server", depth, Kind::Remark, text);
    }

    /// Adds a remark of the plugin that is called.
    #[cold]
    pub fn remark(&self, cx: &Context<'_>, text: String) {
        self.add(name(cx), cx.depth, Kind::Remark, text);
    }

    /// Adds what a plugin did with the query.
    #[cold]
    pub(super) fn step(&self, cx: &Context<'_>, step: &Step, reply: &Reply) {
        let (kind, text) = match step {
            Step::Next => (Kind::Passed, "passed on".into()),
            Step::Done(outcome) => (Kind::Decided, decision(outcome, reply)),
            Step::Wait(_) => (Kind::Waits, "waits for an answer".into()),
        };
        self.add(name(cx), cx.depth, kind, text);
    }

    /// Adds that no plugin decided the query.
    #[cold]
    pub(super) fn end(&self, cx: &Context<'_>, outcome: &Outcome, reply: &Reply) {
        self.add("server", cx.depth, Kind::Decided, decision(outcome, reply));
    }

    /// Adds how the waiting ended.
    #[cold]
    pub(super) fn waited(&self, cx: &Context<'_>, outcome: &Outcome, reply: &Reply) {
        self.add(name(cx), cx.depth, Kind::Decided, decision(outcome, reply));
    }

    /// Adds what a plugin changed on the way out, if it did.
    #[cold]
    pub(super) fn way_out(
        &self,
        cx: &Context<'_>,
        before: &Before,
        reply: &Reply,
        outcome: &Outcome,
    ) {
        let after = Before::of(reply, outcome);
        if let Some(text) = before.difference(&after) {
            self.add(name(cx), cx.depth, Kind::Changed, text);
        }
    }

    fn add(&self, plugin: &'static str, depth: u8, kind: Kind, text: String) {
        let at_micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut steps = self.lock();
        let left = EXPLAIN_STEPS.saturating_sub(steps.len());
        let step = match left {
            0 => return,
            1 => Recorded {
                plugin: "server",
                depth: 0,
                kind: Kind::Remark,
                text: "more happened than is shown".into(),
                at_micros,
            },
            _ => Recorded {
                plugin,
                depth,
                kind,
                text,
                at_micros,
            },
        };
        steps.push(step);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Recorded>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(cx: &Context<'_>) -> &'static str {
    let plugin = cx.chain.plugins().get(cx.position);
    plugin.map_or("server", |plugin| plugin.name())
}

/// A reply before a plugin saw it on the way out.
pub(super) struct Before {
    outcome: Outcome,
    rcode: u16,
    flags: u16,
    counts: [u16; 3],
    errors: usize,
    records: Vec<u8>,
}

impl Before {
    #[cold]
    pub(super) fn of(reply: &Reply, outcome: &Outcome) -> Self {
        let flags = [Header::AA, Header::TC, Header::RA, Header::AD];
        let records = reply.message().get(reply.records_offset()..);
        Self {
            outcome: outcome.clone(),
            rcode: reply.rcode().0,
            flags: flags.into_iter().filter(|&flag| reply.has_flag(flag)).sum(),
            counts: reply.counts(),
            errors: reply.extended_errors().len(),
            records: records.unwrap_or_default().to_vec(),
        }
    }

    /// What is different in `after`.
    fn difference(&self, after: &Self) -> Option<String> {
        let mut parts = Vec::new();
        if (&self.outcome, self.rcode) != (&after.outcome, after.rcode) {
            parts.push("the outcome");
        }
        if self.flags != after.flags {
            parts.push("flags");
        }
        if self.counts != after.counts {
            parts.push("the number of records");
        } else if self.records != after.records {
            parts.push("records (their order or their TTLs)");
        }
        if self.errors != after.errors {
            parts.push("extended errors");
        }
        (!parts.is_empty()).then(|| format!("changed the reply: {}", parts.join(", ")))
    }
}

/// An outcome in words.
fn decision(outcome: &Outcome, reply: &Reply) -> String {
    match outcome {
        Outcome::Written => {
            let [answers, authorities, additionals] = reply.counts();
            let nodata = reply.rcode() == crate::dns::Rcode::NOERROR && answers == 0;
            let rcode = reply.rcode();
            let what = if nodata { " without data" } else { "" };
            format!(
                "answered {rcode}{what} (answer {answers}, authority {authorities}, additional {additionals})"
            )
        }
        Outcome::Unwritten { rcode, error } => match error {
            Some(error) => format!("ended the query with {rcode}: {error}"),
            None => format!("ended the query with {rcode}"),
        },
        Outcome::Dropped => "ended the query without a reply".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_an_end() {
        let trace = Trace::default();
        for number in 0..2 * EXPLAIN_STEPS {
            trace.server(0, number.to_string());
        }
        let steps = trace.steps();
        assert_eq!(steps.len(), EXPLAIN_STEPS);
        assert_eq!(
            steps[EXPLAIN_STEPS - 2].text,
            (EXPLAIN_STEPS - 2).to_string()
        );
        assert_eq!(steps[EXPLAIN_STEPS - 1].text, "more happened than is shown");
    }

    #[test]
    fn what_changed() {
        let mut reply = Reply::new();
        let query = crate::dns::OwnedQuery::ask(
            b"\x01a\0",
            crate::dns::RecordType::A,
            crate::dns::Class::IN,
            true,
        );
        reply.start(&query.view());
        let before = Before::of(&reply, &Outcome::Written);
        let now = |reply: &Reply, outcome: &Outcome| before.difference(&Before::of(reply, outcome));
        assert_eq!(now(&reply, &Outcome::Written), None);
        let dropped = Some("changed the reply: the outcome".to_owned());
        assert_eq!(now(&reply, &Outcome::Dropped), dropped);
        reply.set_flag(Header::AD, true);
        let (section, owner) = (crate::dns::Section::Answer, crate::dns::Owner::Query);
        reply.push(section, owner, crate::dns::RecordType::A, 5, &[10, 0, 0, 1]);
        let both = Some("changed the reply: flags, the number of records".to_owned());
        assert_eq!(now(&reply, &Outcome::Written), both);
    }
}
