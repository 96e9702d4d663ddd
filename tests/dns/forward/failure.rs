//! Upstreams that fail, and their health.

use super::{example, good};
use crate::support::block::block;
use crate::support::message::{query, reply};
use crate::support::upstream::{Act, Upstream};
use portolan::dns::{Rcode, RecordType};
use portolan::plugin::Transport;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn silent_upstreams_cost_four_or_six_seconds() {
    for (upstreams, attempts, seconds) in [(1, 2, 4), (2, 3, 6), (3, 3, 6)] {
        let mut silent = Vec::new();
        for _ in 0..upstreams {
            silent.push(Upstream::silent().await);
        }
        let to: Vec<_> = silent.iter().map(|u| u.addr.to_string()).collect();
        // No probes, so that only the query's attempts are counted.
        let block = block(&format!(
            "forward . {} {{\n max_fails 0\n read_timeout 2s\n}}",
            to.join(" ")
        ));
        let start = Instant::now();
        let answer = block.udp(example()).await;
        assert_eq!(start.elapsed().as_secs(), seconds);
        let seen: usize = silent.iter().map(|u| u.seen().len()).sum();
        assert_eq!(seen, attempts, "{upstreams} upstreams");
        assert_eq!(answer.rcode(), Rcode::SERVFAIL);
        let error = answer.error();
        assert!(error.starts_with("read udp 127.0.0.1:"), "{error}");
        assert!(error.ends_with(": i/o timeout"), "{error}");
        let [(22, text)] = &answer.extended[..] else {
            panic!("{:?}", answer.extended)
        };
        for upstream in &silent {
            let told = format!("upstream {}: i/o timeout", upstream.addr);
            assert!(text.contains(&told), "{text}");
        }
        assert!(!error.contains(text.as_str()), "our port is not told");
    }
}

#[tokio::test]
async fn a_closed_port_fails_at_once() {
    let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let gone = bind().local_addr().unwrap();
    let block = block(&format!("forward . {gone}"));
    let answer = timeout(Duration::from_secs(30), block.udp(example())).await;
    let answer = answer.unwrap();
    assert_eq!(answer.rcode(), Rcode::SERVFAIL);
    let expected = format!("->{gone}: read: connection refused");
    assert!(answer.error().ends_with(&expected), "{}", answer.error());
    assert_eq!(answer.extended[0].0, 23);
    let answer = block.ask(example(), Transport::Tcp).await;
    assert_eq!(
        answer.error(),
        format!("dial tcp {gone}: connect: connection refused")
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_upstream_is_followed_by_the_next() {
    let (silent, good) = (Upstream::silent().await, good().await);
    let block = block(&format!(
        "forward . {} {} {{\n policy sequential\n read_timeout 2s\n}}",
        silent.addr, good.addr
    ));
    let start = Instant::now();
    let answer = block.udp(example()).await;
    assert_eq!(answer.rcode(), Rcode::NOERROR);
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn upstreams_are_down_after_the_third_failed_probe_and_come_back() {
    let works = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&works);
    let upstream = Upstream::new(move |seen| match switch.load(SeqCst) {
        true => vec![Act::Send(reply(&seen.packet, Rcode::REFUSED.0, &[]))],
        false => Vec::new(),
    })
    .await;
    let block = block(&format!(
        "forward . {} {{\n failfast_all_unhealthy_upstreams\n}}",
        upstream.addr
    ));
    let to = upstream.addr;
    let failures =
        format!("coredns_proxy_healthcheck_failures_total{{proxy_name=\"forward\",to=\"{to}\"}}");
    assert_eq!(block.udp(example()).await.rcode(), Rcode::SERVFAIL);
    // The first probe left with the first failure, 2 s ago; probes take 1 s and follow 0.5 s later.
    assert_eq!(block.metric(&failures), 1.0);
    sleep(Duration::from_millis(600)).await;
    assert_eq!(block.metric(&failures), 2.0);
    let start = Instant::now();
    let answer = block.udp(example()).await;
    assert!(answer.error().ends_with("i/o timeout"), "still tried");
    assert_eq!(start.elapsed().as_secs(), 2, "down after the first attempt");
    assert!(block.metric(&failures) >= 2.0);
    sleep(Duration::from_secs(3)).await;
    let start = Instant::now();
    let answer = block.udp(example()).await;
    assert_eq!(answer.error(), "no healthy proxies");
    assert_eq!(answer.extended[0].0, 22);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(block.metric("coredns_forward_healthcheck_broken_total") >= 1.0);
    let probe = query(0, "", RecordType::NS);
    let is_probe = |packet: &[u8]| packet[2..] == probe[2..];
    assert!(upstream.seen().iter().any(|seen| is_probe(&seen.packet)));

    works.store(true, SeqCst);
    sleep(Duration::from_secs(2)).await;
    // Any answer is a sign of life, even REFUSED.
    assert_eq!(block.udp(example()).await.rcode(), Rcode::REFUSED);
    let seen = upstream.seen().len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(upstream.seen().len(), seen, "no probes while all is well");

    works.store(false, SeqCst);
    block.udp(example()).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(block.udp(example()).await.error(), "no healthy proxies");
}

#[tokio::test(start_paused = true)]
async fn one_of_the_upstreams_that_are_down_is_tried_anyway() {
    let upstream = Upstream::silent().await;
    let block = block(&format!("forward . {}", upstream.addr));
    block.udp(example()).await;
    sleep(Duration::from_secs(10)).await;
    let start = Instant::now();
    let answer = block.udp(example()).await;
    assert!(answer.error().ends_with("i/o timeout"));
    assert_eq!(start.elapsed().as_secs(), 2, "exactly one attempt");
    assert_eq!(
        block.metric("coredns_forward_healthcheck_broken_total"),
        1.0
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_probes_for_a_configuration_that_is_gone() {
    let upstream = Upstream::silent().await;
    let block = block(&format!("forward . {}", upstream.addr));
    block.udp(example()).await;
    drop(block);
    sleep(Duration::from_secs(5)).await;
    let seen = upstream.seen().len();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(upstream.seen().len(), seen);
}

#[tokio::test(start_paused = true)]
async fn unlimited_attempts_do_not_spin() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let upstream = Upstream::new(move |_| {
        count.fetch_add(1, SeqCst);
        vec![Act::Close]
    })
    .await;
    let block = block(&format!(
        "forward . {} {{\n force_tcp\n max_fails 0\n max_connect_attempts 0\n}}",
        upstream.addr
    ));
    assert_eq!(block.udp(example()).await.error(), "EOF");
    let tries = tries.load(SeqCst);
    assert!((2..=101).contains(&tries), "{tries} tries in 5 s");
}
