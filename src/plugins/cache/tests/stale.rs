//! `prefetch` and `serve_stale`.

use super::*;

const OLD: &str = "www.example.org. 100 A 192.0.2.1";
const NEW: &str = "www.example.org. 100 A 192.0.2.2";
const SOA: &str = "example.org. 100 SOA ns.example.org.";

fn slow(seconds: u64, script: Script) -> Script {
    Script {
        delay: Duration::from_secs(seconds),
        ..script
    }
}

fn www() -> Ask {
    ask("www.example.org.")
}

/// CA-18: popular entries are asked for when little of their TTL is left.
#[tokio::test]
async fn prefetch() {
    // Times of hits, and whether the last of them makes the cache ask.
    let cases: [(&str, &[f64], bool); 8] = [
        ("cache\nprefetch 2", &[1.0, 89.0], false),
        ("cache\nprefetch 2 2m", &[1.0, 90.0], true),
        ("cache\nprefetch 2", &[1.0, 90.0], false),
        ("cache\nprefetch 2 10s", &[85.0, 90.0], true),
        ("cache\nprefetch 3 2m", &[1.0, 90.0], false),
        ("cache\nprefetch 1 1m 20%", &[80.0], true),
        ("cache\nprefetch 1 1m 20%", &[79.0], false),
        ("cache\nprefetch 0", &[1.0, 2.0, 99.0], false),
    ];
    for (text, hits, asks) in cases {
        let world = World::new(text, vec![answer(&[OLD]), answer(&[NEW])]);
        world.ask(0.0, www()).await;
        for &at in hits {
            assert_eq!(world.ask(at, www()).await.rcode, 0);
        }
        world.settle().await;
        assert_eq!(world.asked(), 1 + usize::from(asks), "{text} {hits:?}");
        assert_eq!(
            world.metric("coredns_cache_prefetch_total"),
            f64::from(u8::from(asks))
        );
        if asks {
            let got = world.ask(hits[hits.len() - 1] + 1.0, www()).await;
            assert_eq!(got.texts(), ["www.example.org. 99 IN A 192.0.2.2"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_prefetch_at_a_time() {
    let world = World::new(
        "cache\nprefetch 1",
        vec![answer(&[OLD]), slow(3, answer(&[NEW]))],
    );
    for at in [0.0, 95.0, 95.0, 96.0] {
        assert_eq!(world.ask(at, www()).await.rcode, 0);
        world.settle().await;
    }
    assert_eq!(world.asked(), 2);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        world.ask(97.0, www()).await.ttls(),
        [98],
        "stored as of the hit that started it"
    );
    // The new entry goes on with the hits of the old one.
    world.ask(190.0, www()).await;
    world.settle().await;
    assert_eq!(world.asked(), 3);
}

/// CA-19, immediate: the stale answer now, the fresh one next time.
#[tokio::test]
async fn immediate() {
    let world = World::new(
        "cache\nserve_stale 1h",
        vec![answer(&[OLD]), answer(&[NEW])],
    );
    world.ask(0.0, www()).await;
    let stale = world.ask(3000.0, www()).await;
    assert_eq!(stale.texts(), ["www.example.org. 0 IN A 192.0.2.1"]);
    assert_eq!(stale.errors, [ExtendedError::STALE_ANSWER]);
    world.settle().await;
    let fresh = world.ask(3001.0, www()).await;
    assert_eq!(fresh.texts(), ["www.example.org. 99 IN A 192.0.2.2"]);
    assert_eq!(fresh.errors, [0u16; 0]);
    assert_eq!(world.metric("coredns_cache_served_stale_total"), 1.0);
    assert_eq!(world.metric("coredns_cache_prefetch_total"), 1.0);
    assert_eq!(world.metric("coredns_cache_hits_total success"), 2.0);
}

#[tokio::test]
async fn the_window_ends() {
    for (text, at, stale) in [
        ("cache\nserve_stale", 3699.0, true),
        ("cache\nserve_stale", 3700.0, false),
        ("cache\nserve_stale 10s", 109.0, true),
        ("cache\nserve_stale 10s", 110.0, false),
        ("cache\nserve_stale 0", 100.0, false),
        ("cache", 100.0, false),
    ] {
        let world = World::new(text, vec![answer(&[OLD]), answer(&[NEW])]);
        world.ask(0.0, www()).await;
        let got = world.ask(at, www()).await;
        let expected = if stale {
            "0 IN A 192.0.2.1"
        } else {
            "100 IN A 192.0.2.2"
        };
        assert_eq!(
            got.texts(),
            [format!("www.example.org. {expected}")],
            "{text} {at}"
        );
    }
}

#[tokio::test]
async fn ttl_of_stale_records() {
    for (text, ttl) in [
        ("cache\nserve_stale 1h immediate 30s", 30),
        ("cache\nserve_stale 1h immediate", 0),
        ("cache\nkeepttl\nserve_stale 1h immediate", 100),
        ("cache\nkeepttl\nserve_stale 1h immediate 30s", 30),
    ] {
        let world = World::new(text, vec![answer(&[OLD]), rcode(2)]);
        world.ask(0.0, www()).await;
        assert_eq!(world.ask(200.0, www()).await.ttls(), [ttl], "{text}");
    }
}

/// A refresh that fails leaves the entry; with RECHECK it is not tried again at once.
#[tokio::test]
async fn failed_refreshes() {
    for (recheck, asked) in [("0s", 3), ("10s", 2)] {
        let text = format!("cache\nserve_stale 1h immediate 0s {recheck}");
        let world = World::new(&text, vec![answer(&[OLD]), rcode(2)]);
        world.ask(0.0, www()).await;
        for at in [200.0, 205.0] {
            assert_eq!(world.ask(at, www()).await.ttls(), [0]);
            world.settle().await;
        }
        assert_eq!(world.asked(), asked, "{recheck}");
        world.ask(211.0, www()).await;
        world.settle().await;
        assert_eq!(world.asked(), asked + 1);
        assert_eq!(world.metric("coredns_cache_entries denial"), 0.0);
    }
}

/// CA-19, verify: the plugins behind are asked first; only NOERROR and NXDOMAIN count.
#[tokio::test]
async fn verify() {
    let failed = Script {
        unwritten: true,
        ..Script::default()
    };
    let cases = [
        (answer(&[NEW]), 0, "www.example.org. 100 IN A 192.0.2.2"),
        (denial(3, SOA), 3, "example.org. 100 IN SOA"),
        (rcode(2), 0, "www.example.org. 0 IN A 192.0.2.1"),
        (rcode(5), 0, "www.example.org. 0 IN A 192.0.2.1"),
        (failed, 0, "www.example.org. 0 IN A 192.0.2.1"),
    ];
    for (script, rcode, text) in cases {
        let world = World::new(
            "cache\nserve_stale 1h verify",
            vec![answer(&[OLD]), script.clone()],
        );
        world.ask(0.0, www()).await;
        let got = world.ask(200.0, www()).await;
        assert_eq!(
            (&got.outcome, got.rcode),
            (&Outcome::Written, rcode),
            "{script:?}"
        );
        assert!(got.records[0].starts_with(text), "{script:?} {got:?}");
        let stale = f64::from(u8::from(text.contains(" 0 IN ")));
        assert_eq!(world.metric("coredns_cache_served_stale_total"), stale);
        assert_eq!(world.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn verify_with_a_timeout() {
    let text = "cache\nserve_stale 1h verify 1s 7s";
    let world = World::new(text, vec![answer(&[OLD]), slow(3, answer(&[NEW]))]);
    world.ask(0.0, www()).await;
    let before = tokio::time::Instant::now();
    assert_eq!(
        world.ask(200.0, www()).await.texts(),
        ["www.example.org. 7 IN A 192.0.2.1"]
    );
    assert_eq!(before.elapsed().as_secs(), 1);
    // What comes later is stored.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        world.ask(204.0, www()).await.texts(),
        ["www.example.org. 96 IN A 192.0.2.2"]
    );
    assert_eq!(world.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn verify_in_time() {
    let text = "cache\nserve_stale 1h verify 5s";
    let world = World::new(text, vec![answer(&[OLD]), slow(3, answer(&[NEW]))]);
    world.ask(0.0, www()).await;
    assert_eq!(
        world.ask(200.0, www()).await.texts(),
        ["www.example.org. 100 IN A 192.0.2.2"]
    );
}

#[tokio::test]
async fn verify_rechecks_later() {
    let world = World::new(
        "cache\nserve_stale 1h verify 0s 0s 10s",
        vec![answer(&[OLD]), rcode(2)],
    );
    world.ask(0.0, www()).await;
    for (at, asked) in [(200.0, 2), (205.0, 2), (211.0, 3)] {
        assert_eq!(world.ask(at, www()).await.ttls(), [0]);
        assert_eq!(world.asked(), asked, "{at}");
    }
}

#[tokio::test]
async fn a_stale_denial_is_served_but_a_failure_is_not() {
    let world = World::new("cache\nserve_stale", vec![denial(3, SOA), rcode(2)]);
    world.ask(0.0, www()).await;
    let got = world.ask(200.0, www()).await;
    assert_eq!(
        (got.rcode, got.errors),
        (3, vec![ExtendedError::STALE_NXDOMAIN_ANSWER])
    );
    let world = World::new("cache\nserve_stale", vec![rcode(2)]);
    world.ask(0.0, www()).await;
    world.ask(6.0, www()).await;
    assert_eq!(world.asked(), 2);
}

/// CA-20.
#[tokio::test]
async fn prefer_positive() {
    let text = "cache\nserve_stale 1h verify\nserve_stale_policy prefer_positive";
    for script in [denial(3, SOA), denial(0, SOA), rcode(0), rcode(2)] {
        let world = World::new(text, vec![answer(&[OLD]), script.clone()]);
        world.ask(0.0, www()).await;
        for at in [200.0, 201.0] {
            let got = world.ask(at, www()).await;
            assert_eq!(
                got.texts(),
                ["www.example.org. 0 IN A 192.0.2.1"],
                "{script:?}"
            );
        }
        world.then(vec![answer(&[NEW])]);
        let got = world.ask(300.0, www()).await;
        assert_eq!(
            got.texts(),
            ["www.example.org. 100 IN A 192.0.2.2"],
            "{script:?}"
        );
    }
}

/// While asking fails it is done after one second, two, four ... (RFC 9520 §3.2); the stale answer
/// is given all the time, in `verify` mode without waiting.
#[tokio::test]
async fn a_dead_upstream_is_asked_seldom() {
    for mode in ["immediate", "verify"] {
        for script in [dead(), rcode(2), rcode(5)] {
            let text = format!("cache\nservfail 4s\nserve_stale 1h {mode}");
            let world = World::new(&text, vec![answer(&[OLD]), script.clone()]);
            world.ask(0.0, www()).await;
            let mut asked = Vec::new();
            for at in 0..44 {
                let before = world.asked();
                // Off the whole seconds: the time that a refresh takes is counted.
                let at = 200.0 + f64::from(at) / 4.0 + 0.1;
                let got = world.ask(at, www()).await;
                world.settle().await;
                assert_eq!(got.texts(), ["www.example.org. 0 IN A 192.0.2.1"]);
                if world.asked() > before {
                    asked.push(at as u32);
                }
            }
            // At 200.1, 201.35 (or 201.1), 203.35, 207.35.
            assert_eq!(asked, [200, 201, 203, 207], "{mode} {script:?}");
        }
    }
}

/// The same while the entry is fresh: a popular name does not ask a dead upstream at each hit.
#[tokio::test]
async fn a_failed_prefetch_is_not_repeated_at_once() {
    let world = World::new("cache\nprefetch 1", vec![answer(&[OLD]), dead()]);
    world.ask(0.0, www()).await;
    for at in 0..20 {
        let got = world.ask(91.0 + f64::from(at) / 40.0, www()).await;
        assert_eq!(got.rcode, 0);
        world.settle().await;
    }
    assert_eq!(world.asked(), 2);
    world.ask(92.5, www()).await;
    world.settle().await;
    assert_eq!(world.asked(), 3);
}

/// What is kept so that nobody asks is not asked for ahead of time.
#[tokio::test]
async fn a_failure_is_not_prefetched() {
    let world = World::new("cache\nprefetch 1 1m 90%", vec![rcode(2)]);
    for at in [0.0, 1.0, 4.0] {
        assert_eq!(world.ask(at, www()).await.rcode, 2);
        world.settle().await;
    }
    assert_eq!(world.asked(), 1);
}

/// Fresh or stale, what is positive goes before a denial that is stale.
#[tokio::test]
async fn a_stale_denial_hides_no_positive_reply() {
    let world = World::new(
        "cache\nprefetch 1 1m 90%\nserve_stale 1h immediate",
        vec![answer(&[OLD]), denial(3, "example.org. 10 SOA ns."), dead()],
    );
    for (at, rcode, ttl) in [
        (0.0, 0, 100),
        (20.0, 0, 80),
        (25.0, 3, 5),
        (31.0, 0, 69),
        (150.0, 0, 0),
    ] {
        let got = world.ask(at, www()).await;
        world.settle().await;
        assert_eq!((got.rcode, got.ttls()), (rcode, vec![ttl]), "{at}");
    }
}

/// A popular entry is asked for once, whichever of many threads hit it at one time, also where the
/// server was configured anew meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_prefetch_over_threads_and_reloads() {
    let script = || Script {
        delay: Duration::from_secs(60),
        ..answer(&[NEW])
    };
    let old = World::new("cache\nprefetch 1", vec![answer(&[OLD])]);
    old.ask(0.0, www()).await;
    old.then(vec![script()]);
    let mut new = World::within(
        Arc::clone(&old.process),
        "cache\nprefetch 2 2m",
        vec![script()],
    );
    new.base = old.base;
    let worlds = [Arc::new(old), Arc::new(new)];
    let start = Arc::new(tokio::sync::Barrier::new(8));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (world, start) = (Arc::clone(&worlds[task % 2]), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                for _ in 0..50 {
                    assert_eq!(world.ask(95.0, www()).await.ttls(), [5]);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let asked: usize = worlds.iter().map(|world| world.asked()).sum();
    assert_eq!(asked, 2, "the first client, and one prefetch");
}
