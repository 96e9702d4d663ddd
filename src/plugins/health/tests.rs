#![allow(clippy::unwrap_used)]

use super::poll::Poller;
use crate::metrics::Registry;
use crate::plugins::testing::{Logs, Rig, setup_error};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[test]
fn the_endpoint_is_always_fine() {
    let mut rig = Rig::new();
    rig.setup("health").unwrap();
    assert_eq!(rig.endpoints[0].listen, ":8080");
    assert_eq!(rig.endpoints[0].path, "/health");
    let response = rig.get("");
    assert_eq!((response.status, response.body.as_str()), (200, "OK"));
    assert!(rig.plugins.is_empty());
    assert!(rig.hooks.final_shutdown.is_empty());
}

#[tokio::test(start_paused = true)]
async fn lameduck_waits_at_the_very_end() {
    let logs = Logs::start();
    let mut rig = Rig::new();
    rig.setup("health :1 {\nlameduck 1s\n}\nhealth :8081 {\nlameduck 5s\n}")
        .unwrap();
    assert_eq!(rig.endpoints[0].listen, ":8081");
    let start = tokio::time::Instant::now();
    rig.hooks.final_shutdown.pop().unwrap()().await;
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(
        logs.take(),
        ["INFO plugin/health: Going into lameduck mode for 5s"]
    );
}

#[tokio::test]
async fn polls_its_own_endpoint() {
    let logs = Logs::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let registry = Registry::new(1);
    let poller = Poller::new(&registry, &address);
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let len = stream.read(&mut head).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
        stream.write_all(answer).await.unwrap();
        String::from_utf8_lossy(&head[..len]).into_owned()
    };
    let ((), head) = tokio::join!(poller.poll(), serve);
    assert!(head.starts_with("GET /health HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase().contains(&format!("host: {address}")),
        "{head}"
    );
    let failures = registry.counter("coredns_health_request_failures_total", "", vec![]);
    assert_eq!((failures.get(), logs.take()), (0, Vec::new()));
    drop(listener);
    poller.poll().await;
    assert_eq!(failures.get(), 1);
    let lines = logs.take();
    let start =
        format!("WARN plugin/health: Local health request to \"http://{address}/health\" failed: ");
    assert!(
        lines.len() == 1 && lines[0].starts_with(&start),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn polling_ends_with_the_configuration() {
    let logs = Logs::start();
    let mut rig = Rig::new();
    // Nobody listens on the discard port: each poll fails.
    rig.setup("health 127.0.0.1:9").unwrap();
    rig.hooks.serving.pop().unwrap()().await;
    while logs.take().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rig.hooks.shutdown.pop().unwrap()().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(logs.take(), [""; 0]);
}

#[test]
fn configuration_errors() {
    for (text, error) in [
        ("health 8080", "address 8080: missing port in address"),
        (
            "health a:1 b",
            "Wrong argument count or unexpected line ending after 'b'",
        ),
    ] {
        assert_eq!(
            setup_error(text),
            format!("plugin/health: Corefile:1 - Error during parsing: {error}")
        );
    }
    for (text, error) in [
        (
            "health {\nlameduck\n}",
            "Wrong argument count or unexpected line ending after 'lameduck'",
        ),
        (
            "health {\nlameduck 5\n}",
            "unable to parse lameduck duration value: '5'",
        ),
        (
            "health {\nfoo\n}",
            "Wrong argument count or unexpected line ending after 'foo'",
        ),
    ] {
        assert_eq!(
            setup_error(text),
            format!("plugin/health: Corefile:2 - Error during parsing: {error}")
        );
    }
}
