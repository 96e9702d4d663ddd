//! The client of the API server: credentials, and requests that are counted.

use super::decode::{self, Format};
use super::pace::{Pace, Pacer};
use super::watch::Failure;
use super::{Origin, SetupError, Tls};
use crate::metrics::{Cells, Histogram, Registry, Shard};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http_body_util::BodyExt;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{Body, ConfigExt};
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tower::{BoxError, ServiceBuilder};

const AGENT: &str = concat!("portolan/", env!("CARGO_PKG_VERSION"));
/// Octets of the body of an error that are read.
const ERROR_BYTES: usize = 64 * 1024;
/// Seconds, in nanoseconds: Prometheus's default buckets.
const BUCKETS: [u64; 11] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// The status codes that the API answers with; any other counts as `<error>`, like no answer.
const CODES: [u16; 20] = [
    200, 301, 302, 307, 400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 429, 500, 501, 502, 503,
    504,
];

/// After so long without an acknowledgement, or an answer to three probes, a connection is dead: a
/// node that is gone says nothing.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// Credentials are read again no sooner than this after they were.
const RENEW: Duration = Duration::from_millis(250);

/// The API server.
pub(super) struct Api {
    origin: Origin,
    runtime: Handle,
    client: Mutex<(Client, Instant)>,
    pacer: Pacer,
    requests: Arc<Cells>,
    durations: Histogram,
    paced: Histogram,
}

/// A successful response.
pub(super) struct Response {
    /// How the body is written.
    pub(super) format: Format,
    /// The body.
    pub(super) body: Body,
}

impl Api {
    /// Reads credentials and certificates, and connects nowhere yet.
    pub(super) fn new(
        origin: &Origin,
        pace: Pace,
        runtime: &Handle,
        metrics: &Registry,
    ) -> Result<Self, SetupError> {
        // A provider that is installed already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = config(origin)?;
        let host = match config.cluster_url.authority() {
            Some(authority) => authority.as_str().to_owned(),
            None => String::new(),
        };
        let client = client(config, origin, runtime)?;
        let codes = CODES.iter().map(u16::to_string);
        let codes: Vec<String> = codes.chain(["<error>".to_owned()]).collect();
        let labels = |code| {
            vec![
                ("code", code),
                ("method", "GET".to_owned()),
                ("host", host.clone()),
            ]
        };
        let histogram = |name, help| {
            let labels = vec![("verb", "GET".to_owned()), ("host", host.clone())];
            metrics.histogram(name, help, labels, &BUCKETS, 1e9)
        };
        Ok(Self {
            origin: origin.clone(),
            runtime: runtime.clone(),
            client: Mutex::new((client, Instant::now())),
            pacer: Pacer::new(pace),
            paced: histogram(
                "coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
                "Client side rate limiter latency in seconds. Broken down by verb and host.",
            ),
            durations: histogram(
                "coredns_kubernetes_rest_client_request_duration_seconds",
                "Request latency in seconds. Broken down by verb and host.",
            ),
            requests: metrics.row(
                "coredns_kubernetes_rest_client_requests_total",
                "Number of HTTP requests, partitioned by status code, method, and host.",
                vec![("host", host.clone())],
                || codes.into_iter().map(labels).collect(),
            ),
        })
    }

    /// Asks for a path with its query, and waits at most `patience` for the response to begin.
    pub(super) async fn get(&self, path: &str, patience: Duration) -> Result<Response, Failure> {
        let request = http::Request::get(path)
            .header(ACCEPT, decode::ACCEPT)
            .header(USER_AGENT, AGENT)
            .body(Body::empty())
            .map_err(|error| Failure::Connection(chain(&error)))?;
        let begun = Instant::now();
        let permit = self.pacer.wait().await;
        observe(&self.paced, begun);
        let begun = Instant::now();
        let client = self.client().0.clone();
        let answer = tokio::time::timeout(patience, client.send(request)).await;
        drop(permit);
        observe(&self.durations, begun);
        let code = match &answer {
            Ok(Ok(response)) => response.status().as_u16(),
            _ => 0,
        };
        let cell = CODES.iter().position(|&known| known == code);
        self.requests
            .add(Shard::SHARED, cell.unwrap_or(CODES.len()), 1);
        if code == 0 || code == 401 {
            self.renew();
        }
        let response = answer
            .map_err(|_| Failure::Silent(patience))?
            .map_err(|error| Failure::Connection(chain(&error)))?;
        let (head, mut body) = response.into_parts();
        let media = head.headers.get(CONTENT_TYPE);
        let media = media.and_then(|value| value.to_str().ok()).unwrap_or("");
        let format = Format::of(media);
        if !head.status.is_success() {
            let text = tokio::time::timeout(patience, read(&mut body, ERROR_BYTES)).await;
            let text = text.ok().and_then(Result::ok).unwrap_or_default();
            let mut status = decode::status(format, &text);
            status.code = code;
            status.retry_after = retry_after(&head.headers);
            return Err(Failure::Status(status));
        }
        match format {
            Some(format) => Ok(Response { format, body }),
            None => Err(Failure::ContentType(media.to_owned())),
        }
    }

    fn client(&self) -> MutexGuard<'_, (Client, Instant)> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads credentials and certificates again: what failed may have failed because a token, a
    /// certificate or the authority was replaced. What is being received goes on.
    fn renew(&self) {
        let mut current = self.client();
        if current.1.elapsed() < RENEW {
            return;
        }
        current.1 = Instant::now();
        let new =
            config(&self.origin).and_then(|config| client(config, &self.origin, &self.runtime));
        match new {
            Ok(new) => current.0 = new,
            Err(error) => tracing::debug!(target: "plugin/kubernetes", "credentials: {error}"),
        }
    }
}

fn observe(histogram: &Histogram, begun: Instant) {
    let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    histogram.observe(Shard::SHARED, nanos);
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3); the API does not send dates.
fn retry_after(headers: &http::HeaderMap) -> u32 {
    let value = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    value.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn config(origin: &Origin) -> Result<Config, SetupError> {
    match origin {
        Origin::Kubeconfig { file, context } => kubeconfig(file, context.clone()),
        Origin::Endpoint { url, tls } => endpoint(url, tls.as_ref()),
        Origin::InCluster | Origin::Manifests(_) => {
            Config::incluster().map_err(|error| SetupError::InCluster(chain(&error)))
        }
    }
}

/// A client that connects nowhere yet.
fn client(config: Config, origin: &Origin, runtime: &Handle) -> Result<Client, SetupError> {
    let failed = |error: kube::Error| match origin {
        Origin::InCluster => SetupError::InCluster(chain(&error)),
        _ => SetupError::Client(chain(&error)),
    };
    // The client spawns tasks of its own.
    let _runtime = runtime.enter();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_keepalive(Some(DEAD_AFTER / 3));
    connector.set_keepalive_interval(Some(DEAD_AFTER / 3));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(DEAD_AFTER));
    let connector = config.rustls_https_connector_with_connector(connector);
    let connections = legacy::Client::builder(TokioExecutor::new());
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(failed)?)
        .layer(config.extra_headers_layer().map_err(failed)?)
        .map_err(BoxError::from)
        .service(connections.build(connector.map_err(failed)?));
    Ok(Client::new(service, config.default_namespace))
}

/// Reads a body of at most `limit` octets.
pub(super) async fn read(body: &mut Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    while let Some(chunk) = chunk(body).await? {
        if octets.len() + chunk.len() > limit {
            return Err(Failure::TooLarge);
        }
        octets.extend_from_slice(&chunk);
    }
    Ok(octets)
}

/// The next octets of a body, `None` at its end.
pub(super) async fn chunk(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failure::Connection(chain(&error))),
            // Anything but data is a trailer.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn kubeconfig(file: &std::path::Path, context: Option<String>) -> Result<Config, SetupError> {
    let wrong = |reason| SetupError::Kubeconfig {
        file: file.to_owned(),
        reason,
    };
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let read = Kubeconfig::read_from(file).map_err(|error| wrong(chain(&error)))?;
    // The function is async, but waits for nothing.
    let config = Config::from_custom_kubeconfig(read, &options).now_or_never();
    config
        .ok_or_else(|| wrong("it cannot be read without waiting".into()))?
        .map_err(|error| wrong(chain(&error)))
}

fn endpoint(url: &str, tls: Option<&Tls>) -> Result<Config, SetupError> {
    let wrong = |reason: String| SetupError::Endpoint {
        url: url.to_owned(),
        reason,
    };
    let full = match (url.contains("://"), tls) {
        (true, _) => url.to_owned(),
        (false, None) => format!("http://{url}"),
        (false, Some(_)) => format!("https://{url}"),
    };
    let uri: http::Uri = full
        .parse()
        .map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(wrong("not an http or https URL".into()));
    }
    let mut config = Config::new(uri);
    if let Some(tls) = tls {
        let unreadable = |file: &std::path::Path, reason: String| SetupError::File {
            file: file.to_owned(),
            reason,
        };
        for file in [&tls.cert, &tls.key] {
            std::fs::metadata(file).map_err(|error| unreadable(file, error.to_string()))?;
        }
        let certs = CertificateDer::pem_file_iter(&tls.ca)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable(&tls.ca, error.to_string()))?;
        config.root_cert = Some(certs.iter().map(|cert| cert.to_vec()).collect());
        config.root_cert_file = Some(tls.ca.clone());
        let path = |file: &std::path::Path| Some(file.to_string_lossy().into_owned());
        config.auth_info = AuthInfo {
            client_certificate: path(&tls.cert),
            client_key: path(&tls.key),
            ..AuthInfo::default()
        };
    }
    Ok(config)
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
