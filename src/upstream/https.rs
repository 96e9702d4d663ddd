//! DNS over HTTPS (RFC 8484), by HTTP/2: a stream for each query.

use super::encryption::DohMethod;
use super::pool::{Dialer, Line};
use super::protocol::{self, Verdict};
use super::{Cause, ExchangeError, Operation, Protocol};
use crate::dns::MAX_MESSAGE;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The media type of a DNS message.
const MESSAGE: &str = "application/dns-message";
/// Octets of the header of a response that are taken.
const HEADER_SIZE: u32 = 16_384;
/// The port that a URL leaves out.
const PORT: u16 = 443;

/// One HTTP/2 connection; the task that keeps it ends with it.
#[derive(Debug)]
pub(super) struct Session {
    requests: SendRequest<Full<Bytes>>,
    local: SocketAddr,
    remote: SocketAddr,
    url: String,
    method: DohMethod,
}

impl Line for Session {
    async fn open(dialer: &Dialer) -> Result<Self, ExchangeError> {
        let (stream, local) = dialer.connect().await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ExchangeError::Http {
                remote: dialer.remote,
                why: "the server does not speak HTTP/2".into(),
            });
        }
        let shaken = Builder::new(TokioExecutor::new())
            .max_header_list_size(HEADER_SIZE)
            .handshake(TokioIo::new(stream));
        let (requests, connection) = shaken
            .await
            .map_err(|error| failure(dialer.remote, local, &error))?;
        tokio::spawn(async move {
            // What ends it is told to the requests on it.
            let _ = connection.await;
        });
        Ok(Self {
            requests,
            local,
            remote: dialer.remote,
            url: url(&dialer.server_name, dialer.remote.port()),
            method: dialer.method,
        })
    }

    fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    async fn ask(&self, query: &mut [u8]) -> Result<Vec<u8>, ExchangeError> {
        // §4.1: the same question is the same request, for the caches on the way.
        protocol::set_id(query, 0);
        let question = protocol::question(query).ok_or(ExchangeError::NoQuestion)?;
        let request = self.request(query)?;
        let failed = |error: hyper::Error| failure(self.remote, self.local, &error);
        let mut requests = self.requests.clone();
        requests.ready().await.map_err(failed)?;
        let response = requests.send_request(request).await.map_err(failed)?;
        let message = self.message(response).await?;
        match protocol::judge(0, question, &message) {
            Verdict::Reply | Verdict::OtherCase => Ok(message),
            Verdict::BareError => Ok(protocol::with_question(&message, question)),
            Verdict::OtherQuestion => Err(ExchangeError::OtherQuestion {
                remote: self.remote,
            }),
            Verdict::Stray => Err(self.http("the response is no reply to the query")),
        }
    }
}

impl Session {
    fn request(&self, query: &[u8]) -> Result<Request<Full<Bytes>>, ExchangeError> {
        let request = Request::builder().header(ACCEPT, MESSAGE);
        let request = match self.method {
            DohMethod::Post => request
                .method(Method::POST)
                .uri(&self.url)
                .header(CONTENT_TYPE, MESSAGE)
                .header(CONTENT_LENGTH, query.len())
                .body(Full::new(Bytes::copy_from_slice(query))),
            DohMethod::Get => request
                .method(Method::GET)
                .uri(format!("{}?dns={}", self.url, base64url(query)))
                .body(Full::default()),
        };
        request.map_err(|error| self.http(&error.to_string()))
    }

    /// The DNS message in a response.
    async fn message(&self, response: Response<Incoming>) -> Result<Vec<u8>, ExchangeError> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.http(&format!("HTTP status {status}")));
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        if !content_type.is_some_and(is_message) {
            let found = content_type.map_or("none", |found| found.to_str().unwrap_or("?"));
            return Err(self.http(&format!("content type {found}, not {MESSAGE}")));
        }
        let body = Limited::new(response.into_body(), MAX_MESSAGE)
            .collect()
            .await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return self.http("the response is longer than a DNS message can be");
            }
            match error.downcast::<hyper::Error>() {
                Ok(error) => failure(self.remote, self.local, &error),
                Err(error) => self.http(&error.to_string()),
            }
        })?;
        Ok(body.to_bytes().into())
    }

    fn http(&self, why: &str) -> ExchangeError {
        ExchangeError::Http {
            remote: self.remote,
            why: why.into(),
        }
    }
}

/// Whether it is `application/dns-message`, with parameters or without.
fn is_message(value: &HeaderValue) -> bool {
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(MESSAGE)
}

/// What happened to the connection behind an error of HTTP.
fn failure(remote: SocketAddr, local: SocketAddr, error: &hyper::Error) -> ExchangeError {
    let io = |cause| ExchangeError::Io {
        operation: Operation::Read,
        protocol: Protocol::Https,
        local: Some(local),
        remote,
        cause,
    };
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let tls = super::encryption::tls_error(remote, error);
            return tls.unwrap_or_else(|| io(error.into()));
        }
        source = error.source();
    }
    // A connection that the server said goodbye on (GOAWAY) is as good as closed.
    let text = deepest(error);
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        return io(Cause::Eof);
    }
    ExchangeError::Http {
        remote,
        why: text.into(),
    }
}

/// The text of the innermost error, which says most.
fn deepest(error: &hyper::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn url(server_name: &ServerName<'_>, port: u16) -> String {
    let host = match server_name {
        ServerName::IpAddress(ip) => match IpAddr::from(*ip) {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        },
        name => name.to_str().into_owned(),
    };
    match port {
        PORT => format!("https://{host}/dns-query"),
        port => format!("https://{host}:{port}/dns-query"),
    }
}

/// Base64 with the alphabet for URLs and without padding (RFC 4648 §5).
fn base64url(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let octet = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for digit in 0..=group.len() {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(char::from(ALPHABET[value as usize]));
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (octets, expected) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"fooba", "Zm9vYmE"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xff, 0xfb, 0xef, 0xbe], "__vvvg"),
        ] {
            assert_eq!(base64url(octets), expected, "{octets:?}");
        }
    }

    #[test]
    fn urls() {
        for (name, port, expected) in [
            ("dns.example", 443, "https://dns.example/dns-query"),
            ("dns.example", 8443, "https://dns.example:8443/dns-query"),
            ("192.0.2.1", 443, "https://192.0.2.1/dns-query"),
            ("2001:db8::1", 444, "https://[2001:db8::1]:444/dns-query"),
        ] {
            let name = ServerName::try_from(name).unwrap();
            assert_eq!(url(&name, port), expected);
        }
    }

    #[test]
    fn media_types() {
        for (text, expected) in [
            ("application/dns-message", true),
            ("Application/DNS-message; charset=x", true),
            ("application/dns-json", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(text);
            assert_eq!(is_message(&value), expected, "{text}");
        }
    }
}
