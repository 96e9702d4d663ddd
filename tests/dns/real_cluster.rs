//! Against a real API server: `KUBECONFIG=… cargo test --test dns -- --ignored real_cluster`.
//!
//! Makes two namespaces of its own, and removes them at the end.

use crate::support::client::{ask, question, show};
use crate::support::proxy::Proxy;
use crate::support::server::TestServer;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use portolan::dns::RecordType;
use portolan::plugins::TABLE;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a change may take to be seen before the test fails. (Not how fast it has to be.)
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    client: kube::Client,
    here: String,
    there: String,
}

impl Cluster {
    async fn make(client: kube::Client) -> Self {
        let id = rand::random::<u32>();
        let cluster = Self {
            client,
            here: format!("portolan-test-{id:08x}-a"),
            there: format!("portolan-test-{id:08x}-b"),
        };
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        for name in [&cluster.here, &cluster.there] {
            let namespace = json!({"metadata": {"name": name}});
            let namespace = serde_json::from_value(namespace).unwrap();
            namespaces
                .create(&PostParams::default(), &namespace)
                .await
                .unwrap();
        }
        cluster
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.here)
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let object = serde_json::from_value(object).unwrap();
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    async fn remove(self) {
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        for name in [&self.here, &self.there] {
            let services: Api<Service> = Api::namespaced(self.client.clone(), name);
            let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), name);
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), name);
            for service in services.list(&Default::default()).await.unwrap() {
                let _ = services
                    .delete(service.metadata.name.as_ref().unwrap(), &now)
                    .await;
            }
            let _ = slices.delete_collection(&now, &Default::default()).await;
            let _ = pods.delete_collection(&now, &Default::default()).await;
            let namespaces: Api<Namespace> = Api::all(self.client.clone());
            let _ = namespaces.delete(name, &now).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            // Where no controller finalizes namespaces (a bare API server), we do.
            if let Ok(mut left) = namespaces.get(name).await {
                left.spec.get_or_insert_default().finalizers = None;
                let body = serde_json::to_vec(&left).unwrap();
                let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
                    .header("Content-Type", "application/json")
                    .body(body)
                    .unwrap();
                let _ = self.client.request::<Value>(request).await;
            }
        }
    }
}

/// Asks until the reply shows what `wanted` says of it.
async fn until(
    server: SocketAddr,
    name: &str,
    qtype: RecordType,
    wanted: impl Fn(&str) -> bool,
) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = show(&ask(server, &question(name, qtype)));
        if wanted(&text) {
            println!("{name} {qtype}: {}", text.replace('\n', " | "));
            return text;
        }
        assert!(Instant::now() < end, "{name} {qtype}: {text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The kubeconfig with another server address, in a file.
fn kubeconfig_through(
    proxy: SocketAddr,
    folder: &std::path::Path,
) -> (std::path::PathBuf, SocketAddr) {
    let path = std::env::var("KUBECONFIG").expect("KUBECONFIG names a kubeconfig file");
    let mut config = kube::config::Kubeconfig::read_from(&path).unwrap();
    let cluster = config.clusters[0].cluster.as_mut().unwrap();
    let url: http::Uri = cluster.server.as_ref().unwrap().parse().unwrap();
    let host = url.host().unwrap().trim_matches(['[', ']']);
    let target = SocketAddr::new(host.parse().unwrap(), url.port_u16().unwrap_or(443));
    cluster.server = Some(format!("https://{proxy}"));
    cluster.tls_server_name = Some(host.to_owned());
    let copy = folder.join("kubeconfig");
    std::fs::write(&copy, serde_json::to_string(&config).unwrap()).unwrap();
    (copy, target)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs KUBECONFIG and a real API server"]
async fn real_cluster() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = kube::Client::try_default().await.unwrap();
    println!(
        "API server {}",
        client.apiserver_version().await.unwrap().git_version
    );
    let folder = tempfile::tempdir().unwrap();
    let (_, target) = kubeconfig_through("127.0.0.1:1".parse().unwrap(), folder.path());
    let proxy = Proxy::start(target).await;
    let (kubeconfig, _) = kubeconfig_through(proxy.addr, folder.path());
    let cluster = Cluster::make(client).await;
    let corefile = format!(
        ".:0 {{
            bind 127.0.0.1
            errors
            prometheus 127.0.0.1:0
            kubernetes cluster.local in-addr.arpa ip6.arpa {{
                kubeconfig {}
                pods verified
                ttl 30
            }}
            cache 30
            loadbalance
        }}",
        kubeconfig.display()
    );
    let mut server = TestServer::start(TABLE, &corefile).await;
    let addr = server.addr();
    let here = cluster.here.clone();
    let name = |short: &str| format!("{short}.{here}.svc.cluster.local.");
    let positive = |text: &str| text.starts_with("NoError aa rd\n") && text.lines().count() > 1;
    let gone = |text: &str| text.starts_with("NXDomain aa");
    // Asked before it exists: the answer must not outlive its creation.
    until(addr, &name("web"), RecordType::A, gone).await;

    // A ClusterIP service appears with the address that the API server gave it.
    let web: Service = cluster
        .create(json!({"metadata": {"name": "web"}, "spec": {
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}))
        .await;
    let ips = web.spec.unwrap().cluster_ips.unwrap();
    let text = until(addr, &name("web"), RecordType::A, positive).await;
    assert!(
        ips.iter()
            .any(|ip| text.contains(&format!(" 30 IN A {ip}\n"))),
        "{ips:?}: {text}"
    );
    let text = show(&ask(addr, &question(&name("web"), RecordType::AAAA)));
    match ips.iter().find(|ip| ip.contains(':')) {
        Some(ip) => assert!(text.contains(&format!(" 30 IN AAAA {ip}\n")), "{text}"),
        None => assert!(
            text.starts_with("NoError aa rd\nauthority: "),
            "NODATA: {text}"
        ),
    }
    let text = show(&ask(
        addr,
        &question(&name("_http._tcp.web"), RecordType::SRV),
    ));
    assert!(text.contains(&format!(" 80 {}\n", name("web"))), "{text}");
    let v4 = ips.iter().find(|ip| !ip.contains(':')).unwrap();
    let reverse: Vec<_> = v4.split('.').rev().collect();
    let reverse = format!("{}.in-addr.arpa.", reverse.join("."));
    until(addr, &reverse, RecordType::PTR, |text| {
        text.contains(&name("web"))
    })
    .await;

    // A headless service and its slice: addresses, host names, an update, ports.
    let _: Service = cluster
        .create(
            json!({"metadata": {"name": "db"}, "spec": {"clusterIP": "None",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]}}),
        )
        .await;
    let endpoint = |host: &str, ip: &str, ready: bool| json!({"addresses": [ip], "hostname": host, "conditions": {"ready": ready}});
    let slice = |endpoints: Value| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}]})
    };
    let two = json!([
        endpoint("db-0", "10.244.1.5", true),
        endpoint("db-1", "10.244.2.6", true)
    ]);
    let _: EndpointSlice = cluster.create(slice(two)).await;
    until(addr, &name("db"), RecordType::A, |text| {
        text.matches(" IN A 10.244.").count() == 2
    })
    .await;
    until(addr, &name("db-0.db"), RecordType::A, |text| {
        text.contains("IN A 10.244.1.5\n")
    })
    .await;
    let text = show(&ask(
        addr,
        &question(&name("_sql._tcp.db"), RecordType::SRV),
    ));
    for host in ["db-0", "db-1"] {
        let srv = format!("0 50 5432 {}\n", name(&format!("{host}.db")));
        assert!(text.contains(&srv), "{srv}: {text}");
    }
    let slices: Api<EndpointSlice> = cluster.api();
    let one = json!([
        endpoint("db-0", "10.244.1.7", true),
        endpoint("db-1", "10.244.2.6", false)
    ]);
    let apply = PatchParams::apply("portolan-test").force();
    slices
        .patch("db-1", &PatchParams::default(), &Patch::Merge(slice(one)))
        .await
        .unwrap();
    until(addr, &name("db"), RecordType::A, |text| {
        text.matches(" IN A ").count() == 1 && text.contains("10.244.1.7")
    })
    .await;
    until(addr, &name("db-1.db"), RecordType::A, gone).await;

    // A pod: verified names exist as long as it does.
    let _: Pod = cluster
        .create(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "none"}]}}))
        .await;
    let pod_name = format!("10-244-2-5.{here}.pod.cluster.local.");
    until(addr, &pod_name, RecordType::A, gone).await;
    let pods: Api<Pod> = cluster.api();
    let status = json!({"apiVersion": "v1", "kind": "Pod",
        "status": {"podIP": "10.244.2.5", "podIPs": [{"ip": "10.244.2.5"}], "phase": "Running"}});
    pods.patch_status("p", &apply, &Patch::Apply(status))
        .await
        .unwrap();
    until(addr, &pod_name, RecordType::A, |text| {
        text.contains("IN A 10.244.2.5\n")
    })
    .await;
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    pods.delete("p", &now).await.unwrap();
    until(addr, &pod_name, RecordType::A, gone).await;

    // ExternalName to a name of the cluster.
    let _: Service = cluster
        .create(
            json!({"metadata": {"name": "alias"}, "spec": {"type": "ExternalName",
            "externalName": name("web").trim_end_matches('.')}}),
        )
        .await;
    until(addr, &name("alias"), RecordType::A, |text| {
        text.contains(" IN CNAME ") && text.contains(&format!(" IN A {v4}\n"))
    })
    .await;

    // Broken connections: what is known is served, what changed meanwhile is seen after.
    proxy.cut();
    let services: Api<Service> = cluster.api();
    let _: Service = cluster
        .create(json!({"metadata": {"name": "later"}, "spec": {"ports": [{"port": 80}]}}))
        .await;
    until(addr, &name("later"), RecordType::A, positive).await;
    proxy.block();
    services.delete("later", &now).await.unwrap();
    let _: Service = cluster
        .create(json!({"metadata": {"name": "unseen"}, "spec": {"ports": [{"port": 80}]}}))
        .await;
    for _ in 0..50 {
        let text = show(&ask(addr, &question(&name("web"), RecordType::A)));
        assert!(positive(&text), "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.heal();
    until(addr, &name("later"), RecordType::A, gone).await;
    until(addr, &name("unseen"), RecordType::A, positive).await;

    // A reload keeps the index: not one moment without the names.
    server.reload(&corefile.replace("ttl 30", "ttl 7")).await;
    let text = show(&ask(addr, &question(&name("web"), RecordType::A)));
    assert!(text.contains(&format!(" 7 IN A {v4}\n")), "{text}");

    // Deletes vanish at once, not after a TTL.
    services.delete("web", &now).await.unwrap();
    until(addr, &name("web"), RecordType::A, gone).await;
    slices.delete("db-1", &now).await.unwrap();
    until(addr, &name("db"), RecordType::A, gone).await;
    cluster.remove().await;
    server.server.stop(|| ()).await;
}
