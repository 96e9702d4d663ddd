//! The store alone: capacity, eviction, many threads; and that what is served is what was stored.

use super::super::entry::{Facts, Ttl};
use super::super::store::Store;
use super::*;
use proptest::prelude::*;

const NAMES: usize = 4096;

fn names() -> Vec<Vec<u8>> {
    let name = |at: usize| format!("\x04{at:04}\x04test\0").into_bytes();
    (0..NAMES).map(name).collect()
}

const fn key(name: &[u8]) -> Key<'_> {
    Key {
        name,
        question: (1, 1, 0),
    }
}

fn entry(name: &[u8], lifetime: u32, now: Millis) -> Arc<Entry> {
    let mut message = vec![0; 12];
    message[5] = 1;
    message[7] = 1;
    message.extend_from_slice(name);
    message.extend_from_slice(b"\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x64\0\x04");
    message.extend_from_slice(&name[1..5]);
    let facts = Facts {
        flags: 0,
        rcode: Rcode::NOERROR,
        answering: true,
        options: &[],
        lifetime,
    };
    let records = Normalised::of_message(&message).unwrap();
    Arc::new(Entry::new(&key(name), &records, &facts, now).unwrap())
}

/// Spreads like a hash, and is the same in every run.
fn hash(at: usize) -> u64 {
    (at as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

/// CA-3: a whole number in each shard, four at least.
#[test]
fn capacities() {
    for (asked, real) in [(0, 1024), (1000, 1024), (10_000, 9984), (16_384, 16_384)] {
        assert_eq!(Store::new(asked, usize::MAX).capacity(), real, "{asked}");
    }
    let large = Store::new(1_000_000, usize::MAX).capacity();
    assert!((900_000..=1_000_000).contains(&large), "{large}");
}

#[test]
fn equal_hashes_are_not_equal_keys() {
    let (store, now, names) = (Store::new(0, usize::MAX), 0, names());
    store.insert(1, entry(&names[0], 9, now), now, 0);
    assert!(store.find(1, &key(&names[1])).is_none());
    store.insert(1, entry(&names[1], 9, now), now, 0);
    for name in &names[..2] {
        assert!(store.find(1, &key(name)).unwrap().is_for(&key(name)));
    }
    store.remove(1, &key(&names[0]));
    assert!(store.find(1, &key(&names[0])).is_none());
    assert!(store.find(1, &key(&names[1])).is_some());
    assert_eq!(store.len(), 1);
}

/// A full shard loses an expired entry first, then one that was not used.
#[test]
fn eviction() {
    let (store, now, names) = (Store::new(0, usize::MAX), 0, names());
    let there = |at: usize| store.find(7, &key(&names[at])).is_some();
    for (at, lifetime) in [(0, 100), (1, 100), (2, 10), (3, 100)] {
        assert_eq!(store.insert(7, entry(&names[at], lifetime, now), now, 0), 0);
    }
    let later = now + 10_000;
    assert_eq!(store.insert(7, entry(&names[4], 100, later), later, 0), 1);
    assert!(!there(2) && there(0) && there(1) && there(3) && there(4));
    // 0 and 1 are used: the next ones to go are 3 and 4.
    for at in [0, 1] {
        store.find(7, &key(&names[at])).unwrap().visit();
    }
    assert_eq!(store.insert(7, entry(&names[5], 100, later), later, 0), 1);
    assert!(!there(3) && there(0) && there(1));
    assert_eq!(store.insert(7, entry(&names[6], 100, later), later, 0), 1);
    assert!(!there(4) && there(0) && there(1) && there(5));
    // Names that are asked for once push each other out.
    for name in &names[7..20] {
        assert_eq!(store.insert(7, entry(name, 100, later), later, 0), 1);
        assert_eq!(store.len(), 4);
    }
    assert!(there(0) && there(1) && there(18) && there(19));
    // The mark was a second chance, not a third: the hand comes round.
    for at in [18, 19] {
        store.find(7, &key(&names[at])).unwrap().visit();
    }
    assert_eq!(store.insert(7, entry(&names[20], 100, later), later, 0), 1);
    assert!(!there(0) && there(1) && there(18) && there(19));
}

/// With a stale window, entries within it are not dead.
#[test]
fn eviction_knows_the_stale_window() {
    let (store, now, names) = (Store::new(0, usize::MAX), 0, names());
    for (name, lifetime) in names.iter().zip([10, 10, 10, 5]) {
        store.insert(7, entry(name, lifetime, now), now, 0);
    }
    let later = now + 30_000;
    store.insert(7, entry(&names[4], 10, later), later, 22);
    assert!(store.find(7, &key(&names[3])).is_none());
    assert!(store.find(7, &key(&names[0])).is_some());
}

/// Readers, writers and removers at once: what is found is always what was stored under the key,
/// and in the end the count is right.
#[test]
fn many_threads() {
    let (store, now, names) = (Store::new(2048, usize::MAX), 0, names());
    let (store, names) = (&store, &names);
    let empty = store.bytes();
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            scope.spawn(move || {
                let mut reply = Reply::new();
                for step in 0..6000usize {
                    let at = (step * 7919 + thread * 104_729) % NAMES;
                    let name = &names[at];
                    match (thread % 4, step % 8) {
                        (0, _) => {
                            store.insert(hash(at), entry(name, 100, now), now, 0);
                        }
                        (1, 0) => store.remove(hash(at), &key(name)),
                        _ => {
                            let Some(found) = store.find(hash(at), &key(name)) else {
                                continue;
                            };
                            found.visit();
                            let query =
                                OwnedQuery::ask(name, RecordType::A, crate::dns::Class::IN, true);
                            reply.start(&query.view());
                            found.write(&mut reply, Ttl::Aged(1), false);
                            assert!(reply.message().ends_with(&name[1..5]));
                        }
                    }
                }
            });
        }
    });
    let there = (0..NAMES).filter(|&at| store.find(hash(at), &key(&names[at])).is_some());
    assert_eq!(there.count(), store.len());
    assert!(store.len() <= store.capacity());
    let found = (0..NAMES).filter_map(|at| store.find(hash(at), &key(&names[at])));
    let octets: usize = found.map(|found| found.cost() + 16).sum();
    assert_eq!(store.bytes(), empty + octets);
}

/// An entry with so many octets of rdata.
fn large(name: &[u8], octets: usize) -> Arc<Entry> {
    let facts = Facts {
        flags: 0,
        rcode: Rcode::NOERROR,
        answering: true,
        options: &vec![7; octets],
        lifetime: 100,
    };
    let question = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], name, b"\0\x01\0\x01"].concat();
    let records = Normalised::of_message(&question).unwrap();
    Arc::new(Entry::new(&key(name), &records, &facts, 0).unwrap())
}

/// The octets of all entries stay within the budget, whatever their sizes, and are counted exactly.
#[test]
fn the_budget_holds() {
    const BUDGET: usize = 256 << 10;
    let (store, names) = (Store::new(4096, BUDGET), names());
    let empty = store.bytes();
    assert!(empty < BUDGET / 8, "{empty}");
    let octets = |there: &dyn Fn(usize) -> bool| -> usize {
        let found = (0..NAMES).filter(|&at| there(at));
        let found = found.map(|at| store.find(hash(at), &key(&names[at])).unwrap());
        found.map(|found| found.cost() + 16).sum()
    };
    let there = |at: usize| store.find(hash(at), &key(&names[at])).is_some();
    let mut evicted = 0;
    for at in 0..NAMES {
        let size = [0, 100, 1000, 16_000][at % 4];
        evicted += store.insert(hash(at), large(&names[at], size), 0, 0);
        assert!(store.bytes() <= BUDGET, "{at}");
        // The newest is there, and so are those that are in use.
        assert!(there(at), "{at}");
        for used in [1, 5] {
            if let Some(found) = store.find(hash(used), &key(&names[used])) {
                found.visit();
            }
        }
    }
    assert!(there(1) && there(5));
    assert!(store.bytes() > BUDGET / 10 * 9, "{}", store.bytes());
    assert_eq!(store.bytes(), empty + octets(&there));
    assert_eq!(evicted as usize, NAMES - store.len());
    // The same name again takes the place of the old one.
    let len = store.len();
    for _ in 0..100 {
        store.insert(hash(1), large(&names[1], 100), 0, 0);
    }
    assert!(store.len() <= len && there(1));
    store.retain(|entry| entry.is_for(&key(&names[1])));
    assert_eq!((store.len(), there(1)), (1, true));
    store.remove(hash(1), &key(&names[1]));
    assert_eq!((store.len(), store.bytes()), (0, empty));
}

/// Many threads at once do not exceed the budget either.
#[test]
fn the_budget_holds_for_many_threads() {
    const BUDGET: usize = 128 << 10;
    let (store, names) = (Store::new(4096, BUDGET), names());
    let (store, names) = (&store, &names);
    let empty = store.bytes();
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            scope.spawn(move || {
                for at in (thread..NAMES).step_by(4) {
                    store.insert(hash(at), large(&names[at], at % 3000), 0, 0);
                    let stored = store.len() * (names[0].len() + 16);
                    assert!(stored <= BUDGET);
                }
            });
        }
    });
    let found = (0..NAMES).filter_map(|at| store.find(hash(at), &key(&names[at])));
    let octets: usize = found.map(|found| found.cost() + 16).sum();
    assert_eq!(store.bytes(), empty + octets);
    assert!(store.bytes() <= BUDGET);
}

/// What an entry takes besides its name and records.
#[test]
fn an_entry_is_small() {
    let name = b"\x03www\x07example\0";
    let octets = large(name, 0).cost() + 16 - name.len();
    assert!(octets <= 104, "{octets}");
}

fn any_record() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("www.example.org. 300 A 192.0.2.1"),
        Just("WWW.example.org. 20 A 192.0.2.2"),
        Just("www.Example.org. 3000 AAAA 2001:db8::1"),
        Just("a.example.org. 70 CNAME www.example.org."),
        Just("other.example.net. 10000 A 192.0.2.3"),
        Just("example.net. 100 NS ns.example.net."),
        Just("ns.example.net. 100 A 192.0.2.4"),
        Just("example.org. 500 SOA ns.example.net."),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A hit gives the records of the upstream, in their order and sections, TTLs and case aside.
    #[test]
    fn what_is_stored_is_served(
        answers in proptest::collection::vec(any_record(), 0..5),
        authorities in proptest::collection::vec(any_record(), 0..4),
        additionals in proptest::collection::vec(any_record(), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut answers = answers;
            answers.push("www.example.org. 300 A 192.0.2.1");
            let script = Script {
                records: [answers, authorities, additionals],
                ..answer(&[])
            };
            let bounded = |text: &&str| {
                let record = record(text);
                let ttl = record.ttl.clamp(5, 3600);
                let mut record = record;
                record.ttl = ttl - 4;
                record.to_string().to_ascii_lowercase()
            };
            let expected: Vec<String> = script.records.iter().flatten().map(bounded).collect();
            let world = World::new("cache", vec![script]);
            world.ask(0.0, ask("www.example.org.")).await;
            let hit = world.ask(4.2, ask("wWw.eXample.org.")).await;
            let got: Vec<String> = hit.records.iter().map(|r| r.to_ascii_lowercase()).collect();
            assert_eq!((got, world.asked()), (expected, 1));
        });
    }
}
