#![doc = include_str!("README.md")]

use super::common;
use crate::corefile::Error;
use crate::plugin::admin::{Endpoint, Response};
use crate::plugin::{Chain, Process, Setup};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// Where the endpoint is if no address is given.
const DEFAULT_ADDRESS: &str = ":8181";

/// Builds the endpoint from its occurrence in a server block. Queries do not pass it.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let directive = setup.only_one()?;
    let listen = match directive.args.as_slice() {
        [] => DEFAULT_ADDRESS.to_owned(),
        [address] => common::host_port(address)?,
        [.., last] => return Err(last.arg_error()),
    };
    let mut continuously = false;
    for line in &directive.block {
        if line.name.text != "monitor" {
            return Err(line.unknown());
        }
        let [mode] = line.exactly()?;
        continuously = match mode.as_str() {
            "until-ready" => false,
            "continuously" => true,
            other => return Err(mode.error(format!("monitor type '{other}' not supported"))),
        };
    }
    let monitor = Arc::new(Monitor {
        process: Arc::clone(setup.process),
        chain: Arc::clone(setup.chain),
        continuously,
        seen_ready: Mutex::default(),
    });
    setup.endpoints.push(Endpoint {
        listen,
        path: "/ready",
        handler: Arc::new(move |_| monitor.respond()),
    });
    Ok(())
}

/// Asks the plugins of a server block whether they are ready.
struct Monitor {
    process: Arc<Process>,
    chain: Arc<OnceLock<Weak<Chain>>>,
    continuously: bool,
    /// Positions in the chain of the plugins that need not be asked any more.
    seen_ready: Mutex<BTreeSet<usize>>,
}

impl Monitor {
    fn respond(&self) -> Response {
        let Some(chain) = self.chain.get().and_then(Weak::upgrade) else {
            // The configuration is not complete yet, or it is gone.
            return Response::text(503, "Starting");
        };
        let waiting = self.not_ready(&chain);
        if waiting.is_empty() {
            // A query that comes before the sockets are open is refused.
            return match self.process.listening.load(Relaxed) {
                true => Response::text(200, "OK"),
                false => Response::text(503, "Starting"),
            };
        }
        let names: Vec<_> = waiting.into_iter().collect();
        let names = names.join(",");
        tracing::info!(target: "plugin/ready", "Plugins not ready: \"{names}\"");
        Response::text(503, names)
    }

    /// The names of the plugins that are not ready, in alphabetical order.
    fn not_ready(&self, chain: &Chain) -> BTreeSet<&'static str> {
        let mut seen = self
            .seen_ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut waiting = BTreeSet::new();
        for (position, plugin) in chain.plugins().iter().enumerate() {
            if seen.contains(&position) {
                continue;
            }
            match plugin.ready() {
                Some(true) if !self.continuously => {
                    seen.insert(position);
                }
                Some(false) => {
                    waiting.insert(plugin.name());
                }
                _ => {}
            }
        }
        waiting
    }
}

#[cfg(test)]
mod tests;
