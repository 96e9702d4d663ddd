//! Zone to chain: what the queries of one listening address are answered by.

use super::build::Served;
use crate::dns::{Class, Name, Rcode, RecordType, Reply};
use crate::metrics::{Counter, QueryMetrics};
use crate::plugin::chain::Resolve;
use crate::plugin::{Answer, Chain, Flow, Outcome, OwnedContext};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// The server blocks of one listening address.
pub struct Routes {
    zones: HashMap<Box<[u8]>, Arc<Chain>, RandomState>,
    /// Bit n is set if a zone of n labels is there: only those suffixes are looked up.
    depths: u128,
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
        let mut zones = HashMap::default();
        let mut depths = 0;
        for (chain, served) in chains {
            for zone in served {
                depths |= 1u128 << zone.label_count();
                zones
                    .entry(zone.wire().into())
                    .or_insert_with(|| Arc::clone(chain));
            }
        }
        Self {
            zones,
            depths,
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
        for skipped in 0..=labels {
            let depth = labels - skipped;
            if self.depths & 1u128 << depth == 0 || depth == 0 && found.is_some() {
                continue;
            }
            if let Some(chain) = self.zones.get(name.suffix(skipped)) {
                found = Some(chain);
                if qtype != RecordType::DS {
                    break;
                }
            }
        }
        // A block without plugins refuses (SC-36).
        found.filter(|chain| !chain.plugins().is_empty())
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
