//! Failures to get an answer at all (RFC 9520).

use super::*;

const WWW: &str = "www.example.org. 100 A 192.0.2.1";

fn www() -> Ask {
    ask("www.example.org.")
}

/// Asks at each of these times; gives at which of them the plugin behind was asked.
async fn asked_at(world: &World, times: &[f64]) -> Vec<f64> {
    let mut asked = Vec::new();
    for &at in times {
        let before = world.asked();
        world.ask(at, www()).await;
        if world.asked() > before {
            asked.push(at);
        }
    }
    asked
}

/// A second at first, twice as long each time, as long as a SERVFAIL is kept at most.
#[tokio::test]
async fn failures_are_kept_longer_each_time() {
    let times: Vec<f64> = (0..40).map(|half| f64::from(half) / 2.0).collect();
    for (text, expected) in [
        ("cache", &[0.0, 1.0, 3.0, 7.0, 12.0, 17.0][..]),
        ("cache\nservfail 1m", &[0.0, 1.0, 3.0, 7.0, 15.0]),
        (
            "cache\nservfail 2s",
            &[0.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0, 19.0],
        ),
    ] {
        let world = World::new(text, vec![dead()]);
        assert_eq!(asked_at(&world, &times).await, expected, "{text}");
    }
    for text in [
        "cache\nservfail 0",
        "cache\ndisable denial",
        "cache example.net",
    ] {
        let world = World::new(text, vec![dead()]);
        assert_eq!(asked_at(&world, &times).await, times, "{text}");
    }
}

/// The client learns that the failure is an old one, and which one it is.
#[tokio::test]
async fn a_kept_failure_says_what_happened() {
    let world = World::new("cache", vec![dead()]);
    let first = world.ask(0.0, www()).await;
    assert_eq!(first.outcome, Outcome::failed("scripted"));
    assert_eq!(first.errors, [ExtendedError::NO_REACHABLE_AUTHORITY]);
    let second = world.ask(0.9, www()).await;
    let codes = vec![
        ExtendedError::NO_REACHABLE_AUTHORITY,
        ExtendedError::CACHED_ERROR,
    ];
    assert_eq!((second.outcome, second.rcode), (Outcome::Written, 2));
    assert_eq!((second.errors, second.records.len()), (codes, 0));
    assert_eq!(world.asked(), 1);
    assert_eq!(world.metric("coredns_cache_entries denial"), 1.0);
}

/// What the server itself refuses or does not know yet is asked again at once.
#[tokio::test]
async fn only_failures_of_upstreams_are_kept() {
    let cases = [
        (Some(ExtendedError::NO_REACHABLE_AUTHORITY), false, 1),
        (Some(ExtendedError::NETWORK_ERROR), false, 1),
        (Some(ExtendedError::INVALID_DATA), false, 1),
        (Some(ExtendedError::NOT_READY), false, 2),
        (Some(ExtendedError::OTHER), false, 2),
        (None, false, 2),
    ];
    for (why, cluster, asked) in cases {
        let script = Script {
            why,
            cluster,
            ..dead()
        };
        let world = World::new("cache", vec![script]);
        world.ask(0.0, www()).await;
        world.ask(0.5, www()).await;
        assert_eq!(world.asked(), asked, "{why:?}");
    }
    // The index is not complete yet: written, from the cluster.
    let script = Script {
        cluster: true,
        ..denial(2, "example.org. 60 SOA ns.")
    };
    let world = World::new("cache", vec![script]);
    world.ask(0.0, www()).await;
    world.ask(0.0, www()).await;
    assert_eq!(world.asked(), 2);
}

/// An answer, or five minutes without a question, make the next failure the first one again.
#[tokio::test]
async fn failures_are_counted_in_turn() {
    let world = World::new("cache", vec![dead(), dead(), answer(&[WWW]), dead()]);
    let times = [0.0, 1.0, 3.0, 103.0, 104.0, 105.0, 106.0];
    assert_eq!(
        asked_at(&world, &times).await,
        [0.0, 1.0, 3.0, 103.0, 104.0, 106.0]
    );
    let world = World::new("cache", vec![dead()]);
    let times = [0.0, 1.0, 303.1, 304.1, 304.5];
    assert_eq!(asked_at(&world, &times).await, [0.0, 1.0, 303.1, 304.1]);
}

/// Questions that fail together are one failure.
#[tokio::test(start_paused = true)]
async fn failures_at_one_time_count_once() {
    let slow = Script {
        delay: Duration::from_secs(1),
        ..dead()
    };
    let world = World::new("cache", vec![slow]);
    let all = (0..10).map(|_| world.ask(0.0, www()));
    futures_util::future::join_all(all).await;
    assert_eq!(world.asked(), 10);
    // Kept for a second since they failed.
    assert_eq!(asked_at(&world, &[0.5, 1.5]).await, [1.5]);
}

/// When upstreams answer again after a time in which none did, failures of that time are over;
/// where others were answered all the time they are not.
#[tokio::test]
async fn recovery_ends_failures() {
    let other = || ask("other.example.org.");
    let world = World::new("cache\nservfail 1m", vec![dead()]);
    assert_eq!(asked_at(&world, &[0.0, 1.0, 3.0]).await, [0.0, 1.0, 3.0]);
    world.then(vec![answer(&["other.example.org. 100 A 192.0.2.9"])]);
    world.ask(4.5, other()).await;
    assert_eq!(asked_at(&world, &[4.6]).await, [4.6], "7.0 without it");
    // Other names are answered while this one fails.
    let world = World::new("cache\nservfail 1m\nsuccess 1000 1 0", vec![dead()]);
    for (at, fails) in [
        (0.0, false),
        (0.1, true),
        (0.9, false),
        (1.1, true),
        (1.8, false),
        (2.7, false),
    ] {
        if fails {
            world.then(vec![dead()]);
            assert_eq!(asked_at(&world, &[at]).await, [at]);
        } else {
            world.then(vec![answer(&["other.example.org. 0 A 192.0.2.9"])]);
            world.ask(at, other()).await;
        }
    }
    assert_eq!(asked_at(&world, &[2.9, 3.1]).await, [3.1]);
    // A second is the least.
    let world = World::new("cache", vec![dead()]);
    world.ask(10.0, www()).await;
    world.then(vec![answer(&["other.example.org. 100 A 192.0.2.9"])]);
    world.ask(10.2, other()).await;
    assert_eq!(asked_at(&world, &[10.9, 11.0]).await, [11.0]);
}

/// What is known goes before a failure, even if it is stale.
#[tokio::test]
async fn a_failure_hides_nothing() {
    let world = World::new(
        "cache\nserve_stale\nsuccess 1000 10",
        vec![answer(&[WWW]), dead()],
    );
    world.ask(0.0, www()).await;
    for at in [11.0, 11.5, 12.5, 20.0] {
        let got = world.ask(at, www()).await;
        world.settle().await;
        assert_eq!(got.texts(), ["www.example.org. 0 IN A 192.0.2.1"], "{at}");
        assert_eq!(got.errors, [ExtendedError::STALE_ANSWER]);
    }
}
