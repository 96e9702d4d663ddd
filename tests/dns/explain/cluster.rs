//! What `kubernetes` says of a name: how it read it, and which objects are there or missing.

use super::Explaining;
use tempfile::TempDir;

const OBJECTS: &str = "
kind: Namespace
apiVersion: v1
metadata: {name: shop}
---
kind: Service
apiVersion: v1
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.7
  clusterIPs: [10.96.0.7]
  ports: [{name: http, port: 80, protocol: TCP}]
---
kind: Service
apiVersion: v1
metadata: {name: db, namespace: shop}
spec:
  clusterIP: None
  ports: [{name: sql, port: 5432, protocol: TCP}]
---
kind: Service
apiVersion: v1
metadata: {name: idle, namespace: shop}
spec: {clusterIP: None}
---
kind: Service
apiVersion: v1
metadata: {name: mail, namespace: shop}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
---
kind: Service
apiVersion: v1
metadata: {name: outside, namespace: shop}
spec: {type: ExternalName, externalName: www.example.org}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints:
  - {addresses: [10.244.0.5], hostname: db-0, conditions: {ready: true}}
  - {addresses: [10.244.0.6], conditions: {ready: true}}
  - {addresses: [10.244.0.7], hostname: db-2, conditions: {ready: false}}
ports: [{name: sql, port: 5432, protocol: TCP}]
---
kind: Pod
apiVersion: v1
metadata: {name: shell, namespace: shop}
status: {podIP: 10.244.0.9, podIPs: [{ip: 10.244.0.9}], phase: Running}
";

async fn cluster(options: &str) -> (Explaining, TempDir) {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("objects.yaml"), OBJECTS).unwrap();
    let directives = format!(
        "hosts {{
            192.0.2.1 www.example.org
            fallthrough
        }}
        kubernetes cluster.local in-addr.arpa {{
            manifests {}
            fallthrough in-addr.arpa
            {options}
        }}
        cache 30",
        folder.path().display()
    );
    (Explaining::start(&directives).await, folder)
}

/// The remarks of `kubernetes`, a line each.
fn remarks(text: &str) -> String {
    let lines = text.lines().map(str::trim_start);
    let ours = lines.filter_map(|line| line.strip_prefix("kubernetes: "));
    ours.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_explained() {
    let (server, _folder) = cluster("").await;
    let text = server.text("name=web.shop.svc.cluster.local&client=10.244.0.9");
    insta::assert_snapshot!(text, @"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_the_objects_behind_them() {
    let (server, _folder) = cluster("pods verified").await;
    let mut all = String::new();
    for question in [
        "name=web.shop.svc.cluster.local&type=AAAA",
        "name=web.nowhere.svc.cluster.local",
        "name=nosuch.shop.svc.cluster.local",
        "name=db.shop.svc.cluster.local",
        "name=db-0.db.shop.svc.cluster.local",
        "name=db-2.db.shop.svc.cluster.local",
        "name=_sql._tcp.db.shop.svc.cluster.local&type=SRV",
        "name=_nosuch._tcp.web.shop.svc.cluster.local&type=SRV",
        "name=idle.shop.svc.cluster.local",
        "name=mail.shop.svc.cluster.local",
        "name=10-244-0-9.shop.pod.cluster.local",
        "name=10-244-0-8.shop.pod.cluster.local",
        "name=shop.svc.cluster.local",
        "name=cluster.local&type=SOA",
        "name=what.ever.cluster.local",
        "name=7.0.96.10.in-addr.arpa&type=PTR",
        "name=5.0.244.10.in-addr.arpa&type=PTR",
        "name=9.9.9.10.in-addr.arpa&type=PTR",
    ] {
        let text = remarks(&server.text(question));
        all.push_str(&format!("# {question}\n{text}\n"));
    }
    insta::assert_snapshot!(all, @"");
}

/// An alias that leads out of the cluster: what the server asks itself is there as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_explained() {
    let (server, _folder) = cluster("").await;
    let text = server.text("name=outside.shop.svc.cluster.local");
    insta::assert_snapshot!(text, @"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_namespaces_and_pods() {
    let (server, _folder) = cluster("namespaces other").await;
    let text = remarks(&server.text("name=web.shop.svc.cluster.local"));
    assert!(
        text.contains("Namespace shop: hidden (namespaces, namespace_labels)\n"),
        "{text}"
    );
    assert!(text.contains("Service shop/web: not exposed\n"), "{text}");
    let text = remarks(&server.text("name=10-244-0-9.shop.pod.cluster.local"));
    assert!(
        text.contains("pods disabled: no pod has a name\n"),
        "{text}"
    );
}
