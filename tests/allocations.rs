//! A query that is answered from memory allocates nothing, through the whole standard chain; what
//! the index keeps of an object is small, and a change touches little of it.
#![allow(clippy::unwrap_used, unsafe_code)]

mod support;

use portolan::dns::{Class, RecordType, Reply};
use portolan::metrics::{Format, Shard, exposition};
use portolan::plugin::{Client, Process, Transport};
use portolan::plugins::TABLE;
use portolan::plugins::kubernetes::index::{Index, Naming};
use portolan::plugins::kubernetes::object::{
    Endpoint, EndpointSlice, Key, Kind, Object, Pod, Port, Service, Sink,
};
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
    /// Octets that were allocated.
    static OCTETS: Cell<usize> = const { Cell::new(0) };
    /// Octets that were allocated and not given back.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn counted(octets: usize) {
    COUNT.with(|count| count.set(count.get() + 1));
    OCTETS.with(|all| all.set(all.get() + octets));
    LIVE.with(|live| live.set(live.get() + octets as isize));
}

fn freed(octets: usize) {
    LIVE.with(|live| live.set(live.get() - octets as isize));
}

// SAFETY: hands every call to the system's allocator unchanged; counting touches only a
// thread-local cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        freed(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        freed(layout.size());
        counted(size);
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

/// Endpoints in topology zones, and an imported service.
const MORE: &str = "
apiVersion: v1
kind: Service
metadata: {name: spread, namespace: more}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: spread-1, namespace: more, labels: {kubernetes.io/service-name: spread}}
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.245.0.1], zone: eu}, {addresses: [10.245.0.2], zone: asia}]
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: shared, namespace: more}
spec: {type: Headless, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: shared-1
  namespace: more
  labels:
    multicluster.kubernetes.io/service-name: shared
    multicluster.kubernetes.io/source-cluster: east
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.250.0.1], hostname: a}, {addresses: [10.250.0.2], hostname: b}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_answered_from_memory_allocates_nothing() {
    let upstream = Upstream::answering(|seen| {
        message::reply(&seen.packet, 0x8180, &[&message::a(300, [192, 0, 2, 1])])
    })
    .await;
    let more = tempfile::tempdir().unwrap();
    std::fs::write(more.path().join("more.yaml"), MORE).unwrap();
    let corefile = format!(
        ".:0 {{
            bind 127.0.0.1
            errors
            log . {{
                class error
            }}
            metadata
            prometheus 127.0.0.1:0
            kubernetes cluster.local clusterset.local in-addr.arpa ip6.arpa {{
                manifests {}/examples/cluster {}
                multicluster clusterset.local
                zonal
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
        more.path().display(),
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
        (
            "eu.pin._zone.spread.more.svc.cluster.local.",
            RecordType::A,
            "NoError",
            1,
        ),
        (
            "us.prefer._zone.spread.more.svc.cluster.local.",
            RecordType::SRV,
            "NoError",
            2,
        ),
        (
            "shared.more.svc.clusterset.local.",
            RecordType::SRV,
            "NoError",
            2,
        ),
        (
            "a.east.shared.more.svc.clusterset.local.",
            RecordType::A,
            "NoError",
            1,
        ),
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

const KINDS: [Kind; 4] = [
    Kind::Namespace,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

fn key(number: u32, name: &str) -> Key {
    Key {
        namespace: format!("team-{}", number % 50).into(),
        name: format!("{name}-{number}-6d4cf56db6-x{number:05}").into(),
    }
}

fn address(number: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from(0x0a00_0000 + number).into()
}

fn port() -> Port {
    Port {
        name: "http".into(),
        protocol: "tcp".into(),
        port: 80,
    }
}

fn service(number: u32) -> Object {
    Object::Service(Service {
        cluster_ips: vec![address(0x10_0000 + number)],
        ports: vec![port()],
        ..Service::default()
    })
}

fn slice(service: &str, addresses: std::ops::Range<u32>) -> Object {
    let endpoint = |number| Endpoint {
        ip: address(0x20_0000 + number),
        hostname: None,
        target: Some(format!("pod-{number}").into()),
        zone: Some("zone-a".into()),
    };
    Object::EndpointSlice(EndpointSlice {
        service: service.into(),
        endpoints: addresses.map(endpoint).collect(),
        ports: vec![port()],
        ..EndpointSlice::default()
    })
}

/// A cluster of so many services, with a slice of two endpoints each.
fn cluster(services: u32) -> Index {
    let index = Index::new(&KINDS, Naming::default());
    for number in 0..services {
        index.set(key(number, "app"), service(number));
        let name = key(number, "app").name;
        index.set(key(number, "app"), slice(&name, 2 * number..2 * number + 2));
    }
    index
}

fn live() -> isize {
    LIVE.with(Cell::get)
}

#[test]
fn what_is_kept_of_an_object_is_small() {
    let before = live();
    let index = cluster(20_000);
    let octets = (live() - before) / 20_000;
    assert!(
        octets <= 640,
        "a service with two endpoints: {octets} octets"
    );

    let before = live();
    for number in 0..100_000 {
        let ip = Some(address(number));
        let pod = Object::Pod(Pod {
            ip,
            ..Pod::default()
        });
        index.set(key(number, "pod"), pod);
    }
    let octets = (live() - before) / 100_000;
    println!("a pod: {octets} octets");
    assert!(octets <= 100, "a pod: {octets} octets");
    let told = index.bytes(Kind::Pod) as isize / 100_000;
    assert!((octets - told).abs() <= 10, "{octets} octets, {told} told");

    // A relist that finds nothing new keeps nothing, and holds nothing meanwhile.
    let before = live();
    index.list_start(Kind::Service);
    for number in 0..20_000 {
        index.set(key(number, "app"), service(number));
        assert!(live() - before < 4096);
    }
    index.list_end(Kind::Service);
    assert_eq!((live(), index.count(Kind::Service)), (before, 20_000));
}

#[test]
fn a_change_costs_by_its_shard_not_by_the_cluster() {
    // Octets allocated by a change of one slice of a headless service of 5,000 endpoints.
    let change = |services: u32| {
        let index = cluster(services);
        let headless = Service {
            headless: true,
            ..Service::default()
        };
        let name = || Key {
            namespace: "team-0".into(),
            name: "many".into(),
        };
        index.set(name(), Object::Service(headless));
        let of_slice = |at: u32| Key {
            name: format!("many-{at}").into(),
            ..name()
        };
        for at in 0..50 {
            let first = 0x8_0000 + 100 * at;
            index.set(of_slice(at), slice("many", first..first + 100));
        }
        let before = OCTETS.with(Cell::get);
        index.set(of_slice(7), slice("many", 0x8_0000 + 700..0x8_0000 + 799));
        OCTETS.with(Cell::get) - before
    };
    let (small, large) = (change(100), change(20_000));
    println!("a change: {small} octets in a small cluster, {large} in a large one");
    assert!(large < small + small / 10, "{small} and {large} octets");
}

/// The value of a gauge of the cache, `NAME TYPE`.
fn gauge(process: &Process, name: &str) -> usize {
    let text = exposition(&process.metrics, Format::Classic);
    let (name, kind) = name.split_once(' ').unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let line = lines.find(|line| line.contains(&format!("type=\"{kind}\"")));
    let value: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    value as usize
}

/// Asks for so many distinct names, every other one of which does not exist, through a stock cache.
/// `grown` says by how many octets the process has grown since; gives what it says in the end.
fn ask_distinct_names(count: u32, grown: impl Fn() -> isize) -> isize {
    const COREFILE: &str = ".:0 {
        bind 127.0.0.1
        cache 30
        template IN A example {
            match ^n[0-9]*[02468][.]
            answer \"{{ .Name }} 60 IN A 192.0.2.1\"
            fallthrough
        }
        template IN A example {
            rcode NXDOMAIN
            authority \"example. 60 IN SOA ns.example. host.example. 1 2 3 4 60\"
        }
    }";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (process, _requests) = Process::new(runtime.handle().clone(), 1);
    let process = Arc::new(process);
    let configuration = configure(TABLE, &process, COREFILE);
    let routes = Arc::clone(configuration.listeners.values().next().unwrap());
    let mut reply = Reply::with_full_capacity();
    let name = |number: u32| format!("n{number:07}.example.");
    // What is set up by the first queries is no part of the cache.
    for number in 9_000_000..9_000_002 {
        let packet = client::query(9, &name(number), RecordType::A, Class::IN);
        ask(&routes, &mut reply, &packet);
    }
    let of_both =
        |name: &str| ["success", "denial"].map(|kind| gauge(&process, &format!("{name} {kind}")));
    let budget: usize = of_both("portolan_cache_budget_bytes").iter().sum();
    assert_eq!(budget, 10_240_000, "as the README says");
    let empty = of_both("portolan_cache_bytes");
    let before = grown();
    for number in 0..count {
        let packet = client::query(9, &name(number), RecordType::A, Class::IN);
        let received = Received {
            packet: &packet,
            client: Client {
                addr: "10.244.2.5:4242".parse().unwrap(),
                local: "10.96.0.10:53".parse().unwrap(),
                transport: Transport::Udp,
            },
            at: Instant::now(),
            shard: Shard::worker(0),
        };
        assert!(matches!(
            answer(&routes, received, &mut reply),
            Answered::Reply
        ));
        assert_eq!(reply.rcode().0, if number % 2 == 0 { 0 } else { 3 });
        if number % 4096 == 0 {
            assert!(grown() - before <= budget as isize);
        }
    }
    let growth = grown() - before;
    let (bytes, entries) = (
        of_both("portolan_cache_bytes"),
        of_both("coredns_cache_entries"),
    );
    assert_eq!(entries, [9984, 9984]);
    // Two of them were there before; 18 octets of a name, 16 of an address record.
    let success = (bytes[0] - empty[0]) as f64 / f64::from(9984 - 1) - 34.0;
    println!(
        "{count} names: {growth} octets more, {bytes:?} told, {budget} allowed; \
         {success:.1} octets of an entry besides its name and records"
    );
    assert!(success <= 120.0, "{success}");
    assert!(growth <= budget as isize, "{growth} octets");
    growth - (bytes[0] + bytes[1] - empty[0] - empty[1]) as isize
}

#[test]
fn the_cache_keeps_to_its_budget() {
    let untold = ask_distinct_names(100_000, live);
    assert!(untold.abs() <= 4096, "{untold} octets more than are told");
}

/// A million, and what the system sees of it.
#[test]
#[ignore = "takes a minute unless optimised"]
fn a_million_names_grow_the_process_within_the_budget() {
    ask_distinct_names(1_000_000, || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<isize>().unwrap() * 1024
    });
}
