//! Micro benchmarks: what the steps of a query cost by themselves.
//!
//! `cargo bench -p portolan-bench --features micro`; a filter comes behind `--`.

// A bench is compiled as a test, but without the test functions.
#[allow(dead_code, unused_imports)]
#[path = "../src/queries/cluster.rs"]
mod cluster;
#[path = "../src/instructions/path.rs"]
mod path;
#[allow(dead_code, unused_imports)]
#[path = "../src/queries/upstream.rs"]
mod upstream;

use criterion::{Criterion, criterion_group, criterion_main};
use path::{Asked, QUESTIONS};
use portolan::dns::{Class, Name, OwnedQuery, Owner, Query, Rcode, RecordType, Reply, Section};
use portolan::metrics::{Observed, QueryMetrics, Registry, Shard};
use portolan::plugins::kubernetes::index::{Index, Naming};
use portolan::plugins::kubernetes::object::{Key, Kind, Object, Service, Sink};
use std::hint::black_box;

/// Services of the index; those of the paths' cluster.
const SERVICES: u32 = 10_000;

criterion_group!(benches, parse, lookup, encode, metrics, paths);
criterion_main!(benches);

fn service_query() -> OwnedQuery {
    #[allow(clippy::unwrap_used)] // A name of letters and dots is one.
    let name = Name::from_text("s7.ns7.svc.cluster.local").unwrap();
    OwnedQuery::ask(name.wire(), RecordType::A, Class::IN, true)
}

/// A packet becomes a view with the name in lower case.
fn parse(criterion: &mut Criterion) {
    let query = service_query();
    let packet = query.view().packet().to_vec();
    criterion.bench_function("parse", |bench| {
        bench.iter(|| Query::read(black_box(&packet)).is_ok());
    });
}

/// A service is found in the index, another one each time.
fn lookup(criterion: &mut Criterion) {
    let index = Index::new(&[Kind::Namespace, Kind::Service], Naming::default());
    let names: Vec<_> = (0..SERVICES).map(cluster::service).collect();
    for (name, namespace, ip) in &names {
        let key = Key {
            namespace: namespace.as_str().into(),
            name: name.as_str().into(),
        };
        let service = Service {
            cluster_ips: vec![(*ip).into()],
            ..Service::default()
        };
        index.set(key, Object::Service(service));
    }
    let mut asked = names.iter().cycle();
    criterion.bench_function("lookup", |bench| {
        bench.iter(|| {
            let (name, namespace, ip) = asked.next()?;
            let has = |entry: &portolan::plugins::kubernetes::index::Entry| {
                entry.has_cluster_ip((*ip).into())
            };
            index.service(namespace.as_bytes(), name.as_bytes(), has)
        });
    });
}

/// A reply with one address is written.
fn encode(criterion: &mut Criterion) {
    let query = service_query();
    let query = query.view();
    let mut reply = Reply::with_full_capacity();
    criterion.bench_function("encode", |bench| {
        bench.iter(|| {
            reply.start(black_box(&query));
            let rdata = black_box(&[10, 100, 0, 7]);
            reply.push(Section::Answer, Owner::Query, RecordType::A, 30, rdata);
            reply.finish(&query, 512).len()
        });
    });
}

/// A query is counted in every series of the server.
fn metrics(criterion: &mut Criterion) {
    let registry = Registry::new(1);
    let metrics = QueryMetrics::new(&registry, "dns://:53", ".", "kubernetes");
    let observed = Observed {
        tcp: false,
        ipv6: false,
        qtype: RecordType::A,
        dnssec_ok: false,
        request_size: 42,
        response_size: 58,
        rcode: Rcode::NOERROR,
        by_plugin: true,
        nanos: 700,
    };
    criterion.bench_function("metrics", |bench| {
        bench.iter(|| metrics.count(Shard::worker(0), black_box(&observed)));
    });
}

/// The hottest paths whole, the cache's hit among them.
#[allow(clippy::unwrap_used)] // Without them there is nothing to measure.
fn paths(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let data = cluster::write(folder.path(), SERVICES).unwrap();
    let upstream = upstream::start().unwrap();
    let mut asked = Asked::start(&data.manifests, upstream).unwrap();
    for question in &QUESTIONS {
        let packet = asked.prepare(question).unwrap();
        criterion.bench_function(&format!("answer/{}", question.name), |bench| {
            bench.iter(|| asked.ask(black_box(&packet)));
        });
    }
}
