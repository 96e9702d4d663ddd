//! The cluster through the life of the server: start, readiness, reload, end (KS-1 to KS-7), and what
//! is asked of the API server (KW-1, KW-2).

use crate::support::client::{ask, question, show};
use crate::support::http::status;
use crate::support::kube::Api;
use crate::support::process::{Portolan, free_port};
use crate::support::server::TestServer;
use portolan::dns::RecordType;
use portolan::plugins::TABLE;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
}

fn service(name: &str, ip: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "type": "ClusterIP",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
        "status": {"loadBalancer": {}},
    })
}

/// So many services, `web-00` and so on.
fn services(count: u8) -> Vec<Value> {
    let services = (0..count).map(|n| service(&format!("web-{n:02}"), &format!("10.96.0.{n}")));
    services.chain([namespace("default")]).collect()
}

fn corefile(api: &Api, options: &str, more: &str) -> String {
    format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local {{
                endpoint {}
                {options}
            }}
            {more}
        }}",
        api.url
    )
}

/// The first line of the reply: response code and flags.
fn head(addr: SocketAddr, service: &str, qtype: RecordType) -> String {
    let name = format!("{service}.default.svc.cluster.local.");
    let text = show(&ask(addr, &question(&name, qtype)));
    text.lines().next().unwrap().to_owned()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// KS-3, KS-4: while lists are on their way, what they brought is answered, and what they did not
/// may still come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_is_answered_before_everything_is() {
    let api = Api::start().await;
    api.apply(services(200));
    // The list of services takes minutes.
    api.faults().slow = Some(Duration::from_secs(1));
    let text = corefile(&api, "startup_timeout 10ms", "");
    let server = TestServer::start(TABLE, &text).await;
    let addr = server.addr();
    let a = |name| head(addr, name, RecordType::A);
    until("known", || a("web-00") == "NoError aa rd").await;
    assert_eq!(head(addr, "web-00", RecordType::AAAA), "NoError aa rd");
    assert_eq!(a("nosuch"), "ServFail aa rd");
    assert_eq!(a("web-99"), "ServFail aa rd");
    server.server.stop(|| ()).await;
}

/// KS-2, KS-5; Case 6: once ready, always ready, and what was known last is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_api_server_it_stays_ready_and_serves_what_it_knew() {
    let api = Api::start().await;
    api.apply(services(3));
    api.faults().all = Some(500);
    let port = free_port();
    let text = corefile(
        &api,
        "startup_timeout 10ms",
        &format!("ready 127.0.0.1:{port}"),
    );
    let server = TestServer::start(TABLE, &text).await;
    let ready = || status(port, "/ready").map(|(code, _)| code);
    assert_eq!(status(port, "/ready"), Some((503, "kubernetes".into())));
    api.faults().all = None;
    until("ready", || ready() == Some(200)).await;
    let failures = api.requests().len();
    api.faults().all = Some(500);
    api.cut();
    // It has noticed, and asks in vain.
    until("asked again", || api.requests().len() > failures + 3).await;
    assert_eq!(ready(), Some(200));
    assert_eq!(
        head(server.addr(), "web-01", RecordType::A),
        "NoError aa rd"
    );
    assert_eq!(
        head(server.addr(), "nosuch", RecordType::A),
        "NXDomain aa rd"
    );
    server.server.stop(|| ()).await;
}

/// KS-7: other settings are other lists, which are complete before they are answered from; queries
/// meanwhile are answered from the ones before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reload_with_other_settings_never_knows_less() {
    let api = Api::start().await;
    api.apply(services(10));
    let mut server = TestServer::start(TABLE, &corefile(&api, "", "")).await;
    let addr = server.addr();
    assert_eq!(head(addr, "web-02", RecordType::A), "NoError aa rd");
    api.faults().slow = Some(Duration::from_millis(50));
    let (done, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let client = {
        let (done, asked) = (Arc::clone(&done), Arc::clone(&asked));
        tokio::task::spawn_blocking(move || {
            while !done.load(Relaxed) {
                assert_eq!(head(addr, "web-01", RecordType::A), "NoError aa rd");
                asked.fetch_add(1, Relaxed);
            }
        })
    };
    let lists = api.asked("/services");
    server
        .reload(&corefile(&api, "labels app in (web-01, web-05)", ""))
        .await;
    assert!(api.asked("/services") > lists);
    done.store(true, Relaxed);
    client.await.unwrap();
    assert!(asked.load(Relaxed) > 0);
    assert_eq!(head(addr, "web-01", RecordType::A), "NoError aa rd");
    assert_eq!(head(addr, "web-02", RecordType::A), "NXDomain aa rd");
    server.server.stop(|| ()).await;
}

/// KW-1, KW-2: `namespaces` filters answers; what is watched is the whole cluster's, and nothing
/// else than what is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_needed_is_watched_and_all_of_it() {
    for (options, wanted) in [
        (
            "namespaces default",
            &["/api/v1/namespaces", "/api/v1/services", SLICES][..],
        ),
        ("noendpoints", &["/api/v1/namespaces", "/api/v1/services"]),
        (
            "pods verified",
            &[
                "/api/v1/namespaces",
                "/api/v1/pods",
                "/api/v1/services",
                SLICES,
            ],
        ),
        (
            "pods insecure\n ignore empty_service\n endpoint_pod_names",
            &["/api/v1/namespaces", "/api/v1/services", SLICES],
        ),
    ] {
        let api = Api::start().await;
        api.apply(services(3));
        let server = TestServer::start(TABLE, &corefile(&api, options, "")).await;
        let requests = api.requests();
        let paths = requests.iter().map(|path| path.split('?').next().unwrap());
        let paths: BTreeSet<_> = paths.collect();
        assert_eq!(paths, wanted.iter().copied().collect(), "{options}");
        server.server.stop(|| ()).await;
    }
}

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// KS-1: the log of a start that waits.
#[test]
fn a_start_that_waits_says_so() {
    let [port, api] = [(); 2].map(|()| free_port());
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("Corefile");
    let text = format!(
        ".:{port} {{
    bind 127.0.0.1
    kubernetes cluster.local {{
        endpoint http://127.0.0.1:{api}
        startup_timeout 1200ms
    }}
}}
"
    );
    fs::write(&conf, text).unwrap();
    let mut server = Portolan::start(&[], &conf, &[]);
    server.wait_for("Portolan-");
    let waiting = "[INFO] plugin/kubernetes: waiting for Kubernetes API before starting server";
    let gone = "[WARNING] plugin/kubernetes: starting server with unsynced Kubernetes API";
    let count = server.count(waiting);
    assert!((1..=2).contains(&count), "{:#?}", server.printed());
    assert_eq!(server.count(gone), 1);
    let printed = server.printed();
    let place = |text| {
        printed
            .iter()
            .rposition(|line| line.contains(text))
            .unwrap()
    };
    assert!(place(waiting) < place(gone));
}

/// KS-6, Case 7: through the lame duck's time the cluster is answered for. (Unlike in CoreDNS it is
/// followed, too.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lame_duck_answers_for_the_cluster_and_follows_it() {
    let api = Api::start().await;
    api.apply(services(3));
    let [port, health, ready] = [(); 3].map(|()| free_port());
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("Corefile");
    let more = format!("health 127.0.0.1:{health} {{\n lameduck 5s\n }}\n ready 127.0.0.1:{ready}");
    let text = corefile(&api, "", &more).replace(".:0", &format!(".:{port}"));
    fs::write(&conf, text).unwrap();
    let mut server = Portolan::start(&[], &conf, &[]);
    server.wait_for("Portolan-");
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(head(addr, "web-01", RecordType::A), "NoError aa rd");
    server.signal("TERM");
    server.wait_for("[INFO] plugin/health: Going into lameduck mode for 5s");
    until("closed", || {
        std::net::TcpStream::connect(("127.0.0.1", ready)).is_err()
    })
    .await;
    assert_eq!(status(health, "/health"), Some((200, "OK".into())));
    assert_eq!(head(addr, "web-01", RecordType::A), "NoError aa rd");
    api.apply([service("late", "10.96.0.99")]);
    until("followed", || {
        head(addr, "late", RecordType::A) == "NoError aa rd"
    })
    .await;
    assert_eq!(server.ended(), Some(0));
}
