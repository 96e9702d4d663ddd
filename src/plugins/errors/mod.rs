#![doc = include_str!("README.md")]

mod consolidate;

use super::common;
use crate::corefile::{Error, Line, value};
use crate::dns::Reply;
use crate::plugin::{Context, Hooks, Outcome, Plugin, Setup};
use consolidate::{Level, Pattern};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Builds the plugin from its occurrences in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let directive = setup.only_one()?;
    match directive.args.as_slice() {
        [] => {}
        [file] if file.text == "stdout" => {}
        [file] => return Err(file.error(format!("invalid log file: {file}"))),
        [.., last] => return Err(last.arg_error()),
    }
    let (mut patterns, mut stacktrace) = (Vec::new(), false);
    for line in &directive.block {
        match line.name.as_str() {
            "stacktrace" => stacktrace = true,
            "consolidate" => {
                let runtime = setup.process.runtime.clone();
                patterns.push(Arc::new(parse_consolidate(line, runtime)?));
            }
            other => {
                return Err(line.name.syntax_error(format!(
                    "Unexpected token '{other}', expecting 'Unknown field {other}'"
                )));
            }
        }
    }
    setup.block.stacktrace |= stacktrace;
    let pending = patterns.clone();
    let stop = Hooks::hook(move || async move {
        for pattern in &pending {
            pattern.stop();
        }
    });
    setup.hooks.shutdown.push(stop);
    setup.add(Errors { patterns });
    Ok(())
}

fn parse_consolidate(line: &Line, runtime: tokio::runtime::Handle) -> Result<Pattern, Error> {
    let (period, expression, mut rest) = match line.args.as_slice() {
        [period, expression, rest @ ..] => (period, expression, rest),
        _ => return Err(line.args.last().unwrap_or(&line.name).arg_error()),
    };
    let mut level = Level::Error;
    if let [first, tail @ ..] = rest
        && first.text != "show_first"
    {
        level = Level::from_text(&first.text).ok_or_else(|| {
            first.error(format!(
                "unknown log level argument in consolidate: {first}"
            ))
        })?;
        rest = tail;
    }
    let show_first = match rest {
        [] => false,
        [word] if word.text == "show_first" => true,
        [.., last] => return Err(last.arg_error()),
    };
    let period = value::duration(period)?;
    let expression = common::regex(expression)?;
    Ok(Pattern::new(expression, period, level, show_first, runtime))
}

/// Logs the errors with which queries end.
struct Errors {
    patterns: Vec<Arc<Pattern>>,
}

impl Plugin for Errors {
    fn name(&self) -> &'static str {
        "errors"
    }

    fn only_looks_back(&self) -> bool {
        true
    }

    fn answered(&self, cx: &mut Context<'_>, reply: &mut Reply, outcome: &mut Outcome) {
        let Outcome::Unwritten {
            rcode,
            error: Some(error),
        } = outcome
        else {
            return;
        };
        let (name, qtype) = (cx.query.name(), cx.query.qtype());
        let upstream = Upstream::missing(reply, error);
        let line = format_args!("{} {name} {qtype}: {error}{upstream}", rcode.0);
        if cx.trace.is_some() {
            cx.note(|| format!("a client's query would be logged: {line}"));
            return;
        }
        if !self.consolidated(error, line) {
            Level::Error.log(line);
        }
    }
}

/// Behind an error that does not say it (`EOF`): which upstream was asked last.
struct Upstream(Option<SocketAddr>);

impl Upstream {
    fn missing(reply: &Reply, error: &str) -> Self {
        let upstream = reply.upstream();
        Self(upstream.filter(|upstream| !error.contains(&upstream.to_string())))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(upstream) => write!(f, " (upstream {upstream})"),
            None => Ok(()),
        }
    }
}

impl Errors {
    /// Whether the error is counted in a summary line instead of having a line of its own.
    fn consolidated(&self, error: &str, line: fmt::Arguments<'_>) -> bool {
        let mut patterns = self.patterns.iter();
        let pattern = patterns.find(|pattern| pattern.matches(error));
        pattern.is_some_and(|pattern| pattern.count(line))
    }
}

#[cfg(test)]
mod tests;
