//! The files: finding them, reading those that changed, being told of changes.

use super::super::{Quarantine, Resource};
use super::read::{Manifest, read};
use crate::limits::{MANIFEST_BYTES, MANIFEST_FILES};
use crate::metrics::Counter;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};
use tokio::sync::mpsc;

/// Folders in folders, counting links to folders above.
const DEEPEST_FOLDER: u8 = 16;

/// The files with what they have.
pub(super) struct Files {
    paths: Vec<PathBuf>,
    files: BTreeMap<PathBuf, File>,
    /// What was wrong with the paths when it was last said.
    said: String,
    errors: Counter,
    quarantine: Vec<(Resource, Quarantine)>,
}

#[derive(Default)]
struct File {
    /// A hash of the content, or of the error, when it was last looked at.
    seen: u64,
    /// What it had when it was last whole.
    manifests: Vec<Manifest>,
}

impl Files {
    pub(super) fn new(
        paths: &[PathBuf],
        errors: Counter,
        quarantine: Vec<(Resource, Quarantine)>,
    ) -> Self {
        Self {
            paths: paths.to_vec(),
            files: BTreeMap::new(),
            said: String::new(),
            errors,
            quarantine,
        }
    }

    /// All objects, in the order of the files' names.
    pub(super) fn manifests(&self) -> Vec<&Manifest> {
        let files = self.files.values();
        files.flat_map(|file| &file.manifests).collect()
    }

    /// Looks at all files, and says whether any has other objects than before.
    pub(super) fn refresh(&mut self) -> bool {
        let mut found = BTreeSet::new();
        for path in &self.paths {
            if let Err(error) = find(path, true, 0, &mut found) {
                // A folder that cannot be listed says nothing about its files.
                self.say(error);
                return false;
            }
        }
        self.said.clear();
        let before = self.files.len();
        self.files.retain(|path, _| found.contains(path));
        let mut changed = self.files.len() != before;
        for path in found {
            changed |= self.look_at(path);
        }
        changed
    }

    fn say(&mut self, error: String) {
        if self.said != error {
            self.errors.inc();
            tracing::error!(target: "plugin/kubernetes", "{error}; serving what was there before");
            self.said = error;
        }
    }

    fn look_at(&mut self, path: PathBuf) -> bool {
        let content = content(&path);
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let seen = hasher.finish();
        if self.files.get(&path).is_some_and(|file| file.seen == seen) {
            return false;
        }
        let read = content.and_then(|text| read(&text));
        let file = self.files.entry(path.clone()).or_default();
        file.seen = seen;
        match read {
            Ok(read) => {
                for (resource, error) in read.broken {
                    tracing::error!(
                        target: "plugin/kubernetes",
                        "{}: a {} is left out: {error}",
                        path.display(),
                        resource.object()
                    );
                    let counter = self.quarantine.iter().find(|(of, _)| *of == resource);
                    if let Some((_, quarantine)) = counter {
                        quarantine.count();
                    }
                }
                file.manifests = read.manifests;
                true
            }
            Err(error) => {
                self.errors.inc();
                tracing::error!(
                    target: "plugin/kubernetes",
                    "{}: {error}; serving what it had before",
                    path.display()
                );
                false
            }
        }
    }
}

/// The text of a file.
fn content(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MANIFEST_BYTES {
        return Err(format!("larger than {MANIFEST_BYTES} octets"));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Finds the manifest files at a path. In folders these are all whose names end in `.yaml`, `.yml`
/// or `.json`; hidden files and folders are left out, which a mounted ConfigMap has.
fn find(path: &Path, named: bool, depth: u8, found: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    let wrong = |error: io::Error| format!("{}: {error}", path.display());
    let metadata = match fs::metadata(path) {
        // Gone since its folder was listed, or a link to nowhere.
        Err(_) if !named => return Ok(()),
        metadata => metadata.map_err(wrong)?,
    };
    if metadata.is_file() {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if named || matches!(extension, Some("yaml" | "yml" | "json")) {
            if found.len() >= MANIFEST_FILES {
                return Err(format!("more than {MANIFEST_FILES} manifest files"));
            }
            found.insert(path.to_owned());
        }
    } else if metadata.is_dir() && depth < DEEPEST_FOLDER {
        for entry in fs::read_dir(path).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                find(&entry.path(), false, depth + 1, found)?;
            }
        }
    }
    Ok(())
}

/// Notifications of the file system.
pub(super) struct Watch {
    /// `None` where the system has none: then only polling is left.
    watcher: Option<RecommendedWatcher>,
    folders: Vec<(PathBuf, RecursiveMode)>,
    changes: mpsc::Receiver<()>,
}

impl Watch {
    /// Watches these paths: folders as they are, files through their folder, since they may be
    /// replaced.
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        // One place is enough: it says that there is something to look at.
        let (changed, changes) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files must not be a reason to read them.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = changed.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(
                    target: "plugin/kubernetes",
                    "no notifications of changed manifests, polling: {error}"
                );
            })
            .ok();
        let folder = |path: &PathBuf| match (path.is_dir(), path.parent()) {
            (true, _) => (path.clone(), RecursiveMode::Recursive),
            (false, Some(parent)) if !parent.as_os_str().is_empty() => {
                (parent.to_owned(), RecursiveMode::NonRecursive)
            }
            (false, _) => (PathBuf::from("."), RecursiveMode::NonRecursive),
        };
        let mut watch = Self {
            watcher,
            folders: paths.iter().map(folder).collect(),
            changes,
        };
        watch.renew();
        watch
    }

    /// Watches folders again that were replaced.
    fn renew(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            for (folder, mode) in &self.folders {
                // What cannot be watched is polled.
                let _ = watcher.watch(folder, *mode);
            }
        }
    }

    /// Waits for a change, at most so long.
    pub(super) async fn changed(&mut self, longest: Duration) {
        if self.watcher.is_none() {
            tokio::time::sleep(longest).await;
        } else if tokio::time::timeout(longest, self.changes.recv())
            .await
            .is_err()
        {
            self.renew();
        }
    }

    /// Forgets changes that are about to be looked at.
    pub(super) fn settle(&mut self) {
        while self.changes.try_recv().is_ok() {}
    }
}
