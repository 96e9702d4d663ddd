//! Which names stand for the one that was asked for.

use crate::dns::name::MAX_NAME;
use crate::dns::{Name, Query, Zone};
use crate::plugin::Context;
use crate::plugins::kubernetes::Provided;
use crate::plugins::kubernetes::config::Pods;
use smallvec::SmallVec;
use std::sync::OnceLock;

/// Search lists.
pub(super) enum Lists {
    /// Those of the cluster's pods: `NS.svc.ZONE`, `svc.ZONE`, `ZONE`, and then these domains.
    Pods {
        /// The cluster, once the block is complete; it never comes where nothing is completed.
        cluster: OnceLock<std::sync::Arc<Provided>>,
        /// The server's own search list.
        own: Vec<Zone>,
    },
    /// These domains, for every client.
    Domains {
        /// The list, as the file has it.
        list: Vec<Zone>,
        /// The cluster that some of them may be in.
        cluster: OnceLock<std::sync::Arc<Provided>>,
    },
}

/// A query whose name ends with the first domain of its client's search list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Search {
    /// Octets of the name in front of the domain.
    base: usize,
    /// Where in the name `svc.ZONE` and `ZONE` start, for lists of pods.
    inner: Option<[usize; 2]>,
    /// The candidate to be looked at next.
    next: usize,
}

/// A name to be asked for in place of the one that was asked for.
pub(super) struct Candidate {
    /// The name in wire form, its first labels as the client typed them.
    pub name: SmallVec<[u8; MAX_NAME]>,
    /// Whether it is known to exist: then it is the one, whatever it is answered with.
    pub decided: bool,
}

impl Lists {
    /// The cluster, if there is one and all of it is known.
    fn cluster(&self) -> Option<&Provided> {
        let (Self::Pods { cluster, .. } | Self::Domains { cluster, .. }) = self;
        cluster.get().map(|cluster| &**cluster)
    }

    /// The search that a query begins, if its name ends with the first domain of its client's list.
    #[inline]
    pub(super) fn begin(&self, cx: &Context<'_>) -> Option<Search> {
        let name = cx.query.name();
        match self {
            Self::Pods { cluster, .. } => {
                let cluster = cluster.get()?;
                let zone = cluster.zone_of(name)?;
                // `BASE.NS.svc.ZONE`.
                let labels = name.label_count().checked_sub(zone.label_count() + 2)?;
                if labels == 0 || name.label(labels + 1) != b"svc" {
                    return None;
                }
                if cluster.answers.pods != Pods::Verified || !cluster.index.is_synced() {
                    return None;
                }
                let namespace = name.label(labels);
                let is = |of_pod: &str| of_pod.as_bytes() == namespace;
                cluster
                    .index
                    .client(cx.client.addr.ip(), is)
                    .filter(|&same| same)?;
                Some(Search {
                    base: name.label_offset(labels),
                    inner: Some([labels + 1, labels + 2].map(|label| name.label_offset(label))),
                    next: 0,
                })
            }
            Self::Domains { list, .. } => {
                let first = list.first().filter(|first| first.contains(name))?;
                let labels = name.label_count() - first.label_count();
                (labels > 0).then(|| Search {
                    base: name.label_offset(labels),
                    inner: None,
                    next: 0,
                })
            }
        }
    }

    /// The next candidate: one that exists in the cluster, or one that nothing is known of yet.
    #[inline]
    pub(super) fn next(&self, query: &Query<'_>, search: &mut Search) -> Option<Candidate> {
        loop {
            let name = self.name(query, search)?;
            search.next += 1;
            // Beyond 255 octets it is no name.
            let Ok((read, _)) = Name::read(&name, 0) else {
                continue;
            };
            if read == *query.name() {
                continue;
            }
            let cluster = self.cluster().filter(|cluster| cluster.index.is_synced());
            let inside = cluster.and_then(|cluster| Some((cluster, cluster.zone_of(&read)?)));
            match inside {
                None => {
                    return Some(Candidate {
                        name,
                        decided: false,
                    });
                }
                Some((cluster, zone)) if cluster.exists(&read, zone) => {
                    return Some(Candidate {
                        name,
                        decided: true,
                    });
                }
                // It does not exist, and nobody is asked for it.
                Some(_) => {}
            }
        }
    }

    /// Candidate `search.next`; the last is the base alone.
    fn name(&self, query: &Query<'_>, search: &Search) -> Option<SmallVec<[u8; MAX_NAME]>> {
        let typed = query.name_as_typed();
        let mut at = search.next;
        let domain = 'domain: {
            if let Some(inner) = search.inner {
                if let Some(&offset) = inner.get(at) {
                    break 'domain &typed[offset..];
                }
                at -= inner.len();
            }
            let rest = match self {
                Self::Pods { own, .. } => own.as_slice(),
                Self::Domains { list, .. } => list.get(1..).unwrap_or_default(),
            };
            match at.checked_sub(rest.len()) {
                None => rest[at].wire(),
                Some(0) => b"\0",
                Some(_) => return None,
            }
        };
        let mut name = SmallVec::new();
        name.extend_from_slice(&typed[..search.base]);
        name.extend_from_slice(domain);
        Some(name)
    }
}
