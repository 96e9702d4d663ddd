//! `GET /explain?name=…&type=…&client=…`: asks one question as a client would, and says what every
//! plugin did with it.
//!
//! It is there on the address of `/health`, and where there is none on that of `/ready` or
//! `/metrics`; only for peers on loopback (`kubectl port-forward`), since it asks in anybody's name.
//! The question goes through the real chain, on the runtime that answers queries: it is sent to
//! upstreams and its answer is cached like any other. It is not logged, and counted only by what
//! really happens elsewhere (exchanges with upstreams).

mod ask;
mod question;
mod rate;
mod show;

pub use question::{LISTENER, Question};

use super::{ListenKey, Routes};
use crate::limits::{EXPLAIN_PER_SECOND, EXPLAIN_QUERY};
use crate::metrics::{Counter, Registry};
use crate::plugin::admin::{Endpoint, Request, Response};
use arc_swap::ArcSwap;
use rate::Rate;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// The path.
pub const PATH: &str = "/explain";

/// Listening addresses with what answers on them.
type Listeners = BTreeMap<ListenKey, Arc<Routes>>;

/// The endpoint. One for the process; configurations come and go.
pub struct Explain {
    listeners: ArcSwap<Listeners>,
    runtime: tokio::runtime::Handle,
    one: tokio::sync::Semaphore,
    rate: Mutex<Rate>,
    requests: Counter,
    rejected: Counter,
}

impl Explain {
    /// An endpoint that knows no listener yet; questions are asked on `runtime`.
    pub fn new(metrics: &Registry, runtime: tokio::runtime::Handle) -> Self {
        Self {
            listeners: ArcSwap::default(),
            runtime,
            one: tokio::sync::Semaphore::new(1),
            rate: Mutex::new(Rate::new(EXPLAIN_PER_SECOND, Instant::now())),
            requests: metrics.counter(
                "portolan_explain_requests_total",
                "Questions that were explained.",
                vec![],
            ),
            rejected: metrics.counter(
                "portolan_explain_rejected_total",
                "Questions that were not explained because there were too many.",
                vec![],
            ),
        }
    }

    /// Explains by these listeners from now on.
    pub fn set(&self, listeners: &Listeners) {
        self.listeners.store(Arc::new(listeners.clone()));
    }

    /// Answers a request.
    pub async fn respond(&self, request: &Request<'_>) -> Response {
        let json = request.accept.contains("application/json");
        let asked = match self.admit(request) {
            Ok(asked) => asked,
            Err((status, text)) => return show::refusal(status, text, json),
        };
        let (question, _one) = asked;
        self.requests.inc();
        let listeners = self.listeners.load_full();
        match ask::explain(&listeners, question, &self.runtime).await {
            Ok(explained) if json => show::json(&explained),
            Ok(explained) => Response::text(200, show::text(&explained)),
            Err(text) => show::refusal(400, text, json),
        }
    }

    /// The question, if it may be asked now.
    fn admit(
        &self,
        request: &Request<'_>,
    ) -> Result<(Question, tokio::sync::SemaphorePermit<'_>), (u16, String)> {
        if !request.peer.ip().to_canonical().is_loopback() {
            let text = "explain answers loopback only (kubectl port-forward)";
            return Err((403, text.into()));
        }
        if request.query.len() > EXPLAIN_QUERY {
            return Err((
                400,
                format!("more than {EXPLAIN_QUERY} octets of parameters"),
            ));
        }
        let question = Question::parse(request.query).map_err(|text| (400, text))?;
        let Ok(one) = self.one.try_acquire() else {
            self.rejected.inc();
            return Err((429, "another question is being explained".into()));
        };
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if !rate.take(Instant::now()) {
            self.rejected.inc();
            return Err((
                429,
                format!("more than {EXPLAIN_PER_SECOND} questions a second"),
            ));
        }
        Ok((question, one))
    }
}

/// Which listening addresses of these endpoints have [`PATH`]: those of `/health`, else of
/// `/ready`, else of `/metrics`.
pub(super) fn addresses<'e>(
    endpoints: impl Iterator<Item = &'e Endpoint> + Clone,
) -> BTreeSet<&'e str> {
    for path in ["/health", "/ready", "/metrics"] {
        let of_path = endpoints.clone().filter(|endpoint| endpoint.path == path);
        let found: BTreeSet<_> = of_path.map(|endpoint| endpoint.listen.as_str()).collect();
        if !found.is_empty() {
            return found;
        }
    }
    BTreeSet::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is() {
        let endpoint = |listen: &str, path| Endpoint {
            listen: listen.into(),
            path,
            handler: Arc::new(|_| Response::text(200, "")),
        };
        let all = [
            endpoint(":9153", "/metrics"),
            endpoint(":8181", "/ready"),
            endpoint(":8080", "/health"),
            endpoint("127.0.0.1:8081", "/health"),
        ];
        let of = |count: usize| {
            let found = addresses(all[..count].iter());
            found.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(0), "");
        assert_eq!(of(1), ":9153");
        assert_eq!(of(2), ":8181");
        assert_eq!(of(3), ":8080");
        assert_eq!(of(4), "127.0.0.1:8081 :8080");
    }
}
