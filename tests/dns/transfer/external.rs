//! The zones of *k8s_external*.

use super::{EVERYBODY, receive_all, records, serial};
use crate::support::client::{Tcp, ask, question, show};
use crate::support::server::TestServer;
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType as Type};
use portolan::dns::RecordType;
use portolan::plugins::TABLE;
use std::path::Path;

async fn start(options: &str) -> TestServer {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dns/transfer/external.yaml");
    let text = format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local {{
                manifests {}
                namespaces edge
                ttl 30
            }}
            k8s_external example.org 2.0.192.in-addr.arpa {{
                {options}
            }}
            {EVERYBODY}
        }}",
        manifest.display()
    );
    TestServer::start(TABLE, &text).await
}

fn transfer(server: &TestServer, zone: &str) -> Vec<Message> {
    let mut connection = Tcp::connect(server.addr());
    connection.send(&question(zone, RecordType::AXFR));
    receive_all(&mut connection)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

const ZONE: &str = "\
example.org. 5 IN SOA ns1.dns.example.org. hostmaster.dns.example.org. SERIAL 7200 1800 86400 5
example.org. 5 IN NS ns1.dns.example.org.
ns1.dns.example.org. 5 IN A 127.0.0.1
mixed.edge.example.org. 5 IN A 192.0.2.12
mixed.edge.example.org. 30 IN SRV 0 50 7000 mixed.edge.example.org.
mixed.edge.example.org. 30 IN SRV 0 50 7000 lb.example.com.
named.edge.example.org. 30 IN CNAME lb.example.com.
_http._tcp.named.edge.example.org. 30 IN SRV 0 50 80 lb.example.com.
_http._tcp.named.edge.example.org. 30 IN SRV 0 50 80 lb2.example.com.
shop.edge.example.org. 5 IN A 192.0.2.10
shop.edge.example.org. 5 IN AAAA 2001:db8::10
shop.edge.example.org. 5 IN A 192.0.2.11
shop.edge.example.org. 30 IN SRV 0 8 80 shop.edge.example.org.
shop.edge.example.org. 30 IN SRV 0 8 443 shop.edge.example.org.
_http._tcp.shop.edge.example.org. 30 IN SRV 0 25 80 shop.edge.example.org.
_h3._udp.shop.edge.example.org. 30 IN SRV 0 25 443 shop.edge.example.org.
_https._tcp.shop.edge.example.org. 30 IN SRV 0 25 443 shop.edge.example.org.
example.org. 5 IN SOA ns1.dns.example.org. hostmaster.dns.example.org. SERIAL 7200 1800 86400 5
";

/// KE-6: the services that are seen from outside, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_zone_record_by_record() {
    let server = start("").await;
    assert_eq!(records(&transfer(&server, "example.org.")), lines(ZONE));
    // The cluster's zone is another one.
    let cluster = records(&transfer(&server, "cluster.local."));
    assert!(cluster.iter().all(|line| !line.contains("example.org")));
    // No reverse zone, and no name below the apex.
    let mut connection = Tcp::connect(server.addr());
    for name in ["2.0.192.in-addr.arpa.", "edge.example.org."] {
        let reply = connection.ask(&question(name, RecordType::AXFR));
        assert_eq!(show(&reply), "Refused rd\n", "{name}");
    }
}

const ENDPOINTS: &str = "\
db.edge.example.org. 7 IN A 10.244.1.5
db.edge.example.org. 7 IN A 10.244.2.6
db.edge.example.org. 30 IN SRV 0 50 5432 10-244-2-6.db.edge.example.org.
db.edge.example.org. 30 IN SRV 0 50 5432 db-0.db.edge.example.org.
_pg._tcp.db.edge.example.org. 30 IN SRV 0 50 5432 10-244-2-6.db.edge.example.org.
_pg._tcp.db.edge.example.org. 30 IN SRV 0 50 5432 db-0.db.edge.example.org.
10-244-2-6.db.edge.example.org. 7 IN A 10.244.2.6
10-244-2-6.db.edge.example.org. 30 IN SRV 0 100 5432 10-244-2-6.db.edge.example.org.
db-0.db.edge.example.org. 7 IN A 10.244.1.5
db-0.db.edge.example.org. 30 IN SRV 0 100 5432 db-0.db.edge.example.org.
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headless_services_are_in_an_external_zone_that_has_them() {
    let server = start("headless\nttl 7\napex names").await;
    let zone = ZONE
        .replace(" 5 IN", " 7 IN")
        .replace("86400 5", "86400 7")
        .replace(".dns.", ".names.");
    let mut expected = lines(&zone);
    let services = expected.iter().position(|line| line.contains("mixed"));
    let at = services.unwrap();
    expected.splice(at..at, lines(ENDPOINTS));
    assert_eq!(records(&transfer(&server, "example.org.")), expected);
}

/// A secondary answers as this server does; but of a name that leads elsewhere it knows no more than
/// one CNAME record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_of_an_external_zone_is_answered_too() {
    let server = start("headless").await;
    let zone = transfer(&server, "example.org.");
    for record in zone.iter().flat_map(|message| &message.answers) {
        let qtype = match record.record_type() {
            // Nobody asks for these.
            Type::CNAME => RecordType::A,
            other => RecordType(other.into()),
        };
        let answer = ask(server.addr(), &question(&record.name.to_string(), qtype));
        assert!(
            answer.answers.contains(record),
            "{record}: {}",
            show(&answer)
        );
    }
    let soa = ask(server.addr(), &question("example.org.", RecordType::SOA));
    assert_eq!(serial(&soa), serial(&zone[0]));
}

/// What servers that load the zone insist on (RFC 2181 §10.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_stands_alone_in_an_external_zone() {
    let server = start("headless").await;
    let zone = transfer(&server, "example.org.");
    let all = || zone.iter().flat_map(|message| &message.answers);
    let aliases = all().filter(|record| matches!(record.data, RData::CNAME(_)));
    let mut count = 0;
    for alias in aliases {
        count += 1;
        let same = all().filter(|record| record.name == alias.name).count();
        assert_eq!(same, 1, "{alias}");
    }
    assert_eq!(count, 1);
}
