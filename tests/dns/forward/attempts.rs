//! Several upstreams: what a client gets, when, and what it cost the upstreams.

use super::{ONE, example, expected};
use crate::support::block::{TestBlock, block};
use crate::support::message::{a, query, reply};
use crate::support::upstream::{Act, Upstream};
use portolan::dns::{Header, Rcode, RecordType};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What an upstream does about every query.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Silent,
    /// After so many ms.
    Answers(u64),
    Refuses(Rcode),
    /// The right id, another question.
    Errs,
}

use Does::*;

/// What two upstreams do; what the client gets after how many ms, and how often each was asked.
type Row = (&'static [Does], &'static [Does], Rcode, u64, [usize; 2]);

/// Switches what an upstream does to the entry of this number.
type Switch = Arc<AtomicUsize>;

async fn scripted(phases: &'static [Does]) -> (Upstream, Switch) {
    let phase = Switch::default();
    let switch = Arc::clone(&phase);
    let upstream = Upstream::new(move |seen| match phases[phase.load(SeqCst)] {
        Silent => Vec::new(),
        Answers(after) => vec![
            Act::Wait(Duration::from_millis(after)),
            Act::Send(reply(&seen.packet, Header::RA, &[&a(300, ONE)])),
        ],
        Refuses(rcode) => vec![Act::Send(reply(&seen.packet, rcode.0, &[]))],
        Errs => {
            let mut other = reply(&seen.packet, 0, &[]);
            other[13] ^= 1;
            vec![Act::Send(other)]
        }
    })
    .await;
    (upstream, switch)
}

/// A stanza that asks these in the order of the list; no probes, so that what is counted are
/// queries.
fn in_order(upstreams: &[&Upstream], more: &str) -> TestBlock {
    let to: Vec<_> = upstreams.iter().map(|u| u.addr.to_string()).collect();
    block(&format!(
        "forward . {} {{\n policy sequential\n max_fails 0\n {more}\n}}",
        to.join(" ")
    ))
}

/// The response code and the time of a query in ms.
async fn ask(block: &TestBlock) -> (Rcode, u64) {
    let start = Instant::now();
    let rcode = block.udp(example()).await.rcode();
    (rcode, start.elapsed().as_millis() as u64)
}

/// Whether `took` is `expected`, or as much more as a timer is coarse.
fn is_about(took: u64, expected: u64) -> bool {
    (expected..=expected + 3).contains(&took)
}

fn state(block: &TestBlock, of: &Upstream) -> f64 {
    let to = of.addr;
    block.metric(&format!("portolan_forward_upstream_state{{to=\"{to}\"}}"))
}

fn retries(block: &TestBlock, of: &Upstream, reason: &str) -> f64 {
    let to = of.addr;
    block.metric(&format!(
        "portolan_forward_retries_total{{to=\"{to}\",reason=\"{reason}\"}}"
    ))
}

#[tokio::test(start_paused = true)]
async fn the_first_usable_reply_wins() {
    const SERVFAIL: Does = Refuses(Rcode::SERVFAIL);
    const REFUSED: Does = Refuses(Rcode::REFUSED);
    let rows: [Row; 15] = [
        (&[Answers(5)], &[Answers(5)], Rcode::NOERROR, 5, [1, 0]),
        // Slow is not dead.
        (&[Answers(300)], &[Answers(1)], Rcode::NOERROR, 300, [1, 0]),
        (
            &[Answers(600)],
            &[Answers(500)],
            Rcode::NOERROR,
            600,
            [1, 1],
        ),
        (&[Answers(1500)], &[Silent], Rcode::NOERROR, 1500, [2, 1]),
        (&[Silent], &[Answers(5)], Rcode::NOERROR, 405, [1, 1]),
        (&[Silent], &[Silent], Rcode::SERVFAIL, 1900, [2, 1]),
        (&[SERVFAIL], &[Answers(5)], Rcode::NOERROR, 5, [1, 1]),
        (&[REFUSED], &[Answers(5)], Rcode::NOERROR, 5, [1, 1]),
        (
            &[Refuses(Rcode::NOTIMP)],
            &[Answers(5)],
            Rcode::NOERROR,
            5,
            [1, 1],
        ),
        (
            &[Refuses(Rcode::FORMERR)],
            &[Answers(5)],
            Rcode::NOERROR,
            5,
            [1, 1],
        ),
        // The first of them is relayed.
        (&[SERVFAIL], &[REFUSED], Rcode::SERVFAIL, 0, [1, 1]),
        (&[REFUSED], &[SERVFAIL], Rcode::REFUSED, 0, [1, 1]),
        (&[SERVFAIL], &[Silent], Rcode::SERVFAIL, 1900, [1, 1]),
        // Over UDP a forger may have sent it: the right reply may still come.
        (&[Errs], &[Answers(5)], Rcode::NOERROR, 405, [1, 1]),
        (&[Errs], &[Errs], Rcode::FORMERR, 1900, [2, 1]),
    ];
    for (first, second, rcode, millis, asked) in rows {
        let ((one, _), (two, _)) = (scripted(first).await, scripted(second).await);
        let block = in_order(&[&one, &two], "");
        let (got, took) = ask(&block).await;
        let row = format!("{first:?} {second:?}");
        assert_eq!(got, rcode, "{row}");
        assert!(is_about(took, millis), "{row}: {took} ms");
        assert_eq!([one.seen().len(), two.seen().len()], asked, "{row}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_names_every_upstream() {
    let ((one, _), (two, _)) = (scripted(&[Silent]).await, scripted(&[Silent]).await);
    let block = in_order(&[&one, &two], "");
    let answer = block.udp(example()).await;
    let told = format!(
        "upstream {}: i/o timeout; upstream {}: i/o timeout",
        one.addr, two.addr
    );
    let mut extended = answer.extended.clone();
    assert_eq!(extended.len(), 1);
    let (code, text) = extended.remove(0);
    assert_eq!(code, 22);
    let mut parts: Vec<_> = text.split("; ").collect();
    parts.sort_unstable();
    let mut wanted: Vec<_> = told.split("; ").collect();
    wanted.sort_unstable();
    assert_eq!(parts, wanted);
    assert!(
        answer.error().starts_with("read udp "),
        "{}",
        answer.error()
    );
    assert!(answer.error().ends_with(": i/o timeout"));
    assert_eq!((state(&block, &one), state(&block, &two)), (1.0, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_dead_upstream_costs_one_client_once() {
    let (dead, switch) = scripted(&[Silent, Answers(1)]).await;
    let (good, _) = scripted(&[Answers(1)]).await;
    let block = in_order(&[&dead, &good], "");
    let (rcode, took) = ask(&block).await;
    assert_eq!(rcode, Rcode::NOERROR);
    assert!(is_about(took, 401), "{took} ms");
    assert_eq!(retries(&block, &dead, "slow"), 1.0);
    assert_eq!(state(&block, &dead), 1.0);
    // A minute of ten queries a second: none waits, and one a second is tried.
    for _ in 0..600 {
        let (rcode, took) = ask(&block).await;
        assert_eq!(rcode, Rcode::NOERROR);
        assert!(is_about(took, 1), "{took} ms");
        sleep(Duration::from_millis(98)).await;
    }
    let trials = dead.seen().len() - 1;
    assert!((50..=61).contains(&trials), "{trials} trials in a minute");
    assert_eq!(good.seen().len(), 601);

    switch.store(1, SeqCst);
    let back = Instant::now();
    while state(&block, &dead) > 0.0 {
        assert!(back.elapsed() <= Duration::from_secs(1));
        ask(&block).await;
        sleep(Duration::from_millis(10)).await;
    }
    let before = good.seen().len();
    assert!(is_about(ask(&block).await.1, 1));
    assert_eq!(good.seen().len(), before, "the first in the list again");
}

#[tokio::test(start_paused = true)]
async fn all_dead_and_the_first_one_back() {
    let (one, switch) = scripted(&[Silent, Answers(1)]).await;
    let (two, _) = scripted(&[Silent]).await;
    // Down for the probes, too.
    let block = block(&format!("forward . {} {}", one.addr, two.addr));
    for _ in 0..20 {
        let (rcode, took) = ask(&block).await;
        assert_eq!(rcode, Rcode::SERVFAIL);
        assert!(is_about(took, 1900), "{took} ms");
    }
    assert_eq!((state(&block, &one), state(&block, &two)), (2.0, 2.0));
    switch.store(1, SeqCst);
    let (rcode, took) = ask(&block).await;
    assert_eq!(rcode, Rcode::NOERROR);
    assert!(took < 200, "{took} ms");
    assert_eq!(state(&block, &one), 0.0);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_only_fails_is_asked_last() {
    let (bad, switch) = scripted(&[Refuses(Rcode::SERVFAIL), Answers(1)]).await;
    let (good, _) = scripted(&[Answers(1)]).await;
    let block = in_order(&[&bad, &good], "");
    for _ in 0..50 {
        assert_eq!(ask(&block).await.0, Rcode::NOERROR);
    }
    assert_eq!(retries(&block, &bad, "servfail"), 3.0, "then it is known");
    assert_eq!(bad.seen().len(), 4, "and one trial");
    switch.store(1, SeqCst);
    sleep(Duration::from_secs(1)).await;
    ask(&block).await;
    sleep(Duration::from_millis(50)).await;
    assert_eq!(state(&block, &bad), 0.0);
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_resolves_are_nobodys_fault() {
    let (one, _) = scripted(&[Refuses(Rcode::SERVFAIL)]).await;
    let (two, _) = scripted(&[Refuses(Rcode::SERVFAIL)]).await;
    let block = in_order(&[&one, &two], "");
    for _ in 0..10 {
        assert_eq!(ask(&block).await.0, Rcode::SERVFAIL);
    }
    assert_eq!((state(&block, &one), state(&block, &two)), (0.0, 0.0));
    assert_eq!((one.seen().len(), two.seen().len()), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn a_slow_upstream_stays_in_use() {
    let (slow, _) = scripted(&[Answers(300)]).await;
    let (good, _) = scripted(&[Answers(1)]).await;
    let block = in_order(&[&slow, &good], "");
    for _ in 0..50 {
        let (rcode, took) = ask(&block).await;
        assert_eq!(rcode, Rcode::NOERROR);
        assert!(is_about(took, 300), "{took} ms");
    }
    assert_eq!(good.seen().len(), 0);
    let to = slow.addr;
    let rtt = block.metric(&format!("portolan_forward_rtt_seconds{{to=\"{to}\"}}"));
    assert!((0.3..0.303).contains(&rtt), "{rtt}");
}

#[tokio::test(start_paused = true)]
async fn flapping_costs_a_wait_each_time_at_most() {
    let (flapping, switch) = scripted(&[Answers(1), Silent]).await;
    let (good, _) = scripted(&[Answers(1)]).await;
    let block = in_order(&[&flapping, &good], "");
    let mut late = 0;
    for round in 0..600 {
        // Three seconds up, three seconds silent.
        switch.store(round / 30 % 2, SeqCst);
        let (rcode, took) = ask(&block).await;
        assert_eq!(rcode, Rcode::NOERROR);
        assert!(took < 110, "{took} ms");
        late += u32::from(took > 5);
        sleep(Duration::from_millis(98)).await;
    }
    assert_eq!(late, 10, "once for each of ten times");
}

#[tokio::test(start_paused = true)]
async fn the_corefiles_times_are_kept() {
    for (more, millis) in [
        ("read_timeout 1s", 1001),
        ("max_connect_attempts 2", 2001),
        ("", 401),
    ] {
        let ((dead, _), (good, _)) = (scripted(&[Silent]).await, scripted(&[Answers(1)]).await);
        let block = in_order(&[&dead, &good], more);
        let (rcode, took) = ask(&block).await;
        assert_eq!(rcode, Rcode::NOERROR);
        assert!(is_about(took, millis), "{more:?}: {took} ms");
        // It is passed over in any case.
        assert!(is_about(ask(&block).await.1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn failover_names_the_codes_and_no_others() {
    let ((one, _), (two, _)) = (
        scripted(&[Refuses(Rcode::SERVFAIL)]).await,
        scripted(&[Answers(1)]).await,
    );
    let block = in_order(&[&one, &two], "failover NXDOMAIN");
    assert_eq!(ask(&block).await.0, Rcode::SERVFAIL);
    assert_eq!(two.seen().len(), 0);
    let good = in_order(&[&two, &one], "failover SERVFAIL");
    let answer = good.udp(query(7, "x.example", RecordType::A)).await;
    let asked = query(7, "x.example", RecordType::A);
    let wanted = expected(&asked, Header::RA, &[&a(300, ONE)]);
    assert_eq!(answer.message, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_way_that_is_broken_is_left_after_one_query() {
    let broken = Arc::new(AtomicUsize::new(0));
    let port = Arc::clone(&broken);
    // What a stale address translation does: one source port leads nowhere.
    let upstream = Upstream::new(move |seen| {
        let answer = reply(&seen.packet, Header::RA, &[&a(300, ONE)]);
        match port.load(SeqCst) == usize::from(seen.from.port()) {
            true => Vec::new(),
            false => vec![Act::Wait(Duration::from_millis(1)), Act::Send(answer)],
        }
    })
    .await;
    let (good, _) = scripted(&[Answers(1)]).await;
    let block = in_order(&[&upstream, &good], "");
    ask(&block).await;
    broken.store(upstream.seen()[0].from.port().into(), SeqCst);
    let (rcode, took) = ask(&block).await;
    assert_eq!(rcode, Rcode::NOERROR);
    assert!(is_about(took, 101), "{took} ms");
    for _ in 0..10 {
        assert!(is_about(ask(&block).await.1, 1));
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(state(&block, &upstream), 0.0);
    assert!(good.seen().len() <= 3, "{}", good.seen().len());
}
