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
    insta::assert_snapshot!(server.text(parameters), @"");
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
    insta::assert_snapshot!(server.text("name=a.example"), @"");
    insta::assert_snapshot!(server.text("name=ip-9.example"), @"");
    insta::assert_snapshot!(server.text("name=b.example"), @"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_not_logged_and_is_said() {
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
