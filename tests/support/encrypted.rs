//! A name server over TLS or HTTPS whose every answer is scripted, and its certificates.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// An authority that exists for one test, with its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

/// What a certificate is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub names: &'static [&'static str],
    pub expired: bool,
    /// The server demands a certificate of this authority from its clients.
    pub asks_client: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            names: &["127.0.0.1", "dns.example"],
            expired: false,
            asks_client: false,
        }
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    /// The directory of the files that [`Self::ca`] and [`Self::client`] name.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file with the authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory().join("ca.pem")
    }

    /// The files with a client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(&["client.example"], false);
        let paths = ["client.pem", "client.key"].map(|name| self.directory().join(name));
        std::fs::write(&paths[0], certificate.pem()).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        let [certificate, key] = paths;
        (certificate, key)
    }

    fn issue(&self, names: &[&str], expired: bool) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn server(&self, wanted: &Wanted) -> ServerConfig {
        let (certificate, key) = self.issue(wanted.names, wanted.expired);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match wanted.asks_client {
            true => builder.with_client_cert_verifier(verifier.build().unwrap()),
            false => builder.with_no_client_auth(),
        };
        builder.with_single_cert(chain, key).unwrap()
    }
}

/// A query that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The number of the connection, from 0.
    pub connection: usize,
    /// Whether its session was resumed.
    pub resumed: bool,
    /// Whether the client showed a certificate.
    pub certified: bool,
    /// `tls`, or the method and the path of the request.
    pub how: String,
    pub packet: Vec<u8>,
}

/// What the server does about a query, in this order. Queries are served at the same time.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends this message.
    Send(Vec<u8>),
    /// Sends this HTTP response: status, content type, body.
    Respond(u16, &'static str, Vec<u8>),
    Wait(Duration),
    /// Waits for other queries.
    Meet(Arc<Barrier>),
    /// Closes the connection: over HTTPS with GOAWAY and without an answer.
    Close,
}

type Script = dyn Fn(&Seen) -> Vec<Act> + Send + Sync;

/// The server; it stops when it is dropped.
pub struct Encrypted {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: AbortHandle,
}

impl Encrypted {
    /// A server over TLS.
    pub async fn tls(
        authority: &Authority,
        wanted: &Wanted,
        script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::new(authority.server(wanted), script).await
    }

    /// A server over HTTPS.
    pub async fn https(
        authority: &Authority,
        script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let mut config = authority.server(&Wanted::default());
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::new(config, script).await
    }

    async fn new(
        config: ServerConfig,
        script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        let script: Arc<Script> = Arc::new(script);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
                let log = Arc::clone(&log);
                connections.spawn(async move {
                    // A client that does not believe the certificate goes away.
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let session = stream.get_ref().1;
                    let first = Seen {
                        connection: number,
                        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                        certified: session.peer_certificates().is_some(),
                        how: "tls".into(),
                        packet: Vec::new(),
                    };
                    match session.alpn_protocol() {
                        Some(_) => serve_https(stream, first, script, log).await,
                        None => serve_tls(stream, first, script, log).await,
                    }
                });
            }
        });
        Self {
            addr,
            seen,
            accepting: accepting.abort_handle(),
        }
    }

    /// What arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve_tls(
    stream: TlsStream<TcpStream>,
    first: Seen,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    let (mut reader, writer) = tokio::io::split(stream);
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    let closing = Arc::new(Notify::new());
    let mut answers = JoinSet::new();
    let read = async {
        while let Ok(len) = reader.read_u16().await {
            let mut packet = vec![0; len.into()];
            if reader.read_exact(&mut packet).await.is_err() {
                return;
            }
            let seen = Seen {
                packet,
                ..first.clone()
            };
            log.lock().unwrap().push(seen.clone());
            let (acts, writer, closing) =
                (script(&seen), Arc::clone(&writer), Arc::clone(&closing));
            answers.spawn(async move {
                for act in acts {
                    match act {
                        Act::Send(message) => {
                            let mut frame = (message.len() as u16).to_be_bytes().to_vec();
                            frame.extend(message);
                            let _ = writer.lock().await.write_all(&frame).await;
                        }
                        Act::Wait(time) => tokio::time::sleep(time).await,
                        Act::Meet(others) => _ = others.wait().await,
                        Act::Close => {
                            let _ = writer.lock().await.shutdown().await;
                            closing.notify_one();
                        }
                        Act::Respond(..) => {}
                    }
                }
            });
        }
    };
    tokio::select! {
        () = read => {}
        () = closing.notified() => {}
    }
}

async fn serve_https(
    stream: TlsStream<TcpStream>,
    first: Seen,
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    let closing = Arc::new(Notify::new());
    let close = Arc::clone(&closing);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (first, script, log) = (first.clone(), Arc::clone(&script), Arc::clone(&log));
        let close = Arc::clone(&close);
        async move {
            let uri = request.uri();
            let host = uri.authority().map_or("", |authority| authority.host());
            let how = format!("{} {host}{}", request.method(), uri.path());
            let asked = uri.query().and_then(|query| query.strip_prefix("dns="));
            let packet = match asked {
                Some(text) => unbase64(text),
                None => request.into_body().collect().await?.to_bytes().to_vec(),
            };
            let seen = Seen {
                how,
                packet,
                ..first
            };
            log.lock().unwrap().push(seen.clone());
            let (mut status, mut kind) = (200, "application/dns-message");
            let mut body = Vec::new();
            for act in script(&seen) {
                match act {
                    Act::Send(message) => body = message,
                    Act::Respond(code, text, octets) => {
                        (status, kind, body) = (code, text, octets);
                    }
                    Act::Wait(time) => tokio::time::sleep(time).await,
                    Act::Meet(others) => _ = others.wait().await,
                    Act::Close => {
                        close.notify_one();
                        std::future::pending::<()>().await;
                    }
                }
            }
            let response = Response::builder()
                .status(status)
                .header("content-type", kind);
            let response = response.body(Full::new(Bytes::from(body))).unwrap();
            Ok::<_, hyper::Error>(response)
        }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => {}
        () = closing.notified() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_millis(50), connection).await;
        }
    }
}

/// Base64 for URLs, without padding.
fn unbase64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => panic!("{text} is no base64url"),
    };
    let mut octets = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let bits = group
            .iter()
            .fold(0u32, |bits, &c| bits << 6 | u32::from(digit(c)));
        let bits = bits << (6 * (4 - group.len()));
        octets.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    octets
}
