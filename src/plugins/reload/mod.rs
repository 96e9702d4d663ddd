#![doc = include_str!("README.md")]

mod events;
mod watch;

use crate::corefile::{Directive, Error, value};
use crate::plugin::{Hooks, Setup};
use std::sync::Arc;
use std::time::Duration;
use watch::{Reloader, Stopper, Watch};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_JITTER: Duration = Duration::from_secs(15);
const LEAST_INTERVAL: Duration = Duration::from_secs(2);
const LEAST_JITTER: Duration = Duration::from_secs(1);

/// Starts to watch the Corefile once the configuration serves. Queries do not pass it.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let (interval, jitter) = match setup.directives {
        [directive, ..] => parse(directive)?,
        [] => (DEFAULT_INTERVAL, DEFAULT_JITTER),
    };
    // A process has one watch, whichever blocks ask for it; the block set up last decides.
    let reloader = setup.process.shared.get_or("reload", Reloader::default);
    let Some(path) = setup.process.corefile.clone() else {
        tracing::debug!(target: "plugin/reload", "The configuration is no file: nothing to watch");
        return Ok(());
    };
    let watch = Watch {
        path,
        period: period(interval, jitter),
        running: setup.fingerprint.to_owned(),
        process: Arc::clone(setup.process),
    };
    let runtime = setup.process.runtime.clone();
    let started = Arc::clone(&reloader);
    let stop = Stopper::default();
    let stopped = stop.clone();
    let start = Hooks::hook(move || async move { started.start(&runtime, watch, stopped) });
    setup.hooks.serving.push(start);
    // Keeps the reloader alive from one configuration to the next.
    let end = Hooks::hook(move || async move {
        stop.stop();
        drop(reloader);
    });
    setup.hooks.shutdown.push(end);
    Ok(())
}

fn parse(directive: &Directive) -> Result<(Duration, Duration), Error> {
    let (interval, jitter) = match directive.args.as_slice() {
        [] => (None, None),
        [interval] => (Some(interval), None),
        [interval, jitter] => (Some(interval), Some(jitter)),
        [.., last] => return Err(last.arg_error()),
    };
    directive.no_block()?;
    let interval = match interval {
        None => DEFAULT_INTERVAL,
        Some(token) => match value::duration(token)? {
            short if short < LEAST_INTERVAL => {
                return Err(token.error("interval value must be greater or equal to 2s"));
            }
            interval => interval,
        },
    };
    let jitter = match jitter {
        None => DEFAULT_JITTER,
        Some(token) => match value::duration(token)? {
            short if short < LEAST_JITTER && short != Duration::ZERO => {
                return Err(token.error("jitter value must be greater or equal to 1s"));
            }
            jitter => jitter,
        },
    };
    Ok((interval, jitter.min(interval / 2)))
}

/// The interval, up to half the jitter shorter or longer, so that the replicas of a deployment do
/// not reload at the same time.
fn period(interval: Duration, jitter: Duration) -> Duration {
    interval - jitter / 2 + jitter.mul_f64(rand::random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests;
