//! Upstreams over TLS (RFC 7858) and HTTPS (RFC 8484).

use super::{ONE, example, expected, good};
use crate::support::block::{Answer, Builder, TestBlock, block};
use crate::support::encrypted::{Act, Authority, Encrypted, Seen, Wanted};
use crate::support::message::{a, query, reply};
use crate::support::upstream::Upstream;
use portolan::dns::{ExtendedError, Header, Rcode, RecordType};
use portolan::plugin::Transport;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::time::{pause, resume, sleep};

/// More records than fit into the reply to a client without EDNS over UDP.
fn large(packet: &[u8]) -> Vec<u8> {
    let record = a(300, ONE);
    reply(packet, 0, &vec![&record[..]; 100])
}

fn answer(seen: &Seen) -> Vec<Act> {
    vec![Act::Send(reply(&seen.packet, 0, &[&a(300, ONE)]))]
}

/// A block with these upstreams that believes this authority.
fn forward(to: &str, authority: &Authority, options: &str) -> TestBlock {
    let ca = authority.ca();
    block(&format!(
        "forward . {to} {{\n max_fails 0\n policy sequential\n tls {}\n {options}\n}}",
        ca.display()
    ))
}

fn is_right(answer: &Answer) {
    let right = expected(&example(), 0, &[&a(300, ONE)]);
    assert_eq!(answer.message, right, "{:?}", answer.extended);
}

#[tokio::test]
async fn queries_go_over_tls_on_one_connection() {
    let authority = Authority::new("ours");
    let server = Encrypted::tls(&authority, &Wanted::default(), answer).await;
    let block = forward(&format!("tls://{}", server.addr), &authority, "force_tcp");
    for transport in [Transport::Udp, Transport::Tcp, Transport::Udp] {
        is_right(&block.ask(example(), transport).await);
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.connection == 0), "{seen:?}");
    assert_eq!(seen[0].packet[12..], example()[12..]);
    let to = server.addr;
    for (name, expected) in [("hits", 2.0), ("misses", 1.0)] {
        let series = format!(
            "coredns_proxy_conn_cache_{name}_total{{proxy_name=\"forward\",to=\"{to}\",proto=\"tcp-tls\"}}"
        );
        assert_eq!(block.metric(&series), expected, "{name}");
    }
}

#[tokio::test]
async fn a_udp_client_gets_what_fits() {
    let authority = Authority::new("ours");
    let act = |seen: &Seen| vec![Act::Send(large(&seen.packet))];
    let server = Encrypted::tls(&authority, &Wanted::default(), act).await;
    let block = forward(&format!("tls://{}", server.addr), &authority, "");
    let answer = block.udp(example()).await;
    assert!(answer.message.len() <= 512);
    assert!(Header::read(&answer.message).unwrap().has(Header::TC));
    let answer = block.ask(example(), Transport::Tcp).await;
    assert_eq!(Header::read(&answer.message).unwrap().counts[1], 100);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn queries_are_pipelined_and_answered_in_any_order() {
    const QUERIES: u16 = 9;
    let authority = Authority::new("ours");
    let own = |seen: &Seen| {
        let number = u32::from(seen.packet[14] - b'0');
        Act::Send(reply(&seen.packet, 0, &[&a(number, ONE)]))
    };
    for scheme in ["tls", "https"] {
        let server = match scheme {
            // All answers come together, the last question's first.
            "tls" => {
                let waiting = std::sync::Mutex::new(Vec::new());
                let act = move |seen: &Seen| {
                    let mut waiting = waiting.lock().unwrap();
                    waiting.insert(0, own(seen));
                    match waiting.len() {
                        9 => std::mem::take(&mut *waiting),
                        _ => Vec::new(),
                    }
                };
                Encrypted::tls(&authority, &Wanted::default(), act).await
            }
            _ => {
                let others = Arc::new(Barrier::new(QUERIES.into()));
                let act = move |seen: &Seen| vec![Act::Meet(Arc::clone(&others)), own(seen)];
                Encrypted::https(&authority, act).await
            }
        };
        let to = format!("{scheme}://{}", server.addr);
        let block = Arc::new(forward(&to, &authority, ""));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 1..=QUERIES {
            let block = Arc::clone(&block);
            tasks.spawn(async move {
                let packet = query(7, &format!("n{number}.example"), RecordType::A);
                let answer = block.udp(packet.clone()).await;
                let right = expected(&packet, 0, &[&a(u32::from(number), ONE)]);
                assert_eq!(answer.message, right, "{:?}", answer.extended);
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let seen = server.seen();
        assert!(
            seen.iter().all(|seen| seen.connection == 0),
            "{scheme}: {seen:?}"
        );
    }
}

#[tokio::test]
async fn a_reply_is_for_who_asked() {
    let authority = Authority::new("ours");
    let strange = |seen: &Seen| {
        let mut other_id = reply(&seen.packet, 0, &[]);
        other_id[0] ^= 0xff;
        let mut right = answer(seen);
        right.insert(0, Act::Send(other_id));
        right
    };
    let server = Encrypted::tls(&authority, &Wanted::default(), strange).await;
    let block = forward(&format!("tls://{}", server.addr), &authority, "");
    is_right(&block.udp(example()).await);
    let other = |seen: &Seen| {
        let mut message = reply(&seen.packet, 0, &[]);
        message[13] ^= 1;
        vec![Act::Send(message)]
    };
    let tls = Encrypted::tls(&authority, &Wanted::default(), other).await;
    let https = Encrypted::https(&authority, other).await;
    for to in [
        format!("tls://{}", tls.addr),
        format!("https://{}", https.addr),
    ] {
        let answer = forward(&to, &authority, "").udp(example()).await;
        assert_eq!(answer.rcode(), Rcode::FORMERR, "{to}");
    }
}

#[tokio::test]
async fn sessions_are_resumed() {
    let authority = Authority::new("ours");
    // Closes each connection after its first answer.
    let once = |seen: &Seen| {
        let mut acts = answer(seen);
        acts.extend([Act::Wait(Duration::from_millis(5)), Act::Close]);
        acts
    };
    let server = Encrypted::tls(&authority, &Wanted::default(), once).await;
    let options = "max_connect_attempts 1";
    let block = forward(&format!("tls://{}", server.addr), &authority, options);
    for _ in 0..3 {
        is_right(&block.udp(example()).await);
        // Lets the close arrive.
        sleep(Duration::from_millis(30)).await;
    }
    let resumed: Vec<_> = server.seen().iter().map(|seen| seen.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
}

/// The server answers one query on each connection, and closes on the second.
#[tokio::test]
async fn a_connection_that_closes_on_a_query_is_no_failure() {
    let authority = Authority::new("ours");
    for scheme in ["tls", "https"] {
        let counts = std::sync::Mutex::new(Vec::<usize>::new());
        let second = move |seen: &Seen| {
            let mut counts = counts.lock().unwrap();
            let len = counts.len().max(seen.connection + 1);
            counts.resize(len, 0);
            counts[seen.connection] += 1;
            match counts[seen.connection] {
                1 => answer(seen),
                _ => vec![Act::Close],
            }
        };
        let server = match scheme {
            "tls" => Encrypted::tls(&authority, &Wanted::default(), second).await,
            _ => Encrypted::https(&authority, second).await,
        };
        let options = "max_connect_attempts 1";
        let block = forward(&format!("{scheme}://{}", server.addr), &authority, options);
        for _ in 0..3 {
            is_right(&block.udp(example()).await);
        }
        let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [0, 0, 1, 1, 2], "{scheme}");
    }
}

#[tokio::test]
async fn a_new_connection_that_closes_is_a_failure() {
    let authority = Authority::new("ours");
    let close = |_: &Seen| vec![Act::Close];
    let tls = Encrypted::tls(&authority, &Wanted::default(), close).await;
    let https = Encrypted::https(&authority, close).await;
    for (server, to) in [
        (&tls, format!("tls://{}", tls.addr)),
        (&https, format!("https://{}", https.addr)),
    ] {
        let block = forward(&to, &authority, "max_connect_attempts 1");
        let answer = block.udp(example()).await;
        assert_eq!(answer.rcode(), Rcode::SERVFAIL, "{to}");
        assert_eq!(answer.error(), "EOF", "{to}");
        assert_eq!(server.seen().len(), 1, "{to}");
    }
}

/// What is wrong with the server, and what of it the client reads.
#[tokio::test]
async fn a_server_that_is_not_believed_is_not_asked() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let right = Wanted::default();
    let named = Wanted {
        names: &["dns.example"],
        ..Wanted::default()
    };
    let expired = Wanted {
        expired: true,
        ..Wanted::default()
    };
    let asks = Wanted {
        asks_client: true,
        ..Wanted::default()
    };
    for (what, authority, wanted, options, why) in [
        (
            "unknown authority",
            &other,
            &right,
            "",
            "invalid peer certificate: UnknownIssuer",
        ),
        ("expired", &ours, &expired, "", "certificate expired"),
        (
            "no name for the address",
            &ours,
            &named,
            "",
            "certificate not valid for name \"127.0.0.1\"",
        ),
        (
            "another name",
            &ours,
            &named,
            "tls_servername other.example",
            "certificate not valid for name \"other.example\"",
        ),
        (
            "demands a certificate",
            &ours,
            &asks,
            "",
            "CertificateRequired",
        ),
    ] {
        let server = Encrypted::tls(authority, wanted, answer).await;
        let to = format!("tls://{}", server.addr);
        let alone = forward(&to, &ours, options).udp(example()).await;
        assert_eq!(alone.rcode(), Rcode::SERVFAIL, "{what}");
        let [(code, text)] = &alone.extended[..] else {
            panic!("{what}: {:?}", alone.extended)
        };
        assert_eq!(*code, ExtendedError::NETWORK_ERROR, "{what}: {text}");
        let start = format!("upstream {}: ", server.addr);
        assert!(
            text.starts_with(&start) && text.contains(why),
            "{what}: {text}"
        );
        assert!(alone.error().contains(why), "{what}: {}", alone.error());
        let second = good().await;
        let both = forward(&format!("{to} {}", second.addr), &ours, options);
        let answer = both.udp(example()).await;
        assert_eq!(
            answer.message,
            expected(&example(), Header::RA, &[&a(300, ONE)]),
            "{what}"
        );
        assert!(server.seen().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_plain_server_is_no_tls_server() {
    let authority = Authority::new("ours");
    let server = good().await;
    let block = forward(
        &format!("tls://{}", server.addr),
        &authority,
        "read_timeout 200ms",
    );
    let answer = block.udp(example()).await;
    assert_eq!(answer.rcode(), Rcode::SERVFAIL);
    assert!(server.seen().is_empty(), "nothing is sent in the clear");
}

#[tokio::test]
async fn the_name_of_the_certificate() {
    let authority = Authority::new("ours");
    let named = Wanted {
        names: &["dns.example"],
        ..Wanted::default()
    };
    let server = Encrypted::tls(&authority, &named, answer).await;
    let port = server.addr.port();
    for (to, options) in [
        (
            format!("tls://127.0.0.1:{port}"),
            "tls_servername dns.example",
        ),
        (format!("tls://127.0.0.1%dns.example:{port}"), ""),
        (format!("tls://127.0.0.1:{port}%dns.example"), ""),
    ] {
        is_right(&forward(&to, &authority, options).udp(example()).await);
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let authority = Authority::new("ours");
    let asks = Wanted {
        asks_client: true,
        ..Wanted::default()
    };
    let server = Encrypted::tls(&authority, &asks, answer).await;
    let (certificate, key) = authority.client();
    let block = block(&format!(
        "forward . tls://{} {{\n tls {} {} {}\n}}",
        server.addr,
        certificate.display(),
        key.display(),
        authority.ca().display()
    ));
    is_right(&block.udp(example()).await);
    assert!(server.seen()[0].certified);
}

#[tokio::test]
async fn connections_end_with_their_time() {
    let authority = Authority::new("ours");
    for (options, pauses, connections) in [
        // Used all the time, but old.
        ("max_age 20s", [9u64, 9, 9, 9], [0, 0, 0, 1, 1]),
        // Idle for too long.
        ("expire 5s", [4, 6, 4, 6], [0, 0, 1, 1, 2]),
        ("expire 0s", [0, 0, 0, 0], [0, 1, 2, 3, 4]),
    ] {
        for scheme in ["tls", "https"] {
            let server = match scheme {
                "tls" => Encrypted::tls(&authority, &Wanted::default(), answer).await,
                _ => Encrypted::https(&authority, answer).await,
            };
            let block = forward(&format!("{scheme}://{}", server.addr), &authority, options);
            is_right(&block.udp(example()).await);
            for seconds in pauses {
                pause();
                sleep(Duration::from_secs(seconds)).await;
                resume();
                is_right(&block.udp(example()).await);
            }
            let found: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
            assert_eq!(found, connections, "{scheme} {options}");
        }
    }
}

#[tokio::test]
async fn both_methods_of_https() {
    let authority = Authority::new("ours");
    for (options, how) in [
        ("", "POST 127.0.0.1/dns-query"),
        ("doh_method POST", "POST 127.0.0.1/dns-query"),
        ("doh_method GET", "GET 127.0.0.1/dns-query"),
        ("tls_servername dns.example", "POST dns.example/dns-query"),
    ] {
        let server = Encrypted::https(&authority, answer).await;
        let block = forward(&format!("https://{}", server.addr), &authority, options);
        for _ in 0..2 {
            is_right(&block.udp(example()).await);
        }
        for seen in server.seen() {
            assert_eq!((&*seen.how, seen.connection), (how, 0));
            assert_eq!(seen.packet[..2], [0, 0], "the id");
            assert_eq!(seen.packet[2..], example()[2..]);
        }
        let to = server.addr;
        let series = format!(
            "coredns_proxy_conn_cache_hits_total{{proxy_name=\"forward\",to=\"{to}\",proto=\"https\"}}"
        );
        assert_eq!(block.metric(&series), 1.0);
    }
}

#[tokio::test]
async fn answers_over_https_that_are_none() {
    const MESSAGE: &str = "application/dns-message";
    let authority = Authority::new("ours");
    for (status, kind, body, why) in [
        (404, MESSAGE, Vec::new(), "HTTP status 404 Not Found"),
        (
            500,
            MESSAGE,
            Vec::new(),
            "HTTP status 500 Internal Server Error",
        ),
        (204, MESSAGE, Vec::new(), "HTTP status 204 No Content"),
        (
            200,
            "text/html",
            Vec::new(),
            "content type text/html, not application/dns-message",
        ),
        (
            200,
            MESSAGE,
            vec![0; 65_536],
            "the response is longer than a DNS message can be",
        ),
        (
            200,
            MESSAGE,
            vec![7; 40],
            "the response is no reply to the query",
        ),
        (
            200,
            MESSAGE,
            Vec::new(),
            "the response is no reply to the query",
        ),
    ] {
        let act = move |_: &Seen| vec![Act::Respond(status, kind, body.clone())];
        let server = Encrypted::https(&authority, act).await;
        let to = format!("https://{}", server.addr);
        let answer = forward(&to, &authority, "").udp(example()).await;
        assert_eq!(answer.rcode(), Rcode::SERVFAIL, "{why}");
        assert_eq!(answer.error(), format!("https {}: {why}", server.addr));
        let text = format!("upstream {}: {why}", server.addr);
        assert_eq!(answer.extended, [(ExtendedError::NETWORK_ERROR, text)]);
        let second = good().await;
        let both = forward(&format!("{to} {}", second.addr), &authority, "");
        assert_eq!(both.udp(example()).await.rcode(), Rcode::NOERROR, "{why}");
    }
    let tls_only = Encrypted::tls(&authority, &Wanted::default(), answer).await;
    let block = forward(&format!("https://{}", tls_only.addr), &authority, "");
    let answer = block.udp(example()).await;
    assert!(
        answer.error().ends_with("the server does not speak HTTP/2"),
        "{}",
        answer.error()
    );
}

/// Asks until the outcome is this one.
async fn until(block: &TestBlock, what: &str, is_it: impl Fn(&Answer) -> bool) {
    for _ in 0..1_000 {
        if is_it(&block.udp(example()).await) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} never came");
}

/// An upstream is down by probes over its own protocol, and back by one.
#[tokio::test]
async fn probes_take_the_protocol_of_the_upstream() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let authority = Authority::new("ours");
    for scheme in ["tls", "https"] {
        let alive = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&alive);
        let act = move |seen: &Seen| match switch.load(SeqCst) {
            true => answer(seen),
            false => vec![Act::Close],
        };
        let server = match scheme {
            "tls" => Encrypted::tls(&authority, &Wanted::default(), act).await,
            _ => Encrypted::https(&authority, act).await,
        };
        let ca = authority.ca();
        let block = block(&format!(
            "forward . {scheme}://{} {{
                failfast_all_unhealthy_upstreams
                health_check 50ms
                tls {}
            }}",
            server.addr,
            ca.display()
        ));
        until(&block, "the end", |answer| {
            answer.error() == "no healthy proxies"
        })
        .await;
        let series = format!(
            "coredns_proxy_healthcheck_failures_total{{proxy_name=\"forward\",to=\"{}\"}}",
            server.addr
        );
        assert!(block.metric(&series) >= 3.0, "{scheme}");
        let seen = server.seen();
        let probes = seen.iter().filter(|seen| seen.packet[12] == 0);
        assert!(probes.count() >= 3, "{scheme}");
        alive.store(true, SeqCst);
        until(&block, "the return", |answer| {
            answer.rcode() == Rcode::NOERROR
        })
        .await;
    }
}

#[tokio::test]
async fn many_queries_share_few_connections() {
    let authority = Authority::new("ours");
    let slow = |seen: &Seen| {
        let mut acts = answer(seen);
        acts.insert(0, Act::Wait(Duration::from_millis(100)));
        acts
    };
    for scheme in ["tls", "https"] {
        let server = match scheme {
            "tls" => Encrypted::tls(&authority, &Wanted::default(), slow).await,
            _ => Encrypted::https(&authority, slow).await,
        };
        let to = format!("{scheme}://{}", server.addr);
        let block = Arc::new(forward(&to, &authority, "max_idle_conns 1"));
        let mut tasks = Vec::new();
        for number in 0..200 {
            let block = Arc::clone(&block);
            tasks.push(tokio::spawn(async move {
                let packet = query(1, &format!("n{number}.example"), RecordType::A);
                block.udp(packet).await.rcode()
            }));
        }
        for task in tasks {
            assert_eq!(task.await.unwrap(), Rcode::NOERROR, "{scheme}");
        }
        let seen = server.seen();
        let connections = seen.iter().map(|seen| seen.connection).max().unwrap() + 1;
        assert_eq!((seen.len(), connections), (200, 4), "{scheme}");
        // Of the idle ones one is kept.
        for number in 0..3 {
            let packet = query(1, &format!("m{number}.example"), RecordType::A);
            assert_eq!(block.udp(packet).await.rcode(), Rcode::NOERROR);
        }
        let later: std::collections::BTreeSet<_> = server.seen()[200..]
            .iter()
            .map(|seen| seen.connection)
            .collect();
        assert_eq!(later.len(), 1, "{scheme}");
        assert!(later.first().unwrap() < &4, "{scheme}");
    }
}

/// Queries come from the threads of UDP workers and of TCP connections; all share the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_threads_of_a_server_share_connections() {
    use crate::support::client::{Tcp, ask};
    use crate::support::server::TestServer;
    use hickory_proto::op::ResponseCode;
    let authority = Authority::new("ours");
    for scheme in ["tls", "https"] {
        let upstream = match scheme {
            "tls" => Encrypted::tls(&authority, &Wanted::default(), answer).await,
            _ => Encrypted::https(&authority, answer).await,
        };
        let corefile = format!(
            ".:0 {{\n bind 127.0.0.1\n forward . {scheme}://{} {{\n tls {}\n}}\n}}",
            upstream.addr,
            authority.ca().display()
        );
        let server = TestServer::start(portolan::plugins::TABLE, &corefile).await;
        let addr = server.addr();
        let asked = tokio::task::spawn_blocking(move || {
            let mut tcp = Tcp::connect(addr);
            (0..5).all(|_| {
                let (udp, tcp) = (ask(addr, &example()), tcp.ask(&example()));
                [udp, tcp].iter().all(|reply| {
                    reply.response_code == ResponseCode::NoError && reply.answers.len() == 1
                })
            })
        });
        assert!(asked.await.unwrap(), "{scheme}");
        let seen = upstream.seen();
        assert_eq!(seen.len(), 10, "{scheme}");
        assert!(seen.iter().all(|seen| seen.connection == 0), "{scheme}");
    }
}

#[tokio::test]
async fn a_connection_that_went_silent_is_left() {
    let authority = Authority::new("ours");
    for scheme in ["tls", "https"] {
        let act = |seen: &Seen| match seen.connection {
            0 => vec![Act::Wait(Duration::from_secs(3_600))],
            _ => answer(seen),
        };
        let server = match scheme {
            "tls" => Encrypted::tls(&authority, &Wanted::default(), act).await,
            _ => Encrypted::https(&authority, act).await,
        };
        let to = format!("{scheme}://{}", server.addr);
        let block = forward(&to, &authority, "read_timeout 500ms");
        is_right(&block.udp(example()).await);
        let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [0, 1], "{scheme}");
    }
}

#[tokio::test]
async fn connections_outlive_a_reload_that_leaves_the_files_alone() {
    let authority = Authority::new("ours");
    let server = Encrypted::tls(&authority, &Wanted::default(), answer).await;
    let text = format!(
        "forward . tls://{} {{\n tls {}\n}}",
        server.addr,
        authority.ca().display()
    );
    let old = block(&text);
    is_right(&old.udp(example()).await);
    let again = || {
        let builder = Builder {
            process: Some(Arc::clone(&old.process)),
            ..Builder::default()
        };
        builder.build(&text).unwrap()
    };
    is_right(&again().udp(example()).await);
    assert_eq!(server.seen()[1].connection, 0);
    let other = Authority::new("other");
    std::fs::copy(other.ca(), authority.ca()).unwrap();
    let answer = again().udp(example()).await;
    assert_eq!(
        answer.rcode(),
        Rcode::SERVFAIL,
        "believed with other authorities"
    );
    assert_eq!(server.seen().len(), 2);
}

/// The certificate has to be for the host name that the upstream was given as.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_name_is_the_name_of_the_certificate() {
    let authority = Authority::new("ours");
    let resolver = Upstream::answering(|seen| {
        let is_a = seen.packet.windows(4).any(|octets| octets == [0, 1, 0, 1]);
        let records = [a(60, [127, 0, 0, 1])];
        let records: Vec<_> = records.iter().filter(|_| is_a).map(Vec::as_slice).collect();
        reply(&seen.packet, Header::RA, &records)
    })
    .await;
    for (names, rcode) in [
        (&["dns.example"][..], Rcode::NOERROR),
        (&["127.0.0.1"][..], Rcode::SERVFAIL),
    ] {
        let wanted = Wanted {
            names,
            ..Wanted::default()
        };
        let server = Encrypted::tls(&authority, &wanted, answer).await;
        let to = format!("tls://dns.example:{}", server.addr.port());
        let options = format!("resolver {}", resolver.addr);
        let answer = forward(&to, &authority, &options).udp(example()).await;
        assert_eq!(answer.rcode(), rcode, "{names:?} {:?}", answer.extended);
    }
}
