#![doc = include_str!("README.md")]

mod class;
mod format;

use crate::corefile::{Directive, Error, Token};
use crate::dns::{Reply, Zone};
use crate::plugin::{Context, Outcome, Plugin, Setup};
use class::Classes;
use format::{Format, Line};
use std::sync::Arc;

/// Builds the plugin from its occurrences in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let mut rules = Vec::new();
    for directive in setup.directives {
        rules.extend(parse(directive)?);
    }
    setup.add(Log { rules });
    Ok(())
}

fn parse(directive: &Directive) -> Result<Vec<Rule>, Error> {
    let (names, format) = match directive.args.as_slice() {
        // A lone argument is always a name, even if it looks like a format.
        [names @ .., format] if !names.is_empty() && format.text.contains('{') => {
            (names, Format::new(&format.text))
        }
        names => (names, Format::new(format::COMMON)),
    };
    let mut classes = Classes::default();
    for line in &directive.block {
        if line.name.text != "class" {
            return Err(line.args.last().unwrap_or(&line.name).arg_error());
        }
        for class in line.some_args()? {
            classes.add(class)?;
        }
    }
    let format = Arc::new(format);
    let scopes = if names.is_empty() {
        vec![Some(Zone::root())]
    } else {
        names.iter().map(scope).collect()
    };
    let rules = scopes.into_iter().map(|scope| Rule {
        scope,
        classes: classes.or_all(),
        format: Arc::clone(&format),
    });
    Ok(rules.collect())
}

/// The zone of a name; `None`, which no query is in, if it is no domain name.
fn scope(name: &Token) -> Option<Zone> {
    let zone = Zone::from_text(&name.text).ok();
    if zone.is_none() || name.text.contains('{') {
        tracing::warn!(
            target: "plugin/log",
            "{}:{} - '{name}' is taken for a name, and matches no query",
            name.file, name.line
        );
    }
    zone
}

/// Logs queries with their replies.
struct Log {
    rules: Vec<Rule>,
}

/// The queries of a zone, and how their lines look.
struct Rule {
    scope: Option<Zone>,
    classes: Classes,
    format: Arc<Format>,
}

impl Plugin for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn only_looks_back(&self) -> bool {
        true
    }

    fn answered(&self, cx: &mut Context<'_>, reply: &mut Reply, outcome: &mut Outcome) {
        if cx.trace.is_some() {
            // No client asked.
            return;
        }
        let name = cx.query.name();
        let mut rules = self.rules.iter();
        let rule = rules.find(|rule| rule.scope.as_ref().is_some_and(|zone| zone.contains(name)));
        let Some(rule) = rule else {
            return;
        };
        if rule.classes.has_class_of(cx, reply, outcome) {
            let line = Line {
                format: &rule.format,
                cx,
                reply,
                outcome,
            };
            tracing::info!(target: "query", "{line}");
        }
    }
}

#[cfg(test)]
mod tests;
