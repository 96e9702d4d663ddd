//! The `TO` arguments: which servers they name (FW-3).

use super::names;
use super::stub;
use crate::corefile::{Error, Token};
use crate::dns::Name;
use crate::limits::FORWARD_UPSTREAMS;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The port of plain DNS.
pub(super) const PORT: u16 = 53;

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
) -> Result<Vec<SocketAddr>, Error> {
    if tokens.is_empty() {
        return Err(name.arg_error());
    }
    let mut found = Vec::new();
    for token in tokens {
        for address in upstream(token, directory, resolvers)? {
            if !found.contains(&address) {
                found.push(address);
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

fn upstream(
    token: &Token,
    directory: &Path,
    resolvers: &[SocketAddr],
) -> Result<Vec<SocketAddr>, Error> {
    let text = token.as_str();
    let host = match text.split_once("://") {
        None | Some(("dns", _)) => text.strip_prefix("dns://").unwrap_or(text),
        Some((scheme @ ("tls" | "https"), _)) => {
            return Err(token.error(format!(
                "'{scheme}' is not supported yet as a destination protocol in forward: {text}"
            )));
        }
        Some((scheme, _)) => {
            return Err(token.error(format!(
                "'{scheme}' is not supported as a destination protocol in forward: {text}"
            )));
        }
    };
    if let Some(address) = address(host) {
        stub::warn_of(token, address);
        return Ok(vec![address]);
    }
    let path = directory.join(host);
    match std::fs::read_to_string(&path) {
        Ok(content) => {
            let real = Path::new(stub::REAL_SERVERS);
            Ok(stub::replaced(&path, nameservers(&content), real))
        }
        Err(error) if path.exists() => Err(token.error(format!("{}: {error}", path.display()))),
        Err(_) => host_name(token, host, resolvers),
    }
}

/// The addresses of `HOST` or `HOST:PORT`.
fn host_name(
    token: &Token,
    text: &str,
    resolvers: &[SocketAddr],
) -> Result<Vec<SocketAddr>, Error> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, Some(PORT)),
    };
    let is_name = !host.contains('/') && Name::from_text(host).is_ok();
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

/// An address with or without a port; an IPv6 zone index is left out.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    let text = without_zone_index(text);
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let ip: IpAddr = bare.unwrap_or(&text).parse().ok()?;
    Some((ip, PORT).into())
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
            Some("nameserver") => words.next().and_then(address),
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
            assert_eq!(address(text), Some(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "example.org", "1.2.3", "1.2.3.4:99999", "1.2.3.4:"] {
            assert_eq!(address(text), None, "{text}");
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
