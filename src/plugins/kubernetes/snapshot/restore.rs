//! Taking a snapshot up at the start.

use super::super::index::Index;
use super::super::object::{Kind, Object, Sink};
use super::super::source::Settings;
use super::format::{self, Head, Refused};
use super::{Options, failures, identity};
use crate::metrics::Registry;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What was restored.
#[derive(Debug)]
pub(in super::super) struct Restored {
    /// How old the state was, by the wall clock.
    age: Duration,
    /// When it was restored.
    at: Instant,
    /// Objects by kind.
    counts: [u64; 4],
}

impl Restored {
    /// How old the restored state is.
    pub(super) fn age(&self) -> Duration {
        self.age + self.at.elapsed()
    }
}

/// Puts what the file has into the index, if there is one and it is of these settings. Whatever is
/// wrong with it is told, and the start goes on without it.
pub(in super::super) fn restore(
    options: &Options,
    settings: &Settings,
    index: &Arc<Index>,
    metrics: &Registry,
) -> Option<Restored> {
    let path = options.path.display();
    let is = identity::describe(settings);
    let restored = match read(&options.path, &is, &settings.kinds(), &**index) {
        Ok(Some(restored)) => restored,
        Ok(None) => {
            tracing::info!(target: "plugin/kubernetes", "snapshot {path}: there is none yet");
            return None;
        }
        Err(error) => {
            failures(metrics, path.to_string()).inc();
            tracing::warn!(
                target: "plugin/kubernetes",
                "snapshot {path} is refused: {error}; starting without it"
            );
            return None;
        }
    };
    let (count, age) = (restored.counts.iter().sum::<u64>(), restored.age.as_secs());
    tracing::info!(
        target: "plugin/kubernetes",
        "snapshot {path}: {count} objects restored, {age} s old"
    );
    Some(restored)
}

/// Reads the file twice: to check it, and to restore it. `None` if there is none.
pub(super) fn read(
    path: &Path,
    is: &str,
    kinds: &[Kind],
    sink: &dyn Sink,
) -> Result<Option<Restored>, Refused> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // Another kind of file could be without end, or block.
    if !file.metadata()?.is_file() {
        return Err(Refused::Magic);
    }
    let Head { written, settings } = format::read(BufReader::new(&file), &mut |_, _| {})?;
    if settings != is {
        let (was, is) = (settings, is.to_owned());
        return Err(Refused::Foreign { was, is });
    }
    file.rewind()?;
    let mut counts = [0; 4];
    format::read(BufReader::new(&file), &mut |key, mut object| {
        let kind = object.kind();
        if !kinds.contains(&kind) {
            return;
        }
        // What was triggered then is no change that happens now.
        if let Object::EndpointSlice(slice) = &mut object {
            slice.triggered = None;
        }
        counts[kind as usize] += 1;
        sink.set(key, object);
    })?;
    let written = UNIX_EPOCH.checked_add(Duration::from_secs(written));
    let age = written.and_then(|written| SystemTime::now().duration_since(written).ok());
    Ok(Some(Restored {
        // A clock that was set back makes nothing younger than new.
        age: age.unwrap_or_default(),
        at: Instant::now(),
        counts,
    }))
}

/// Shows what an index has from a snapshot: `restored` gives it, if there is anything.
pub(in super::super) fn show(
    options: &Options,
    kinds: &[Kind],
    metrics: &Registry,
    index: &Arc<Index>,
    restored: impl Fn() -> Option<Arc<Restored>> + Clone + Send + Sync + 'static,
) {
    let path = options.path.display().to_string();
    let (read, weak) = (restored.clone(), Arc::downgrade(index));
    metrics.read_gauge(
        "portolan_kubernetes_snapshot_age_seconds",
        "How old the restored state is that is served; 0 once the API server has told the current.",
        vec![("path", path.clone())],
        move || {
            let served = read().filter(|_| weak.upgrade().is_some_and(|index| !index.is_synced()));
            weak.strong_count().gt(&0).then_some(())?;
            Some(served.map_or(0.0, |restored| restored.age().as_secs_f64()))
        },
    );
    for &kind in kinds {
        let (read, weak) = (restored.clone(), Arc::downgrade(index));
        metrics.read_gauge(
            "portolan_kubernetes_snapshot_restored_objects",
            "Objects that were restored from the snapshot at the start.",
            vec![("path", path.clone()), ("kind", format!("{kind:?}"))],
            move || {
                weak.upgrade()?;
                Some(read().map_or(0.0, |restored| restored.counts[kind as usize] as f64))
            },
        );
    }
}
