//! What an encrypted upstream is asked with: authorities, client certificate, server name.

use super::pool::Dialer;
use super::{ExchangeError, Protocol};
use crate::limits::TLS_FILE;
use ring::digest;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// Sessions that can be resumed, for all servers of one [`ClientTls`].
const SESSIONS: usize = 256;

/// Authorities that are believed, and what the server is shown. Upstreams that share one share
/// the store of sessions that can be resumed (FW-25).
#[derive(Clone, Debug)]
pub struct ClientTls {
    tls: Arc<ClientConfig>,
    https: Arc<ClientConfig>,
    /// Equal for equal certificates and keys.
    fingerprint: Box<str>,
}

impl ClientTls {
    /// Believes the authorities of the PEM file `authorities`, or those of the system, and shows
    /// the server the certificate chain and the key of the PEM files `identity` (FW-26).
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn load(
        identity: Option<(&Path, &Path)>,
        authorities: Option<&Path>,
    ) -> Result<Self, String> {
        let mut sum = digest::Context::new(&digest::SHA256);
        let roots = match authorities {
            Some(path) => read_certificates(path)?,
            None => system_authorities(),
        };
        let mut store = RootCertStore::empty();
        for root in roots {
            sum.update(&root);
            // Bundles of systems have certificates in them that no verifier can use.
            let added = store.add(root);
            if let (Err(error), Some(path)) = (added, authorities) {
                return Err(format!("{}: {error}", path.display()));
            }
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = read_certificates(certificate)?;
                let pem = read(key)?;
                let secret = PrivateKeyDer::from_pem_slice(&pem);
                let secret = secret.map_err(|error| format!("{}: {error}", key.display()))?;
                chain.iter().for_each(|certificate| sum.update(certificate));
                sum.update(secret.secret_der());
                let config = builder.with_client_auth_cert(chain, secret);
                config.map_err(|error| format!("{}: {error}", certificate.display()))?
            }
        };
        let with_protocols = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let octets = sum.finish();
        let hex = octets.as_ref().iter().map(|octet| format!("{octet:02x}"));
        Ok(Self {
            tls: with_protocols(&[]),
            https: with_protocols(&[b"h2"]),
            fingerprint: hex.collect::<String>().into(),
        })
    }
}

/// The process may not have been given its default yet, and tests have several.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn system_authorities() -> Vec<CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        tracing::warn!(
            target: "plugin/forward",
            "the system has no certificate authorities: no encrypted upstream will be believed"
        );
    }
    found.certs
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("{}: no certificate in it", path.display())),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bounded = || -> io::Result<_> {
        let mut octets = Vec::new();
        let mut file = File::open(path)?.take(TLS_FILE + 1);
        file.read_to_end(&mut octets)?;
        match octets.len() as u64 {
            0..=TLS_FILE => Ok(octets),
            _ => Err(io::Error::other(format!("longer than {TLS_FILE} octets"))),
        }
    };
    bounded().map_err(|error| format!("{}: {error}", path.display()))
}

/// How a query travels over HTTPS (RFC 8484 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DohMethod {
    /// In the body.
    #[default]
    Post,
    /// In the URL.
    Get,
}

/// How one encrypted upstream is asked.
#[derive(Clone, Debug)]
pub struct Encryption {
    protocol: Protocol,
    client: ClientTls,
    server_name: ServerName<'static>,
    method: DohMethod,
}

impl Encryption {
    /// Over `protocol` ([`Protocol::Tls`] or [`Protocol::Https`]), with a server whose certificate
    /// is for `server_name`, or for its address `ip` if there is none.
    ///
    /// # Errors
    /// If `server_name` is none.
    pub fn new(
        protocol: Protocol,
        client: ClientTls,
        server_name: Option<&str>,
        ip: IpAddr,
        method: DohMethod,
    ) -> Result<Self, String> {
        let server_name = match server_name {
            None => ServerName::from(ip),
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| format!("invalid TLS server name '{name}'"))?,
        };
        Ok(Self {
            protocol,
            client,
            server_name,
            method,
        })
    }

    /// [`Protocol::Tls`] or [`Protocol::Https`].
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// A text that is the same for settings that do the same.
    pub fn fingerprint(&self) -> String {
        format!(
            "{} {:?} {:?} {}",
            self.protocol.as_str(),
            self.server_name,
            self.method,
            self.client.fingerprint
        )
    }

    pub(super) fn dialer(&self, remote: SocketAddr, source: Option<IpAddr>) -> Dialer {
        let config = match self.protocol {
            Protocol::Https => &self.client.https,
            _ => &self.client.tls,
        };
        Dialer {
            remote,
            source,
            protocol: self.protocol,
            connector: TlsConnector::from(Arc::clone(config)),
            server_name: self.server_name.clone(),
            method: self.method,
        }
    }
}

/// What became of a connection over TLS, in which an error of TLS may hide.
pub(super) fn tls_error(remote: SocketAddr, error: &io::Error) -> Option<ExchangeError> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let why = inner.to_string().into();
    Some(ExchangeError::Tls { remote, why })
}
