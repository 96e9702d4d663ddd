//! What the other plugins say, and what of a question is left behind.

use super::Explaining;
use crate::support::client::{ask, question};
use crate::support::message;
use crate::support::upstream::Upstream;
use portolan::dns::RecordType;
use serde_json::Value;

async fn answering() -> Upstream {
    Upstream::answering(|seen| {
        message::reply(&seen.packet, 0x8180, &[&message::a(300, [192, 0, 2, 1])])
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_and_the_cache() {
    let upstream = answering().await;
    let server = Explaining::start(&format!(
        "errors
        log
        prometheus 127.0.0.1:0
        cache 30
        forward . {}
        loadbalance",
        upstream.addr
    ))
    .await;
    let parameters = "name=www.example.org&type=a&client=10.0.0.9";
    insta::assert_snapshot!(server.text(parameters), @r#"
    question: www.example.org. IN A from 10.0.0.9 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      prometheus: passed on
      errors: passed on
      log: passed on
      loadbalance: passed on
      cache: miss: it has no answer to this question
      cache: passed on
      forward: waits for an answer
      forward: forwards . to 127.0.0.1:PORT (up)
      forward: upstream 127.0.0.1:PORT answered NOERROR after T
      forward: answered NOERROR (answer 1, authority 0, additional 0)
      cache: stored for 30 s
      cache on the way out: changed the reply: records (their order or their TTLs)

    reply after T:
      status: NOERROR, flags: qr rd ra
      answer:
        www.example.org. 30 IN A 192.0.2.1
    "#);
    let again = server.text(parameters);
    assert!(
        again.contains("\n  cache: hit: NOERROR stored 0 s ago, good for 30 s more\n"),
        "{again}"
    );
    assert!(!again.contains("forward"), "{again}");
    // The upstream was really asked, and by a client's clock the answer is a hit.
    assert_eq!(upstream.seen().len(), 1);
    let metric = |series: &str| server.server.metric(series);
    assert_eq!(metric("portolan_explain_requests_total"), Some(2.0));
    let text = server.server.metrics();
    for line in text.lines().filter(|line| {
        line.starts_with("coredns_dns_requests_total{")
            || line.starts_with("coredns_cache_requests_total{")
            || line.starts_with("coredns_cache_misses_total{")
    }) {
        assert!(line.ends_with(" 0"), "{line}");
    }
    // A client's question counts.
    ask(
        server.server.addr(),
        &question("www.example.org.", RecordType::A),
    );
    let text = server.server.metrics();
    let requests = text
        .lines()
        .find(|line| line.starts_with("coredns_cache_requests_total{"));
    assert!(requests.unwrap().ends_with(" 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_templates() {
    let server = Explaining::start(
        "hosts {
            192.0.2.7 a.example
            192.0.2.8 a.example
            fallthrough
        }
        template IN A example {
            match ^ip-(?P<n>[0-9]+)[.]example[.]$
            answer \"{{ .Name }} 60 IN A 192.0.2.{{ .Group.n }}\"
            fallthrough
        }",
    )
    .await;
    insta::assert_snapshot!(server.text("name=a.example"), @r#"
    question: a.example. IN A from 127.0.0.1 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      template: passed on
      hosts: the Corefile has: 192.0.2.7 a.example.
      hosts: the Corefile has: 192.0.2.8 a.example.
      hosts: answered NOERROR (answer 2, authority 0, additional 0)

    reply after T:
      status: NOERROR, flags: qr aa rd
      answer:
        a.example. 3600 IN A 192.0.2.7
        a.example. 3600 IN A 192.0.2.8
    "#);
    insta::assert_snapshot!(server.text("name=ip-9.example"), @r#"
    question: ip-9.example. IN A from 127.0.0.1 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      template: template 1: zone example., matched by ^ip-(?P<n>[0-9]+)[.]example[.]$
      template: answered NOERROR (answer 1, authority 0, additional 0)

    reply after T:
      status: NOERROR, flags: qr aa rd
      answer:
        ip-9.example. 60 IN A 192.0.2.9
    "#);
    insta::assert_snapshot!(server.text("name=b.example"), @r#"
    question: b.example. IN A from 127.0.0.1 over udp
    listener: dns://127.0.0.1:PORT
    server block: dns://127.0.0.1:PORT for .
    because: . is the longest zone here that holds the name

    steps:
      template: passed on
      hosts: no entry for the name
      hosts: passed on
      server: ended the query with SERVFAIL: plugin/hosts: no next plugin found

    reply after T:
      status: SERVFAIL, flags: qr rd
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_explained() {
    let server = Explaining::start(
        "errors
        forward . 127.0.0.1:1 {
            max_fails 0
            max_connect_attempts 1
        }",
    )
    .await;
    let text = server.text("name=www.example.org");
    assert!(
        text.contains("  forward: forwards . to 127.0.0.1:PORT (up)\n"),
        "{text}"
    );
    assert!(
        text.contains("  forward: upstream 127.0.0.1:PORT failed after T: "),
        "{text}"
    );
    assert!(
        text.contains("  errors: a client's query would be logged: 2 www.example.org. A: "),
        "{text}"
    );
    assert!(
        text.contains("status: SERVFAIL, flags: qr rd\n  EDE: "),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json() {
    let upstream = answering().await;
    let server = Explaining::start(&format!("forward . {}\ncache", upstream.addr)).await;
    let said = server.get("name=www.example.org", "application/json");
    assert_eq!(said.status, 200);
    assert!(
        said.head.contains("content-type: application/json"),
        "{}",
        said.head
    );
    let value: Value = serde_json::from_str(&said.body).unwrap();
    assert_eq!(value["question"]["name"], "www.example.org.");
    assert_eq!(value["question"]["type"], "A");
    assert_eq!(
        value["because"],
        ". is the longest zone here that holds the name"
    );
    assert_eq!(value["reply"]["status"], "NOERROR");
    assert_eq!(
        value["reply"]["answer"][0],
        "www.example.org. 300 IN A 192.0.2.1"
    );
    let steps = value["steps"].as_array().unwrap();
    let kinds: Vec<_> = steps
        .iter()
        .map(|step| {
            format!(
                "{} {}",
                step["plugin"].as_str().unwrap(),
                step["kind"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "cache remark",
            "cache passed",
            "forward waits",
            "forward remark",
            "forward remark",
            "forward decided",
            "cache remark"
        ]
    );
    let said = server.get("name=a..b", "application/json");
    assert_eq!(said.status, 400);
    let value: Value = serde_json::from_str(&said.body).unwrap();
    assert!(
        value["error"]
            .as_str()
            .unwrap()
            .starts_with("name \"a..b\" is no domain name")
    );
}
