//! What `kubernetes` says of a name: how it read it, and which objects are there or missing.

use super::Explaining;
use crate::support::http::get;
use crate::support::process::free_port;
use crate::support::server::TestServer;
use portolan::plugins::TABLE;
use std::time::{Duration, Instant};
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
    insta::assert_snapshot!(text, @r#"
    question: web.shop.svc.cluster.local. IN A from 10.244.0.9 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      cache: miss: it has no answer to this question
      cache: passed on
      hosts: no entry for the name
      hosts: passed on
      kubernetes: zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1
      kubernetes: read as service shop/web
      kubernetes: Namespace shop: known
      kubernetes: Service shop/web: cluster IPs 10.96.0.7; ports http 80/tcp
      kubernetes: answered NOERROR (answer 1, authority 0, additional 0)
      cache: not stored: made from the cluster's index

    reply after T:
      status: NOERROR, flags: qr aa rd
      answer:
        web.shop.svc.cluster.local. 5 IN A 10.96.0.7
    "#);
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
    insta::assert_snapshot!(all, @r#"
    # name=web.shop.svc.cluster.local&type=AAAA
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as service shop/web
    Namespace shop: known
    Service shop/web: cluster IPs 10.96.0.7; ports http 80/tcp
    it has IPv4 addresses only
    the name exists, without AAAA records (NODATA)
    answered NOERROR without data (answer 0, authority 1, additional 0)
    # name=web.nowhere.svc.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as service nowhere/web
    Namespace nowhere: not known
    Service nowhere/web: not known
    no EndpointSlice of it
    the name does not exist (NXDOMAIN)
    answered NXDOMAIN (answer 0, authority 1, additional 0)
    # name=nosuch.shop.svc.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as service shop/nosuch
    Namespace shop: known
    Service shop/nosuch: not known
    no EndpointSlice of it
    the name does not exist (NXDOMAIN)
    answered NXDOMAIN (answer 0, authority 1, additional 0)
    # name=db.shop.svc.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as service shop/db
    Namespace shop: known
    Service shop/db: headless; ports sql 5432/tcp
    EndpointSlice shop/db-1: ready addresses 10.244.0.5 (db-0), 10.244.0.6; ports sql 5432/tcp
    answered NOERROR (answer 2, authority 0, additional 0)
    # name=db-0.db.shop.svc.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as endpoint db-0 of service shop/db
    Namespace shop: known
    Service shop/db: headless; ports sql 5432/tcp
    EndpointSlice shop/db-1: ready addresses 10.244.0.5 (db-0), 10.244.0.6; ports sql 5432/tcp
    answered NOERROR (answer 1, authority 0, additional 0)
    # name=db-2.db.shop.svc.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as endpoint db-2 of service shop/db
    Namespace shop: known
    Service shop/db: headless; ports sql 5432/tcp
    EndpointSlice shop/db-1: ready addresses 10.244.0.5 (db-0), 10.244.0.6; ports sql 5432/tcp
    no ready endpoint is called db-2
    the name does not exist (NXDOMAIN)
    answered NXDOMAIN (answer 0, authority 1, additional 0)
    # name=_sql._tcp.db.shop.svc.cluster.local&type=SRV
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as port sql (tcp) of service shop/db
    Namespace shop: known
    Service shop/db: headless; ports sql 5432/tcp
    EndpointSlice shop/db-1: ready addresses 10.244.0.5 (db-0), 10.244.0.6; ports sql 5432/tcp
    answered NOERROR (answer 2, authority 0, additional 2)
    # name=_nosuch._tcp.web.shop.svc.cluster.local&type=SRV
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as port nosuch (tcp) of service shop/web
    Namespace shop: known
    Service shop/web: cluster IPs 10.96.0.7; ports http 80/tcp
    it has no such port
    the name does not exist (NXDOMAIN)
    answered NXDOMAIN (answer 0, authority 1, additional 0)
    # name=idle.shop.svc.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as service shop/idle
    Namespace shop: known
    Service shop/idle: headless; ports none
    no EndpointSlice of it
    headless, and no endpoint is ready
    the name does not exist (NXDOMAIN)
    answered NXDOMAIN (answer 0, authority 1, additional 0)
    # name=mail.shop.svc.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as service shop/mail
    Namespace shop: known
    Service shop/mail: ExternalName web.shop.svc.cluster.local
    read as service shop/web
    Namespace shop: known
    Service shop/web: cluster IPs 10.96.0.7; ports http 80/tcp
    answered NOERROR (answer 2, authority 0, additional 0)
    # name=10-244-0-9.shop.pod.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as pod 10-244-0-9 in namespace shop
    Namespace shop: known
    Pod of shop with address 10.244.0.9: known
    answered NOERROR (answer 1, authority 0, additional 0)
    # name=10-244-0-8.shop.pod.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as pod 10-244-0-8 in namespace shop
    Namespace shop: known
    Pod of shop with address 10.244.0.8: not known
    the name does not exist (NXDOMAIN)
    answered NXDOMAIN (answer 0, authority 1, additional 0)
    # name=shop.svc.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as namespace shop
    Namespace shop: known
    the name exists, without A records (NODATA)
    answered NOERROR without data (answer 0, authority 1, additional 0)
    # name=cluster.local&type=SOA
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as the zone itself
    answered NOERROR (answer 1, authority 0, additional 0)
    # name=what.ever.cluster.local
    zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as no name that clusters have (SERVICE.NAMESPACE.svc, IP.NAMESPACE.pod)
    the name does not exist (NXDOMAIN)
    answered NXDOMAIN (answer 0, authority 1, additional 0)
    # name=7.0.96.10.in-addr.arpa&type=PTR
    zone in-addr.arpa., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as address 10.96.0.7
    Service shop/web: 10.96.0.7 is its cluster IP
    answered NOERROR (answer 1, authority 0, additional 0)
    # name=5.0.244.10.in-addr.arpa&type=PTR
    zone in-addr.arpa., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as address 10.244.0.5
    Service shop/db: 10.244.0.5 is its endpoint
    answered NOERROR (answer 1, authority 0, additional 0)
    # name=9.9.9.10.in-addr.arpa&type=PTR
    zone in-addr.arpa., index synced: Namespace 1, Service 5, EndpointSlice 1, Pod 1
    read as address 10.9.9.9
    no Service and no EndpointSlice has 10.9.9.9
    the name does not exist: it falls through
    passed on
    "#);
}

/// An alias that leads out of the cluster: what the server asks itself is there as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_explained() {
    let (server, _folder) = cluster("").await;
    let text = server.text("name=outside.shop.svc.cluster.local");
    insta::assert_snapshot!(text, @r#"
    question: outside.shop.svc.cluster.local. IN A from 127.0.0.1 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      cache: miss: it has no answer to this question
      cache: passed on
      hosts: no entry for the name
      hosts: passed on
      kubernetes: zone cluster.local., index synced: Namespace 1, Service 5, EndpointSlice 1
      kubernetes: read as service shop/outside
      kubernetes: Namespace shop: known
      kubernetes: Service shop/outside: ExternalName www.example.org
      kubernetes: an alias that leads out of the zone: this server is asked for its target
      kubernetes: waits for an answer
        server: asks itself for www.example.org. A
        cache: miss: it has no answer to this question
        cache: passed on
        hosts: the Corefile has: 192.0.2.1 www.example.org.
        hosts: answered NOERROR (answer 1, authority 0, additional 0)
        cache: stored for 30 s
        cache on the way out: changed the reply: records (their order or their TTLs)
      kubernetes: answered NOERROR (answer 2, authority 0, additional 0)
      cache: not stored: made from the cluster's index

    reply after T:
      status: NOERROR, flags: qr aa rd
      answer:
        outside.shop.svc.cluster.local. 5 IN CNAME www.example.org.
        www.example.org. 30 IN A 192.0.2.1
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_namespaces_and_pods() {
    let (server, _folder) = cluster("namespaces other").await;
    let text = remarks(&server.text("name=web.shop.svc.cluster.local"));
    assert!(
        text.contains("Namespace shop: hidden (namespaces, namespace_labels)\n"),
        "{text}"
    );
    assert!(!text.contains("Service shop/web"), "{text}");
    let text = remarks(&server.text("name=10-244-0-9.shop.pod.cluster.local"));
    assert!(
        text.contains("pods disabled: no pod has a name\n"),
        "{text}"
    );
}

/// While the API server is away, what is not known is not denied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_not_known_yet() {
    let server = Explaining::start(
        "kubernetes cluster.local {
            endpoint http://127.0.0.1:1
            startup_timeout 0s
        }",
    )
    .await;
    let text = server.text("name=web.shop.svc.cluster.local");
    insta::assert_snapshot!(text, @r#"
    question: web.shop.svc.cluster.local. IN A from 127.0.0.1 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      kubernetes: zone cluster.local., index not synced yet: Namespace 0, Service 0, EndpointSlice 0
      kubernetes: read as service shop/web
      kubernetes: Namespace shop: not known
      kubernetes: Service shop/web: not known
      kubernetes: no EndpointSlice of it
      kubernetes: the name is not known, and not everything is known yet (SERVFAIL)
      kubernetes: answered SERVFAIL (answer 0, authority 1, additional 0)

    reply after T:
      status: SERVFAIL, flags: qr aa rd
      EDE: 14 the cluster's objects are not known yet
      authority:
        cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 0 7200 1800 86400 5
    "#);
    assert_eq!(
        server.server.metric("portolan_kubernetes_synced"),
        Some(0.0)
    );
    let age = "portolan_kubernetes_index_age_seconds";
    assert_eq!(server.server.metric(age), None);
}

/// Before queries are served, while the start waits for the API server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explained_while_the_server_starts() {
    let health = free_port();
    let text = format!(
        ".:0 {{
            bind 127.0.0.1
            health 127.0.0.1:{health}
            kubernetes cluster.local {{
                endpoint http://127.0.0.1:1
                startup_timeout 1h
            }}
        }}"
    );
    let starting = tokio::spawn(async move { TestServer::start(TABLE, &text).await });
    let end = Instant::now() + Duration::from_secs(20);
    let path = "/explain?name=web.shop.svc.cluster.local";
    let said = loop {
        if let Ok(said) = get(health, path, "*/*") {
            break said;
        }
        assert!(Instant::now() < end, "no /explain");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(said.status, 200, "{}", said.body);
    assert!(said.body.contains("index not synced yet"), "{}", said.body);
    assert!(!starting.is_finished());
    starting.abort();
}
