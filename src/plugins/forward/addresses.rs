//! The `TO` arguments: which servers they name (FW-3).

use super::names;
use super::stub;
use crate::corefile::{Error, Token};
use crate::dns::Name;
use crate::limits::FORWARD_UPSTREAMS;
use crate::upstream::{Encryption, Protocol};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The port of plain DNS.
pub(super) const PORT: u16 = 53;

/// One server that a stanza asks.
#[derive(Clone, Debug)]
pub(super) struct To {
    pub(super) address: SocketAddr,
    /// [`Protocol::Tls`] or [`Protocol::Https`]; without it, UDP and TCP.
    pub(super) encrypted: Option<Protocol>,
    /// The name behind the address, `%NAME`: what the server's certificate has to be for.
    pub(super) server_name: Option<Token>,
    /// The host name that was resolved: what the certificate has to be for where nothing else is
    /// said.
    pub(super) host: Option<Token>,
    /// Set where `encrypted` is, as soon as the options of the stanza are known.
    pub(super) encryption: Option<Encryption>,
}

impl To {
    fn is_same(&self, other: &Self) -> bool {
        let name = |to: &Self| to.server_name.as_ref().map(|name| name.text.clone());
        self.address == other.address
            && self.encrypted == other.encrypted
            && name(self) == name(other)
    }
}

/// The upstreams that `tokens` name, in order, each once. Files are read relative to `directory`,
/// host names asked of `resolvers`.
///
/// # Errors
/// At the first argument that names nothing, or when all of them together name no server.
pub(super) fn upstreams(
    name: &Token,
    tokens: &[Token],
    directory: &Path,
    resolvers: &[SocketAddr],
) -> Result<Vec<To>, Error> {
    if tokens.is_empty() {
        return Err(name.arg_error());
    }
    let mut found: Vec<To> = Vec::new();
    for token in tokens {
        for to in upstream(token, directory, resolvers)? {
            if !found.iter().any(|known| known.is_same(&to)) {
                found.push(to);
            }
        }
    }
    match found.len() {
        0 => Err(name.error("no valid upstream addresses found")),
        1..=FORWARD_UPSTREAMS => Ok(found),
        count => Err(name.error(format!(
            "more than {FORWARD_UPSTREAMS} TOs configured: {count}"
        ))),
    }
}

fn upstream(token: &Token, directory: &Path, resolvers: &[SocketAddr]) -> Result<Vec<To>, Error> {
    let text = token.as_str();
    let (encrypted, port, host) = match text.split_once("://") {
        None => (None, PORT, text),
        Some(("dns", host)) => (None, PORT, host),
        Some(("tls", host)) => (Some(Protocol::Tls), 853, host),
        Some(("https", host)) => (Some(Protocol::Https), 443, host),
        Some((scheme, _)) => {
            return Err(token.error(format!(
                "'{scheme}' is not supported as a destination protocol in forward: {text}"
            )));
        }
    };
    let (host, server_name) = match encrypted {
        None => (host.to_owned(), None),
        Some(_) => split_name(host),
    };
    if encrypted.is_some() && host.contains('/') {
        return Err(token.error(format!(
            "paths are not allowed in an encrypted destination: \"{text}\""
        )));
    }
    let is_address = address(&host, port);
    let addresses = match is_address {
        Some(address) => {
            if encrypted.is_none() {
                stub::warn_of(token, address);
            }
            vec![address]
        }
        None if encrypted.is_some() => host_name(token, &host, port, resolvers)?,
        None => {
            let path = directory.join(&host);
            match std::fs::read_to_string(&path) {
                Ok(content) => {
                    let real = Path::new(stub::REAL_SERVERS);
                    stub::replaced(&path, nameservers(&content), real)
                }
                Err(error) if path.exists() => {
                    return Err(token.error(format!("{}: {error}", path.display())));
                }
                Err(_) => host_name(token, &host, port, resolvers)?,
            }
        }
    };
    let named = |text: &str| Token {
        text: text.to_owned(),
        ..token.clone()
    };
    let resolved = is_address.is_none().then(|| named(without_port(&host)));
    let to = |address| To {
        address,
        encrypted,
        server_name: server_name.as_deref().map(named),
        host: resolved.clone().filter(|_| encrypted.is_some()),
        encryption: None,
    };
    Ok(addresses.into_iter().map(to).collect())
}

/// Takes the `%NAME` out of `IP%NAME`, `IP%NAME:PORT`, `IP:PORT%NAME` or `[IP%NAME]:PORT`.
fn split_name(text: &str) -> (String, Option<String>) {
    let Some((address, rest)) = text.split_once('%') else {
        return (text.to_owned(), None);
    };
    let (name, behind) = rest.split_at(rest.find([':', ']']).unwrap_or(rest.len()));
    (format!("{address}{behind}"), Some(name.to_owned()))
}

/// The addresses of `HOST` or `HOST:PORT`.
fn host_name(
    token: &Token,
    text: &str,
    default: u16,
    resolvers: &[SocketAddr],
) -> Result<Vec<SocketAddr>, Error> {
    let host = without_port(text);
    let port = match text.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None => Some(default),
    };
    let is_name = !host.is_empty() && !host.contains('/') && Name::from_text(host).is_ok();
    let (Some(port), true) = (port, is_name) else {
        return Err(token.error(format!("not an IP address or file: \"{text}\"")));
    };
    let found = names::resolve(host, resolvers).map_err(|why| {
        token.error(format!(
            "not an IP address or file, and no host name: \"{text}\": {why}"
        ))
    })?;
    Ok(found
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect())
}

fn without_port(text: &str) -> &str {
    text.rsplit_once(':').map_or(text, |(host, _)| host)
}

/// An address of plain DNS, with or without a port.
pub(super) fn plain_address(text: &str) -> Option<SocketAddr> {
    address(text, PORT)
}

/// An address with or without a port; an IPv6 zone index is left out.
pub(super) fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let text = without_zone_index(text);
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(&text).parse().ok()?;
    Some((ip, port).into())
}

fn without_zone_index(text: &str) -> String {
    match text.split_once('%') {
        None => text.to_owned(),
        Some((address, rest)) => {
            let behind = rest.find(']').map_or("", |at| &rest[at..]);
            format!("{address}{behind}")
        }
    }
}

/// The `nameserver` lines of a file like `/etc/resolv.conf`.
pub(super) fn nameservers(content: &str) -> Vec<SocketAddr> {
    let lines = content.lines().map(str::split_ascii_whitespace);
    lines
        .filter_map(|mut words| match words.next() {
            Some("nameserver") => words.next().and_then(plain_address),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_an_address() {
        for (text, expected) in [
            ("8.8.8.8", "8.8.8.8:53"),
            ("8.8.8.8:5353", "8.8.8.8:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
            ("fe80::1%eth0", "[fe80::1]:53"),
            ("[fe80::1%eth0]:54", "[fe80::1]:54"),
        ] {
            assert_eq!(
                plain_address(text),
                Some(expected.parse().unwrap()),
                "{text}"
            );
        }
        for text in ["", "example.org", "1.2.3", "1.2.3.4:99999", "1.2.3.4:"] {
            assert_eq!(plain_address(text), None, "{text}");
        }
    }

    #[test]
    fn encrypted_destinations() {
        for (text, expected, name) in [
            ("tls://9.9.9.9", "9.9.9.9:853", None),
            ("tls://9.9.9.9:8853", "9.9.9.9:8853", None),
            (
                "tls://9.9.9.9%dns.example",
                "9.9.9.9:853",
                Some("dns.example"),
            ),
            (
                "tls://9.9.9.9%dns.example:54",
                "9.9.9.9:54",
                Some("dns.example"),
            ),
            (
                "tls://9.9.9.9:54%dns.example",
                "9.9.9.9:54",
                Some("dns.example"),
            ),
            ("tls://2001:db8::1", "[2001:db8::1]:853", None),
            (
                "tls://2001:db8::1%dns.example",
                "[2001:db8::1]:853",
                Some("dns.example"),
            ),
            (
                "tls://[2001:db8::1%dns.example]:54",
                "[2001:db8::1]:54",
                Some("dns.example"),
            ),
            ("https://9.9.9.9", "9.9.9.9:443", None),
            (
                "https://[2001:db8::1]:8443%dns.example",
                "[2001:db8::1]:8443",
                Some("dns.example"),
            ),
        ] {
            let token = Token {
                text: text.to_owned(),
                file: "Corefile".into(),
                line: 1,
            };
            let found = upstream(&token, Path::new(""), &[]).unwrap();
            let [to] = &found[..] else { panic!("{text}") };
            assert_eq!(to.address, expected.parse().unwrap(), "{text}");
            assert_eq!(to.server_name.as_ref().map(Token::as_str), name, "{text}");
            let encrypted = if text.starts_with("tls") {
                Protocol::Tls
            } else {
                Protocol::Https
            };
            assert_eq!(to.encrypted, Some(encrypted), "{text}");
        }
    }

    #[test]
    fn only_nameserver_lines_count() {
        let content = "# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.1\n\
                       nameserver fe80::1%2 # local\noptions ndots:5\nnameserver\nnameservers 9.9.9.9\n";
        let found: Vec<_> = nameservers(content)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["10.0.0.1:53", "[fe80::1]:53"]);
    }
}
