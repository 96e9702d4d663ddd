//! A source without an API server: manifests in files, picked up when they change.
//!
//! Every change is told to the sink as a list of each kind, which the sink takes as a diff. The
//! file system's notifications are a hint to look; what counts is the files' content. A file that
//! cannot be read keeps the objects that it had before.

mod derive;
mod files;
mod read;

use super::{Quarantine, Settings, SetupError};
use crate::metrics::{Counter, Registry};
use crate::plugins::kubernetes::object::{Key, Kind, Object, Sink};
use files::{Files, Watch};
use read::Manifest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for a change to be complete.
const SETTLE: Duration = Duration::from_millis(100);
/// How often to look without having been told to: notifications do not cross every mount.
const POLL: Duration = Duration::from_secs(30);

/// The source.
pub(super) struct Manifests {
    files: Files,
    watch: Watch,
    teller: Teller,
}

/// Tells the sink what the files have.
struct Teller {
    settings: Settings,
    sink: Arc<dyn Sink>,
}

impl Manifests {
    /// Begins to watch the paths.
    ///
    /// # Errors
    /// If one of them does not exist.
    pub(super) fn new(
        paths: &[PathBuf],
        settings: Settings,
        sink: Arc<dyn Sink>,
        metrics: &Registry,
    ) -> Result<Self, SetupError> {
        for path in paths {
            std::fs::metadata(path).map_err(|error| SetupError::File {
                file: path.clone(),
                reason: error.to_string(),
            })?;
        }
        let errors: Counter = metrics.counter(
            "portolan_kubernetes_manifest_errors_total",
            "Manifest files that could not be read.",
            Vec::new(),
        );
        let kinds = [
            Kind::Namespace,
            Kind::Service,
            Kind::EndpointSlice,
            Kind::Pod,
        ];
        let quarantine = kinds.map(|kind| (kind, Quarantine::new(kind, metrics)));
        Ok(Self {
            files: Files::new(paths, errors, quarantine.into()),
            watch: Watch::new(paths),
            teller: Teller { settings, sink },
        })
    }

    /// Runs for ever.
    pub(super) async fn run(self) {
        let Self {
            mut files,
            mut watch,
            teller,
        } = self;
        let teller = Arc::new(teller);
        let mut first = true;
        loop {
            let work = {
                let teller = Arc::clone(&teller);
                move || {
                    if files.refresh() || first {
                        teller.tell(&files.manifests());
                    }
                    files
                }
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(back) => files = back,
                // The runtime ends.
                Err(_) => return,
            }
            first = false;
            watch.changed(POLL).await;
            tokio::time::sleep(SETTLE).await;
            watch.settle();
        }
    }
}

impl Teller {
    fn tell(&self, manifests: &[&Manifest]) {
        for kind in self.settings.kinds() {
            self.sink.list_start(kind);
            match kind {
                Kind::Namespace => self.namespaces(manifests),
                Kind::Service => self.set(self.selected(manifests, kind)),
                Kind::Pod => {
                    self.set(self.selected(manifests, kind).filter(|pod| pod.is_alive()));
                }
                Kind::EndpointSlice => {
                    self.set(self.selected(manifests, kind));
                    let services = self.selected(manifests, Kind::Service);
                    for (key, slice) in derive::slices(services, manifests) {
                        self.sink.set(key, Object::EndpointSlice(slice));
                    }
                }
            }
            self.sink.list_end(kind);
        }
    }

    fn selected<'a>(
        &'a self,
        manifests: &'a [&Manifest],
        kind: Kind,
    ) -> impl Iterator<Item = &'a Manifest> {
        let selector = self.settings.selector(kind);
        manifests
            .iter()
            .copied()
            .filter(move |m| m.kind() == kind && selector.matches(|label| m.label(label)))
    }

    fn set<'a>(&self, manifests: impl Iterator<Item = &'a Manifest>) {
        for manifest in manifests {
            self.sink.set(manifest.key.clone(), manifest.object.clone());
        }
    }

    /// Namespaces that have a manifest, and those that other manifests refer to.
    fn namespaces(&self, manifests: &[&Manifest]) {
        let mut known: BTreeMap<&str, Option<&Manifest>> = BTreeMap::new();
        for manifest in manifests {
            match manifest.kind() {
                Kind::Namespace => {
                    known.insert(&manifest.key.name, Some(manifest));
                }
                _ => {
                    known.entry(&manifest.key.namespace).or_default();
                }
            }
        }
        let selected: BTreeSet<&str> = known
            .into_iter()
            .filter(|(name, manifest)| {
                self.settings.namespace_labels.matches(|label| {
                    // The API server gives every namespace this label.
                    let own = manifest.and_then(|manifest| manifest.label(label));
                    own.or((label == "kubernetes.io/metadata.name").then_some(*name))
                })
            })
            .map(|(name, _)| name)
            .collect();
        for name in selected {
            let key = Key {
                namespace: "".into(),
                name: name.into(),
            };
            self.sink.set(key, Object::Namespace);
        }
    }
}

#[cfg(test)]
mod tests;
