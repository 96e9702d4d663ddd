//! The server asks its own endpoint once a second, to notice that it is overloaded.

use crate::metrics::{Counter, Histogram, Registry, SLIM_TIME_BUCKETS, Shard};
use crate::plugins::common::go_duration;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};

/// How often the endpoint is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// From when on a slow answer is told.
const SLOW: Duration = Duration::from_secs(1);

/// Asks the endpoint, and counts how long it takes.
pub(super) struct Poller {
    /// Host and port to connect to.
    address: String,
    duration: Histogram,
    failures: Counter,
}

impl Poller {
    /// Asks the endpoint that listens on this address; by `localhost` if it is on all.
    pub(super) fn new(registry: &Registry, listen: &str) -> Self {
        let host = if listen.starts_with(':') {
            "localhost"
        } else {
            ""
        };
        Self {
            address: format!("{host}{listen}"),
            duration: registry.histogram(
                "coredns_health_request_duration_seconds",
                "Histogram of the time (in seconds) each request took.",
                Vec::new(),
                &SLIM_TIME_BUCKETS,
                1e9,
            ),
            failures: registry.counter(
                "coredns_health_request_failures_total",
                "The number of times the health check failed.",
                Vec::new(),
            ),
        }
    }

    /// Polls until it is dropped.
    pub(super) async fn run(self) {
        let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.poll().await;
        }
    }

    /// Asks once.
    pub(super) async fn poll(&self) {
        let start = Instant::now();
        let result = tokio::time::timeout(TIMEOUT, get(&self.address)).await;
        let taken = start.elapsed();
        let nanos = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        self.duration.observe(Shard::SHARED, nanos);
        let failed = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {}", go_duration(TIMEOUT))),
        };
        let url = format_args!("\"http://{}/health\"", self.address);
        if let Some(error) = failed {
            self.failures.inc();
            tracing::warn!(target: "plugin/health", "Local health request to {url} failed: {error}");
        } else if taken > SLOW {
            let taken = go_duration(taken);
            tracing::warn!(target: "plugin/health", "Local health request to {url} took more than 1s: {taken}");
        }
    }
}

/// Whether the endpoint answers; what it says does not matter.
async fn get(address: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get("/health")
        .header("Host", address)
        .header("Connection", "close")
        .body(Empty::<bytes::Bytes>::new())?;
    let exchange = sender.send_request(request);
    // The connection is driven until the head of the response is there.
    tokio::pin!(connection, exchange);
    tokio::select! {
        response = &mut exchange => response?,
        ended = &mut connection => {
            ended?;
            exchange.await?
        }
    };
    Ok(())
}
