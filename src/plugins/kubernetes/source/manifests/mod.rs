//! A source without an API server: manifests in files, picked up when they change.
//!
//! Every change is told to the sink as a list of each kind, which the sink takes as a diff. The
//! file system's notifications are a hint to look; what counts is the files' content. A file that
//! cannot be read keeps the objects that it had before.

mod derive;
mod files;
mod read;

use super::{Quarantine, Resource, Settings, SetupError, Sinks};
use crate::metrics::{Counter, Registry};
use crate::plugins::kubernetes::object::{Key, Object, Sink};
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
    sinks: Sinks,
}

impl Manifests {
    /// Begins to watch the paths.
    ///
    /// # Errors
    /// If one of them does not exist.
    pub(super) fn new(
        paths: &[PathBuf],
        settings: Settings,
        sinks: Sinks,
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
        let of = read::RESOURCES.iter().map(|(_, resource)| *resource);
        let quarantine = of.map(|of| (of, Quarantine::new(of, metrics)));
        Ok(Self {
            files: Files::new(paths, errors, quarantine.collect()),
            watch: Watch::new(paths),
            teller: Teller { settings, sinks },
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
        for resource in self.settings.resources() {
            let Some(sink) = self.sinks.of(resource) else {
                continue;
            };
            sink.list_start(resource.kind());
            let selected = self.selected(manifests, resource);
            match resource {
                Resource::Namespace => self.namespaces(manifests),
                Resource::Service | Resource::ServiceImport => set(&**sink, selected),
                Resource::Pod => set(&**sink, selected.filter(|pod| pod.is_alive())),
                Resource::LabelledPod => {
                    for pod in selected.filter(|pod| pod.is_alive()) {
                        sink.set(pod.key.clone(), pod.with_labels());
                    }
                }
                Resource::ImportedSlice => {
                    for slice in selected {
                        match slice.as_imported() {
                            Ok(object) => sink.set(slice.key.clone(), object),
                            // What can be read as a slice can be read as that of an import.
                            Err(error) => tracing::error!(target: "plugin/kubernetes", "{error}"),
                        }
                    }
                }
                Resource::EndpointSlice => {
                    set(&**sink, selected);
                    let services = self.selected(manifests, Resource::Service);
                    for (key, slice) in derive::slices(services, manifests) {
                        sink.set(key, Object::EndpointSlice(slice));
                    }
                }
            }
            sink.list_end(resource.kind());
        }
    }

    fn selected<'a>(
        &'a self,
        manifests: &'a [&Manifest],
        resource: Resource,
    ) -> impl Iterator<Item = &'a Manifest> {
        let selector = self.settings.selector(resource);
        let of = match resource {
            Resource::LabelledPod => Resource::Pod,
            Resource::ImportedSlice => Resource::EndpointSlice,
            resource => resource,
        };
        manifests
            .iter()
            .copied()
            .filter(move |m| m.resource == of && selector.matches(|label| m.label(label)))
    }

    /// Namespaces that have a manifest, and those that other manifests refer to.
    fn namespaces(&self, manifests: &[&Manifest]) {
        let mut known: BTreeMap<&str, Option<&Manifest>> = BTreeMap::new();
        for manifest in manifests {
            match manifest.resource {
                Resource::Namespace => {
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
            self.sinks.cluster.set(key, Object::Namespace);
        }
    }
}

fn set<'a>(sink: &dyn Sink, manifests: impl Iterator<Item = &'a Manifest>) {
    for manifest in manifests {
        sink.set(manifest.key.clone(), manifest.object.clone());
    }
}

#[cfg(test)]
mod tests;
