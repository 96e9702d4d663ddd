//! `cache` in front of the real `forward`.

use crate::support::block::block;
use crate::support::message::query;
use crate::support::upstream::Upstream;
use portolan::dns::{ExtendedError, Rcode, RecordType};
use portolan::plugin::Outcome;

/// What `forward` says of a dead upstream is what `cache` keeps (RFC 9520), and hits tell of it.
#[tokio::test(start_paused = true)]
async fn a_failure_of_forward_is_kept() {
    let silent = Upstream::silent().await;
    let closed = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    for upstream in [silent.addr, closed] {
        let block = block(&format!(
            "cache {{\n servfail 5m\n}}\nforward . {upstream} {{\n max_fails 0\n}}"
        ));
        let question = || query(7, "www.example.org", RecordType::A);
        let first = block.udp(question()).await;
        assert_eq!(first.rcode(), Rcode::SERVFAIL);
        assert!(matches!(first.outcome, Outcome::Unwritten { .. }));
        let why = &first.extended[0].1;
        assert!(why.contains(&upstream.to_string()), "{why}");
        // Each failure is kept for longer, so that some question comes in time on any machine.
        let mut hit = block.udp(question()).await;
        for _ in 0..8 {
            if hit.outcome != Outcome::Written {
                hit = block.udp(question()).await;
            }
        }
        assert_eq!(
            (&hit.outcome, hit.rcode()),
            (&Outcome::Written, Rcode::SERVFAIL)
        );
        assert_eq!(hit.extended[0].0, ExtendedError::CACHED_ERROR);
    }
}

/// Too many questions at one time are no failure of the upstream: the next one is asked.
#[tokio::test(start_paused = true)]
async fn what_forward_refuses_is_not_kept() {
    let silent = Upstream::silent().await;
    let block = block(&format!(
        "cache\nforward . {} {{\n max_fails 0\n max_concurrent 1\n}}",
        silent.addr
    ));
    let one = block.udp(query(1, "one.example.org", RecordType::A));
    let two = async {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        for _ in 0..3 {
            let refused = block.udp(query(2, "two.example.org", RecordType::A)).await;
            assert_eq!(refused.rcode(), Rcode::REFUSED);
            assert!(matches!(refused.outcome, Outcome::Unwritten { .. }));
        }
    };
    let (one, ()) = tokio::join!(one, two);
    assert_eq!(one.rcode(), Rcode::SERVFAIL);
    let entries =
        "coredns_cache_entries{server=\"dns://:0\",type=\"denial\",zones=\".\",view=\"\"}";
    assert_eq!(block.metric(entries), 1.0);
}
