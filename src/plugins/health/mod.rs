#![doc = include_str!("README.md")]

mod poll;

use super::common;
use crate::corefile::{Error, value};
use crate::plugin::admin::{Endpoint, Response};
use crate::plugin::{Hooks, Setup};
use poll::Poller;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Where the endpoint is if no address is given.
const DEFAULT_ADDRESS: &str = ":8080";

/// Builds the endpoint from its occurrences in a server block. Queries do not pass it.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let (mut listen, mut lameduck) = (DEFAULT_ADDRESS.to_owned(), Duration::ZERO);
    for directive in setup.directives {
        match directive.args.as_slice() {
            [] => {}
            [address] => listen = common::host_port(address)?,
            [.., last] => return Err(last.arg_error()),
        }
        for line in &directive.block {
            match (line.name.as_str(), line.args.as_slice()) {
                ("lameduck", [duration]) => {
                    lameduck = value::duration(duration).map_err(|_| {
                        duration.error(format!(
                            "unable to parse lameduck duration value: '{duration}'"
                        ))
                    })?;
                }
                (_, args) => return Err(args.last().unwrap_or(&line.name).arg_error()),
            }
        }
    }
    setup.endpoints.push(Endpoint {
        listen: listen.clone(),
        path: "/health",
        handler: Arc::new(|_| Response::text(200, "OK")),
    });
    hooks(setup, &listen, lameduck);
    Ok(())
}

fn hooks(setup: &mut Setup<'_>, listen: &str, lameduck: Duration) {
    let poller = Poller::new(&setup.process.metrics, listen);
    let runtime = setup.process.runtime.clone();
    let task: Arc<OnceLock<AbortHandle>> = Arc::default();
    let running = Arc::clone(&task);
    let start = Hooks::hook(move || async move {
        // Set once: the hook runs once.
        let _ = running.set(runtime.spawn(poller.run()).abort_handle());
    });
    setup.hooks.serving.push(start);
    let stop = Hooks::hook(move || async move {
        if let Some(task) = task.get() {
            task.abort();
        }
    });
    setup.hooks.shutdown.push(stop);
    if lameduck > Duration::ZERO {
        let wait = Hooks::hook(move || async move {
            let shown = common::go_duration(lameduck);
            tracing::info!(target: "plugin/health", "Going into lameduck mode for {shown}");
            tokio::time::sleep(lameduck).await;
        });
        setup.hooks.final_shutdown.push(wait);
    }
}

#[cfg(test)]
mod tests;
