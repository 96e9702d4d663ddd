//! In which order the upstreams of a stanza are asked (FW-6).

use crate::limits::FORWARD_UPSTREAMS;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Indices of upstreams.
pub(super) type Order = SmallVec<[u8; FORWARD_UPSTREAMS]>;

/// The option `policy`.
#[derive(Debug)]
pub(super) enum Policy {
    /// A new random order for each query.
    Random,
    /// Each query starts one upstream further.
    RoundRobin(AtomicUsize),
    /// The order of the file.
    Sequential,
}

impl Policy {
    /// The policy of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        match name {
            "random" => Some(Self::Random),
            "round_robin" => Some(Self::RoundRobin(AtomicUsize::new(0))),
            "sequential" => Some(Self::Sequential),
            _ => None,
        }
    }

    /// The order for the next query over `count` upstreams (255 at most).
    pub(super) fn order(&self, count: usize) -> Order {
        let mut order: Order = (0..count as u8).collect();
        match self {
            Self::Sequential => {}
            Self::RoundRobin(next) if count > 0 => {
                order.rotate_left(next.fetch_add(1, Relaxed) % count);
            }
            Self::RoundRobin(_) => {}
            Self::Random => {
                for at in (1..count).rev() {
                    order.swap(at, rand::random_range(0..=at));
                }
            }
        }
        order
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn order(policy: &Policy) -> Vec<u8> {
        policy.order(3).to_vec()
    }

    #[test]
    fn orders() {
        let sequential = Policy::from_name("sequential").unwrap();
        assert_eq!([order(&sequential), order(&sequential)], [[0, 1, 2]; 2]);
        let round = Policy::from_name("round_robin").unwrap();
        assert_eq!(order(&round), [0, 1, 2]);
        assert_eq!(order(&round), [1, 2, 0]);
        assert_eq!(order(&round), [2, 0, 1]);
        let random = Policy::from_name("random").unwrap();
        let seen: std::collections::BTreeSet<_> = (0..1000).map(|_| order(&random)).collect();
        assert_eq!(seen.len(), 6, "every order comes up");
        assert!(Policy::from_name("fastest").is_none());
    }
}
