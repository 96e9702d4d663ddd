//! What other plugins of the block get to know of the cluster.

use super::config::Answers;
use super::index::{Entry, Index};
use super::parse::{Dialect, Subject};
use super::records::{Family, Found, Source};
use crate::dns::{MAX_MESSAGE, Name, Reply, Zone};
use std::sync::{Arc, Mutex, PoisonError};

/// The handle that [`crate::plugin::Provided`] holds.
#[derive(Debug)]
pub struct Provided {
    /// The live index.
    pub index: Arc<Index>,
    /// The imported services, where there is a multicluster zone.
    pub imports: Option<Arc<Index>>,
    /// What this occurrence of the plugin answers.
    pub answers: Answers,
}

/// The zones of all *kubernetes* of a configuration, in whichever server block, while it is built.
#[derive(Debug, Default)]
pub struct ClusterZones(Mutex<Vec<Zone>>);

impl ClusterZones {
    /// Adds zones, without those of addresses.
    pub fn add(&self, zones: &[Zone]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for zone in zones.iter().filter(|zone| !zone.is_reverse()) {
            if !all.contains(zone) {
                all.push(zone.clone());
            }
        }
    }

    /// All so far, each once.
    pub fn all(&self) -> Vec<Zone> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Provided {
    /// The zone of the plugin that `name` is in; the longest of several.
    #[inline]
    pub fn zone_of(&self, name: &Name) -> Option<&Zone> {
        Zone::longest(&self.answers.zones, name)
    }

    /// Whether `name`, which is in `zone`, exists, whatever types it has. (Of reverse zones only
    /// the apex does.)
    #[inline]
    pub fn exists(&self, name: &Name, zone: &Zone) -> bool {
        // Without a family nothing is written.
        let source = self.source_of(zone);
        source.existence(name, zone, &mut Reply::default()) != Found::Nothing
    }

    /// Whether queries may see this namespace (`namespaces`, `namespace_labels`).
    #[inline]
    pub fn exposes(&self, namespace: &[u8]) -> bool {
        self.source().exposes(namespace)
    }

    /// The services that one of this machine's addresses is an endpoint of, each once.
    pub fn own_services(&self, mut each: impl FnMut(&Entry)) {
        self.source().own_services(|entry, _| each(entry));
    }

    /// Every service that those outside see: it has external addresses, or (`headless`) it is a
    /// headless one with endpoints. In no order.
    pub fn external_services(&self, headless: bool, mut each: impl FnMut(&Entry)) {
        self.index.entries(|entry| {
            let Some(service) = &entry.service else {
                return;
            };
            let inside = service.external_ips.is_empty();
            if inside && !(headless && service.headless && !entry.endpoints.is_empty()) {
                return;
            }
            let namespace = entry.key.namespace.as_bytes();
            if self.exposes(namespace) && self.index.has_namespace(namespace) {
                each(entry);
            }
        });
    }

    /// What answers in the cluster's own zones are made from.
    pub(in crate::plugins) fn source(&self) -> Source<'_> {
        Source {
            cluster: &self.index,
            services: &self.index,
            answers: &self.answers,
            limit: MAX_MESSAGE,
            dialect: Dialect::default(),
        }
    }

    /// What answers in `zone` are made from.
    pub(in crate::plugins) fn source_of(&self, zone: &Zone) -> Source<'_> {
        let dialect = self.answers.dialect(zone);
        let imports = self.imports.as_deref().filter(|_| dialect.clusters);
        Source {
            services: imports.unwrap_or(&self.index),
            dialect,
            ..self.source()
        }
    }
}

impl Source<'_> {
    fn existence(&self, name: &Name, zone: &Zone, reply: &mut Reply) -> Found {
        if name.label_count() == zone.label_count() {
            return Found::Nodata;
        }
        if zone.is_reverse() {
            return Found::Nothing;
        }
        let subject = Subject::read_as(name, zone.label_count(), self.dialect);
        match subject {
            Subject::Version => Found::Nodata,
            subject => self.addresses(&subject, zone, Family::None, reply),
        }
    }
}
