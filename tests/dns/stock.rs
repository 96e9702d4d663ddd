//! The Corefiles that installers ship, served by the real binary beside a fake API server: but for
//! addresses and ports they stay as they are.

use crate::support::client::{ask, query, question, show};
use crate::support::http::status;
use crate::support::kube::Api;
use crate::support::message;
use crate::support::process::{Portolan, free_port};
use crate::support::upstream::Upstream;
use portolan::dns::{Class, Name, RecordType};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// The ports that a Corefile is moved to.
pub struct Ports {
    pub dns: u16,
    pub health: u16,
    pub ready: u16,
    pub metrics: u16,
}

impl Ports {
    pub fn free() -> Self {
        let [dns, health, ready, metrics] = [(); 4].map(|()| free_port());
        Self {
            dns,
            health,
            ready,
            metrics,
        }
    }
}

/// The Corefile with these ports on loopback, this API server and this upstream.
pub fn moved(text: &str, ports: &Ports, api: &str, upstream: SocketAddr) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let indent = &line[..line.len() - line.trim_start().len()];
        let listen = |port| {
            let open = if words.last() == Some(&"{") { " {" } else { "" };
            format!("{indent}{} 127.0.0.1:{port}{open}\n", words[0])
        };
        let of = |word: &str| words.first() == Some(&word);
        let is_key = indent.is_empty() && words.last() == Some(&"{");
        if is_key {
            let dns = format!(":{}", ports.dns);
            out.push_str(
                &line
                    .replace(":5353", &dns)
                    .replace(":53 ", &format!("{dns} ")),
            );
            out.push_str("\n    bind 127.0.0.1\n");
        } else if of("health") {
            out.push_str(&listen(ports.health));
        } else if of("ready") {
            out.push_str(&listen(ports.ready));
        } else if of("prometheus") {
            out.push_str(&listen(ports.metrics));
        } else if of("kubernetes") {
            out.push_str(&format!("{line}\n        endpoint {api}\n"));
        } else if of("forward") || of("proxy") {
            let servers = line
                .replace("/etc/resolv.conf", &upstream.to_string())
                .replace("10.0.0.53 10.0.1.53:5353", &upstream.to_string());
            out.push_str(&format!("{servers}\n"));
        } else {
            out.push_str(&format!("{line}\n"));
        }
    }
    out
}

pub fn objects() -> Vec<Value> {
    let namespace =
        |name| json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
    let service = |name, ip| {
        json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "type": "ClusterIP",
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
            "status": {"loadBalancer": {}},
        })
    };
    let slice = |service: &str, address, hostname| {
        json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": format!("{service}-1"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "hostname": hostname, "conditions": {"ready": true}}],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        })
    };
    vec![
        namespace("default"),
        namespace("kube-system"),
        service("web", "10.96.0.10"),
        slice("web", "10.244.1.5", Value::Null),
        service("db", "None"),
        slice("db", "10.244.2.6", "db-0".into()),
    ]
}

/// Knows `www.example.org` and `host.example.internal`.
pub async fn outside() -> Upstream {
    Upstream::answering(|seen| {
        let (name, _) = Name::read(&seen.packet, 12).unwrap();
        let name = name.to_string().to_ascii_lowercase();
        let qtype = &message::question(&seen.packet);
        let is_a = qtype[qtype.len() - 4..] == [0, 1, 0, 1];
        let known = ["www.example.org.", "host.example.internal."].contains(&&*name);
        match (known, is_a) {
            (true, true) => {
                message::reply(&seen.packet, 0x80, &[&message::a(300, [192, 0, 2, 80])])
            }
            (true, false) => message::reply(&seen.packet, 0x80, &[]),
            (false, _) => message::reply(&seen.packet, 0x83, &[]),
        }
    })
    .await
}

/// A running stock Corefile.
pub struct Stock {
    pub server: Portolan,
    pub ports: Ports,
    pub upstream: Upstream,
    _api: Api,
    _folder: tempfile::TempDir,
}

impl Stock {
    pub async fn start(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corefiles")
            .join(name);
        let (api, upstream, ports) = (Api::start().await, outside().await, Ports::free());
        api.apply(objects());
        let text = moved(
            &fs::read_to_string(path).unwrap(),
            &ports,
            &api.url,
            upstream.addr,
        );
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("Corefile");
        fs::write(&conf, text).unwrap();
        let mut server = Portolan::start(&[], &conf, &[]);
        server.wait_for("Portolan-");
        if fs::read_to_string(&conf).unwrap().contains(" ready ") {
            let end = Instant::now() + Duration::from_secs(20);
            while status(ports.ready, "/ready") != Some((200, "OK".into())) {
                assert!(Instant::now() < end, "never ready: {:#?}", server.printed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Self {
            server,
            ports,
            upstream,
            _api: api,
            _folder: folder,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.dns))
    }

    fn answer(&self, name: &str, qtype: RecordType) -> String {
        show(&ask(self.addr(), &question(name, qtype)))
    }

    /// What every one of them must answer; `ttl` is that of the cluster's records.
    fn answers(&self, ttl: u32, negative: &str) {
        let web = "web.default.svc.cluster.local.";
        let first = |name, qtype| {
            let text = self.answer(name, qtype);
            let mut lines = text.lines().map(str::to_owned);
            (lines.next().unwrap(), lines.collect::<Vec<_>>())
        };
        let table = [
            (web, RecordType::A, format!("{web} {ttl} IN A 10.96.0.10")),
            (
                "db-0.db.default.svc.cluster.local.",
                RecordType::A,
                format!("db-0.db.default.svc.cluster.local. {ttl} IN A 10.244.2.6"),
            ),
            (
                "10-244-1-5.default.pod.cluster.local.",
                RecordType::A,
                format!("10-244-1-5.default.pod.cluster.local. {ttl} IN A 10.244.1.5"),
            ),
            (
                "10.0.96.10.in-addr.arpa.",
                RecordType::PTR,
                format!("10.0.96.10.in-addr.arpa. {ttl} IN PTR {web}"),
            ),
        ];
        for (name, qtype, wanted) in table {
            let (head, records) = first(name, qtype);
            assert_eq!(
                (head.as_str(), &records[..]),
                ("NoError aa rd", &[wanted][..]),
                "{name}"
            );
        }
        let (head, records) = first("_http._tcp.web.default.svc.cluster.local.", RecordType::SRV);
        assert_eq!(head, "NoError aa rd");
        assert!(
            records[0].ends_with(&format!("{ttl} IN SRV 0 100 80 {web}")),
            "{records:?}"
        );
        assert!(records[1].ends_with("A 10.96.0.10"), "{records:?}");
        let (head, records) = first("nosuch.default.svc.cluster.local.", RecordType::A);
        assert_eq!((head.as_str(), records.len()), ("NXDomain aa rd", 1));
        assert!(
            records[0].starts_with(&format!(
                "authority: cluster.local. {negative} IN SOA ns.dns.cluster.local."
            )),
            "{records:?}"
        );
        // Outside: asked upstream, a name with an A record, one without, an address without PTR.
        let (head, records) = first("www.example.org.", RecordType::A);
        assert!(
            head.starts_with("NoError") && head.ends_with("rd ra"),
            "{head}"
        );
        let www = records[0].strip_prefix("www.example.org. ").unwrap();
        assert!(www.ends_with(" IN A 192.0.2.80"), "{records:?}");
        for (name, qtype) in [
            ("nosuch.example.org.", RecordType::A),
            ("1.2.0.192.in-addr.arpa.", RecordType::PTR),
        ] {
            let (head, records) = first(name, qtype);
            assert!(
                head.starts_with("NXDomain") && records.is_empty(),
                "{name} {head}"
            );
        }
        // Nothing of the cluster's own zones went outside.
        let asked = |name: &str| {
            let seen = self.upstream.seen();
            seen.iter().any(|seen| {
                let (asked, _) = Name::read(&seen.packet, 12).unwrap();
                asked.to_string().to_ascii_lowercase().ends_with(name)
            })
        };
        assert!(asked("1.2.0.192.in-addr.arpa.") && asked("www.example.org."));
        assert!(!asked("cluster.local.") && !asked("10.in-addr.arpa."));
    }

    /// Nothing is logged that an operator would have to look at, but for these.
    fn complaints(&self) -> Vec<String> {
        let mut lines = self.server.printed();
        lines.retain(|line| line.starts_with("[WARNING]") || line.starts_with("[ERROR]"));
        lines
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubeadm_of_1_12() {
    let stock = Stock::start("kubeadm-1.12.Corefile").await;
    stock.answers(5, "5");
    let complaints = stock.complaints();
    assert_eq!(complaints.len(), 2, "{complaints:#?}");
    let said = |line: &str| complaints.iter().any(|c| c.contains(line));
    assert!(said("- old 'upstream' is ignored: "), "{complaints:#?}");
    assert!(
        said("- old 'proxy' is read as 'forward'"),
        "{complaints:#?}"
    );
    let fine = Some((200, "OK".to_owned()));
    assert_eq!(status(stock.ports.health, "/health"), fine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubeadm_of_today() {
    let stock = Stock::start("kubeadm-1.33.Corefile").await;
    stock.answers(30, "30");
    assert_eq!(stock.complaints(), [""; 0]);
    let fine = Some((200, "OK".to_owned()));
    assert_eq!(status(stock.ports.health, "/health"), fine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k3s() {
    let stock = Stock::start("k3s.Corefile").await;
    stock.answers(5, "5");
    let of_missing_files = |line: &String| line.contains("custom/") || line.contains("NodeHosts");
    let complaints = stock.complaints();
    assert!(complaints.iter().all(of_missing_files), "{complaints:#?}");
    assert!(complaints.len() >= 2, "{complaints:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aks() {
    let stock = Stock::start("aks.Corefile").await;
    stock.answers(30, "30");
    let of_missing_files = |line: &String| line.contains("custom/") || line.contains("NodeHosts");
    let complaints = stock.complaints();
    assert!(complaints.iter().all(of_missing_files), "{complaints:#?}");
    assert!(complaints.len() >= 2, "{complaints:#?}");
    // Its templates: names of Azure's own with too many labels.
    for name in [
        "www.reddog.microsoft.com.",
        "a.b.c.d.internal.cloudapp.net.",
    ] {
        let text = stock.answer(name, RecordType::A);
        assert!(text.starts_with("NXDomain"), "{name} {text}");
    }
    let asked = stock.upstream.seen();
    let outside = |name: &str| {
        asked
            .iter()
            .any(|seen| Name::read(&seen.packet, 12).unwrap().0.to_string() == name)
    };
    assert!(!outside("www.reddog.microsoft.com."));
    assert!(!outside("a.b.c.d.internal.cloudapp.net."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eks() {
    let stock = Stock::start("eks.Corefile").await;
    stock.answers(5, "5");
    assert_eq!(stock.complaints(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openshift() {
    let stock = Stock::start("openshift.Corefile").await;
    stock.answers(5, "5");
    // The stub zone has a block and an upstream of its own; the blocks share the metrics' address.
    let text = stock.answer("host.example.internal.", RecordType::A);
    assert!(
        text.contains("host.example.internal. 300 IN A 192.0.2.80"),
        "{text}"
    );
    let (_, body) = status(stock.ports.metrics, "/metrics").unwrap();
    assert!(body.contains("zone=\"example.internal.\""), "{body}");
    let packet = query(7, "hostname.bind.", RecordType::TXT, Class::CH);
    let reply = ask(stock.addr(), &packet);
    assert_eq!(reply.answers.len(), 1, "{}", show(&reply));
}
