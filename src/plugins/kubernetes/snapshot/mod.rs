//! The last known state on disk: written while the API server tells of changes, served at a start
//! without it.
//!
//! A snapshot is restored before the source starts, with `Sink::set` alone: its kinds are not
//! synced, so that what it does not have is not known (SERVFAIL) and does not fail to exist. When
//! the API server is back, each first list is a diff against what was restored, like every list.
//! Only what the API server confirmed is written: not before every kind was listed.

mod codec;
mod file;
mod format;
mod identity;
mod options;
mod restore;
#[cfg(test)]
mod tests;

pub use format::Refused;
pub use options::Options;
pub(super) use restore::{Restored, restore, show};

use super::index::Index;
use super::object::Kind;
use super::source::Settings;
use crate::corefile::Error;
use crate::limits::SNAPSHOT_PATIENCE;
use crate::metrics::{Counter, Registry};
use crate::plugin::{Hooks, Setup};
use codec::KINDS;
use file::Pending;
use format::{Head, Summary, Writer};
use std::io::{self, BufWriter};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// After which time a temporary file is one that a crash left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// Keeps the file of an index. Shared by all configurations and blocks with the same settings.
pub(super) struct Snapshot {
    options: Options,
    settings: Settings,
    kinds: Vec<Kind>,
    index: Arc<Index>,
    writes: Counter,
    failures: Counter,
    runs: AtomicBool,
    /// Blocks of configurations that serve and want it. (An old configuration may live on for a
    /// while, and must not write over what the next one wrote.)
    users: AtomicUsize,
    /// Also what makes writers take turns.
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    /// The index's count of changes when it was last written.
    changes: Option<u64>,
    /// Whether the last attempt failed, which is said once.
    fails: bool,
}

/// Which index a file belongs to, within one configuration.
struct Claim(String);

/// Has the snapshot of a block's index kept from when the configuration serves on. `identity` is
/// what defines the index.
///
/// # Errors
/// If an index of other settings has the same file: each would refuse what the other wrote.
pub(super) fn setup(
    setup: &mut Setup<'_>,
    options: &Options,
    settings: &Settings,
    identity: &str,
    index: &Arc<Index>,
) -> Result<Handle, Error> {
    options.check();
    let shared = &setup.process.shared;
    let path = options.path.display();
    let claim = shared.get_or(&format!("{} {path}", setup.fingerprint), || {
        Claim(identity.to_owned())
    });
    if claim.0 != identity {
        return Err(setup.only_one()?.error(format!(
            "snapshot {path}: a kubernetes with other settings writes it already"
        )));
    }
    let key = format!("{identity} {path} {:?}", options.interval);
    let snapshot = shared.get_or(&key, || {
        let metrics = &setup.process.metrics;
        Snapshot::new(options, settings, index, metrics)
    });
    let hooks = &mut setup.hooks;
    let started = Arc::clone(&snapshot);
    // A configuration that is not accepted has never written anything.
    hooks.serving.push(Hooks::hook(move || async move {
        started.start();
    }));
    let stopped = Arc::clone(&snapshot);
    hooks.shutdown.push(Hooks::hook(move || async move {
        stopped.users.fetch_sub(1, Relaxed);
    }));
    let last = Arc::clone(&snapshot);
    hooks.final_shutdown.push(Hooks::hook(move || async move {
        last.users.fetch_add(1, Relaxed);
        if tokio::time::timeout(SNAPSHOT_PATIENCE, last.save())
            .await
            .is_err()
        {
            tracing::warn!(
                target: "plugin/kubernetes",
                "snapshot {}: not written in time for the end", last.options.path.display()
            );
        }
    }));
    Ok(Handle(snapshot, claim))
}

/// Keeps a snapshot going for as long as a configuration wants it.
pub(super) struct Handle(
    #[expect(dead_code, reason = "held")] Arc<Snapshot>,
    #[expect(dead_code, reason = "held")] Arc<Claim>,
);

impl Snapshot {
    fn new(options: &Options, settings: &Settings, index: &Arc<Index>, metrics: &Registry) -> Self {
        let path = options.path.display().to_string();
        Self {
            options: options.clone(),
            kinds: settings.kinds(),
            settings: settings.clone(),
            index: Arc::clone(index),
            writes: metrics.counter(
                "portolan_kubernetes_snapshot_writes_total",
                "Snapshots written.",
                vec![("path", path.clone())],
            ),
            failures: failures(metrics, path),
            runs: AtomicBool::new(false),
            users: AtomicUsize::new(0),
            written: Mutex::default(),
        }
    }

    /// Counts a user, and starts the task that writes if it does not run yet.
    fn start(self: Arc<Self>) {
        self.users.fetch_add(1, Relaxed);
        if self.runs.swap(true, Relaxed) {
            return;
        }
        let (interval, this) = (self.options.interval, Arc::downgrade(&self));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                // No configuration wants it any more.
                let Some(this) = this.upgrade() else { return };
                this.save().await;
            }
        });
    }

    /// Writes what changed since the last time, off the threads that serve.
    async fn save(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || this.save_here()).await;
        if let Err(error) = saved {
            tracing::error!(target: "plugin/kubernetes", "snapshot: {error}");
        }
    }

    fn save_here(&self) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = *self.index.changes().borrow();
        let wanted = self.users.load(Relaxed) > 0 && self.index.is_synced();
        if !wanted || written.changes == Some(changes) {
            return;
        }
        let path = self.options.path.display();
        match self.write() {
            Ok(Summary { count, left_out }) => {
                self.writes.inc();
                tracing::debug!(target: "plugin/kubernetes", "snapshot {path}: {count} objects");
                if left_out > 0 {
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "snapshot {path}: {left_out} objects are too large and left out"
                    );
                }
                *written = Written {
                    changes: Some(changes),
                    fails: false,
                };
            }
            Err(error) => {
                self.failures.inc();
                if !std::mem::replace(&mut written.fails, true) {
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "snapshot {path} cannot be written: {error}; it is tried again, silently"
                    );
                }
            }
        }
    }

    /// Writes the file.
    fn write(&self) -> io::Result<Summary> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let head = Head {
            written: now.unwrap_or_default().as_secs(),
            settings: identity::describe(&self.settings),
        };
        file::clean(&self.options.path, LEFT_BEHIND);
        let pending = Pending::create(&self.options.path)?;
        let mut writer = Writer::new(BufWriter::new(&pending.file), &head)?;
        for (kind, mark) in KINDS {
            if !self.kinds.contains(&kind) {
                continue;
            }
            // Nobody waits for the disk: walking the index takes no lock. What changes meanwhile is
            // here or not, and counted as a change: it is written the next time.
            writer.section(mark, |object| self.index.export(kind, object))?;
        }
        let summary = writer.finish()?;
        pending.commit()?;
        Ok(summary)
    }
}

/// Files that could not be written, or were refused.
fn failures(metrics: &Registry, path: String) -> Counter {
    metrics.counter(
        "portolan_kubernetes_snapshot_failures_total",
        "Snapshots that could not be written, or were refused.",
        vec![("path", path)],
    )
}
