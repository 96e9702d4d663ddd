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
use super::{Quarantine, Resource, Settings};
use crate::metrics::Registry;
use crate::plugins::kubernetes::object::{Kind, Sink};
use metrics::Signs;
use request::Requests;
use state::{End, State};
use std::sync::Arc;
use std::time::Duration;

/// The watch of one resource.
pub(super) struct Watcher {
    resource: Resource,
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
        resource: Resource,
        settings: &Settings,
        api: &Arc<Api>,
        sink: &Arc<dyn Sink>,
        metrics: &Registry,
    ) -> Self {
        Self {
            resource,
            kind: resource.kind(),
            api: Arc::clone(api),
            sink: Arc::clone(sink),
            requests: Requests::new(resource, &settings.selector(resource)),
            timing: settings.timing,
            signs: Signs::new(resource, metrics),
            quarantine: Quarantine::new(resource, metrics),
        }
    }

    /// Runs for ever.
    pub(super) async fn run(self) {
        let mut state = State::StreamList;
        let mut failures = 0_u32;
        // Watches in a row of which nothing was heard.
        let mut silences = 0_u32;
        // Versions in a row that were too old before a watch from them told anything.
        let mut expired = 0_u32;
        loop {
            let (end, progress) = match &state {
                State::StreamList => self.stream(None).await,
                State::PageList { limit } => self.pages(*limit).await,
                State::Watch { version } => self.stream(Some(version.clone())).await,
            };
            if progress {
                failures = 0;
            }
            match &end {
                End::Gone => expired = expired.saturating_add(1),
                _ if progress && matches!(state, State::Watch { .. }) => expired = 0,
                _ => {}
            }
            let smooth = match &end {
                End::Gone => false,
                End::Failed { failure, .. } => progress && !failure.is_answer(),
                End::Listed { .. } | End::Closed { .. } => progress,
            };
            if !smooth {
                failures = failures.saturating_add(1);
            }
            silences = match end.is_silence(progress) {
                true => silences.saturating_add(1),
                false => 0,
            };
            let next = state.clone().after(&end, failures).despite(silences);
            // The first time at once. Streams that end at once, or versions that are always too
            // old, must not keep the server busy.
            let soon = self.timing.pause_after(failures.saturating_sub(1));
            let pause = match &end {
                _ if smooth => Duration::ZERO,
                End::Failed { failure, .. } if failure.is_refusal() && state != next => {
                    self.signs.log(&format_args!("listing in pages: {failure}"));
                    Duration::ZERO
                }
                End::Failed { failure, .. }
                    if failure.is_missing() && self.resource.is_custom() =>
                {
                    self.missing();
                    self.timing.pause_after(failures)
                }
                End::Failed { failure, .. } => {
                    self.signs.failed(failure);
                    self.timing.pause_at_least(failures, failure.retry_after())
                }
                End::Gone => {
                    self.signs.log(&"the version expired, listing again");
                    soon.max(self.timing.pause_after(expired - 1))
                }
                End::Listed { .. } | End::Closed { .. } => soon,
            };
            state = next;
            tokio::time::sleep(pause).await;
        }
    }
}
