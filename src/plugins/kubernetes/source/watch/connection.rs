//! One list or one watch, from its request to its end.

use super::super::client::{chunk, read};
use super::super::decode::{self, Event, Format, Frames, Item};
use super::state::End;
use super::{Failure, Watcher};
use crate::limits::KUBE_PAGE_BYTES;
use tokio::time::{Instant, timeout, timeout_at};

/// What an event did to a stream.
enum Step {
    /// It changed an object, or moved the version on.
    Applied,
    /// It completed the initial list.
    Listed,
    /// A bookmark within the initial list: nothing.
    Idle,
    /// It is older than an event before it, and was not applied.
    Disorder,
    /// The stream is of no use any more.
    End(End),
}

impl Watcher {
    /// Reads the list in pages of at most `limit` objects; and whether that made progress.
    pub(super) async fn pages(&self, limit: u32) -> (End, bool) {
        match self.try_pages(limit).await {
            Ok(version) => (End::Listed { version }, true),
            Err(failure) => (End::failed(failure, None), false),
        }
    }

    async fn try_pages(&self, limit: u32) -> Result<String, Failure> {
        let patience = self.timing.response;
        let mut token = String::new();
        loop {
            let uri = self.requests.page(limit, &token);
            let mut response = self.api.get(&uri, patience).await?;
            if token.is_empty() {
                self.list_start();
            }
            let body = timeout(patience, read(&mut response.body, KUBE_PAGE_BYTES));
            let body = body.await.map_err(|_| Failure::Silent(patience))??;
            self.signs.works();
            let page = decode::list(response.format, self.resource, &body, &mut |item| {
                self.set(item);
            })?;
            if page.next.is_empty() {
                self.list_end();
                return Ok(page.version);
            }
            token = page.next;
        }
    }

    /// Watches from `version`, or, without one, lists and watches on; and whether that made
    /// progress beyond the list.
    pub(super) async fn stream(&self, mut version: Option<String>) -> (End, bool) {
        let begun = Instant::now();
        let mut progress = false;
        let end = self.try_stream(&mut version, &mut progress).await;
        // What nobody changes has a quiet watch, but bookmarks come.
        let silent = matches!(end, Err(Failure::Silent(_)));
        progress |= version.is_some() && !silent && begun.elapsed() > self.timing.longest_pause;
        let end = match (end, version) {
            (Ok(end), _) => end,
            (Err(Failure::Ended), Some(version)) => End::Closed { version },
            (Err(failure), version) => End::failed(failure, version),
        };
        (end, progress)
    }

    async fn try_stream(
        &self,
        version: &mut Option<String>,
        progress: &mut bool,
    ) -> Result<End, Failure> {
        let open = self.timing.watch_timeout();
        let uri = self
            .requests
            .watch(version.as_deref(), open.as_secs().max(1));
        let mut response = self.api.get(&uri, self.timing.response).await?;
        self.signs.works();
        if version.is_none() {
            self.list_start();
        }
        // The server ends the watch; if it does not, the connection is dead.
        let last = Instant::now() + open + self.timing.response;
        let mut frames = Frames::new(response.format);
        let mut silent_at = Instant::now() + self.timing.patience(version.is_none());
        loop {
            let received = timeout_at(silent_at.min(last), chunk(&mut response.body)).await;
            let patience = self.timing.patience(version.is_none());
            let received = received.map_err(|_| Failure::Silent(patience))??;
            let Some(chunk) = received else {
                return Err(Failure::Ended);
            };
            self.signs.seen();
            frames.push(&chunk);
            loop {
                let frame = match frames.take() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    // It would come again after a reconnect: only a list can step over it.
                    Err(_) if version.is_some() => return Ok(End::Gone),
                    Err(error) => return Err(error.into()),
                };
                match self.apply(response.format, frame, version) {
                    step @ (Step::Applied | Step::Listed) => {
                        *progress |= version.is_some() && matches!(step, Step::Applied);
                        silent_at = Instant::now() + self.timing.patience(version.is_none());
                    }
                    Step::Idle => {}
                    // What else is missing nobody knows: only a list tells. A server that keeps on
                    // doing so is asked ever more seldom.
                    Step::Disorder => {
                        *progress = false;
                        return Ok(End::Gone);
                    }
                    Step::End(end) => return Ok(end),
                }
            }
        }
    }

    /// Applies an event. `version` is `None` until the initial list is complete.
    fn apply(&self, format: Format, frame: &[u8], version: &mut Option<String>) -> Step {
        let event = decode::event(format, self.resource, frame);
        if let (Ok(event), Some(version)) = (&event, &version)
            && is_older(event.version(), version)
        {
            return Step::Disorder;
        }
        let seen = match event {
            Ok(Event::Set(item)) => {
                let seen = item.version.clone();
                self.set(item);
                seen
            }
            Ok(Event::Deleted(key, seen)) => {
                self.quarantine.no_longer(&key);
                self.sink.delete(self.kind, &key);
                seen
            }
            Ok(Event::Bookmark {
                version: seen,
                initial_end,
            }) => {
                if version.is_none() {
                    if !initial_end {
                        return Step::Idle;
                    }
                    self.list_end();
                    *version = Some(seen.into_owned());
                    return Step::Listed;
                }
                seen
            }
            Ok(Event::Error(status)) => {
                {
                    let failure = match version {
                        None if !status.is_gone() => Failure::NoStream(status),
                        _ => Failure::Status(status),
                    };
                    return Step::End(End::failed(failure, version.take()));
                };
            }
            Err(error) => {
                self.quarantine.object(&Default::default(), &error);
                return Step::Applied;
            }
        };
        if let Some(version) = version
            && !seen.is_empty()
        {
            version.clear();
            version.push_str(&seen);
        }
        Step::Applied
    }

    fn set(&self, item: Item<'_>) {
        match item.object {
            Ok(object) => {
                self.quarantine.no_longer(&item.key);
                self.sink.set(item.key, object);
            }
            Err(error) => {
                self.quarantine.object(&item.key, &error);
                // It is there: what is known of it is better than nothing.
                self.sink.keep(self.kind, &item.key);
            }
        }
    }

    fn list_start(&self) {
        self.signs.list_begins();
        self.quarantine.list_begins();
        self.sink.list_start(self.kind);
    }

    /// Without its definition there is no custom resource: the list is empty. What was known before
    /// stays, as behind any other failure: a server that starts may not know its definitions yet.
    pub(super) fn missing(&self) {
        self.signs.missing();
        if !self.signs.was_listed() {
            self.sink.list_start(self.kind);
            self.sink.list_end(self.kind);
        }
    }

    fn list_end(&self) {
        self.signs.list_ends();
        self.sink.list_end(self.kind);
    }
}

/// Whether a version is before another. Versions are decimal numbers that grow, since Kubernetes
/// 1.35 by definition; those that are none are never older.
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}
