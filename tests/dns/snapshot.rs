//! The snapshot on disk: the real binary is stopped, and started again without its API server.

use super::stock::{Ports, objects};
use crate::support::client::{ask, question, show};
use crate::support::http::{get, status};
use crate::support::kube::Api;
use crate::support::process::{BINARY, Portolan, run};
use crate::support::proxy::Proxy;
use crate::support::server::TestServer;
use portolan::dns::RecordType;
use portolan::plugins::TABLE;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// An API server that can be away, and a folder with a Corefile and the snapshot.
struct Lab {
    api: Api,
    proxy: Proxy,
    ports: Ports,
    folder: tempfile::TempDir,
}

impl Lab {
    async fn new() -> Self {
        let api = Api::start().await;
        api.apply(objects());
        let target = api.url.strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = Proxy::start(target).await;
        Self {
            api,
            proxy,
            ports: Ports::free(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("cluster.snapshot")
    }

    /// Starts the server with these words behind the path of the snapshot.
    fn start(&self, options: &str, more: &str) -> Portolan {
        let (api, ports) = (self.proxy.addr, &self.ports);
        let text = format!(
            ".:{} {{
    bind 127.0.0.1
    ready 127.0.0.1:{}
    prometheus 127.0.0.1:{}
    kubernetes cluster.local in-addr.arpa {{
        endpoint http://{api}
        snapshot cluster.snapshot {options}
        startup_timeout 500ms
        {more}
    }}
}}
",
            ports.dns, ports.ready, ports.metrics
        );
        let conf = self.folder.path().join("Corefile");
        fs::write(&conf, text).unwrap();
        let mut server = Portolan::start(&[], &conf, &[]);
        server.wait_for("Portolan-");
        server
    }

    /// Ends the server as a rollout does.
    fn stop(&self, mut server: Portolan) {
        server.signal("TERM");
        assert_eq!(server.ended(), Some(0), "{:#?}", server.printed());
    }

    fn reply(&self, name: &str, qtype: RecordType) -> String {
        let server = SocketAddr::from(([127, 0, 0, 1], self.ports.dns));
        show(&ask(server, &question(name, qtype)))
    }

    fn a(&self, name: &str) -> String {
        self.reply(&format!("{name}.default.svc.cluster.local."), RecordType::A)
    }

    /// The value of a series of this name whose labels contain `label`.
    fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let text = get(self.ports.metrics, "/metrics", "*/*").unwrap().body;
        let path = format!("path=\"{}\"", self.file().display());
        let line = text.lines().find(|line| {
            line.starts_with(&format!("{name}{{")) && line.contains(&path) && line.contains(label)
        });
        line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    fn age(&self) -> f64 {
        let age = self.metric("portolan_kubernetes_snapshot_age_seconds", "");
        age.unwrap()
    }

    fn restored(&self, kind: &str) -> f64 {
        let kind = format!("kind=\"{kind}\"");
        self.metric("portolan_kubernetes_snapshot_restored_objects", &kind)
            .unwrap()
    }

    fn ready(&self) -> Option<u16> {
        status(self.ports.ready, "/ready").map(|(code, _)| code)
    }
}

fn has(reply: &str, address: &str) -> bool {
    reply.starts_with("NoError") && reply.contains(&format!(" A {address}\n"))
}

fn slice(service: &str, address: &str) -> Value {
    let mut slice = objects()
        .into_iter()
        .find(|object| object["metadata"]["name"] == format!("{service}-1"))
        .unwrap();
    slice["endpoints"][0]["addresses"] = json!([address]);
    slice
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_known_is_served_without_the_api_server_and_reconciled_with_it() {
    let lab = Lab::new().await;
    let mut server = lab.start("1s", "");
    server.until("the cluster is read", |_| has(&lab.a("web"), "10.96.0.10"));
    assert_eq!((lab.age(), lab.restored("Service")), (0.0, 0.0));
    // At the end there is what happened since the last write.
    server.until("it is written", |_| lab.file().exists());
    lab.api.apply([slice("db", "10.244.2.7")]);
    server.until("the change", |_| has(&lab.a("db-0.db"), "10.244.2.7"));
    lab.stop(server);
    let written = fs::read(lab.file()).unwrap();
    let mode = fs::metadata(lab.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    lab.proxy.block();
    let server = lab.start("1s", "");
    assert_eq!(
        server.count("6 objects restored"),
        1,
        "{:#?}",
        server.printed()
    );
    assert!(has(&lab.a("web"), "10.96.0.10"));
    assert!(has(&lab.a("db"), "10.244.2.7"));
    assert!(has(&lab.a("db-0.db"), "10.244.2.7"));
    let pointer = lab.reply("10.0.96.10.in-addr.arpa.", RecordType::PTR);
    assert!(
        pointer.contains("PTR web.default.svc.cluster.local."),
        "{pointer}"
    );
    assert!(
        lab.a("nosuch").starts_with("ServFail"),
        "absence is not known"
    );
    assert_eq!(lab.ready(), Some(503));
    assert!(lab.age() > 0.0);
    assert_eq!(lab.restored("Service"), 2.0);
    assert_eq!(lab.restored("EndpointSlice"), 2.0);
    lab.stop(server);
    // What nobody confirmed is not written as if it were new.
    assert!(fs::read(lab.file()).unwrap() == written);

    let mut server = lab.start("1s ready", "");
    assert_eq!(lab.ready(), Some(200));
    lab.api.delete("services", "default", "web");
    lab.api.delete("endpointslices", "default", "web-1");
    let mut new = objects().swap_remove(2);
    new["metadata"]["name"] = "new".into();
    new["spec"]["clusterIPs"] = json!(["10.96.0.11"]);
    lab.api.apply([slice("db", "10.244.2.8"), new]);
    assert!(has(&lab.a("web"), "10.96.0.10"));
    lab.proxy.heal();
    server.until("the API server is back", |_| {
        has(&lab.a("new"), "10.96.0.11")
    });
    server.until("all is read", |_| lab.age() == 0.0);
    assert!(lab.a("web").starts_with("NXDomain"), "{}", lab.a("web"));
    let pointer = lab.reply("10.0.96.10.in-addr.arpa.", RecordType::PTR);
    assert!(pointer.starts_with("NXDomain"), "{pointer}");
    assert!(has(&lab.a("db-0.db"), "10.244.2.8"));
    assert!(!has(&lab.a("db"), "10.244.2.7"));
    assert!(lab.a("nosuch").starts_with("NXDomain"));
    assert_eq!(lab.ready(), Some(200));
    let writes = || lab.metric("portolan_kubernetes_snapshot_writes_total", "");
    server.until("it is written", |_| writes() >= Some(1.0));
    lab.stop(server);
    assert!(fs::read(lab.file()).unwrap() != written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_refused_is_told_and_the_start_goes_on() {
    let lab = Lab::new().await;
    let mut server = lab.start("", "");
    server.until("the cluster is read", |_| has(&lab.a("web"), "10.96.0.10"));
    lab.stop(server);
    let good = fs::read(lab.file()).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    lab.proxy.block();
    let path = lab.file().display().to_string();
    for (file, more, reason) in [
        (&bad[..], "", "it is damaged"),
        (&good[..good.len() - 40], "", "it is truncated"),
        (
            &good,
            "labels app=web",
            "it is a snapshot of something else",
        ),
    ] {
        fs::write(lab.file(), file).unwrap();
        let mut server = lab.start("", more);
        server.wait_for(&format!(
            "[WARNING] plugin/kubernetes: snapshot {path} is refused: {reason}"
        ));
        assert!(lab.a("web").starts_with("ServFail"));
        let failures = lab.metric("portolan_kubernetes_snapshot_failures_total", "");
        assert_eq!((failures, lab.age()), (Some(1.0), 0.0));
        lab.stop(server);
        assert!(fs::read(lab.file()).unwrap() == file, "it is left alone");
    }
    fs::write(lab.file(), &bad).unwrap();
    lab.proxy.heal();
    let mut server = lab.start("1s", "");
    server.until("the cluster is read", |_| has(&lab.a("web"), "10.96.0.10"));
    lab.stop(server);
    assert!(
        fs::read(lab.file()).unwrap() != bad,
        "a good one replaced it"
    );
}

#[test]
fn snapshots_that_cannot_be_are_errors_of_the_corefile() {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("Corefile");
    let shown = conf.to_str().unwrap();
    let check = |text: &str| {
        fs::write(&conf, text).unwrap();
        let out = run(&[BINARY, "-check", "-conf", shown]);
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code(), err)
    };
    let (code, said) =
        check(".:1053 {\n kubernetes cluster.local {\n manifests .\n snapshot s\n }\n}\n");
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("{shown}:4 - ")), "{said}");
    assert!(said.contains("manifests"), "{said}");

    let two = |labels: &str| {
        format!(
            "a:1053 {{\n kubernetes a {{\n endpoint 127.0.0.1:1\n snapshot s\n }}\n}}\n\
             b:1053 {{\n kubernetes b {{\n endpoint 127.0.0.1:1\n snapshot s\n {labels}\n }}\n}}\n"
        )
    };
    assert_eq!(check(&two("")).0, Some(0), "one index, one file");
    let (code, said) = check(&two("labels x=y"));
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("{shown}:8 - ")), "{said}");
    assert!(
        said.contains("a kubernetes with other settings writes it already"),
        "{said}"
    );
}

/// Waits until the file tells of these settings.
async fn written_for(path: &std::path::Path, settings: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    let tells = || {
        let file = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&file).contains(settings)
    };
    while !tells() {
        assert!(Instant::now() < end, "never written for {settings:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_starts_a_snapshot_and_passes_its_file_on() {
    let lab = Lab::new().await;
    let (api, path) = (lab.proxy.addr, lab.file());
    let corefile = |options: &str| {
        format!(
            ".:0 {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n endpoint http://{api}\n {options}\n }}\n}}\n"
        )
    };
    let snapshot = format!("snapshot {} 1s", path.display());
    let mut server = TestServer::start(TABLE, &corefile("")).await;
    let asked = lab.api.asked("services");
    server.reload(&corefile(&snapshot)).await;
    written_for(&path, "the API server").await;
    assert_eq!(lab.api.asked("services"), asked, "the index is the same");
    // Other settings: another index takes the file over, and the one before lets it go.
    server
        .reload(&corefile(&format!("{snapshot}\n labels app=web")))
        .await;
    written_for(&path, "labels \"app=web\"").await;
    lab.api.apply([slice("db", "10.244.2.9")]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    written_for(&path, "labels \"app=web\"").await;
    // Without the option nothing is written any more.
    server.reload(&corefile("")).await;
    fs::remove_file(&path).unwrap();
    lab.api.apply([slice("db", "10.244.2.10")]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!path.exists());
    server.server.stop(|| {}).await;
    assert!(!path.exists());
}
