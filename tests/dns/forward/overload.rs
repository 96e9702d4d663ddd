//! Names that are known here while others wait for an upstream.

use crate::support::client;
use crate::support::server::TestServer;
use crate::support::upstream::Upstream;
use hickory_proto::op::ResponseCode;
use portolan::dns::{Class, Header, RecordType};
use portolan::limits::{PENDING_TCP_QUERIES, TCP_PIPELINE};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

/// How many queries wait.
const WAIT: u16 = 3000;

/// The cluster's names, and those that need no upstream, never wait behind other names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_names_pass_thousands_of_queries_for_a_silent_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let service = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
                   apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                   spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}\n";
    std::fs::write(folder.path().join("web.yaml"), service).unwrap();
    let upstream = Upstream::silent().await;
    let text = format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local {{
                manifests {}
            }}
            forward . {} {{
                read_timeout 9s
                max_fails 0
            }}
        }}",
        folder.path().display(),
        upstream.addr
    );
    let server = TestServer::start(portolan::plugins::TABLE, &text).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(server.addr()).await.unwrap();
    let send = async |id: u16, name: &str| {
        let packet = client::query(id, name, RecordType::A, Class::IN);
        client.send(&packet).await.unwrap();
    };
    let pending = || server.metric("portolan_pending_queries").unwrap();
    for id in 0..WAIT {
        send(id, &format!("n{id}.example.org")).await;
        // Not more at one time than the socket holds.
        while id % 100 == 99 && pending() <= f64::from(id) {
            sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(pending(), f64::from(WAIT));
    let mut buf = [0; 512];
    for id in WAIT..WAIT + 10 {
        send(id, "web.shop.svc.cluster.local").await;
        // The first that comes is the last that was asked: all others still wait.
        let len = timeout(client::PATIENCE, client.recv(&mut buf)).await;
        let header = Header::read(&buf[..len.unwrap().unwrap()]).unwrap();
        assert_eq!((header.id, header.counts[1]), (id, 1));
    }
    assert_eq!(pending(), f64::from(WAIT));
}

/// At the bound of the queries that came over TCP, a further one costs the oldest its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_query_over_tcp_makes_room() {
    let upstream = Upstream::silent().await;
    let text = format!(
        ".:0 {{
            bind 127.0.0.1
            forward . {} {{
                prefer_udp
                read_timeout 9s
                max_fails 0
            }}
        }}",
        upstream.addr
    );
    let server = TestServer::start(portolan::plugins::TABLE, &text).await;
    let pending = || server.metric("portolan_pending_queries").unwrap();
    let mut clients = Vec::new();
    let mut send = async |count: usize| {
        let mut client = client::Tcp::connect(server.addr());
        let before = pending();
        for id in 0..count {
            let name = format!("n{id}.c{}.example.org", clients.len());
            let id = u16::try_from(id).unwrap();
            client.send(&client::query(id, &name, RecordType::A, Class::IN));
        }
        clients.push(client);
        let all = (before + count as f64).min(PENDING_TCP_QUERIES as f64);
        while pending() < all {
            sleep(Duration::from_millis(1)).await;
        }
    };
    for _ in 0..PENDING_TCP_QUERIES / TCP_PIPELINE {
        send(TCP_PIPELINE).await;
    }
    let dropped = || server.metric(r#"portolan_pending_dropped_total{reason="number"}"#);
    assert_eq!(dropped(), Some(0.0));
    send(1).await;
    let reply = tokio::task::spawn_blocking(move || clients.swap_remove(0).receive());
    let reply = reply.await.unwrap();
    assert_eq!(reply.metadata.id, 0);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(dropped(), Some(1.0));
}
