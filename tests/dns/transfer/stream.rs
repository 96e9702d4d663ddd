//! Replies of several messages, as the contract has them: whichever plugin gives them.

use crate::support::client::{PATIENCE, Tcp, ask, question};
use crate::support::server::TestServer;
use portolan::dns::{MAX_MESSAGE, More, OwnedQuery, Owner, RecordType, Reply, Section};
use portolan::plugin::{Context, Outcome, Plugin, PluginEntry, Step};
use std::io::Read;
use std::time::{Duration, Instant};

const TABLE: &[PluginEntry] = &[
    PluginEntry {
        name: "bind",
        summary: "",
        setup: portolan::plugins::bind::setup,
    },
    PluginEntry {
        name: "stream",
        summary: "",
        setup: |setup| {
            setup.add(Streaming);
            Ok(())
        },
    },
];

/// `five.` is a reply of five messages, at once, and `panic.` one whose third message fails;
/// everything else is one message.
struct Streaming;

struct Rest {
    query: OwnedQuery,
    next: u8,
    last: u8,
}

fn write(number: u8, reply: &mut Reply) {
    let address = [10, 0, 0, number];
    reply.push(Section::Answer, Owner::Query, RecordType::A, 5, &address);
}

impl Plugin for Streaming {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        write(1, reply);
        let last = match cx.query.name().label(0) {
            b"five" => 5,
            b"panic" => 3,
            _ => return Step::Done(Outcome::Written),
        };
        reply.set_more(Box::new(Rest {
            query: cx.query.to_owned(),
            next: 2,
            last,
        }));
        Step::Done(Outcome::Written)
    }
}

impl More for Rest {
    fn next(&mut self, reply: &mut Reply) -> bool {
        let query = self.query.view();
        assert!(
            query.name().label(0) != b"panic" || self.next < 3,
            "as the test wants"
        );
        if self.next > self.last {
            return false;
        }
        reply.start(&query);
        write(self.next, reply);
        reply.finish(&query, MAX_MESSAGE);
        self.next += 1;
        true
    }
}

async fn start() -> TestServer {
    TestServer::start(TABLE, ".:0 {\nbind 127.0.0.1\nstream\n}").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_in_order_and_queries_behind_them_too() {
    let server = start().await;
    let mut connection = Tcp::connect(server.addr());
    let names = ["one.", "five.", "two.", "five.", "three."];
    let mut all = Vec::new();
    for name in names {
        let packet = question(name, RecordType::A);
        all.extend((packet.len() as u16).to_be_bytes());
        all.extend(packet);
    }
    // In one piece: all are received before the first stream begins.
    std::io::Write::write_all(&mut connection.0, &all).unwrap();
    for name in names {
        for number in 1..=if name == "five." { 5 } else { 1 } {
            let message = connection.receive();
            assert_eq!(message.queries[0].name().to_string(), name);
            let address = message.answers[0].data.to_string();
            assert_eq!(address, format!("10.0.0.{number}"), "{name}");
        }
    }
    // A datagram is one message.
    let answer = ask(server.addr(), &question("five.", RecordType::A));
    assert_eq!(answer.answers.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_fails_ends_its_connection_only() {
    let server = start().await;
    let mut other = Tcp::connect(server.addr());
    let mut connection = Tcp::connect(server.addr());
    connection.send(&question("panic.", RecordType::A));
    connection.receive();
    connection.receive();
    let mut rest = Vec::new();
    connection.0.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    assert_eq!(server.metric("coredns_panics_total"), Some(1.0));
    assert_eq!(other.ask(&question("one.", RecordType::A)).answers.len(), 1);
    let end = Instant::now() + PATIENCE;
    drop(other);
    while server.metric("portolan_tcp_connections") != Some(0.0) {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
