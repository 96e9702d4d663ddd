//! A zone of many messages.

use super::{receive_all, records, serial};
use crate::support::client::{PATIENCE, Tcp, ask, question, with_opt};
use crate::support::kube::Api;
use crate::support::server::TestServer;
use hickory_proto::op::ResponseCode;
use portolan::dns::RecordType;
use portolan::limits::TRANSFERS;
use portolan::plugins::TABLE;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

const SERVICES: usize = 5_000;
/// A zone that no socket buffer takes whole: so many services with so many ports each.
const WIDE: (usize, usize) = (1_500, 40);

fn service(name: &str, number: usize, ports: usize) -> Value {
    let ip = format!(
        "10.{}.{}.{}",
        100 + number / 65_536,
        number / 256 % 256,
        number % 256
    );
    let port = |n| json!({"name": format!("port-{n}"), "port": 8_000 + n, "protocol": "TCP"});
    let ports: Vec<_> = (0..ports).map(port).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": ports}
    })
}

async fn start(api: &Api, (services, ports): (usize, usize)) -> TestServer {
    api.apply([json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})]);
    api.apply((0..services).map(|n| service(&format!("service-{n}"), n, ports)));
    let text = format!(
        "cluster.local:0 {{
            bind 127.0.0.1
            kubernetes {{
                endpoint {}
                startup_timeout 60s
            }}
            transfer {{
                to *
            }}
        }}",
        api.url
    );
    TestServer::start(TABLE, &text).await
}

/// A client whose socket takes little, so that most of the zone stays with the server.
fn slow_client(server: &TestServer) -> Tcp {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    let stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Tcp(stream)
}

async fn wait_for(server: &TestServer, name: &str, code: ResponseCode) {
    let name = format!("{name}.default.svc.cluster.local.");
    let end = Instant::now() + PATIENCE;
    while ask(server.addr(), &question(&name, RecordType::A))
        .metadata
        .response_code
        != code
    {
        assert!(Instant::now() < end, "{name} never became {code}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// What changes after the first message is not in the others: they are of one moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_zone_is_of_one_moment() {
    let api = Api::start().await;
    let server = start(&api, WIDE).await;
    let mut connection = slow_client(&server);
    connection.send(&question("cluster.local.", RecordType::AXFR));
    let first = connection.receive();
    // The last of the zone go, and others come that would stand among them.
    api.delete("services", "default", "service-999");
    api.apply([
        service("service-998b", 6_000, 40),
        service("zzz", 6_001, 40),
    ]);
    wait_for(&server, "service-999", ResponseCode::NXDomain).await;
    wait_for(&server, "zzz", ResponseCode::NoError).await;
    let mut messages = vec![first];
    let mut closing = None;
    while closing.is_none() {
        let message = connection.receive();
        assert!(message.metadata.authoritative);
        let last = message.answers.last().unwrap();
        closing = (last.record_type() == hickory_proto::rr::RecordType::SOA).then_some(());
        messages.push(message);
    }
    assert!(messages.len() > 5, "{}", messages.len());
    assert_eq!(serial(&messages[0]), serial(messages.last().unwrap()));
    let all = records(&messages);
    let distinct: BTreeSet<_> = all.iter().collect();
    // The SOA record is there twice; two more are NS and its address; for each service an address,
    // and two for each port.
    let (services, each) = (WIDE.0, 1 + 2 * WIDE.1);
    assert_eq!(all.len(), 2 + 2 + each * services);
    assert_eq!(distinct.len(), all.len() - 1);
    let has = |name: &str| {
        all.iter()
            .any(|r| r.starts_with(&format!("{name}.default")))
    };
    assert!(has("service-999") && !has("zzz") && !has("service-998b"));
    // The next one has the changes, and another serial.
    let mut connection = Tcp::connect(server.addr());
    connection.send(&question("cluster.local.", RecordType::AXFR));
    let next = receive_all(&mut connection);
    assert!(serial(&next[0]) > serial(&messages[0]));
    assert_eq!(records(&next).len(), 2 + 2 + each * (services + 1));
}

/// However fast the cluster changes, what does not change arrives, and once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_zone_arrives_whole_while_it_changes() {
    let api = Arc::new(Api::start().await);
    let server = start(&api, (SERVICES, 1)).await;
    let churn = {
        let api = Arc::clone(&api);
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("service-{number}-new");
                api.apply([service(&name, 10_000 + number, 1)]);
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                if number % 2 == 0 {
                    api.delete("services", "default", &name);
                }
            }
        })
    };
    for _ in 0..3 {
        let addr = server.addr();
        let messages = tokio::task::spawn_blocking(move || {
            let mut connection = Tcp::connect(addr);
            connection.send(&question("cluster.local.", RecordType::AXFR));
            receive_all(&mut connection)
        });
        let messages = messages.await.unwrap();
        let all = records(&messages);
        let mut steady: Vec<_> = all
            .iter()
            .filter(|r| r.contains(" IN A ") && !r.contains("-new.") && !r.contains("ns.dns."))
            .map(|r| r.split('.').next().unwrap().to_owned())
            .collect();
        steady.sort();
        let mut expected: Vec<_> = (0..SERVICES).map(|n| format!("service-{n}")).collect();
        expected.sort();
        assert!(steady == expected, "{} services", steady.len());
        let new: Vec<_> = all.iter().filter(|r| r.contains("-new.")).collect();
        let distinct: BTreeSet<_> = new.iter().collect();
        assert_eq!(distinct.len(), new.len());
    }
    churn.abort();
}

/// So many transfers and no more; who goes away makes room.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transfers_are_bounded() {
    let api = Api::start().await;
    let server = start(&api, WIDE).await;
    let packet = with_opt(question("cluster.local.", RecordType::AXFR), 1232, 0, &[]);
    let mut running: Vec<_> = (0..TRANSFERS)
        .map(|_| {
            let mut connection = slow_client(&server);
            connection.send(&packet);
            assert_eq!(
                connection.receive().metadata.response_code,
                ResponseCode::NoError
            );
            connection
        })
        .collect();
    assert_eq!(
        server.metric("portolan_transfer_running"),
        Some(TRANSFERS as f64)
    );
    let mut further = Tcp::connect(server.addr());
    let refused = further.ask(&packet);
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    assert_eq!(server.metric("portolan_transfer_rejected_total"), Some(1.0));
    running.pop();
    let end = Instant::now() + PATIENCE;
    while further.ask(&packet).metadata.response_code == ResponseCode::Refused {
        assert!(Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(server.metric("portolan_transfers_total{result=\"broken\"}") >= Some(1.0));
}

/// Queries behind a transfer on the same connection are answered after it, and a client that has
/// closed its side still gets all of it (RFC 7766 §6.2.1.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_goes_on_behind_a_transfer() {
    let api = Api::start().await;
    let server = start(&api, WIDE).await;
    let mut connection = slow_client(&server);
    let name = "service-7.default.svc.cluster.local.";
    for _ in 0..2 {
        connection.send(&question("cluster.local.", RecordType::AXFR));
        connection.send(&question(name, RecordType::A));
    }
    connection.0.shutdown(std::net::Shutdown::Write).unwrap();
    let each = 1 + 2 * WIDE.1;
    let (mut records, mut answers) = (0, 0);
    for _ in 0..2 {
        let mut soas = 0;
        while soas < 2 {
            let message = connection.receive();
            if message.queries[0].name().to_string() == name {
                answers += message.answers.len();
                continue;
            }
            let types = message.answers.iter().map(|record| record.record_type());
            soas += types
                .filter(|&t| t == hickory_proto::rr::RecordType::SOA)
                .count();
            records += message.answers.len();
        }
    }
    assert_eq!(records, 2 * (2 + 2 + each * WIDE.0));
    while answers < 2 {
        answers += connection.receive().answers.len();
    }
    // Then it is closed.
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut connection.0, &mut rest).unwrap();
    assert!(rest.is_empty());
}
