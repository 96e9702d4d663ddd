//! One `forward` stanza at work: which upstream is asked when, and for how long (FW-5 to FW-10).

use super::coalesce::Coalescer;
use super::config::Config;
use super::peer::Peer;
use crate::dns::header::HEADER_LEN;
use crate::dns::{Header, Query, Rcode, RecordType, Records};
use crate::metrics::Counter;
use crate::plugin::{OwnedContext, Process, Transport};
use crate::upstream::marker::Origin;
use crate::upstream::{ExchangeError, Protocol};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long after a query came a new attempt may start (FW-5).
const BUDGET: Duration = Duration::from_secs(5);
/// The pause after a round of failures where their number is not bounded: an upstream that
/// refuses at once would be asked without end otherwise.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// A stanza with its upstreams.
pub(super) struct Stanza {
    pub(super) config: Config,
    pub(super) behind_cache: bool,
    /// The server block, which *loop* knows its queries by.
    origin: Origin,
    /// At least one: a stanza without upstreams is no valid configuration.
    pub(super) peers: Box<[Arc<Peer>]>,
    pub(super) in_flight: AtomicUsize,
    pub(super) coalescer: Arc<Coalescer<Answered>>,
    pub(super) coalesced: Counter,
    pub(super) rejected: Counter,
    broken: Counter,
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
    },
    /// No usable message; the last error, if any upstream was asked.
    Failed(Option<ExchangeError>),
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

    /// Asks upstreams until one answers or the bounds are reached. A UDP reply longer than `limit`
    /// is taken as truncated. What is to be said of it goes to `cx`.
    pub(super) async fn ask(
        &self,
        mut query: Vec<u8>,
        protocol: Protocol,
        limit: usize,
        cx: Option<&OwnedContext>,
    ) -> Answered {
        let note = |text: &dyn Fn() -> String| cx.into_iter().for_each(|cx| cx.note(text));
        note(&|| self.describe());
        let config = &self.config;
        let deadline = Instant::now() + BUDGET;
        let order = self.config.policy.order(self.peers.len());
        let (mut at, mut failed, mut answered) = (0, 0, 0);
        let mut error = None;
        let mut reply = None;
        while (config.max_attempts == 0 || failed < config.max_attempts)
            && Instant::now() < deadline
        {
            let healthy = self.healthy(&order, &mut at);
            let last_resort = healthy.is_none();
            let Some(peer) = healthy.or_else(|| self.unhealthy()) else {
                note(&|| "all upstreams are down, and `failfast_all_unhealthy_upstreams`".into());
                break;
            };
            let (to, asked) = (peer.upstream.remote(), Instant::now());
            let attempt = self.attempt(peer, &mut query, protocol, limit).await;
            let millis = || asked.elapsed().as_secs_f64() * 1e3;
            match attempt {
                Ok(message) => {
                    note(&|| {
                        let rcode = rcode(&message);
                        format!("upstream {to} answered {rcode} after {:.1} ms", millis())
                    });
                    answered += 1;
                    let fails_over = config.failover.contains(&rcode(&message));
                    let done = !fails_over || answered >= self.peers.len();
                    reply = Some((message, peer.upstream.remote()));
                    if done || last_resort {
                        break;
                    }
                }
                Err(failure) => {
                    note(&|| format!("upstream {to} failed after {:.1} ms: {failure}", millis()));
                    let mismatch = matches!(failure, ExchangeError::OtherQuestion { .. });
                    error = Some(failure);
                    if mismatch {
                        reply = None;
                        break;
                    }
                    if config.max_fails > 0 {
                        peer.check(config.max_fails);
                    }
                    failed += 1;
                    if last_resort {
                        break;
                    }
                    if config.max_attempts == 0 && failed % self.peers.len() == 0 {
                        sleep(ROUND_PAUSE).await;
                    }
                }
            }
        }
        match reply {
            Some((message, from)) => Answered::Message { message, from },
            None => Answered::Failed(error),
        }
    }

    /// The stanza and the health of its upstreams, for people.
    fn describe(&self) -> String {
        let peers = self.peers.iter().map(|peer| {
            let down = peer.is_down(self.config.max_fails);
            let health = if down { "down" } else { "up" };
            format!("{} ({health})", peer.upstream.remote())
        });
        let peers: Vec<_> = peers.collect();
        format!(
            "forwards {} to {}",
            self.config.from.text(),
            peers.join(", ")
        )
    }

    /// The next upstream in `order` that is not down, from position `at` on.
    fn healthy(&self, order: &[u8], at: &mut usize) -> Option<&Arc<Peer>> {
        for _ in 0..order.len() {
            let peer = &self.peers[usize::from(order[*at % order.len()])];
            *at += 1;
            if !peer.is_down(self.config.max_fails) {
                return Some(peer);
            }
        }
        None
    }

    /// Any upstream, where all are down (FW-9).
    fn unhealthy(&self) -> Option<&Arc<Peer>> {
        self.broken.inc();
        if self.config.fail_fast {
            return None;
        }
        self.peers.get(rand::random_range(0..self.peers.len()))
    }

    async fn attempt(
        &self,
        peer: &Peer,
        query: &mut [u8],
        protocol: Protocol,
        limit: usize,
    ) -> Result<Bytes, ExchangeError> {
        let protocol = peer.upstream.protocol(protocol);
        let message = self.exchange(peer, query, protocol, limit).await?;
        let truncated = Header::read(&message).is_ok_and(|header| header.has(Header::TC));
        if truncated && protocol == Protocol::Udp && self.config.prefer_udp {
            return self.exchange(peer, query, Protocol::Tcp, limit).await;
        }
        Ok(message)
    }

    async fn exchange(
        &self,
        peer: &Peer,
        query: &mut [u8],
        protocol: Protocol,
        limit: usize,
    ) -> Result<Bytes, ExchangeError> {
        let asked = Instant::now();
        let timeout = self.config.read_timeout;
        let exchange = peer.upstream.exchange(query, protocol, timeout);
        let message = self.origin.sends(exchange).await?;
        peer.observe(asked.elapsed(), rcode(&message));
        if protocol == Protocol::Udp && message.len() > limit {
            return Ok(crate::upstream::protocol::truncated(&message).into());
        }
        Ok(message)
    }
}

/// The response code of a well formed message, with the eight bits that EDNS adds (RFC 6891 §6.1.3).
pub(super) fn rcode(message: &[u8]) -> Rcode {
    let header = Header::read(message).unwrap_or_default();
    let records = Records::new(message).into_iter().flatten().flatten();
    let mut options = records.filter(|record| record.rtype == RecordType::OPT);
    let upper = options.next().map_or(0, |opt| (opt.ttl >> 24) as u16);
    Rcode(upper << 4 | header.rcode().0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dns::{OwnedQuery, RecordType, Reply, Zone};
    use crate::upstream::protocol::truncated;
    use crate::upstream::protocol::{Verdict, judge};
    use proptest::prelude::*;

    fn is_well_formed(message: &[u8]) -> bool {
        Records::new(message).is_ok_and(|mut records| records.all(|record| record.is_ok()))
    }

    proptest! {
        #[test]
        fn whatever_is_believed_can_be_given_to_the_client(
            bits in any::<u16>(),
            counts in proptest::array::uniform3(0u16..4),
            records in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let name = Zone::from_text("www.example.org").unwrap();
            let class = crate::dns::Class::IN;
            let query = OwnedQuery::ask(name.wire(), RecordType::A, class, true);
            let view = query.view();
            let header = Header { id: 7, bits, counts: [1, counts[0], counts[1], counts[2]] };
            let mut message = header.to_wire().to_vec();
            message.extend_from_slice(view.question());
            message.extend(records);
            prop_assume!(judge(7, view.question(), &message) == Verdict::Reply);
            let mut reply = Reply::new();
            let short = truncated(&message);
            prop_assert!(is_well_formed(&short));
            for message in [&message[..], &short] {
                let adopted = reply.adopt(&view, message);
                prop_assert_eq!(adopted.is_ok(), is_well_formed(message));
                prop_assert!(reply.finish(&view, 512).len() <= 512);
            }
        }
    }
}
