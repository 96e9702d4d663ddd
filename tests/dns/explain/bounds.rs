//! What is refused, and an upstream that lets the question wait.

use super::{Explaining, explain, stable};
use crate::support::http::get;
use crate::support::process::free_port;
use crate::support::server::TestServer;
use crate::support::upstream::{Act, Upstream};
use portolan::plugins::TABLE;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_parameters_are_400_with_the_reason() {
    let server = Explaining::start("whoami").await;
    for (parameters, reason) in [
        ("", "parameter name is missing"),
        ("name=a..b", "name \"a..b\" is no domain name"),
        ("name=a&type=NOPE", "type \"NOPE\" is not known"),
        (
            "name=a&client=me",
            "client \"me\" is neither an address nor ADDRESS:PORT",
        ),
        ("name=a&tpye=A", "unknown parameter \"tpye\""),
        (
            "name=a&listener=dns://:1",
            "no listener \"dns://:1\"; there are dns://127.0.0.1:",
        ),
        (
            &format!("name={}", "a".repeat(5_000)),
            "more than 4096 octets of parameters",
        ),
    ] {
        let said = server.get(parameters, "*/*");
        assert_eq!(said.status, 400, "{parameters}: {}", said.body);
        assert!(said.body.starts_with(reason), "{parameters}: {}", said.body);
    }
    assert_eq!(
        server.server.metric("portolan_explain_requests_total"),
        Some(1.0)
    );
}

/// The question that waits is alone; what came of it so far is told after five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_and_not_for_ever() {
    let upstream = Upstream::new(|_| vec![Act::Wait(Duration::from_secs(3_600))]).await;
    let forward = format!("forward . {} {{\nread_timeout 30s\n}}", upstream.addr);
    let server = Explaining::start(&forward).await;
    let port = server.health;
    let first = std::thread::spawn(move || explain(port, "name=slow.example", "*/*"));
    while upstream.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = get(port, "/explain?name=other.example", "*/*").unwrap();
    assert_eq!(
        (second.status, &*second.body),
        (429, "another question is being explained\n")
    );
    // Probes do not wait for it.
    assert_eq!(get(port, "/health", "*/*").unwrap().body, "OK");
    let first = first.join().unwrap();
    assert_eq!(first.status, 200);
    let text = stable(&first.body);
    assert!(text.contains("  forward: waits for an answer\n"), "{text}");
    assert!(
        text.ends_with("reply after T:\n  none within 5 s: the query waits still\n"),
        "{text}"
    );
    assert_eq!(
        server.server.metric("portolan_explain_rejected_total"),
        Some(1.0)
    );
    // The next one may again.
    assert_eq!(get(port, "/explain", "*/*").unwrap().status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_a_second() {
    let server = Explaining::start("whoami").await;
    let port = server.health;
    // Far more than any machine can be given time for.
    let mut refused = 0;
    for _ in 0..2_000 {
        let said = get(port, "/explain?name=a", "*/*").unwrap();
        match said.status {
            200 => {}
            429 => {
                refused += 1;
                assert_eq!(said.body, "more than 10 questions a second\n");
                break;
            }
            other => panic!("{other}: {}", said.body),
        }
    }
    assert_eq!(
        server.server.metric("portolan_explain_rejected_total"),
        Some(f64::from(refused))
    );
    assert_eq!(refused, 1);
}

/// A pod reaches the port by the pod's address; the endpoint asks in anybody's name, and so is for
/// loopback.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_loopback_may_ask() {
    let Some(ip) = portolan::net::interfaces::addresses()
        .unwrap()
        .into_iter()
        .map(|(_, ip)| ip)
        .find(|ip: &IpAddr| ip.is_ipv4() && !ip.is_loopback())
    else {
        eprintln!("no address but loopback: not tested here");
        return;
    };
    let health = free_port();
    let text = format!(".:0 {{\nbind 127.0.0.1\nhealth :{health}\nwhoami\n}}");
    let _server = TestServer::start(TABLE, &text).await;
    let ask = |path: &str| {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect((ip, health)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(ask("/health").starts_with("HTTP/1.1 200"));
    let refused = ask("/explain?name=a");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert!(
        refused.ends_with("explain answers loopback only (kubectl port-forward)\n"),
        "{refused}"
    );
    // By IPv4 to a socket of IPv6.
    assert_eq!(explain(health, "name=a", "*/*").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_blocks_and_listeners() {
    let [health, metrics, one, two] = [(); 4].map(|()| free_port());
    let text = format!(
        ".:{one} {{
            bind 127.0.0.1
            prometheus 127.0.0.1:{metrics}
            health 127.0.0.1:{health}
            hosts {{
                192.0.2.1 www.example.org
            }}
        }}
        example.org:{one} cluster.local:{one} {{
            bind 127.0.0.1
            hosts {{
                192.0.2.2 www.example.org
            }}
        }}
        example.net:{two} {{
            bind 127.0.0.1
            hosts {{
                192.0.2.3 www.example.net
            }}
        }}"
    );
    let mut server = TestServer::start(TABLE, &text).await;
    let [first, second] = [one.min(two), one.max(two)];
    let shown = |parameters: &str| {
        let said = explain(health, parameters, "*/*");
        let text = said.body.split("\nsteps:").next().unwrap().to_owned();
        text.replace(&one.to_string(), "ONE")
            .replace(&two.to_string(), "TWO")
    };
    assert!(first < second);
    let www = shown(&format!(
        "name=www.example.org&listener=dns://127.0.0.1:{one}"
    ));
    insta::assert_snapshot!(www, @r#"
    question: www.example.org. IN A from 127.0.0.1 over udp
    listener: dns://127.0.0.1:ONE
    other listener: dns://127.0.0.1:TWO (ask it with listener=dns://127.0.0.1:TWO)
    server block: dns://127.0.0.1:ONE for example.org. cluster.local.
    because: example.org. is the longest zone here that holds the name
    other zone here: .
    "#);
    let ds = shown(&format!(
        "name=www.example.org&type=DS&listener=dns://127.0.0.1:{one}"
    ));
    insta::assert_snapshot!(ds, @r#"
    question: www.example.org. IN DS from 127.0.0.1 over udp
    listener: dns://127.0.0.1:ONE
    other listener: dns://127.0.0.1:TWO (ask it with listener=dns://127.0.0.1:TWO)
    server block: dns://127.0.0.1:ONE for example.org. cluster.local.
    because: example.org. is the shortest zone here that holds the name (DS: the parent's side)
    other zone here: .
    "#);
    let none = shown(&format!(
        "name=www.example.org&listener=dns://127.0.0.1:{two}"
    ));
    insta::assert_snapshot!(none, @r#"
    question: www.example.org. IN A from 127.0.0.1 over udp
    listener: dns://127.0.0.1:TWO
    other listener: dns://127.0.0.1:ONE (ask it with listener=dns://127.0.0.1:ONE)
    because: no zone here holds the name: REFUSED
    other zone here: example.net.
    "#);
    // Only on the address of health.
    assert_eq!(get(metrics, "/explain?name=a", "*/*").unwrap().status, 404);
    // Without a health it is where the metrics are, and it knows the new configuration.
    server
        .reload(&format!(
            ".:{one} {{\nbind 127.0.0.1\nprometheus 127.0.0.1:{metrics}\nwhoami\n}}"
        ))
        .await;
    let said = explain(metrics, "name=www.example.org", "*/*");
    assert!(
        said.body.contains("\n  whoami: answered NOERROR"),
        "{}",
        said.body
    );
}
