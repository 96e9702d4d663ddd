//! The resources of the API, and what feeds which kind of which sink.

use crate::plugins::kubernetes::object::Kind;

/// A resource of the API that is listed and watched, with what is taken from it.
///
/// Imported services (multicluster.x-k8s.io) look like services to a sink of their own: a
/// ServiceImport is a [`Kind::Service`] there, and the slices of imports are its
/// [`Kind::EndpointSlice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// core/v1 Namespace.
    Namespace,
    /// core/v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// core/v1 Pod.
    Pod,
    /// core/v1 Pod with its labels.
    LabelledPod,
    /// multicluster.x-k8s.io/v1alpha1 ServiceImport.
    ServiceImport,
    /// discovery.k8s.io/v1 EndpointSlice of an imported service.
    ImportedSlice,
}

impl From<Kind> for Resource {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Namespace => Self::Namespace,
            Kind::Service => Self::Service,
            Kind::EndpointSlice => Self::EndpointSlice,
            Kind::Pod => Self::Pod,
        }
    }
}

impl Resource {
    /// What it is to its sink.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Namespace => Kind::Namespace,
            Self::Service | Self::ServiceImport => Kind::Service,
            Self::EndpointSlice | Self::ImportedSlice => Kind::EndpointSlice,
            Self::Pod | Self::LabelledPod => Kind::Pod,
        }
    }

    /// Whether its sink is that of imports.
    pub const fn is_imported(self) -> bool {
        matches!(self, Self::ServiceImport | Self::ImportedSlice)
    }

    /// Whether an API server may not have it: it is a custom resource.
    pub const fn is_custom(self) -> bool {
        matches!(self, Self::ServiceImport)
    }

    /// Its objects, as metrics and logs name them.
    pub const fn object(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod | Self::LabelledPod => "Pod",
            Self::ServiceImport => "ServiceImport",
            Self::ImportedSlice => "ImportedSlice",
        }
    }

    /// The watch, as metrics and logs name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::Pod | Self::LabelledPod => "pods",
            Self::ServiceImport => "serviceimports",
            Self::ImportedSlice => "importedslices",
        }
    }

    /// Where the API server has it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Namespace => "/api/v1/namespaces",
            Self::Service => "/api/v1/services",
            Self::EndpointSlice | Self::ImportedSlice => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Pod | Self::LabelledPod => "/api/v1/pods",
            Self::ServiceImport => "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::kubernetes::object::{WATCHED, WATCHED_IMPORTS};
    use crate::plugins::kubernetes::source::Settings;
    use std::collections::BTreeSet;

    /// What is granted is what is asked for.
    #[test]
    fn paths_are_of_what_is_watched() {
        let settings = |imports| Settings {
            endpoints: true,
            pods: true,
            pod_labels: imports,
            imports,
            ..Settings::default()
        };
        let watched = |lists: &[&[(&str, &str)]]| -> BTreeSet<String> {
            let lists = lists.iter().flat_map(|list| list.iter());
            lists
                .map(|(group, name)| format!("{group}/{name}"))
                .collect()
        };
        let asked = |settings: Settings| -> BTreeSet<String> {
            let paths = settings.resources().into_iter().map(Resource::path);
            let parts = paths.map(|path| path.trim_start_matches('/').split('/'));
            parts
                .map(|parts| match parts.collect::<Vec<_>>()[..] {
                    ["api", "v1", name] => format!("/{name}"),
                    ["apis", group, _, name] => format!("{group}/{name}"),
                    ref other => panic!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(asked(settings(false)), watched(&[WATCHED]));
        assert_eq!(asked(settings(true)), watched(&[WATCHED, WATCHED_IMPORTS]));
    }
}
