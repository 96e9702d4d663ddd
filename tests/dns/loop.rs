//! `loop`: what is forwarded comes back, and then no longer does.

use crate::support::block::{Builder, TestBlock, ask, block, error};
use crate::support::message::{query, reply};
use portolan::dns::{Rcode, RecordType, Reply};
use portolan::plugin::{Chain, Context, Outcome, Plugin, Step, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::sleep;

/// Answers names below `cluster.local` from memory.
struct Cluster;

impl Plugin for Cluster {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        if cx.query.name().is_under(b"\x07cluster\x05local\0", 2) {
            reply.start(&cx.query);
            return Step::Done(Outcome::Written);
        }
        Step::Next
    }
}

/// An upstream that asks `server` while `circling`, and else answers NXDOMAIN by itself.
async fn relay(server: SocketAddr, circling: Arc<AtomicBool>) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buf).await {
            let packet = buf[..len].to_vec();
            let (socket, circling) = (Arc::clone(&socket), circling.load(SeqCst));
            tokio::spawn(async move {
                let mut answer = reply(&packet, Rcode::NXDOMAIN.0, &[]);
                if circling {
                    let on = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    on.send_to(&packet, server).await.unwrap();
                    answer.resize(2048, 0);
                    let len = on.recv(&mut answer).await.unwrap();
                    answer.truncate(len);
                }
                socket.send_to(&answer, from).await.unwrap();
            });
        }
    });
    addr
}

/// Lets `chain` answer what comes to `socket`, and counts it.
fn serve(socket: UdpSocket, chain: Arc<Chain>) -> Arc<AtomicUsize> {
    let socket = Arc::new(socket);
    let received = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&received);
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buf).await {
            count.fetch_add(1, SeqCst);
            let (socket, chain, packet) =
                (Arc::clone(&socket), Arc::clone(&chain), buf[..len].to_vec());
            tokio::spawn(async move {
                let answer = ask(&chain, packet, Transport::Udp).await;
                socket.send_to(&answer.message, from).await.unwrap();
            });
        }
    });
    received
}

async fn start(circling: &Arc<AtomicBool>, zone: &'static str) -> TestBlock {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let upstream = relay(server, Arc::clone(circling)).await;
    let builder = Builder {
        port: server.port(),
        zone,
        front: vec![Arc::new(Cluster)],
        ..Builder::default()
    };
    let text = format!("loop\nforward . {upstream}");
    let block = builder.build(&text).unwrap();
    serve(socket, Arc::clone(&block.chain));
    block.serve().await;
    block
}

fn gauge(block: &TestBlock, zone: &str) -> f64 {
    let server = &block.chain.block().server;
    block.metric(&format!(
        "portolan_loop_detected{{server=\"{server}\",zone=\"{zone}\"}}"
    ))
}

#[tokio::test(start_paused = true)]
async fn a_loop_is_cut_and_mended() {
    for zone in [".", "example.org."] {
        let circling = Arc::new(AtomicBool::new(true));
        let block = start(&circling, zone).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(gauge(&block, zone), 1.0);
        let outside = query(1, "www.example.org", RecordType::A);
        let answer = block.udp(outside.clone()).await;
        assert_eq!(answer.rcode(), Rcode::SERVFAIL);
        assert!(answer.extended[0].1.contains("forwarding loop"));
        assert_eq!(answer.error(), "", "it is logged once, not for each query");
        let inside = query(1, "web.cluster.local", RecordType::A);
        assert_eq!(block.udp(inside).await.rcode(), Rcode::NOERROR);

        // Still there after the next probe.
        sleep(Duration::from_secs(40)).await;
        assert_eq!(gauge(&block, zone), 1.0);
        circling.store(false, SeqCst);
        sleep(Duration::from_secs(40)).await;
        assert_eq!(gauge(&block, zone), 0.0);
        assert_eq!(block.udp(outside).await.rcode(), Rcode::NXDOMAIN);
    }
}

/// A block that forwards everything to itself, and how many queries came to it.
async fn start_ourselves(directives: &str) -> (TestBlock, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let builder = Builder {
        port: server.port(),
        ..Builder::default()
    };
    let text = format!("{directives}\nforward . {server}");
    let block = builder.build(&text).unwrap();
    let received = serve(socket, Arc::clone(&block.chain));
    block.serve().await;
    (block, received)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forwards_to_itself_is_a_loop() {
    let (block, received) = start_ourselves("loop").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(gauge(&block, "."), 1.0);
    assert_eq!(received.load(SeqCst), 3, "the third sighting ends it");
}

#[tokio::test(start_paused = true)]
async fn a_query_that_comes_back_joins_itself() {
    let (block, received) = start_ourselves("").await;
    let answer = block.udp(query(1, "www.example.org", RecordType::A)).await;
    assert_eq!(answer.rcode(), Rcode::SERVFAIL);
    let probes_and_attempts = received.load(SeqCst);
    assert!(probes_and_attempts < 10, "{probes_and_attempts} queries");
}

#[tokio::test(start_paused = true)]
async fn without_a_loop_it_is_transparent() {
    let circling = Arc::new(AtomicBool::new(false));
    let block = start(&circling, ".").await;
    for seconds in [0, 1, 60] {
        sleep(Duration::from_secs(seconds)).await;
        for qtype in [RecordType::A, RecordType::HINFO] {
            let answer = block.udp(query(1, "1.2", qtype)).await;
            assert_eq!(answer.rcode(), Rcode::NXDOMAIN);
        }
        assert_eq!(gauge(&block, "."), 0.0);
    }
}

#[tokio::test]
async fn it_takes_no_arguments_and_stands_once() {
    for (text, expected) in [
        (
            "loop now",
            "Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after 'now'",
        ),
        (
            "loop\nloop",
            "Corefile:2 - Error during parsing: this plugin can only be used once per Server Block",
        ),
        (
            "loop {\n forever\n}",
            "Corefile:2 - Error during parsing: unknown property 'forever'",
        ),
    ] {
        assert_eq!(error(text), expected);
    }
}

/// Without the probe, which only a block that serves sends.
#[tokio::test(start_paused = true)]
async fn ordinary_queries_that_come_back_are_a_loop() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let block = block(&format!("loop\nforward . {server}"));
    let received = serve(socket, Arc::clone(&block.chain));
    // The first ones may be chance, and wait for themselves.
    for name in ["a.example", "b.example", "c.example"] {
        let answer = block.udp(query(1, name, RecordType::A)).await;
        assert_eq!(answer.rcode(), Rcode::SERVFAIL);
    }
    let before = received.load(SeqCst);
    let asked = tokio::time::Instant::now();
    let opt =
        crate::support::message::with_opt(query(1, "d.example", RecordType::A), 1232, false, &[]);
    let answer = block.udp(opt).await;
    assert_eq!(answer.rcode(), Rcode::SERVFAIL);
    assert!(
        asked.elapsed() < Duration::from_millis(100),
        "cut off at once"
    );
    assert!(received.load(SeqCst) > before, "it went out and came back");
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_query_looks_like_ours_is_answered() {
    let upstream = crate::support::upstream::Upstream::new(|seen| {
        vec![
            crate::support::upstream::Act::Wait(Duration::from_millis(100)),
            crate::support::upstream::Act::Send(reply(&seen.packet, 0, &[])),
        ]
    })
    .await;
    let block = Arc::new(block(&format!("loop\nforward . {}", upstream.addr)));
    for (round, expected) in [Rcode::NOERROR, Rcode::NOERROR, Rcode::SERVFAIL]
        .into_iter()
        .enumerate()
    {
        let asking = Arc::clone(&block);
        let name = format!("name{round}.example");
        let first = tokio::spawn(async move { asking.udp(query(1, &name, RecordType::A)).await });
        while upstream.seen().len() <= round {
            sleep(Duration::from_millis(1)).await;
        }
        let ours = upstream.seen()[round].packet.clone();
        let answer = block.udp(ours).await;
        assert_eq!(answer.rcode(), expected, "{round}");
        assert_eq!(first.await.unwrap().rcode(), Rcode::NOERROR);
        if expected == Rcode::SERVFAIL {
            assert!(answer.extended[0].1.contains("forwarding loop"));
        }
    }
}

/// One block forwards to another one of the same process: no loop.
#[tokio::test(start_paused = true)]
async fn a_block_that_another_one_forwards_to_is_no_loop() {
    let upstream =
        crate::support::upstream::Upstream::answering(|seen| reply(&seen.packet, 0, &[])).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    let builder = Builder {
        port: server.port(),
        ..Builder::default()
    };
    let second = builder
        .build(&format!("loop\nforward . {}", upstream.addr))
        .unwrap();
    serve(socket, Arc::clone(&second.chain));
    let first = block(&format!("loop\nforward . {server}"));
    for round in 0..20 {
        let answer = first
            .udp(query(1, &format!("name{round}.example"), RecordType::A))
            .await;
        assert_eq!(answer.rcode(), Rcode::NOERROR);
    }
}
