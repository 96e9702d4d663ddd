//! One `forward` stanza: its settings, its upstreams, and what is sent to them.

use super::coalesce::Coalescer;
use super::config::Config;
use super::course::Rules;
use super::failure::Failure;
use super::peer::Peer;
use crate::dns::header::HEADER_LEN;
use crate::dns::{ExtendedError, Header, Query, Rcode};
use crate::metrics::Counter;
use crate::plugin::{Process, Transport};
use crate::upstream::Protocol;
use crate::upstream::marker::Origin;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Answers of a server that cannot do what it is asked, where the next one may (RFC 1035 §4.1.1).
pub(super) const REFUSALS: [Rcode; 4] = [
    Rcode::SERVFAIL,
    Rcode::REFUSED,
    Rcode::FORMERR,
    Rcode::NOTIMP,
];

/// A stanza with its upstreams.
pub(super) struct Stanza {
    pub(super) config: Config,
    pub(super) behind_cache: bool,
    /// The server block, which *loop* knows its queries by.
    pub(super) origin: Origin,
    /// At least one: a stanza without upstreams is no valid configuration.
    pub(super) peers: Box<[Arc<Peer>]>,
    pub(super) in_flight: AtomicUsize,
    pub(super) coalescer: Arc<Coalescer<Answered>>,
    pub(super) coalesced: Counter,
    pub(super) rejected: Counter,
    pub(super) broken: Counter,
}

/// How the question to the upstreams ended.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    /// An upstream's message, well formed.
    Message {
        /// The message.
        message: Bytes,
        /// The upstream.
        from: SocketAddr,
        /// What is to be said of it, where no upstream had a better one.
        remark: Option<ExtendedError>,
    },
    /// No usable message.
    Failed(Failure),
}

impl Stanza {
    pub(super) fn new(
        config: Config,
        process: &Arc<Process>,
        behind_cache: bool,
        origin: Origin,
    ) -> Arc<Self> {
        let peer = |to| Peer::shared(process, to, &config.pool, &config.probe);
        let counter = |name, help| process.metrics.counter(name, help, Vec::new());
        Arc::new(Self {
            behind_cache,
            origin,
            peers: config.to.iter().map(peer).collect(),
            in_flight: AtomicUsize::new(0),
            coalescer: Arc::new(Coalescer::new()),
            coalesced: counter(
                "portolan_forward_coalesced_total",
                "Queries that shared the exchange of an identical one in flight.",
            ),
            rejected: counter(
                "coredns_forward_max_concurrent_rejects_total",
                "Counter of the number of queries rejected because the concurrent queries were at maximum.",
            ),
            broken: counter(
                "coredns_forward_healthcheck_broken_total",
                "Counter of the number of complete failures of the healthchecks.",
            ),
            config,
        })
    }

    /// The protocol for a client that came over `transport` (FW-12).
    pub(super) fn protocol(&self, transport: Transport) -> Protocol {
        match (self.config.force_tcp, self.config.prefer_udp) {
            (true, _) => Protocol::Tcp,
            (false, true) => Protocol::Udp,
            (false, false) if transport.proto() == "tcp" => Protocol::Tcp,
            (false, false) => Protocol::Udp,
        }
    }

    /// The message for the upstreams: the client's, with what plugins before this one changed
    /// (FW-14).
    pub(super) fn outgoing(&self, query: &Query<'_>) -> Vec<u8> {
        let mut packet = query.packet().to_vec();
        // Octets behind the message are not the client's question. Where more records than an OPT
        // are there, all is passed on.
        match (query.edns(), query.header().counts) {
            (Some(edns), [_, 0, 0, 1]) => packet.truncate(edns.options.end),
            (None, [_, 0, 0, 0]) => packet.truncate(HEADER_LEN + query.question().len()),
            _ => {}
        }
        if let Some(edns) = query.edns() {
            // The class of an OPT is behind its root owner name and its type.
            let class = edns.offset + 3..edns.offset + 5;
            if let (Some(0), Some(class)) = (query.packet().get(edns.offset), packet.get_mut(class))
            {
                class.copy_from_slice(&edns.udp_size.to_be_bytes());
            }
        }
        if self.behind_cache
            && let Some(flags) = packet.get_mut(3)
        {
            *flags |= Header::AD as u8;
        }
        packet
    }

    /// How long and how often is asked.
    pub(super) fn rules(&self) -> Rules {
        Rules {
            overlap: self.peers.len() > 1 && !self.config.times_given,
            read_timeout: self.config.read_timeout,
            max_attempts: self.config.max_attempts,
            fail_fast: self.config.fail_fast,
        }
    }

    /// Whether another upstream is asked after an answer with this code: one that `failover` names
    /// (FW-20), or else one that tells of a server that cannot do what it is asked.
    pub(super) fn is_refusal(&self, rcode: Rcode) -> bool {
        match &self.config.failover[..] {
            [] => REFUSALS.contains(&rcode),
            named => named.contains(&rcode),
        }
    }

    /// The stanza and the health of its upstreams, for people.
    pub(super) fn describe(&self) -> String {
        let peers = self.peers.iter().map(|peer| {
            let standing = peer.standing(self.config.max_fails, tokio::time::Instant::now());
            format!("{} ({})", peer.upstream.remote(), standing.as_str())
        });
        let peers: Vec<_> = peers.collect();
        format!(
            "forwards {} to {}",
            self.config.from.text(),
            peers.join(", ")
        )
    }
}
