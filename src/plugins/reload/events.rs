//! Changes in the Corefile's directory, told by the kernel.

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// A watch on the directory of a file. The directory, since a ConfigMap's files are symbolic links
/// to a directory that is exchanged as a whole.
#[derive(Debug)]
pub(super) struct Events {
    changed: mpsc::Receiver<()>,
    // Watches as long as it lives.
    _watcher: Option<RecommendedWatcher>,
}

impl Events {
    /// Watches the directory of `file`. If that cannot be, a line in the log says so, and there
    /// are no events.
    pub(super) fn of(file: &Path) -> Self {
        // One is enough: all that happened is looked at at once.
        let (sender, changed) = mpsc::channel(1);
        let watcher = watch(file, sender).map_err(|error| {
            tracing::warn!(
                target: "plugin/reload",
                "Cannot watch {} ({error}): looking at it periodically only",
                directory(file).display()
            );
        });
        Self {
            changed,
            _watcher: watcher.ok(),
        }
    }

    /// Waits for a change of something in the directory; for ever if it is not watched.
    pub(super) async fn changed(&mut self) {
        if self.changed.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets changes that were told already.
    pub(super) fn forget(&mut self) {
        while self.changed.try_recv().is_ok() {}
    }
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn watch(file: &Path, sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Reading the file is an event, too: it must not lead to reading it again.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full: a change is told already.
            let _ = sender.try_send(());
        }
    })?;
    watcher.watch(&directory(file), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
