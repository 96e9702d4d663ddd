//! The hottest paths, from the packet to the reply, without sockets in between.

use portolan::corefile;
use portolan::dns::{Class, Name, OwnedQuery, RecordType, Reply};
use portolan::metrics::Shard;
use portolan::plugin::{Client, Process, Transport};
use portolan::plugins::TABLE;
use portolan::server::answer::{Answered, Received, answer};
use portolan::server::{Configuration, Routes, Server};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Runtime;

/// A path: its name and the question that takes it.
pub struct Question {
    pub name: &'static str,
    qname: &'static str,
    qtype: RecordType,
}

/// The paths that are counted.
pub const QUESTIONS: [Question; 5] = [
    Question {
        name: "service-a",
        qname: "s7.ns7.svc.cluster.local",
        qtype: RecordType::A,
    },
    Question {
        name: "search-miss",
        qname: "www.example.org.ns1.svc.cluster.local",
        qtype: RecordType::A,
    },
    Question {
        name: "srv",
        qname: "_http._tcp.s7.ns7.svc.cluster.local",
        qtype: RecordType::SRV,
    },
    Question {
        name: "cache-hit",
        qname: "h7.bench.example.net",
        qtype: RecordType::A,
    },
    Question {
        name: "ptr",
        qname: "7.0.100.10.in-addr.arpa",
        qtype: RecordType::PTR,
    },
];

/// A server with the standard chain, which is asked on the caller's thread.
pub struct Asked {
    routes: Arc<Routes>,
    reply: Reply,
    at: Instant,
    // Dropped last: what answers may need it.
    _server: Server,
    _runtime: Runtime,
}

impl Asked {
    /// Starts it with these manifests, and an upstream at this port of 127.0.0.1.
    pub fn start(manifests: &Path, upstream: u16) -> Result<Self, String> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let text = format!(
            ".:0 {{\n bind 127.0.0.1\n errors\n log . {{\n  class error\n }}\n \
             prometheus 127.0.0.1:0\n kubernetes cluster.local in-addr.arpa ip6.arpa {{\n  \
             manifests {}\n  pods insecure\n  ttl 30\n }}\n forward . 127.0.0.1:{upstream}\n \
             cache 30\n loadbalance\n}}\n",
            manifests.display()
        );
        let text = corefile::parse("Corefile", &text, &|_| None);
        let text = text.map_err(|error| format!("{error:?}"))?;
        let (process, _) = Process::new(runtime.handle().clone(), 1);
        let process = Arc::new(process);
        let configuration = Configuration::build(&text, TABLE, &process, 53)
            .map_err(|errors| format!("{errors:?}"))?;
        let routes = configuration.listeners.values().next().map(Arc::clone);
        let routes = routes.ok_or("no listener")?;
        let server = runtime.block_on(Server::start(process, configuration));
        let server = server.map_err(|error| error.to_string())?;
        Ok(Self {
            routes,
            reply: Reply::with_full_capacity(),
            at: Instant::now(),
            _server: server,
            _runtime: runtime,
        })
    }

    /// Asks until the answer comes from memory, and gives the packet.
    pub fn prepare(&mut self, question: &Question) -> Result<Box<[u8]>, String> {
        let name = Name::from_text(question.qname).map_err(|error| error.to_string())?;
        let query = OwnedQuery::ask(name.wire(), question.qtype, Class::IN, true);
        let packet = Box::from(query.view().packet());
        for _ in 0..2 {
            if let Answered::Later(mut later) = self.answer(&packet) {
                let finished = later.finish(&self.routes);
                self._runtime.block_on(finished).ok_or("no reply")?;
            }
        }
        match self.ask(&packet) {
            Some(_) => Ok(packet),
            None => Err(format!("{} is not answered from memory", question.name)),
        }
    }

    /// The length of the reply; `None` if it did not come from memory.
    #[inline]
    pub fn ask(&mut self, packet: &[u8]) -> Option<usize> {
        match self.answer(packet) {
            Answered::Reply => Some(self.reply.message().len()),
            Answered::Nothing | Answered::Later(_) => None,
        }
    }

    #[inline]
    fn answer(&mut self, packet: &[u8]) -> Answered {
        let received = Received {
            packet,
            client: Client {
                addr: SocketAddr::from((Ipv4Addr::new(10, 244, 2, 5), 4242)),
                local: SocketAddr::from((Ipv4Addr::new(10, 96, 0, 10), 53)),
                transport: Transport::Udp,
            },
            // Nothing in a cache gets older.
            at: self.at,
            shard: Shard::worker(0),
        };
        answer(&self.routes, received, &mut self.reply)
    }
}
