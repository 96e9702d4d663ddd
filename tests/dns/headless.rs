//! A headless service of 5,000 endpoints: a reply shows what it has room for, and every endpoint is
//! as likely to be shown as any other.

use crate::support::client::{Tcp, ask, question, with_opt};
use crate::support::server::TestServer;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use portolan::dns::RecordType;
use portolan::plugins::TABLE;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const SLICES: u32 = 50;
const OF_SLICE: u32 = 100;

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0af4_0000 + number)
}

fn manifests() -> String {
    let mut items = vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "many", "namespace": "default"},
            "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
        }),
    ];
    items.extend((0..SLICES).map(|slice| {
        let endpoint = |at| json!({"addresses": [address(OF_SLICE * slice + at)]});
        let endpoints: Vec<Value> = (0..OF_SLICE).map(endpoint).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("many-{slice}"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": "many"},
            },
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "endpoints": endpoints,
        })
    }));
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let all = message.answers.iter().chain(&message.additionals);
    all.filter_map(|record| match &record.data {
        RData::A(a) => Some(a.0),
        _ => None,
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_is_shown_as_often_as_any_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("many.json"), manifests()).unwrap();
    let corefile = format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local {{
                manifests {}
            }}
        }}",
        folder.path().display()
    );
    let server = TestServer::start(TABLE, &corefile).await;
    let a = question("many.default.svc.cluster.local.", RecordType::A);
    let a = with_opt(a, 1232, 0, b"");
    let mut shown: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
    const ASKED: u32 = 4000;
    for _ in 0..ASKED {
        let reply = ask(server.addr(), &a);
        let addresses = addresses(&reply);
        // As many as fit: 1,232 less header, question and OPT, at 16 octets a record.
        assert!(
            reply.truncation && addresses.len() == 73,
            "{}",
            addresses.len()
        );
        for address in addresses {
            *shown.entry(address).or_default() += 1;
        }
    }
    let all: Vec<_> = (0..SLICES * OF_SLICE).map(address).collect();
    assert_eq!(shown.keys().copied().collect::<Vec<_>>(), all);
    // Each is expected 58.4 times; 20 or 120 is five standard deviations away and more.
    let counts = || shown.values().copied();
    let (least, most) = (counts().min().unwrap(), counts().max().unwrap());
    assert!(least >= 20 && most <= 120, "{least} to {most} times");

    let srv = question(
        "_http._tcp.many.default.svc.cluster.local.",
        RecordType::SRV,
    );
    let srv = with_opt(srv, 4096, 0, b"");
    let (first, second) = (ask(server.addr(), &srv), ask(server.addr(), &srv));
    assert!(first.truncation && first.answers.len() > 40);
    assert_ne!(first.answers, second.answers);
    // TCP has room for 4,000, and says that there are more.
    let reply = Tcp::connect(server.addr()).ask(&a);
    let mut addresses = addresses(&reply);
    addresses.sort();
    addresses.dedup();
    assert!(
        reply.truncation && addresses.len() > 4000,
        "{}",
        addresses.len()
    );
}
