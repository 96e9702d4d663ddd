//! Identical questions in flight share one exchange.

use crate::dns::header::HEADER_LEN;
use crate::dns::{Query, RecordType};
use crate::limits::FORWARD_SHARED_QUESTIONS;
use crate::upstream::Protocol;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What makes two queries the same for an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(SmallVec<[u8; 80]>);

impl Key {
    /// The key of a query whose octets, as sent, are `packet`; `None` for a query that must go out
    /// on its own: one with EDNS options or records other than OPT, which may be its client's
    /// alone, and one for HINFO, which may be the probe of a `loop` plugin that has to come round.
    pub(super) fn of(query: &Query<'_>, packet: &[u8], protocol: Protocol) -> Option<Self> {
        let [_, answers, authorities, additionals] = query.header().counts;
        let plain = answers == 0
            && authorities == 0
            && additionals == u16::from(query.edns().is_some())
            && query.edns_options().is_empty();
        if !plain || query.qtype() == RecordType::HINFO {
            return None;
        }
        let mut key = SmallVec::new();
        // Flags, counts; then the name without regard to case; then type, class and OPT.
        key.extend_from_slice(packet.get(2..HEADER_LEN)?);
        key.extend_from_slice(query.name().wire());
        key.extend_from_slice(packet.get(HEADER_LEN + query.name().wire().len()..)?);
        key.push(protocol as u8);
        Some(Self(key))
    }
}

type Flight<T> = Shared<BoxFuture<'static, T>>;

/// The exchanges that can be joined.
pub(super) struct Coalescer<T: Clone> {
    flights: Mutex<Flights<T>>,
}

struct Flights<T: Clone> {
    by_key: HashMap<Key, (u64, WeakShared<BoxFuture<'static, T>>), foldhash::quality::RandomState>,
    started: u64,
}

impl<T: Clone + Send + Sync + 'static> Coalescer<T> {
    pub(super) fn new() -> Self {
        Self {
            flights: Mutex::new(Flights {
                by_key: HashMap::default(),
                started: 0,
            }),
        }
    }

    /// The exchange in flight under `key`, or else the one that `start` makes; whether it was
    /// joined. Whoever waits drives it; it ends early only if nobody waits any more. While it holds
    /// what `start` is given, others can join it.
    pub(super) fn join(
        self: &Arc<Self>,
        key: Key,
        start: impl FnOnce(Option<Landing<T>>) -> BoxFuture<'static, T>,
    ) -> (Flight<T>, bool) {
        let mut flights = self.lock();
        if let Some(flight) = flights
            .by_key
            .get(&key)
            .and_then(|(_, flight)| flight.upgrade())
        {
            return (flight, true);
        }
        flights.started += 1;
        let number = flights.started;
        if flights.by_key.len() >= FORWARD_SHARED_QUESTIONS {
            return (start(None).shared(), false);
        }
        let landing = Landing {
            coalescer: Arc::clone(self),
            key: key.clone(),
            number,
        };
        let flight = start(Some(landing)).shared();
        if let Some(weak) = flight.downgrade() {
            flights.by_key.insert(key, (number, weak));
        }
        (flight, false)
    }

    fn lock(&self) -> MutexGuard<'_, Flights<T>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes an exchange from the table when it ends, or when nobody waits for it any more.
pub(super) struct Landing<T: Clone + Send + Sync + 'static> {
    coalescer: Arc<Coalescer<T>>,
    key: Key,
    number: u64,
}

impl<T: Clone + Send + Sync + 'static> Drop for Landing<T> {
    fn drop(&mut self) {
        let mut flights = self.coalescer.lock();
        let is_ours = |&(number, _): &(u64, _)| number == self.number;
        if flights.by_key.get(&self.key).is_some_and(is_ours) {
            flights.by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures_util::future::{pending, ready};

    fn key(octet: u8) -> Key {
        Key(SmallVec::from_slice(&[octet]))
    }

    fn flying<T: Clone + Send + Sync + 'static>(
        landing: Option<Landing<T>>,
        exchange: impl Future<Output = T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        Box::pin(async move {
            let _landing = landing;
            exchange.await
        })
    }

    #[tokio::test]
    async fn a_flight_is_joined_until_it_ends() {
        let coalescer = Arc::new(Coalescer::new());
        let (first, joined) = coalescer.join(key(1), |landing| flying(landing, ready(1)));
        assert!(!joined);
        let (second, joined) = coalescer.join(key(1), |landing| flying(landing, ready(2)));
        assert!(joined);
        assert!(
            !coalescer
                .join(key(2), |landing| flying(landing, ready(2)))
                .1
        );
        assert_eq!((first.await, second.await), (1, 1));
        assert!(coalescer.lock().by_key.is_empty());
        assert!(
            !coalescer
                .join(key(1), |landing| flying(landing, ready(3)))
                .1
        );
    }

    #[test]
    fn a_flight_that_nobody_waits_for_is_gone() {
        let coalescer: Arc<Coalescer<()>> = Arc::new(Coalescer::new());
        let (flight, _) = coalescer.join(key(1), |landing| flying(landing, pending()));
        drop(flight);
        assert!(coalescer.lock().by_key.is_empty());
    }

    #[test]
    fn keys() {
        let packet = |name: &[u8], tail: &[u8], additionals: u8| {
            let mut packet = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, additionals];
            packet.extend_from_slice(name);
            packet.extend_from_slice(tail);
            packet
        };
        let of = |packet: &[u8], protocol| {
            let query = Query::read(packet).unwrap();
            Key::of(&query, packet, protocol)
        };
        let plain = of(&packet(b"\x01a\0", b"\0\x01\0\x01", 0), Protocol::Udp);
        assert!(plain.is_some());
        let upper = of(&packet(b"\x01A\0", b"\0\x01\0\x01", 0), Protocol::Udp);
        assert_eq!(plain, upper);
        let opt = b"\0\x01\0\x01\0\0\x29\x10\0\0\0\0\0\0\0";
        let edns = of(&packet(b"\x01a\0", opt, 1), Protocol::Udp);
        let mut dnssec = *opt;
        dnssec[11] = 0x80;
        let dnssec = of(&packet(b"\x01a\0", &dnssec, 1), Protocol::Udp);
        let tcp = of(&packet(b"\x01a\0", b"\0\x01\0\x01", 0), Protocol::Tcp);
        let mut no_recursion = packet(b"\x01a\0", b"\0\x01\0\x01", 0);
        no_recursion[2] = 0;
        let no_recursion = of(&no_recursion, Protocol::Udp);
        let all = [plain, edns, dnssec, tcp, no_recursion];
        for (at, one) in all.iter().enumerate() {
            assert!(one.is_some());
            assert!(!all[..at].contains(one));
        }
        let subnet = b"\0\x01\0\x01\0\0\x29\x10\0\0\0\0\0\0\x04\0\x08\0\0";
        assert_eq!(of(&packet(b"\x01a\0", subnet, 1), Protocol::Udp), None);
        let hinfo = packet(b"\x01a\0", b"\0\x0d\0\x01", 0);
        assert_eq!(of(&hinfo, Protocol::Udp), None);
    }
}
