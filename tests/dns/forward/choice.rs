//! Which upstream is asked, and which queries are forwarded at all.

use super::{ONE, example, expected, good, with_rcode};
use crate::support::block::block;
use crate::support::message::{a, query};
use crate::support::upstream::Upstream;
use portolan::dns::{Header, Rcode, RecordType};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn policies_choose_the_first_upstream() {
    let upstreams = [good().await, good().await, good().await];
    let to: Vec<_> = upstreams.iter().map(|u| u.addr.to_string()).collect();
    let counts = || -> Vec<_> { upstreams.iter().map(|u| u.seen().len()).collect() };
    for (policy, expected) in [("sequential", [6, 0, 0]), ("round_robin", [8, 2, 2])] {
        let block = block(&format!(
            "forward . {} {{\n policy {policy}\n}}",
            to.join(" ")
        ));
        for _ in 0..6 {
            block.udp(example()).await;
        }
        assert_eq!(counts(), expected, "{policy}");
    }
    let block = block(&format!("forward . {}", to.join(" ")));
    for _ in 0..100 {
        block.udp(example()).await;
    }
    assert!(counts().iter().all(|&count| count > 10), "{:?}", counts());
}

#[tokio::test]
async fn zones_that_are_not_forwarded_pass_on() {
    let upstream = good().await;
    let block = block(&format!(
        "forward example.org {} {{\n except no.example.org example.org\n}}",
        upstream.addr
    ));
    for (name, forwarded) in [
        ("example.org", true),
        ("example.com", false),
        ("no.example.org", false),
        ("a.no.example.org", false),
        ("a.example.org", false),
    ] {
        let answer = block.udp(query(1, name, RecordType::A)).await;
        let expected = if forwarded {
            Rcode::NOERROR
        } else {
            Rcode::SERVFAIL
        };
        assert_eq!(answer.rcode(), expected, "{name}");
        if !forwarded {
            assert!(answer.error().contains("no next plugin found"));
        }
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn stanzas_are_tried_in_the_order_of_the_file() {
    let (first, second) = (with_rcode(Rcode::NXDOMAIN).await, good().await);
    let block = block(&format!(
        "forward a.example {}\nforward . {}",
        first.addr, second.addr
    ));
    let answer = block.udp(query(1, "x.a.example", RecordType::A)).await;
    assert_eq!(answer.rcode(), Rcode::NXDOMAIN);
    let answer = block.udp(query(1, "x.b.example", RecordType::A)).await;
    assert_eq!(answer.rcode(), Rcode::NOERROR);
    assert_eq!((first.seen().len(), second.seen().len()), (1, 1));
}

#[tokio::test]
async fn next_hands_an_answer_on_only_to_another_forward() {
    let (missing, no_data) = (
        with_rcode(Rcode::NXDOMAIN).await,
        with_rcode(Rcode::NOERROR).await,
    );
    let good = good().await;
    let built = block(&format!(
        "forward . {} {{\n next NXDOMAIN\n}}\nforward . {} {{\n next_on_nodata\n}}\nforward . {}",
        missing.addr, no_data.addr, good.addr
    ));
    let answer = built.udp(example()).await;
    assert_eq!(
        answer.message,
        expected(&example(), Header::RA, &[&a(300, ONE)])
    );
    assert_eq!((missing.seen().len(), no_data.seen().len()), (1, 1));

    let alone = block(&format!(
        "forward . {} {{\n next NXDOMAIN\n}}",
        missing.addr
    ));
    assert_eq!(alone.udp(example()).await.rcode(), Rcode::NXDOMAIN);
}

#[tokio::test]
async fn failover_asks_each_upstream_once() {
    let (one, two) = (
        with_rcode(Rcode::SERVFAIL).await,
        with_rcode(Rcode::REFUSED).await,
    );
    let good = good().await;
    let both = format!(
        "{} {} {{\n policy sequential\n failover SERVFAIL REFUSED\n}}",
        one.addr, two.addr
    );
    let built = block(&format!("forward . {both}"));
    assert_eq!(
        built.udp(example()).await.rcode(),
        Rcode::REFUSED,
        "the last one"
    );
    assert_eq!((one.seen().len(), two.seen().len()), (1, 1));
    let both = both.replace(" {", &format!(" {} {{", good.addr));
    let built = block(&format!("forward . {both}"));
    assert_eq!(built.udp(example()).await.rcode(), Rcode::NOERROR);
}

#[tokio::test(start_paused = true)]
async fn max_concurrent_refuses_what_is_too_much() {
    let upstream = Upstream::silent().await;
    let block = Arc::new(block(&format!(
        "forward . {} {{\n max_concurrent 2\n}}",
        upstream.addr
    )));
    let waiting: Vec<_> = ["a.example", "b.example"]
        .map(|name| {
            let block = Arc::clone(&block);
            tokio::spawn(async move { block.udp(query(1, name, RecordType::A)).await.rcode() })
        })
        .into();
    sleep(Duration::from_millis(1)).await;
    let answer = block.udp(example()).await;
    assert_eq!(answer.rcode(), Rcode::REFUSED);
    assert_eq!(answer.error(), "concurrent queries exceeded maximum 2");
    assert_eq!(
        block.metric("coredns_forward_max_concurrent_rejects_total"),
        1.0
    );
    for task in waiting {
        assert_eq!(task.await.unwrap(), Rcode::SERVFAIL);
    }
    let answer = block.udp(example()).await;
    assert_eq!(answer.rcode(), Rcode::SERVFAIL, "there is room again");
}
