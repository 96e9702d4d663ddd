//! What *kubernetes* answers: tables of questions and whole replies, in `kubernetes/*.table`.
//!
//! A line `= ZONES | OPTION; OPTION…` starts a server of `kubernetes/*.yaml` with these zones
//! and options of the directive; with a third part `| forward`, what the plugin hands on goes to a
//! scripted upstream; a fourth part has lines of other directives, `;` between them.
//! `> NAME TYPE [tcp] [edns=SIZE] [from=ADDRESS]` is a question, and the lines below are the
//! reply as [`show`] writes it, serials apart. With `UPDATE_TABLES=1` in the environment the
//! replies are written into the files instead; read the difference before you keep it.

use crate::support::client::{
    PATIENCE, Tcp, ask, ask_from, exchange_udp, query, question, show, with_opt,
};
use crate::support::message;
use crate::support::server::TestServer;
use crate::support::upstream::{Seen, Upstream};
use hickory_proto::op::Message;
use hickory_proto::serialize::binary::BinDecodable;
use portolan::dns::{Class, Header, Name, RecordType};
use portolan::plugins::TABLE;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dns/kubernetes")
}

/// Starts a server that a `=` line describes.
async fn start(line: &str, upstream: &Upstream) -> TestServer {
    let mut parts = line.split('|').map(str::trim);
    let zones = parts.next().unwrap();
    let options = parts.next().unwrap_or("").replace(';', "\n");
    let forward = match parts.next() {
        Some("forward") => format!("forward . {}", upstream.addr),
        Some(other) if !other.is_empty() => panic!("{other}"),
        _ => String::new(),
    };
    let others = parts.next().unwrap_or("").replace(';', "\n");
    let manifests = folder();
    let text = format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes {zones} {{
                manifests {}
                startup_timeout 1m
                {options}
            }}
            {others}
            {forward}
        }}",
        manifests.display()
    );
    TestServer::start(TABLE, &text).await
}

/// Knows `www.example.com` and every reverse name.
fn outside(seen: &Seen) -> Vec<u8> {
    let (name, end) = Name::read(&seen.packet, 12).unwrap();
    let qtype = RecordType(u16::from_be_bytes([seen.packet[end], seen.packet[end + 1]]));
    let record = |owner: &[u8], rtype: RecordType, ttl: u32, rdata: &[u8]| {
        let mut record = owner.to_vec();
        record.extend(rtype.0.to_be_bytes());
        record.extend([0, 1]);
        record.extend(ttl.to_be_bytes());
        record.extend((rdata.len() as u16).to_be_bytes());
        record.extend(rdata);
        record
    };
    let (question, real) = (&[0xc0, 12][..], b"\x04Real\x07example\x03com\0");
    let alias = record(question, RecordType::CNAME, 300, real);
    match (name.to_string().as_str(), qtype) {
        ("www.example.com.", RecordType::A) => {
            let a = record(real, qtype, 60, &[192, 0, 2, 1]);
            message::reply(&seen.packet, Header::RA, &[&alias, &a])
        }
        ("www.example.com.", RecordType::AAAA) => {
            let address = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap();
            let aaaa = record(real, qtype, 60, &address.octets());
            message::reply(&seen.packet, Header::RA, &[&alias, &aaaa])
        }
        (name, RecordType::PTR) if name.ends_with(".arpa.") => {
            let ptr = record(question, qtype, 77, b"\x03dns\x07example\0");
            message::reply(&seen.packet, Header::RA, &[&ptr])
        }
        _ => message::reply(&seen.packet, Header::RA | 3, &[]),
    }
}

/// The reply to the question of a `>` line, as text.
fn reply(server: &TestServer, line: &str) -> String {
    let mut words = line.split_whitespace();
    let (name, qtype) = (words.next().unwrap(), words.next().unwrap());
    let mut packet = question(name, qtype.parse().unwrap());
    let (mut tcp, mut from) = (false, "127.0.0.1");
    for word in words {
        match word.split_once('=') {
            None if word == "tcp" => tcp = true,
            Some(("from", address)) => from = address,
            Some(("edns", size)) => packet = with_opt(packet, size.parse().unwrap(), 0, b""),
            _ => panic!("{word}"),
        }
    }
    let message = if tcp {
        Tcp::connect(server.addr()).ask(&packet)
    } else {
        ask_from(from, server.addr(), &packet)
    };
    let mut text = String::new();
    for line in show(&message).lines() {
        let mut words: Vec<_> = line.split(' ').collect();
        if let Some(at) = words.iter().position(|&word| word == "SOA") {
            words[at + 3] = "SERIAL";
        }
        writeln!(text, "{}", words.join(" ").trim_end()).unwrap();
    }
    text
}

/// Asks every question of a table, and compares.
async fn check(file: &str) {
    let path = folder().join(file);
    let table = std::fs::read_to_string(&path).unwrap();
    let upstream = Upstream::answering(outside).await;
    let mut server = None;
    let mut found = String::new();
    for line in table.lines() {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("=", line) => {
                if let Some(server) = server.replace(start(line, &upstream).await) {
                    server.server.stop(|| ()).await;
                }
                writeln!(found, "= {line}").unwrap();
            }
            (">", line) => {
                let reply = reply(server.as_ref().expect("a server"), line);
                write!(found, "> {line}\n{reply}").unwrap();
            }
            ("#", _) | ("", "") => writeln!(found, "{line}").unwrap(),
            // What is expected.
            _ => {}
        }
    }
    if std::env::var_os("UPDATE_TABLES").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let (found, expected) = (lines(&found), lines(&table));
    for (at, line) in expected.iter().enumerate() {
        let got = found.get(at).map_or("nothing", String::as_str);
        assert_eq!(got, line, "{file}:{}", at + 1);
    }
    assert_eq!(found.len(), expected.len(), "{file}");
}

macro_rules! tables {
    ($($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check(concat!(stringify!($name), ".table")).await;
        }
    )*};
}

tables! { rules cases names headless srv alias reverse pods options zonal multicluster }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autopath_by_table() {
    check("autopath.table").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_by_table() {
    check("external.table").await;
}

/// A folder with one headless service `big` of this many endpoints, and a server of it.
async fn big(endpoints: u32) -> (tempfile::TempDir, TestServer) {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from(
        "apiVersion: v1
kind: Service
metadata: {name: big, namespace: default}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
",
    );
    let all: Vec<_> = (0..endpoints).collect();
    for (number, part) in all.chunks(100).enumerate() {
        write!(
            text,
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: big-{number}, namespace: default, labels: {{kubernetes.io/service-name: big}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints:
"
        )
        .unwrap();
        for at in part {
            let (high, low) = (at / 250, at % 250 + 1);
            writeln!(text, "- addresses: [10.100.{high}.{low}]").unwrap();
        }
    }
    std::fs::write(folder.path().join("big.yaml"), text).unwrap();
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
    (folder, server)
}

fn is_cut(message: &Message) -> bool {
    message.metadata.truncation
}

const BIG: &str = "big.default.svc.cluster.local.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_headless_service_is_cut_over_udp_and_whole_over_tcp() {
    let (_folder, server) = big(4000).await;
    let packet = question(BIG, RecordType::A);
    for (limit, packet) in [
        (512, packet.clone()),
        (1232, with_opt(packet.clone(), 1232, 0, b"")),
    ] {
        let octets = exchange_udp(server.addr(), &packet, PATIENCE).unwrap();
        let message = Message::from_bytes(&octets).unwrap();
        assert!(
            is_cut(&message) && octets.len() <= limit,
            "{}",
            octets.len()
        );
        // As many as fit: 16 octets each.
        assert!(octets.len() + 16 > limit, "{}", octets.len());
    }
    let message = Tcp::connect(server.addr()).ask(&packet);
    assert!(!is_cut(&message));
    let addresses: BTreeSet<_> = message.answers.iter().map(|a| a.data.to_string()).collect();
    assert_eq!((message.answers.len(), addresses.len()), (4000, 4000));
}

/// Case 18 of the inventory: what a client without EDNS gets over UDP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_endpoints_do_not_fit_into_512_octets() {
    let (_folder, server) = big(40).await;
    let packet = question(BIG, RecordType::A);
    let octets = exchange_udp(server.addr(), &packet, PATIENCE).unwrap();
    let message = Message::from_bytes(&octets).unwrap();
    assert!(is_cut(&message) && message.edns.is_none());
    // Header, question, and 16 octets for each record: names are compressed.
    assert_eq!(message.answers.len(), (512 - 12 - 34) / 16);
    assert!(octets.len() <= 512, "{}", octets.len());
    let whole = Tcp::connect(server.addr()).ask(&packet);
    assert!(!is_cut(&whole));
    assert_eq!(whole.answers.len(), 40);
    // Glue that is lost is a loss too.
    let (_folder, server) = big(7).await;
    let packet = question(BIG, RecordType::SRV);
    let message = ask(server.addr(), &packet);
    assert_eq!(message.answers.len(), 7);
    assert!(is_cut(&message) && message.additionals.len() < 7);
    let whole = Tcp::connect(server.addr()).ask(&packet);
    assert!(!is_cut(&whole));
    assert_eq!((whole.answers.len(), whole.additionals.len()), (7, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_message_can_hold_is_cut_over_tcp_too() {
    let (_folder, server) = big(5000).await;
    let a = Tcp::connect(server.addr()).ask(&question(BIG, RecordType::A));
    assert!(is_cut(&a));
    // 65,535 octets: header, question, 16 for each.
    assert_eq!(a.answers.len(), (65_535 - 12 - 34 - 1) / 16);
    let srv = Tcp::connect(server.addr()).ask(&question(BIG, RecordType::SRV));
    assert!(is_cut(&srv));
    assert!(srv.answers.len() > 900, "{}", srv.answers.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn glue_far_from_the_question_has_the_names_of_the_targets() {
    // The targets of the last records lie beyond what a pointer reaches.
    let (_folder, server) = big(600).await;
    let message = Tcp::connect(server.addr()).ask(&question(BIG, RecordType::SRV));
    assert!(!is_cut(&message));
    let targets: Vec<_> = message
        .answers
        .iter()
        .map(|srv| srv.data.to_string())
        .collect();
    assert_eq!((targets.len(), message.additionals.len()), (600, 600));
    for (target, glue) in targets.iter().zip(&message.additionals) {
        assert_eq!(*target, format!("0 1 8080 {}", glue.name));
        let host = glue.data.to_string().replace('.', "-");
        assert_eq!(glue.name.to_string(), format!("{host}.{BIG}"));
    }
    // Over UDP the answers are cut first; then there is no glue.
    let packet = with_opt(question(BIG, RecordType::SRV), 4096, 0, b"");
    let message = ask(server.addr(), &packet);
    assert!(is_cut(&message) && message.additionals.is_empty());
}

/// An API server that is not there.
const UNSYNCED: &str = "
    endpoint http://127.0.0.1:1
    startup_timeout 10ms";

/// KQ-5: only IN is answered, unless a plugin that takes every class listens there; then the class of
/// a question for the cluster does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_class_counts_for_the_listener_only() {
    let upstream = Upstream::answering(outside).await;
    for (class, others, wanted) in [
        (Class::CH, "", "Refused rd\n"),
        (Class::ANY, "", "Refused rd\n"),
        (Class::CH, "| forward", WEB),
        (Class::ANY, "| forward", WEB),
        (Class::IN, "", WEB),
    ] {
        let server = start(&format!("cluster.local | ttl 30 {others}"), &upstream).await;
        let packet = query(7, "web.default.svc.cluster.local.", RecordType::A, class);
        let reply = show(&ask(server.addr(), &packet));
        assert_eq!(reply, wanted, "{class:?} {others}");
        server.server.stop(|| ()).await;
    }
}

const WEB: &str = "NoError aa rd\nweb.default.svc.cluster.local. 30 IN A 10.96.0.10\n";

/// Case 5 of the inventory; KS-3, KS-4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_lists_what_is_not_known_fails() {
    let upstream = Upstream::answering(outside).await;
    let text = format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local in-addr.arpa {{
                {UNSYNCED}
                ttl 30
                fallthrough in-addr.arpa
            }}
            forward . {}
        }}",
        upstream.addr
    );
    let server = TestServer::start(TABLE, &text).await;
    let web = "web.default.svc.Cluster.local.";
    let packet = with_opt(question(web, RecordType::A), 1232, 0, b"");
    let reply = ask(server.addr(), &packet);
    let text = show(&reply);
    assert!(
        text.starts_with("ServFail aa rd\nauthority: Cluster.local. 30 IN SOA "),
        "{text}"
    );
    let octets = exchange_udp(server.addr(), &packet, PATIENCE).unwrap();
    // The extended error (RFC 8914): option 15, code 14.
    let has = |wanted: &[u8]| octets.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(b"\0\x0e") && has(b"not known yet"), "{text}");
    // What does not exist in the zones that fall through is handed on, synced or not.
    let reply = ask(
        server.addr(),
        &question("8.8.8.8.in-addr.arpa.", RecordType::PTR),
    );
    assert!(
        show(&reply).contains("77 IN PTR dns.example."),
        "{}",
        show(&reply)
    );
    // What exists in any case is answered.
    let apex = ask(server.addr(), &question("cluster.local.", RecordType::A));
    assert!(
        show(&apex).starts_with("NoError aa rd\nauthority: "),
        "{}",
        show(&apex)
    );
    server.server.stop(|| ()).await;
}
