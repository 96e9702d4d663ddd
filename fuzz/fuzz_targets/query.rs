//! Octets of a packet to octets of a reply, through a whole server block, with what must hold of
//! every reply.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan::dns::{Header, Query, Records, Reply};
use portolan::metrics::Shard;
use portolan::plugin::{Client, Process, Transport};
use portolan::plugins::TABLE;
use portolan::server::answer::{Answered, Received, answer};
use portolan::server::{Configuration, Routes};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Plugins that answer without waiting for anybody.
const COREFILE: &str = "
.:0 {
    bind 127.0.0.1
    bufsize 1232
    errors
    prometheus 127.0.0.1:0
    chaos
    loadbalance
    cache 30
    template IN A example.org {
        match ^a\\.
        answer \"{{ .Name }} 60 IN A 192.0.2.1\"
        fallthrough
    }
    hosts {
        192.0.2.7 host.example
        2001:db8::7 host.example
        fallthrough
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests ../examples/cluster
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    whoami
}";

fn routes() -> &'static Arc<Routes> {
    static ROUTES: OnceLock<Arc<Routes>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (process, _requests) = Process::new(runtime.handle().clone(), 1);
        let corefile = portolan::corefile::parse("Corefile", COREFILE, &|_| None).unwrap();
        let built = runtime
            .block_on(async { Configuration::build(&corefile, TABLE, &Arc::new(process), 53) });
        let Ok(configuration) = built else {
            panic!("the Corefile is good")
        };
        let routes = Arc::clone(configuration.listeners.values().next().unwrap());
        runtime.block_on(async {
            for hook in configuration.hooks.start {
                hook().await;
            }
        });
        // For the life of the fuzzer: chains and background work stay alive.
        std::mem::forget(configuration.chains);
        std::mem::forget(configuration.listeners);
        std::mem::forget(runtime);
        routes
    })
}

fuzz_target!(|packet: &[u8]| {
    for transport in [Transport::Udp, Transport::Tcp] {
        let received = Received {
            packet,
            client: Client {
                addr: "10.244.2.5:4242".parse().unwrap(),
                local: "127.0.0.1:53".parse().unwrap(),
                transport,
            },
            at: Instant::now(),
            shard: Shard::SHARED,
        };
        let mut reply = Reply::new();
        if !matches!(answer(routes(), received, &mut reply), Answered::Reply) {
            continue;
        }
        let message = reply.message();
        let header = Header::read(message).unwrap();
        assert_eq!(message[..2], packet[..2], "the id is echoed");
        assert!(header.has(Header::QR));
        let Ok(query) = Query::read(packet) else {
            assert_eq!(message.len(), 12, "a reject is a header alone");
            continue;
        };
        let question = query.question();
        assert_eq!(
            &message[12..12 + question.len()],
            question,
            "the question is echoed"
        );
        let limit = match transport {
            Transport::Udp => query.udp_limit(),
            _ => 65_535,
        };
        assert!(
            message.len() <= limit,
            "{} octets for a limit of {limit}",
            message.len()
        );
        let mut records = Records::new(message).unwrap();
        assert!(
            records.by_ref().all(|record| record.is_ok()),
            "every record is whole"
        );
        assert_eq!(
            records.offset(),
            message.len(),
            "nothing follows the last record"
        );
    }
});
