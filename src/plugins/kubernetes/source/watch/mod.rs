//! Keeps a [`Sink`] at the state of one kind of object on the API server.
//!
//! A [`Watcher`] lists (as a stream, or in pages where the server will not), then watches from the
//! list's version, and lists again when its version is too old for the server. The states and their
//! transitions are in `state`; this file runs them, `connection` holds one connection.
//! While there is no connection nothing is deleted: what was known is served.

mod backoff;
mod connection;
mod failure;
mod metrics;
mod request;
mod state;

pub use backoff::Timing;
pub(super) use failure::Failure;

use super::client::Api;
use super::{Quarantine, Settings};
use crate::metrics::Registry;
use crate::plugins::kubernetes::object::{Kind, Sink};
use metrics::Signs;
use request::Requests;
use state::{End, State};
use std::sync::Arc;
use std::time::Duration;

/// The watch of one kind.
pub(super) struct Watcher {
    kind: Kind,
    api: Arc<Api>,
    sink: Arc<dyn Sink>,
    requests: Requests,
    timing: Timing,
    signs: Arc<Signs>,
    quarantine: Quarantine,
}

impl Watcher {
    pub(super) fn new(
        kind: Kind,
        settings: &Settings,
        api: &Arc<Api>,
        sink: &Arc<dyn Sink>,
        metrics: &Registry,
    ) -> Self {
        Self {
            kind,
            api: Arc::clone(api),
            sink: Arc::clone(sink),
            requests: Requests::new(kind, settings.selector(kind)),
            timing: settings.timing,
            signs: Signs::new(kind, metrics),
            quarantine: Quarantine::new(kind, metrics),
        }
    }

    /// Runs for ever.
    pub(super) async fn run(self) {
        let mut state = State::StreamList;
        let mut failures = 0_u32;
        loop {
            let (end, progress) = match &state {
                State::StreamList => self.stream(None).await,
                State::PageList { limit } => self.pages(*limit).await,
                State::Watch { version } => self.stream(Some(version.clone())).await,
            };
            if progress {
                failures = 0;
            }
            let smooth = progress && !matches!(end, End::Gone | End::Failed(_));
            if !smooth {
                failures = failures.saturating_add(1);
            }
            let next = state.clone().after(&end, failures);
            let pages = matches!((&state, &next), (State::StreamList, State::PageList { .. }));
            let refused = matches!(&end, End::Failed(failure) if failure.is_refusal());
            let pause = match &end {
                _ if smooth || (pages && refused) => Duration::ZERO,
                // The first time at once. Streams that end at once, or versions that are always too
                // old, must not keep the server busy.
                End::Closed { .. } | End::Gone => self.timing.pause_after(failures - 1),
                _ => self.timing.pause_after(failures),
            };
            match &end {
                End::Failed(failure) if pages && refused => {
                    self.signs.log(&format_args!("listing in pages: {failure}"));
                }
                End::Failed(failure) => self.signs.failed(failure),
                End::Gone => self.signs.log(&"the version expired, listing again"),
                End::Listed { .. } | End::Closed { .. } => {}
            }
            state = next;
            tokio::time::sleep(pause).await;
        }
    }
}
