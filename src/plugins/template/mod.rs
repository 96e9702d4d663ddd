#![doc = include_str!("README.md")]

mod answer;
mod config;
mod go;
mod metrics;
mod record;

use crate::corefile::Error;
use crate::corefile::value::Fallthrough;
use crate::dns::{Class, Name, Rcode, RecordType, Reply, Zone};
use crate::plugin::{Context, Outcome, Plugin, Setup, Step};
use answer::Answers;
use metrics::Metrics;
use regex::Regex;
use smallvec::SmallVec;
use std::fmt::{self, Write};

/// Builds the plugin from its occurrences in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let templates = setup.directives.iter();
    let templates: Result<Vec<_>, _> = templates
        .map(|directive| config::parse(directive, setup.block))
        .collect();
    let templates = templates?;
    let zones = templates.iter().flat_map(|template| &template.zones);
    let metrics = Metrics::new(setup.process, &setup.block.server, zones);
    setup.add(Templates { templates, metrics });
    Ok(())
}

/// One directive.
struct Template {
    zones: Vec<Zone>,
    class: Class,
    rtype: RecordType,
    /// Empty: every name matches.
    expressions: Vec<Regex>,
    rcode: Rcode,
    answers: Answers,
    fallthrough: Fallthrough,
}

/// Whether a template is for a question.
enum Match<'t> {
    /// It is not for such questions, or the name falls through.
    No,
    /// It is for such questions, and no expression matches.
    Failed,
    /// It is, by this expression (`None` without any), in this zone.
    Yes(&'t Zone, Option<&'t Regex>),
}

impl Template {
    fn matches(&self, cx: &Context<'_>, text: &str) -> Match<'_> {
        let query = &cx.query;
        let any_class = self.class == Class::ANY || query.qclass() == Class::ANY;
        let any_type = self.rtype == RecordType::ANY || query.qtype() == RecordType::ANY;
        let Some(zone) = Zone::longest(&self.zones, query.name()) else {
            return Match::No;
        };
        if !(any_class || self.class == query.qclass())
            || !(any_type || self.rtype == query.qtype())
        {
            return Match::No;
        }
        if self.expressions.is_empty() {
            return Match::Yes(zone, None);
        }
        let mut expressions = self.expressions.iter();
        match expressions.find(|expression| expression.is_match(text)) {
            Some(expression) => Match::Yes(zone, Some(expression)),
            None if self.fallthrough.covers(query.name()) => Match::No,
            None => Match::Failed,
        }
    }

    /// The class and the type that the answer is for.
    fn kind(&self, cx: &Context<'_>) -> (Class, RecordType) {
        let class = match cx.query.qclass() {
            Class::ANY => self.class,
            class => class,
        };
        let rtype = match cx.query.qtype() {
            RecordType::ANY => self.rtype,
            rtype => rtype,
        };
        (class, rtype)
    }
}

/// Answers from the templates of a server block.
struct Templates {
    templates: Vec<Template>,
    metrics: Metrics,
}

impl Plugin for Templates {
    fn name(&self) -> &'static str {
        "template"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let text = Text::of(cx.query.name());
        for (number, template) in self.templates.iter().enumerate() {
            let (zone, expression) = match template.matches(cx, text.as_str()) {
                Match::No => continue,
                Match::Failed => {
                    cx.note(|| format!("template {}: no expression matches", number + 1));
                    return failed(None);
                }
                Match::Yes(zone, expression) => (zone, expression),
            };
            cx.note(|| {
                let (number, zone) = (number + 1, zone.text());
                match expression {
                    Some(expression) => {
                        format!("template {number}: zone {zone}, matched by {expression}")
                    }
                    None => format!("template {number}: zone {zone}"),
                }
            });
            let (class, rtype) = template.kind(cx);
            self.metrics.matched(cx.shard, zone, class, rtype);
            if template.rcode == Rcode::SERVFAIL {
                return failed(None);
            }
            let answers = &template.answers;
            if answers.are_none() {
                answers.write_empty(reply, template.rcode);
                return Step::Done(Outcome::Written);
            }
            let data = answer::data(cx, text.as_str(), zone, (class, rtype), expression);
            return match answers.render(&data, &self.metrics) {
                Ok(rendered) => rendered.step(cx, reply, template.rcode),
                Err(error) => failed(Some(error)),
            };
        }
        Step::Next
    }
}

fn failed(error: Option<String>) -> Step {
    Step::Done(Outcome::Unwritten {
        rcode: Rcode::SERVFAIL,
        error: error.map(Into::into),
    })
}

/// A name in lower case as text; only names with many escapes are longer than what is on the stack.
struct Text(SmallVec<[u8; 256]>);

impl Text {
    fn of(name: &Name) -> Self {
        let mut text = Self(SmallVec::new());
        // Writing to a vector does not fail.
        let _ = write!(text, "{name}");
        text
    }

    fn as_str(&self) -> &str {
        // Only whole strings are written to it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
