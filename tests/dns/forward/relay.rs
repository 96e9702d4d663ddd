//! What goes out, and what comes back.

use super::{ONE, example, expected, good, with_rcode};
use crate::support::block::{Builder, block};
use crate::support::message::{a, question, reply, with_opt};
use crate::support::upstream::{Act, Upstream};
use portolan::dns::{Header, Rcode};
use portolan::plugin::{Outcome, Transport};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Whether two queries differ in the case of the letters of their name at most (without ids).
fn same_but_for_case(one: &[u8], other: &[u8]) -> bool {
    let name = 10..10 + 17;
    one.len() == other.len()
        && one[..10] == other[..10]
        && one[name.clone()].eq_ignore_ascii_case(&other[name.clone()])
        && one[name.end..] == other[name.end..]
}

#[tokio::test]
async fn replies_are_relayed_octet_for_octet() {
    let upstream = good().await;
    let block = block(&format!("forward . {}", upstream.addr));
    let answer = block.udp(example()).await;
    assert_eq!(answer.outcome, Outcome::Written);
    assert_eq!(
        answer.message,
        expected(&example(), Header::RA, &[&a(300, ONE)])
    );
    // The same message went out, under another id and in another letter case.
    let [seen] = &upstream.seen()[..] else {
        panic!("one query expected")
    };
    assert!(same_but_for_case(&seen.packet[2..], &example()[2..]));
    let to = upstream.addr;
    let series = format!(
        "coredns_proxy_request_duration_seconds_count{{proxy_name=\"forward\",to=\"{to}\",rcode=\"NOERROR\"}}"
    );
    assert_eq!(block.metric(&series), 1.0);
}

#[tokio::test]
async fn ids_and_ports_are_not_the_clients() {
    let upstream = good().await;
    let block = block(&format!("forward . {}", upstream.addr));
    for _ in 0..64 {
        block.udp(example()).await;
    }
    let ids: std::collections::BTreeSet<_> = upstream
        .seen()
        .iter()
        .map(|seen| [seen.packet[0], seen.packet[1]])
        .collect();
    assert!(ids.len() > 60, "{} ids in 64 queries", ids.len());
    let to = upstream.addr;
    for (series, value) in [("hits", 63.0), ("misses", 1.0)] {
        let series = format!(
            "coredns_proxy_conn_cache_{series}_total{{proxy_name=\"forward\",to=\"{to}\",proto=\"udp\"}}"
        );
        assert_eq!(block.metric(&series), value, "{series}");
    }
}

#[tokio::test]
async fn edns_goes_through_both_ways() {
    let upstream = Upstream::answering(|seen| {
        let plain = reply(&seen.packet, Header::RA | Header::AD, &[&a(60, ONE)]);
        // An extended error of the upstream's own.
        with_opt(plain, 1232, true, b"\0\x0f\0\x03\0\x04x")
    })
    .await;
    let block = block(&format!("forward . {}", upstream.addr));
    let subnet = b"\0\x08\0\x07\0\x01\x18\0\xc0\0\x02";
    let packet = with_opt(example(), 4096, true, subnet);
    let answer = block.udp(packet.clone()).await;
    let seen = upstream.seen()[0].packet.clone();
    assert!(same_but_for_case(&seen[2..], &packet[2..]), "ECS is passed");
    let plain = expected(&example(), Header::RA | Header::AD, &[&a(60, ONE)]);
    assert_eq!(
        answer.message,
        with_opt(plain, 4096, true, b"\0\x0f\0\x03\0\x04x")
    );
}

#[tokio::test]
async fn error_codes_are_answers() {
    for rcode in [
        Rcode::NXDOMAIN,
        Rcode::SERVFAIL,
        Rcode::REFUSED,
        Rcode::NOTIMP,
    ] {
        let upstream = with_rcode(rcode).await;
        let other = good().await;
        let block = block(&format!(
            "forward . {} {} {{\n policy sequential\n}}",
            upstream.addr, other.addr
        ));
        let answer = block.udp(example()).await;
        assert_eq!(answer.outcome, Outcome::Written);
        assert_eq!(answer.message, expected(&example(), rcode.0, &[]));
        assert!(other.seen().is_empty(), "no other upstream is asked");
    }
}

#[tokio::test(start_paused = true)]
async fn what_carries_another_id_is_ignored() {
    let upstream = Upstream::new(|seen| {
        let right = reply(&seen.packet, 0, &[&a(1, ONE)]);
        let mut wrong = reply(&seen.packet, 3, &[]);
        wrong[0] ^= 0xff;
        vec![
            Act::Send(wrong.clone()),
            Act::Send(right[..11].to_vec()),
            Act::Wait(Duration::from_millis(100)),
            Act::Send(wrong),
            Act::Send(right),
        ]
    })
    .await;
    let block = block(&format!("forward . {}", upstream.addr));
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = block.ask(example(), transport).await;
        assert_eq!(answer.message, expected(&example(), 0, &[&a(1, ONE)]));
    }
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_another_port_is_ignored() {
    let upstream = Upstream::new(|seen| {
        vec![
            Act::Forge(reply(&seen.packet, 0, &[&a(1, [6, 6, 6, 6])])),
            Act::Wait(Duration::from_millis(100)),
            Act::Send(reply(&seen.packet, 0, &[&a(1, ONE)])),
        ]
    })
    .await;
    let block = block(&format!("forward . {}", upstream.addr));
    let answer = block.udp(example()).await;
    assert_eq!(answer.message, expected(&example(), 0, &[&a(1, ONE)]));
}

#[tokio::test]
async fn a_reply_to_another_question_is_a_format_error() {
    let upstream = Upstream::answering(|seen| {
        let mut other = reply(&seen.packet, 0, &[&a(1, ONE)]);
        other[13] = b'x';
        other
    })
    .await;
    let block = block(&format!("forward . {}", upstream.addr));
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = block.ask(example(), transport).await;
        assert_eq!(answer.outcome, Outcome::Written);
        assert_eq!(answer.message, expected(&example(), Rcode::FORMERR.0, &[]));
    }
    assert_eq!(upstream.seen().len(), 2, "it is not tried again");
}

#[tokio::test]
async fn another_letter_case_is_the_same_question() {
    let upstream =
        Upstream::answering(|seen| reply(&seen.packet.to_ascii_lowercase(), 0, &[&a(1, ONE)]))
            .await;
    let block = block(&format!("forward . {}", upstream.addr));
    // An id without letters in it, lest the script change it: ask until one is drawn.
    for _ in 0..200 {
        let asked = timeout(Duration::from_millis(200), block.udp(example())).await;
        if let Ok(answer) = asked {
            assert_eq!(question(&answer.message), question(&example()));
            assert_eq!(answer.message, expected(&example(), 0, &[&a(1, ONE)]));
            return;
        }
    }
    panic!("no answer");
}

#[tokio::test]
async fn truncation_is_for_the_client_unless_udp_is_preferred() {
    let upstream = Upstream::answering(|seen| match seen.proto {
        "udp" => reply(&seen.packet, Header::TC, &[]),
        _ => reply(&seen.packet, 0, &[&a(1, ONE)]),
    })
    .await;
    let plain = block(&format!("forward . {}", upstream.addr));
    let answer = plain.udp(example()).await;
    assert_eq!(answer.message, expected(&example(), Header::TC, &[]));
    let answer = plain.ask(example(), Transport::Tcp).await;
    assert_eq!(answer.message, expected(&example(), 0, &[&a(1, ONE)]));
    let protocols = || -> Vec<_> { upstream.seen().iter().map(|seen| seen.proto).collect() };
    assert_eq!(protocols(), ["udp", "tcp"], "the client's protocol");

    let prefer = block(&format!("forward . {} {{\n prefer_udp\n}}", upstream.addr));
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = prefer.ask(example(), transport).await;
        assert_eq!(answer.message, expected(&example(), 0, &[&a(1, ONE)]));
    }
    assert_eq!(protocols()[2..], ["udp", "tcp", "udp", "tcp"]);

    let force = block(&format!(
        "forward . {} {{\n prefer_udp\n force_tcp\n}}",
        upstream.addr
    ));
    force.udp(example()).await;
    assert_eq!(protocols()[6..], ["tcp"]);
}

#[tokio::test]
async fn what_does_not_fit_or_is_cut_becomes_an_empty_truncated_reply() {
    let long = Upstream::answering(|seen| {
        let record = a(1, ONE);
        reply(&seen.packet, Header::RA, &vec![&record[..]; 40])
    })
    .await;
    let built = block(&format!("forward . {}", long.addr));
    let empty = expected(&example(), Header::RA | Header::TC, &[]);
    assert_eq!(built.udp(example()).await.message, empty);
    let large = built.udp(with_opt(example(), 1232, false, &[])).await;
    assert_eq!(large.message[6..8], [0, 40]);

    let cut = Upstream::answering(|seen| {
        let mut whole = reply(&seen.packet, Header::RA, &[&a(1, ONE)]);
        whole.pop();
        whole
    })
    .await;
    let built = block(&format!("forward . {}", cut.addr));
    assert_eq!(built.udp(example()).await.message, empty);
    let over_tcp = built.ask(example(), Transport::Tcp).await;
    assert_eq!(over_tcp.rcode(), Rcode::SERVFAIL);
    assert!(over_tcp.error().starts_with("malformed reply from"));
}

#[tokio::test]
async fn the_payload_size_that_bufsize_left_is_what_goes_out() {
    let upstream = good().await;
    let text = format!("forward . {}", upstream.addr);
    let front: Arc<dyn portolan::plugin::Plugin> = Arc::new(Cap);
    let builder = Builder {
        front: vec![front],
        loaded: vec!["cache"],
        ..Builder::default()
    };
    let block = builder.build(&text).unwrap();
    block.udp(with_opt(example(), 4096, false, &[])).await;
    let mut sent = with_opt(example(), 1232, false, &[]);
    sent[3] |= Header::AD as u8;
    assert!(same_but_for_case(
        &upstream.seen()[0].packet[2..],
        &sent[2..]
    ));
}

/// Does to queries what `bufsize 1232` does.
struct Cap;

impl portolan::plugin::Plugin for Cap {
    fn name(&self) -> &'static str {
        "cap"
    }

    fn query(
        &self,
        cx: &mut portolan::plugin::Context<'_>,
        _: &mut portolan::dns::Reply,
    ) -> portolan::plugin::Step {
        cx.query.cap_udp_size(1232);
        portolan::plugin::Step::Next
    }
}

#[tokio::test]
async fn octets_behind_the_query_are_not_passed_on() {
    let upstream = good().await;
    let block = block(&format!("forward . {}", upstream.addr));
    for packet in [example(), with_opt(example(), 1232, false, &[])] {
        let mut longer = packet.clone();
        longer.extend(b"secret");
        block.udp(longer).await;
        let seen = upstream.seen().last().unwrap().packet.clone();
        assert!(same_but_for_case(&seen[2..], &packet[2..]));
    }
}

#[tokio::test]
async fn a_notify_is_refused() {
    let upstream = good().await;
    let block = block(&format!("forward . {}", upstream.addr));
    let mut notify = example();
    notify[2] = 0x20;
    assert_eq!(block.udp(notify).await.rcode(), Rcode::REFUSED);
    assert!(upstream.seen().is_empty());
}

/// Notes what a label is on the way out.
struct Labels(std::sync::Mutex<Vec<Option<String>>>);

impl portolan::plugin::Plugin for Labels {
    fn name(&self) -> &'static str {
        "labels"
    }

    fn query(
        &self,
        _: &mut portolan::plugin::Context<'_>,
        _: &mut portolan::dns::Reply,
    ) -> portolan::plugin::Step {
        portolan::plugin::Step::Next
    }

    fn answered(
        &self,
        cx: &mut portolan::plugin::Context<'_>,
        reply: &mut portolan::dns::Reply,
        _: &mut Outcome,
    ) {
        let mut text = String::new();
        let known = cx.chain.metadata(cx, reply, "forward/upstream", &mut text);
        self.0.lock().unwrap().push(known.then_some(text));
    }
}

#[tokio::test]
async fn metadata_says_which_upstream_was_asked() {
    let good = good().await;
    let nobody = "127.0.0.1:1".parse().unwrap();
    for (more, upstream, labelled) in [
        ("metadata", good.addr, true),
        ("", good.addr, false),
        // One that does not answer was asked as well.
        ("metadata", nobody, true),
        // The second answer is from the cache.
        ("metadata\ncache", good.addr, true),
    ] {
        let labels = Arc::new(Labels(std::sync::Mutex::default()));
        let front = Arc::clone(&labels);
        let builder = Builder {
            front: vec![front],
            ..Builder::default()
        };
        let text = format!("{more}\nforward . {upstream} {{\n max_connect_attempts 1\n}}");
        let block = builder.build(&text).unwrap();
        block.udp(example()).await;
        let expected = labelled.then(|| upstream.to_string());
        let seen = || labels.0.lock().unwrap().clone();
        assert_eq!(seen(), [expected], "{more:?}");
        if more.contains("cache") {
            block.udp(example()).await;
            assert_eq!(seen()[1], None);
        }
    }
}
