//! Zone to chain: what the queries of one listening address are answered by.

use super::build::Served;
use crate::dns::{Class, Name, Rcode, RecordType, Reply};
use crate::metrics::{Counter, QueryMetrics};
use crate::plugin::chain::Resolve;
use crate::plugin::{Answer, Chain, Flow, Outcome, OwnedContext};
use foldhash::fast::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The server blocks of one listening address.
pub struct Routes {
    zones: HashMap<Box<[u8]>, Arc<Chain>, RandomState>,
    /// How many labels the zones have, each number once, the largest first: only those suffixes are
    /// looked up. Without the root, which holds every name.
    depths: Box<[u8]>,
    root: Option<Arc<Chain>>,
    any_class: bool,
    /// What is refused before any plugin sees it: zone label `dropped` (SC-39).
    pub(super) refused: QueryMetrics,
    pub(super) panics: Counter,
    /// The label of the first block.
    pub(super) server: String,
}

impl Routes {
    /// Routes to `chains`, each with the zones that it serves here; a zone that two of them serve
    /// goes to the first.
    pub fn new(chains: &[Served], refused: QueryMetrics, panics: Counter) -> Self {
        let mut zones = HashMap::<Box<[u8]>, _, _>::default();
        let mut depths = BTreeSet::new();
        for (chain, served) in chains {
            for zone in served {
                // A name has at most 127 labels.
                depths.insert(zone.label_count() as u8);
                zones
                    .entry(zone.wire().into())
                    .or_insert_with(|| Arc::clone(chain));
            }
        }
        depths.remove(&0);
        Self {
            root: zones.get(Name::root().wire()).map(Arc::clone),
            zones,
            depths: depths.into_iter().rev().collect(),
            any_class: chains.iter().any(|(chain, _)| chain.block().any_class),
            refused,
            panics,
            server: chains
                .first()
                .map(|(chain, _)| chain.block().server.clone())
                .unwrap_or_default(),
        }
    }

    /// The chain that answers `name`: the block of the longest zone that the name is in.
    ///
    /// A question for DS is answered by the parent's side of a zone cut: by the block of the
    /// shortest zone, the root only where there is no other (SC-37). `None`: REFUSED.
    #[inline]
    pub fn find(&self, name: &Name, qtype: RecordType, qclass: Class) -> Option<&Arc<Chain>> {
        if qclass != Class::IN && !self.any_class {
            return None;
        }
        let labels = name.label_count();
        let mut found = None;
        for &depth in &self.depths {
            let Some(skipped) = labels.checked_sub(depth.into()) else {
                continue;
            };
            if let Some(chain) = self.zones.get(name.suffix(skipped)) {
                found = Some(chain);
                if qtype != RecordType::DS {
                    break;
                }
            }
        }
        let found = found.or(self.root.as_ref());
        // A block without plugins refuses (SC-36).
        found.filter(|chain| !chain.plugins().is_empty())
    }
}

/// Where a name is routed to, and why, for people.
#[derive(Clone, Debug)]
pub(super) struct Routing {
    /// The keys of the block; `None` if there is none.
    pub(super) block: Option<String>,
    pub(super) why: String,
    /// Zones that other blocks answer for here, in order.
    pub(super) other_zones: Vec<String>,
}

/// Most zones of other blocks that are named.
const OTHER_ZONES: usize = 20;

impl Routes {
    /// What [`Self::find`] finds, and why.
    pub(super) fn explain(&self, name: &Name, qtype: RecordType, qclass: Class) -> Routing {
        let found = self.find(name, qtype, qclass);
        let is_found = |chain: &Arc<Chain>| found.is_some_and(|found| Arc::ptr_eq(found, chain));
        let zone = |wire: &[u8]| {
            Name::read(wire, 0).map_or_else(|_| String::new(), |(name, _)| name.to_string())
        };
        let others = self.zones.iter().filter(|(_, chain)| !is_found(chain));
        let mut other_zones: Vec<_> = others.map(|(wire, _)| zone(wire)).collect();
        other_zones.sort();
        if other_zones.len() > OTHER_ZONES {
            let more = other_zones.len() - OTHER_ZONES;
            other_zones.truncate(OTHER_ZONES);
            other_zones.push(format!("{more} more"));
        }
        let mut suffixes: Vec<_> = (0..=name.label_count()).map(|n| name.suffix(n)).collect();
        if qtype == RecordType::DS {
            // The shortest one answers, the root last.
            suffixes.reverse();
            suffixes.rotate_left(1);
        }
        let mut served = suffixes.into_iter();
        let served = served.find(|suffix| self.zones.contains_key(*suffix));
        let why = match (found, served) {
            (Some(_), Some(wire)) if qtype == RecordType::DS => {
                format!(
                    "{} is the shortest zone here that holds the name (DS: the parent's side)",
                    zone(wire)
                )
            }
            (Some(_), Some(wire)) => {
                format!(
                    "{} is the longest zone here that holds the name",
                    zone(wire)
                )
            }
            (_, None) => "no zone here holds the name: REFUSED".into(),
            (None, Some(_)) if qclass != Class::IN && !self.any_class => {
                format!("no block here answers class {qclass}: REFUSED")
            }
            (None, Some(wire)) => {
                format!("the block of zone {} has no plugins: REFUSED", zone(wire))
            }
        };
        let block = found.map(|chain| {
            let block = chain.block();
            let zones: Vec<_> = block.zones.iter().map(|zone| zone.text()).collect();
            format!("{} for {}", block.server, zones.join(" "))
        });
        Routing {
            block,
            why,
            other_zones,
        }
    }
}

impl Resolve for Routes {
    fn resolve(self: Arc<Self>, mut cx: OwnedContext) -> Answer {
        Box::pin(async move {
            let mut reply = Reply::new();
            let chain = {
                let view = cx.view();
                reply.start(&view.query);
                let query = &view.query;
                if let Some(trace) = view.trace {
                    let (name, qtype) = (query.name(), query.qtype());
                    trace.server(cx.depth, format!("asks itself for {name} {qtype}"));
                }
                self.find(query.name(), query.qtype(), query.qclass())
                    .map(Arc::clone)
            };
            let Some(chain) = chain else {
                let outcome = Outcome::Unwritten {
                    rcode: Rcode::REFUSED,
                    error: None,
                };
                return (outcome, reply);
            };
            cx.chain = chain;
            cx.position = 0;
            let flow = {
                let mut view = cx.view();
                cx.chain.walk(0, &mut view, &mut reply)
            };
            match flow {
                Flow::Done(outcome) => (outcome, reply),
                Flow::Wait(pending) => pending.finish(&cx).await,
            }
        })
    }
}

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes")
            .field("zones", &self.zones.len())
            .finish_non_exhaustive()
    }
}
