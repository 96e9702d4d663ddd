//! `forward` against scripted upstreams.

use crate::support::block::{Builder, block};
use crate::support::message::{a, query, question, reply, with_opt};
use crate::support::upstream::{Act, Upstream};
use portolan::dns::{Header, Rcode, RecordType};
use portolan::plugin::{Outcome, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const ONE: [u8; 4] = [192, 0, 2, 1];

fn example() -> Vec<u8> {
    query(0x1234, "WWW.example.org", RecordType::A)
}

async fn good() -> Upstream {
    Upstream::answering(|seen| reply(&seen.packet, Header::RA, &[&a(300, ONE)])).await
}

async fn with_rcode(rcode: Rcode) -> Upstream {
    Upstream::answering(move |seen| reply(&seen.packet, rcode.0, &[])).await
}

/// What a client that sent `packet` should get when the upstream answers so.
fn expected(packet: &[u8], bits: u16, records: &[&[u8]]) -> Vec<u8> {
    reply(packet, bits, records)
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
    // The same message went out, under another id and in the client's letter case.
    let [seen] = &upstream.seen()[..] else {
        panic!("one query expected")
    };
    assert_eq!(seen.packet[2..], example()[2..]);
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
    assert_eq!(upstream.seen()[0].packet[2..], packet[2..], "ECS is passed");
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
async fn silent_upstreams_cost_four_or_six_seconds() {
    for (upstreams, attempts, seconds) in [(1, 2, 4), (2, 3, 6), (3, 3, 6)] {
        let mut silent = Vec::new();
        for _ in 0..upstreams {
            silent.push(Upstream::silent().await);
        }
        let to: Vec<_> = silent.iter().map(|u| u.addr.to_string()).collect();
        // No probes, so that only the query's attempts are counted.
        let block = block(&format!("forward . {} {{\n max_fails 0\n}}", to.join(" ")));
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
        assert!(text.ends_with(": i/o timeout"), "{text}");
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
        "forward . {} {} {{\n policy sequential\n}}",
        silent.addr, good.addr
    ));
    let start = Instant::now();
    let answer = block.udp(example()).await;
    assert_eq!(answer.rcode(), Rcode::NOERROR);
    assert_eq!(start.elapsed().as_secs(), 2);
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
    assert_eq!(upstream.seen()[0].packet[2..], sent[2..]);
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
        assert_eq!(upstream.seen().last().unwrap().packet[2..], packet[2..]);
    }
}

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
    sleep(Duration::from_millis(500)).await;
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

#[tokio::test]
async fn a_pooled_connection_that_was_closed_is_no_failure() {
    // Closes each connection after the first answer on it.
    let upstream =
        Upstream::new(|seen| vec![Act::Send(reply(&seen.packet, 0, &[&a(1, ONE)])), Act::Close])
            .await;
    let block = block(&format!(
        "forward . {} {{\n force_tcp\n max_connect_attempts 1\n}}",
        upstream.addr
    ));
    for _ in 0..3 {
        let answer = block.udp(example()).await;
        assert_eq!(answer.message, expected(&example(), 0, &[&a(1, ONE)]));
        // Lets the close arrive.
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(upstream.seen().len(), 3);
    let to = upstream.addr;
    let hits = format!(
        "coredns_proxy_conn_cache_hits_total{{proxy_name=\"forward\",to=\"{to}\",proto=\"tcp\"}}"
    );
    assert_eq!(block.metric(&hits), 2.0, "they were taken from the pool");
}

#[tokio::test]
async fn a_fresh_connection_that_is_closed_is_a_failure() {
    let upstream = Upstream::new(|_| vec![Act::Close]).await;
    let block = block(&format!(
        "forward . {} {{\n force_tcp\n max_fails 0\n}}",
        upstream.addr
    ));
    let answer = block.udp(example()).await;
    assert_eq!(answer.rcode(), Rcode::SERVFAIL);
    assert_eq!(answer.error(), "EOF");
    assert_eq!(upstream.seen().len(), 2, "2 x upstreams attempts");
}

#[tokio::test]
async fn connections_are_reused_and_survive_a_reload() {
    let upstream = good().await;
    let text = format!("forward . {} {{\n force_tcp\n}}", upstream.addr);
    let old = block(&text);
    for _ in 0..5 {
        old.udp(example()).await;
    }
    let builder = Builder {
        process: Some(Arc::clone(&old.process)),
        ..Builder::default()
    };
    let new = builder.build(&text).unwrap();
    drop(old);
    new.udp(example()).await;
    let ports: std::collections::BTreeSet<_> = upstream.seen().iter().map(|s| s.from).collect();
    assert_eq!(ports.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_sockets_expire() {
    use portolan::upstream::{PoolSettings, Protocol, Upstream as Client};
    let server = good().await;
    let client = Client::new(server.addr, PoolSettings::default(), None);
    let two_seconds = Duration::from_secs(2);
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut packet = example();
        let asked = client.exchange(&mut packet, protocol, two_seconds);
        asked.await.unwrap();
    }
    assert_eq!(client.pooled(), (1, 1));
    sleep(Duration::from_secs(25)).await;
    assert_eq!(client.pooled(), (0, 0));
    let mut packet = example();
    let asked = client.exchange(&mut packet, Protocol::Udp, two_seconds);
    asked.await.unwrap();
    let ports: std::collections::BTreeSet<_> = server.seen().iter().map(|s| s.from).collect();
    assert_eq!(ports.len(), 3, "another source port");
}

#[tokio::test]
async fn many_queries_share_few_sockets() {
    use portolan::upstream::{PoolSettings, Protocol, Upstream as Client};
    let server = good().await;
    let client = Client::new(server.addr, PoolSettings::default(), None);
    let mut tasks = Vec::new();
    for number in 0..150 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            let name = format!("n{number}.example");
            let mut packet = query(0, &name, RecordType::A);
            let timeout = Duration::from_secs(20);
            let answer = client.exchange(&mut packet, Protocol::Udp, timeout).await;
            assert_eq!(question(&answer.unwrap()), question(&packet));
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (sockets, _) = client.pooled();
    assert!((2..=150 / 16 + 1).contains(&sockets), "{sockets} sockets");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_identical_questions_are_one_exchange() {
    let upstream = Upstream::new(|seen| {
        vec![
            Act::Wait(Duration::from_millis(500)),
            Act::Send(reply(&seen.packet, Header::RA, &[&a(300, ONE)])),
        ]
    })
    .await;
    let block = Arc::new(block(&format!("forward . {}", upstream.addr)));
    let mut tasks = Vec::new();
    for number in 0..1000u16 {
        let block = Arc::clone(&block);
        tasks.push(tokio::spawn(async move {
            // Each client has its own id and letter case.
            let name = match number % 2 {
                0 => "www.EXAMPLE.org",
                _ => "Www.example.Org",
            };
            let packet = query(number, name, RecordType::A);
            let answer = block.udp(packet.clone()).await;
            assert_eq!(
                answer.message,
                expected(&packet, Header::RA, &[&a(300, ONE)])
            );
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(block.metric("portolan_forward_coalesced_total"), 999.0);
    block.udp(example()).await;
    assert_eq!(upstream.seen().len(), 2, "what has ended is not joined");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_up_takes_nobody_with_it() {
    let upstream = Upstream::new(|seen| {
        vec![
            Act::Wait(Duration::from_millis(500)),
            Act::Send(reply(&seen.packet, 0, &[&a(300, ONE)])),
        ]
    })
    .await;
    let block = Arc::new(block(&format!("forward . {}", upstream.addr)));
    let ask = || {
        let block = Arc::clone(&block);
        tokio::spawn(async move { block.udp(example()).await.rcode() })
    };
    let leader = ask();
    sleep(Duration::from_millis(100)).await;
    let follower = ask();
    sleep(Duration::from_millis(100)).await;
    leader.abort();
    assert_eq!(follower.await.unwrap(), Rcode::NOERROR);
    assert_eq!(upstream.seen().len(), 1);
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

#[tokio::test]
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
