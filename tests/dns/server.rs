//! The server core: routing, the return-code contract, transports, reload and drain.

use crate::support::client::{self, PATIENCE, Tcp, ask, question, show, with_opt};
use crate::support::server::TestServer;
use hickory_proto::op::ResponseCode;
use portolan::corefile::Error;
use portolan::dns::{Class, Owner, RecordType, Reply, Section};
use portolan::plugin::{Context, Outcome, Plugin, PluginEntry, Setup, Step};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Directives of these tests, in their order.
const TABLE: &[PluginEntry] = &[
    entry("bind", |setup| {
        setup.block.bind = vec![setup.directives[0].args[0].text.parse().unwrap()];
        Ok(())
    }),
    entry("any_class", |setup| {
        setup.block.any_class = true;
        Ok(())
    }),
    entry("twice", |setup| {
        setup.add(Twice(
            setup.process.shared.get_or("twice", Default::default),
        ));
        Ok(())
    }),
    entry("fail", |setup| {
        setup.add(Scripted::Fail);
        Ok(())
    }),
    entry("slow", |setup| {
        let [ip, millis] = setup.directives[0].exactly()?;
        let delay = Duration::from_millis(millis.text.parse().unwrap());
        setup.add(Scripted::Slow(ip.text.parse().unwrap(), delay));
        Ok(())
    }),
    entry("answer", |setup| {
        let [ip] = setup.directives[0].exactly()?;
        setup.add(Scripted::Answer(ip.text.parse().unwrap()));
        Ok(())
    }),
];

const fn entry(name: &'static str, setup: fn(&mut Setup<'_>) -> Result<(), Error>) -> PluginEntry {
    PluginEntry {
        name,
        summary: "",
        setup,
    }
}

/// Passes every query on, and counts the ways in and out.
struct Twice(Arc<(AtomicUsize, AtomicUsize)>);

impl Plugin for Twice {
    fn name(&self) -> &'static str {
        "twice"
    }

    fn query(&self, _: &mut Context<'_>, _: &mut Reply) -> Step {
        self.0.0.fetch_add(1, SeqCst);
        Step::Next
    }

    fn answered(&self, _: &mut Context<'_>, _: &mut Reply, _: &mut Outcome) {
        self.0.1.fetch_add(1, SeqCst);
    }
}

/// Answers by the first label of the name, else with an address.
enum Scripted {
    Answer(Ipv4Addr),
    Fail,
    Slow(Ipv4Addr, Duration),
}

fn write(reply: &mut Reply, ip: Ipv4Addr) -> Outcome {
    reply.push(
        Section::Answer,
        Owner::Query,
        RecordType::A,
        5,
        &ip.octets(),
    );
    Outcome::Written
}

impl Plugin for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let label = cx.query.name().label(0).to_vec();
        match (self, label.as_slice()) {
            (Self::Fail, b"panic") => panic!("as the test wants"),
            (Self::Fail, b"later") => Step::Wait(Box::pin(async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                panic!("as the test wants")
            })),
            (Self::Fail, b"drop") => Step::Done(Outcome::Dropped),
            (Self::Fail, b"servfail") => Step::Done(Outcome::failed("scripted")),
            (Self::Slow(ip, delay), b"slow") => {
                let (ip, delay, cx) = (*ip, *delay, cx.to_owned());
                Step::Wait(Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    let mut reply = Reply::new();
                    reply.start(&cx.view().query);
                    let outcome = write(&mut reply, ip);
                    (outcome, reply)
                }))
            }
            (Self::Answer(ip), _) => Step::Done(write(reply, *ip)),
            _ => Step::Next,
        }
    }
}

fn first_address(server: SocketAddr, name: &str) -> String {
    let message = ask(server, &question(name, RecordType::A));
    message
        .answers
        .first()
        .map(|record| record.data.to_string())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_zone_answers() {
    let text = "
        .:0 { 
            bind 127.0.0.1
            answer 10.0.0.1
        }
        local:0 {
            bind 127.0.0.1
            answer 10.0.0.2
        }
        cluster.local:0 {
            bind 127.0.0.1
            answer 10.0.0.3
        }
        empty.local:0 {
        }";
    // Port 0 makes an address of its own for each block unless they are the same key's.
    let server = TestServer::start(TABLE, text).await;
    let addr = server.addr();
    let ask = |name, qtype| ask(addr, &question(name, qtype));
    let a = |name, qtype| ask(name, qtype).answers[0].data.to_string();
    assert_eq!(a("example.org.", RecordType::A), "10.0.0.1");
    assert_eq!(a("local.", RecordType::A), "10.0.0.2");
    assert_eq!(a("a.b.LOCAL.", RecordType::A), "10.0.0.2");
    assert_eq!(a("web.cluster.local.", RecordType::A), "10.0.0.3");
    assert_eq!(a("cluster.local.", RecordType::A), "10.0.0.3");
    assert_eq!(
        a("cluster.local.", RecordType::DS),
        "10.0.0.2",
        "DS: the parent's side"
    );
    assert_eq!(
        a("local.", RecordType::DS),
        "10.0.0.2",
        "DS: the root only if there is no other"
    );
    let chaos = client::query(1, "version.bind.", RecordType::TXT, Class::CH);
    assert_eq!(
        client::ask(addr, &chaos).metadata.response_code,
        ResponseCode::Refused
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_zone_no_plugin_no_next() {
    let text = "
        a.example:0 {
            bind 127.0.0.1
            twice
        }
        b.example:0 {
            bind 127.0.0.1
            any_class
        }";
    let server = TestServer::start(TABLE, text).await;
    let reply = |name| show(&ask(server.addr(), &question(name, RecordType::A)));
    assert_eq!(reply("c.example."), "Refused rd\n");
    assert_eq!(reply("x.b.example."), "Refused rd\n");
    assert_eq!(reply("x.a.example."), "ServFail rd\n");
    let refused = "coredns_dns_responses_total{plugin=\"\",rcode=\"REFUSED\",server=\"dns://127.0.0.1:0\",view=\"\",zone=\"dropped\"}";
    assert_eq!(server.metric(refused), Some(2.0), "{}", server.metrics());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_query_passes_each_plugin_once_in_and_out() {
    let text = ".:0 {
        bind 127.0.0.1
        twice
        fail
        slow 10.0.0.2 5
        answer 10.0.0.1
    }";
    let server = TestServer::start(TABLE, text).await;
    let counts = server
        .process
        .shared
        .get_or("twice", <(AtomicUsize, AtomicUsize)>::default);
    assert_eq!(first_address(server.addr(), "x.example."), "10.0.0.1");
    assert_eq!(first_address(server.addr(), "slow.example."), "10.0.0.2");
    assert_eq!(first_address(server.addr(), "servfail.example."), "");
    let mut tcp = Tcp::connect(server.addr());
    assert_eq!(
        tcp.ask(&question("slow.example.", RecordType::A))
            .answers
            .len(),
        1
    );
    assert_eq!(counts.0.load(SeqCst), 4);
    assert_eq!(counts.1.load(SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_servfail_and_the_server_serves_on() {
    let text = ".:0 {
        bind 127.0.0.1
        fail
        answer 10.0.0.1
    }";
    let server = TestServer::start(TABLE, text).await;
    for _ in 0..3 {
        for name in ["panic.example.", "later.example."] {
            let reply = ask(server.addr(), &question(name, RecordType::A));
            assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        }
    }
    assert_eq!(first_address(server.addr(), "x.example."), "10.0.0.1");
    assert_eq!(server.metric("coredns_panics_total"), Some(6.0));
    // A query counts as pending until its reply is sent.
    while server.metric("portolan_pending_queries") != Some(0.0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let dropped = question("drop.example.", RecordType::A);
    assert_eq!(
        client::exchange_udp(server.addr(), &dropped, Duration::from_millis(200)),
        None
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_rejects_and_edns() {
    let text = ".:0 {
        bind 127.0.0.1
        answer 10.0.0.1
    }";
    let server = TestServer::start(TABLE, text).await;
    let base = question("WeB.Example.", RecordType::A);
    let code = |packet: &[u8]| ask(server.addr(), packet).metadata.response_code;
    let mut two_questions = base.clone();
    two_questions[5] = 2;
    assert_eq!(code(&two_questions), ResponseCode::FormErr);
    let mut update = base.clone();
    update[2] = 5 << 3;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut response = base.clone();
    response[2] |= 0x80;
    assert_eq!(
        client::exchange_udp(server.addr(), &response, Duration::from_millis(200)),
        None
    );
    let badvers = ask(server.addr(), &with_opt(base.clone(), 512, 1 << 16, b""));
    assert_eq!(u16::from(badvers.metadata.response_code), 16, "BADVERS");
    // Longer than 512 octets: CoreDNS cuts it and says FORMERR.
    let padding = [&[0, 12, 2, 88][..], &[0; 600]].concat();
    let long = ask(server.addr(), &with_opt(base.clone(), 1232, 0, &padding));
    assert_eq!(long.answers.len(), 1);
    let raw = client::exchange_udp(server.addr(), &base, PATIENCE).unwrap();
    assert_eq!(
        raw[12..base.len()],
        base[12..],
        "the question is echoed octet for octet"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_replies_come_when_they_are_known() {
    let text = ".:0 {
        bind 127.0.0.1
        slow 10.0.0.2 300
        answer 10.0.0.1
    }";
    let server = TestServer::start(TABLE, text).await;
    let mut tcp = Tcp::connect(server.addr());
    let slow = question("slow.example.", RecordType::A);
    let fast: Vec<_> = (0..10)
        .map(|_| question("x.example.", RecordType::A))
        .collect();
    tcp.send(&slow);
    for packet in &fast {
        tcp.send(packet);
    }
    for packet in &fast {
        assert_eq!(tcp.receive().metadata.id.to_be_bytes(), packet[..2]);
    }
    assert_eq!(tcp.receive().metadata.id.to_be_bytes(), slow[..2]);
    // A query in pieces, then the last one with a closed sending side.
    let packet = question("slow.example.", RecordType::A);
    let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&packet);
    for piece in framed.chunks(7) {
        use std::io::Write;
        tcp.0.write_all(piece).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tcp.0.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(tcp.receive().metadata.id.to_be_bytes(), packet[..2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_loses_nothing() {
    let block = |ip: &str| {
        format!(".:0 {{\n bind 127.0.0.1\n twice\n slow 10.9.9.9 300\n answer {ip}\n}}\n")
    };
    let mut server = TestServer::start(TABLE, &block("10.0.0.1")).await;
    let addr = server.addr();
    let in_flight = tokio::task::spawn_blocking(move || first_address(addr, "slow.example."));
    let stop = Arc::new(AtomicUsize::new(0));
    let done = Arc::clone(&stop);
    let asking = tokio::task::spawn_blocking(move || {
        let mut answers = Vec::new();
        while done.load(SeqCst) == 0 {
            answers.push(first_address(addr, "x.example."));
        }
        answers
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    for round in 2..20 {
        server.reload(&block(&format!("10.0.0.{round}"))).await;
        assert_eq!(server.addr(), addr, "the socket stays");
        assert_eq!(first_address(addr, "y.example."), format!("10.0.0.{round}"));
    }
    stop.store(1, SeqCst);
    let answers = asking.await.unwrap();
    assert!(
        answers.iter().all(|answer| answer.starts_with("10.0.0.")),
        "{answers:?}"
    );
    assert_eq!(in_flight.await.unwrap(), "10.9.9.9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_come_and_go_with_the_configuration() {
    let block = |ip: &str| format!(".:0 {{\n bind {ip}\n answer 10.0.0.1\n}}\n");
    let mut server = TestServer::start(TABLE, &block("127.0.0.1")).await;
    let old = server.addr();
    server.reload(&block("127.0.0.2")).await;
    let new = server.addr();
    assert_eq!(new.ip(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    assert_eq!(first_address(new, "x.example."), "10.0.0.1");
    let mut gone = false;
    for _ in 0..50 {
        let packet = question("x.example.", RecordType::A);
        gone = client::exchange_udp(old, &packet, Duration::from_millis(100)).is_none();
        if gone {
            break;
        }
    }
    assert!(gone, "the old address is given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_in_flight_are_answered_before_the_end() {
    let text = ".:0 {
        bind 127.0.0.1
        slow 10.0.0.2 500
        answer 10.0.0.1
    }";
    let TestServer {
        server, process, ..
    } = TestServer::start(TABLE, text).await;
    let addr = server.addresses().next().unwrap();
    let asked = tokio::task::spawn_blocking(move || first_address(addr, "slow.example."));
    while process
        .metrics
        .gauge("portolan_pending_queries", "", vec![])
        .get()
        == 0
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop(|| ()).await;
    assert_eq!(asked.await.unwrap(), "10.0.0.2");
}
