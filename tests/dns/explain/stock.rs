//! The real binary with the Corefile of kubeadm, as it is.

use super::{explain, stable};
use crate::stock::Stock;
use crate::support::client::{ask, question};
use crate::support::http::get;
use crate::support::process::{Portolan, free_port};
use portolan::dns::RecordType;
use std::net::SocketAddr;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_corefile_explains() {
    let stock = Stock::start("kubeadm-1.33.Corefile").await;
    let port = stock.ports.health;
    let text = |parameters: &str| {
        let said = explain(port, parameters, "*/*");
        assert_eq!(said.status, 200, "{}", said.body);
        stable(&said.body).replace(&stock.ports.dns.to_string(), "PORT")
    };
    insta::assert_snapshot!(text("name=web.default.svc.cluster.local&client=10.244.1.5"), @r#"
    question: web.default.svc.cluster.local. IN A from 10.244.1.5 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      prometheus: passed on
      errors: passed on
      loadbalance: passed on
      cache: miss: it has no answer to this question
      cache: passed on
      kubernetes: zone cluster.local., index synced: Namespace 2, Service 2, EndpointSlice 2
      kubernetes: read as service default/web
      kubernetes: Namespace default: known
      kubernetes: Service default/web: cluster IPs 10.96.0.10; ports http 80/tcp
      kubernetes: answered NOERROR (answer 1, authority 0, additional 0)
      cache: not stored: made from the cluster's index

    reply after T:
      status: NOERROR, flags: qr aa rd
      answer:
        web.default.svc.cluster.local. 30 IN A 10.96.0.10
    "#);
    insta::assert_snapshot!(text("name=www.example.org"), @r#"
    question: www.example.org. IN A from 127.0.0.1 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      prometheus: passed on
      errors: passed on
      loadbalance: passed on
      cache: miss: it has no answer to this question
      cache: passed on
      kubernetes: the name is in none of its zones
      kubernetes: passed on
      loop: passed on
      forward: waits for an answer
      forward: forwards . to 127.0.0.1:PORT (up)
      forward: upstream 127.0.0.1:PORT answered NOERROR after T
      forward: answered NOERROR (answer 1, authority 0, additional 0)
      cache: stored for 30 s
      cache on the way out: changed the reply: records (their order or their TTLs)

    reply after T:
      status: NOERROR, flags: qr rd ra
      answer:
        www.example.org. 30 IN A 192.0.2.80
    "#);
    // Where the cluster's state is to be seen besides.
    let metrics = get(stock.ports.metrics, "/metrics", "*/*").unwrap().body;
    let value = |series: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series));
        let line = line.unwrap_or_else(|| panic!("no {series}"));
        line.trim().parse().unwrap()
    };
    assert_eq!(value("portolan_kubernetes_synced "), 1.0);
    assert!((0.0..600.0).contains(&value("portolan_kubernetes_index_age_seconds ")));
    assert_eq!(value("portolan_kubernetes_objects{kind=\"Service\"} "), 2.0);
    for kind in ["Namespace", "Service", "EndpointSlice"] {
        let bytes = value(&format!(
            "portolan_kubernetes_index_bytes{{kind=\"{kind}\"}} "
        ));
        assert!((20.0..200_000.0).contains(&bytes), "{kind}: {bytes}");
    }
}

/// What is explained is no client's query: it is not logged.
#[test]
fn an_explanation_is_not_logged() {
    let [dns, health] = [(); 2].map(|()| free_port());
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("Corefile");
    let text = format!(
        ".:{dns} {{
            bind 127.0.0.1
            health 127.0.0.1:{health}
            log
            whoami
        }}
        failing.example:{dns} {{
            bind 127.0.0.1
            errors
            forward . 127.0.0.1:1 {{
                max_fails 0
                max_connect_attempts 1
            }}
        }}
        "
    );
    std::fs::write(&conf, text).unwrap();
    let mut server = Portolan::start(&[], &conf, &[]);
    server.wait_for("Portolan-");
    assert_eq!(explain(health, "name=explained.example", "*/*").status, 200);
    let failed = explain(health, "name=explained.failing.example", "*/*");
    assert!(failed.body.contains("status: SERVFAIL"), "{}", failed.body);
    let addr = SocketAddr::from(([127, 0, 0, 1], dns));
    for name in ["asked.failing.example.", "asked.example."] {
        ask(addr, &question(name, RecordType::A));
        server.wait_for(name);
    }
    assert_eq!(server.count("explained."), 0, "{:#?}", server.printed());
}
