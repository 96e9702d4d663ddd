//! What a plugin knows of the query that it handles.

use super::{Chain, Trace};
use crate::dns::{OwnedQuery, Query};
use crate::metrics::Shard;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// How a query reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Plain UDP.
    Udp,
    /// Plain TCP.
    Tcp,
    /// DNS over TLS.
    Tls,
    /// DNS over HTTPS.
    Https,
    /// DNS over QUIC.
    Quic,
}

impl Transport {
    /// `udp` or `tcp`, as logs and metrics call it.
    pub const fn proto(self) -> &'static str {
        match self {
            Self::Udp | Self::Quic => "udp",
            Self::Tcp | Self::Tls | Self::Https => "tcp",
        }
    }
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address that the query came from (an IPv4 address never as an IPv6-mapped one).
    pub addr: SocketAddr,
    /// The address that it was sent to.
    pub local: SocketAddr,
    /// The transport.
    pub transport: Transport,
}

/// A query in a chain.
pub struct Context<'a> {
    /// The query.
    pub query: Query<'a>,
    /// Who asks.
    pub client: Client,
    /// When the query was received (monotonic; one clock read serves a batch).
    pub received: Instant,
    /// Which cells of the metrics this thread writes.
    pub shard: Shard,
    /// The chain that the query is in.
    pub chain: &'a Arc<Chain>,
    /// The position in the chain of the plugin that is called.
    pub position: usize,
    /// How many times the server already asked itself on behalf of this query.
    pub depth: u8,
    /// Where the query is recorded; `None` for the queries of clients.
    pub trace: Option<&'a Arc<Trace>>,
}

impl Context<'_> {
    /// Leaves a remark of the plugin that is called, where the query is recorded.
    #[inline]
    pub fn note(&self, remark: impl FnOnce() -> String) {
        if let Some(trace) = self.trace {
            trace.remark(self, remark());
        }
    }

    /// A copy that can wait, for futures and background work. It allocates.
    pub fn to_owned(&self) -> OwnedContext {
        OwnedContext {
            query: self.query.to_owned(),
            client: self.client,
            received: self.received,
            chain: Arc::clone(self.chain),
            position: self.position,
            depth: self.depth,
            trace: self.trace.cloned(),
        }
    }

    /// The largest reply that the client takes on this transport, in octets.
    pub fn reply_limit(&self) -> usize {
        match self.client.transport {
            Transport::Udp => self.query.udp_limit(),
            _ => crate::dns::MAX_MESSAGE,
        }
    }
}

/// A [`Context`] that owns what it refers to. Its metrics go to the shared shard, those of a query
/// that is recorded nowhere.
#[derive(Clone)]
pub struct OwnedContext {
    /// The query.
    pub query: OwnedQuery,
    /// Who asks.
    pub client: Client,
    /// When the query was received.
    pub received: Instant,
    /// The chain that the query is in.
    pub chain: Arc<Chain>,
    /// The position in the chain of the plugin that made the copy.
    pub position: usize,
    /// How many times the server already asked itself on behalf of this query.
    pub depth: u8,
    /// Where the query is recorded; `None` for the queries of clients.
    pub trace: Option<Arc<Trace>>,
}

impl OwnedContext {
    /// As [`Context::note`].
    #[inline]
    pub fn note(&self, remark: impl FnOnce() -> String) {
        if self.trace.is_some() {
            self.view().note(remark);
        }
    }

    /// The view that plugins take.
    pub fn view(&self) -> Context<'_> {
        Context {
            query: self.query.view(),
            client: self.client,
            received: self.received,
            shard: match self.trace {
                None => Shard::SHARED,
                Some(_) => Shard::NOWHERE,
            },
            chain: &self.chain,
            position: self.position,
            depth: self.depth,
            trace: self.trace.as_ref(),
        }
    }
}
