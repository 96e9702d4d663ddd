//! HTTP endpoints that plugins declare: `/health`, `/ready`, `/metrics`.
//!
//! They are served by one thread of their own (see `server::admin`), so that probes and scrapes
//! are answered under any load.

use std::net::SocketAddr;
use std::sync::Arc;

/// An endpoint of the admin thread.
#[derive(Clone)]
pub struct Endpoint {
    /// Where to listen, as the configuration says it (`:8080`, `localhost:9153`, `[::1]:80`).
    pub listen: String,
    /// The exact path.
    pub path: &'static str,
    /// Makes the response. Called on the admin thread; must not block.
    pub handler: Arc<dyn Fn(&Request<'_>) -> Response + Send + Sync>,
}

/// What an endpoint is told of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The query part of the URI, without `?`.
    pub query: &'a str,
    /// The `Accept` header, empty if there is none.
    pub accept: &'a str,
    /// Who asks.
    pub peer: SocketAddr,
}

/// What an endpoint answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Response {
    /// A plain text response.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }
}
