//! Host names as `TO`.

use super::{ONE, example, expected, good};
use crate::support::block::{block, error};
use crate::support::message::{a, reply};
use crate::support::upstream::Upstream;
use portolan::dns::{Header, Query, RecordType};

/// A name server that knows one host.
async fn resolver() -> Upstream {
    Upstream::answering(|seen| {
        let query = Query::read(&seen.packet).unwrap();
        if query.name().to_string() != "dns.example." {
            return reply(&seen.packet, 3, &[]);
        }
        match query.qtype() {
            RecordType::A => reply(&seen.packet, Header::RA, &[&a(60, [127, 0, 0, 1])]),
            _ => reply(&seen.packet, Header::RA, &[]),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_name_is_resolved_once() {
    let (upstream, resolver) = (good().await, resolver().await);
    let block = block(&format!(
        "forward . dns.example:{} {{\n resolver {}\n}}",
        upstream.addr.port(),
        resolver.addr
    ));
    let asked = resolver.seen().len();
    assert!(asked > 0);
    for _ in 0..3 {
        let answer = block.udp(example()).await;
        assert_eq!(
            answer.message,
            expected(&example(), Header::RA, &[&a(300, ONE)])
        );
    }
    assert_eq!(resolver.seen().len(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_not_known_is_an_error() {
    let resolver = resolver().await;
    let text = error(&format!(
        "forward . nosuch.example {{\n resolver {}\n}}",
        resolver.addr
    ));
    let start = "Corefile:1 - Error during parsing: not an IP address or file, and no host name: \"nosuch.example\": ";
    assert!(text.starts_with(start), "{text}");
}
