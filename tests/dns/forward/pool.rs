//! Sockets, connections and exchanges that are shared.

use super::{ONE, example, expected, good};
use crate::support::block::{Builder, block};
use crate::support::message::{a, query, question, reply};
use crate::support::upstream::{Act, Upstream};
use portolan::dns::{Header, Rcode, RecordType};
use portolan::plugin::Transport;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

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

#[tokio::test(start_paused = true)]
async fn max_age_and_the_number_of_uses_bound_a_socket() {
    use portolan::upstream::{PoolSettings, Protocol, Upstream as Client};
    let server = good().await;
    let settings = PoolSettings {
        max_age: Duration::from_secs(10),
        ..PoolSettings::default()
    };
    let ask = async |client: &Client, protocol| {
        let mut packet = example();
        let asked = client.exchange(&mut packet, protocol, Duration::from_secs(2));
        asked.await.unwrap();
        server.seen().last().unwrap().from
    };
    let client = Client::new(server.addr, settings, None);
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let first = ask(&client, protocol).await;
        sleep(Duration::from_secs(6)).await;
        assert_eq!(ask(&client, protocol).await, first);
        sleep(Duration::from_secs(6)).await;
        assert_ne!(ask(&client, protocol).await, first);
    }
    let client = Client::new(server.addr, PoolSettings::default(), None);
    let first = ask(&client, Protocol::Udp).await;
    for _ in 1..4096 {
        assert_eq!(ask(&client, Protocol::Udp).await, first);
    }
    assert_ne!(ask(&client, Protocol::Udp).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_socket_on_which_a_query_failed_is_not_used_again() {
    let upstream = Upstream::new(|seen| match seen.packet[13].to_ascii_lowercase() {
        b'x' => Vec::new(),
        _ => vec![Act::Send(reply(&seen.packet, 0, &[]))],
    })
    .await;
    let block = block(&format!(
        "forward . {} {{\n max_fails 0\n max_connect_attempts 1\n}}",
        upstream.addr
    ));
    let rcode = async |name| block.udp(query(1, name, RecordType::A)).await.rcode();
    assert_eq!(rcode("a.example").await, Rcode::NOERROR);
    assert_eq!(rcode("x.example").await, Rcode::SERVFAIL);
    assert_eq!(rcode("b.example").await, Rcode::NOERROR);
    let ports: Vec<_> = upstream.seen().iter().map(|seen| seen.from).collect();
    assert_eq!(ports[0], ports[1]);
    assert_ne!(ports[1], ports[2]);
}

#[tokio::test]
async fn queries_leave_from_the_source_address() {
    let upstream = good().await;
    let block = block(&format!(
        "forward . {} {{\n source_address 127.0.0.2\n}}",
        upstream.addr
    ));
    for transport in [Transport::Udp, Transport::Tcp] {
        block.ask(example(), transport).await;
    }
    let from: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.from.ip().to_string())
        .collect();
    assert_eq!(from, ["127.0.0.2", "127.0.0.2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_client_gets_its_own_answer() {
    // Answers out of order, and with the first label of the name in the address.
    let upstream = Upstream::new(|seen| {
        // The case of the letters is random.
        let [first, octet] = [seen.packet[13], seen.packet[14]].map(|o| o.to_ascii_lowercase());
        let pause = Duration::from_millis(u64::from(octet % 7));
        let answer = reply(&seen.packet, 0, &[&a(1, [10, 0, first, octet])]);
        vec![Act::Wait(pause), Act::Send(answer)]
    })
    .await;
    let block = Arc::new(block(&format!("forward . {}", upstream.addr)));
    let mut clients = Vec::new();
    for client in 0..64u16 {
        let block = Arc::clone(&block);
        clients.push(tokio::spawn(async move {
            for round in 0..40u16 {
                let digits = [b'a' + (client + round) as u8 % 26, b'a' + round as u8 % 26];
                let name = format!("{}.{client}.example", str::from_utf8(&digits).unwrap());
                let transport = match round % 8 {
                    0 => Transport::Tcp,
                    _ => Transport::Udp,
                };
                let packet = query(round, &name, RecordType::A);
                let answer = block.ask(packet.clone(), transport).await;
                let address = a(1, [10, 0, digits[0], digits[1]]);
                assert_eq!(answer.message, expected(&packet, 0, &[&address]));
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}
