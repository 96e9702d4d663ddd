//! A query that is answered from memory allocates nothing, through the whole standard chain.
#![allow(clippy::unwrap_used, unsafe_code)]

mod support;

use portolan::dns::{Class, RecordType, Reply};
use portolan::metrics::Shard;
use portolan::plugin::{Client, Process, Transport};
use portolan::plugins::TABLE;
use portolan::server::answer::{Answered, Received, answer};
use portolan::server::{Routes, Server};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;
use support::server::configure;
use support::upstream::Upstream;
use support::{client, message};

/// Counts what the thread allocates.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands every call to the system's allocator unchanged; counting touches only a
// thread-local cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Asks on this thread; gives the reply and how often the thread allocated.
fn ask(routes: &Routes, reply: &mut Reply, packet: &[u8]) -> (String, u64) {
    let received = Received {
        packet,
        client: Client {
            addr: "10.244.2.5:4242".parse().unwrap(),
            local: "10.96.0.10:53".parse().unwrap(),
            transport: Transport::Udp,
        },
        at: Instant::now(),
        shard: Shard::worker(0),
    };
    let before = COUNT.with(Cell::get);
    let answered = answer(routes, received, reply);
    let count = COUNT.with(Cell::get) - before;
    assert!(matches!(answered, Answered::Reply), "answered at once");
    use hickory_proto::serialize::binary::BinDecodable;
    let message = hickory_proto::op::Message::from_bytes(reply.message()).unwrap();
    (client::show(&message), count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_answered_from_memory_allocates_nothing() {
    let upstream = Upstream::answering(|seen| {
        message::reply(&seen.packet, 0x8180, &[&message::a(300, [192, 0, 2, 1])])
    })
    .await;
    let corefile = format!(
        ".:0 {{
            bind 127.0.0.1
            errors
            log . {{
                class error
            }}
            prometheus 127.0.0.1:0
            kubernetes cluster.local in-addr.arpa ip6.arpa {{
                manifests {}/examples/cluster
                pods verified
                fallthrough in-addr.arpa ip6.arpa
                ttl 30
            }}
            autopath @kubernetes
            k8s_external external.example
            forward . {}
            cache 30
            loadbalance
        }}",
        env!("CARGO_MANIFEST_DIR"),
        upstream.addr,
    );
    let (process, _requests) = Process::new(tokio::runtime::Handle::current(), 1);
    let process = Arc::new(process);
    let configuration = configure(TABLE, &process, &corefile);
    let routes = Arc::clone(configuration.listeners.values().next().unwrap());
    let server = Server::start(process, configuration).await.unwrap();
    let addr = server.addresses().next().unwrap();
    let outside = client::question("outside.example.", RecordType::A);
    assert_eq!(client::ask(addr, &outside).answers.len(), 1);

    let mut reply = Reply::with_full_capacity();
    let cases = [
        (
            "webserver.default.svc.cluster.local.",
            RecordType::A,
            "NoError",
            1,
        ),
        (
            "webserver.default.svc.cluster.local.",
            RecordType::AAAA,
            "NoError",
            0,
        ),
        ("db.default.svc.cluster.local.", RecordType::A, "NoError", 2),
        (
            "db-0.db.default.svc.cluster.local.",
            RecordType::A,
            "NoError",
            1,
        ),
        (
            "_http._tcp.webserver.default.svc.cluster.local.",
            RecordType::SRV,
            "NoError",
            1,
        ),
        ("1.0.96.10.in-addr.arpa.", RecordType::PTR, "NoError", 1),
        (
            "10-244-2-5.apps.pod.cluster.local.",
            RecordType::A,
            "NoError",
            1,
        ),
        (
            "db.default.svc.cluster.local.",
            RecordType::SRV,
            "NoError",
            2,
        ),
        (
            "_postgres._tcp.db.default.svc.cluster.local.",
            RecordType::A,
            "NoError",
            2,
        ),
        (
            "db-0.db.default.svc.cluster.local.",
            RecordType::A,
            "NoError",
            1,
        ),
        ("legacy.web.svc.cluster.local.", RecordType::A, "NoError", 2),
        (
            "legacy.web.svc.cluster.local.",
            RecordType::CNAME,
            "NoError",
            1,
        ),
        (
            "10-244-2-5.apps.pod.cluster.local.",
            RecordType::SRV,
            "NoError",
            1,
        ),
        ("cluster.local.", RecordType::NS, "NoError", 1),
        (
            "nosuch.default.svc.cluster.local.",
            RecordType::A,
            "NXDomain",
            0,
        ),
        (
            "www.example.org.default.svc.cluster.local.",
            RecordType::A,
            "NXDomain",
            0,
        ),
        // The client is a pod of `apps`: completed from the index, and from the cache.
        (
            "webserver.default.apps.svc.cluster.local.",
            RecordType::A,
            "NoError",
            2,
        ),
        (
            "db.default.svc.apps.svc.cluster.local.",
            RecordType::SRV,
            "NoError",
            3,
        ),
        (
            "default.apps.svc.cluster.local.",
            RecordType::A,
            "NoError",
            0,
        ),
        (
            "outside.example.apps.svc.cluster.local.",
            RecordType::A,
            "NoError",
            2,
        ),
        ("external.example.", RecordType::NS, "NoError", 1),
        ("default.external.example.", RecordType::A, "NoError", 0),
        (
            "nosuch.default.external.example.",
            RecordType::A,
            "NXDomain",
            0,
        ),
        ("cluster.local.", RecordType::SOA, "NoError", 1),
        ("outside.example.", RecordType::A, "NoError", 1),
    ];
    for (name, qtype, rcode, answers) in cases {
        for edns in [false, true] {
            let mut packet = client::query(9, name, qtype, Class::IN);
            if edns {
                packet = client::with_opt(packet, 1232, 0, b"\0\x0a\0\x08cookies!");
            }
            // The first query of a thread may set up thread-local state.
            ask(&routes, &mut reply, &packet);
            let (text, count) = ask(&routes, &mut reply, &packet);
            assert!(text.starts_with(rcode), "{name} {qtype}: {text}");
            let found = text
                .lines()
                .skip(1)
                .filter(|line| !line.contains(": "))
                .count();
            assert_eq!(found, answers, "{name} {qtype}: {text}");
            assert_eq!(count, 0, "{name} {qtype} (edns {edns}) allocates");
        }
    }
    server.stop(|| ()).await;
}
