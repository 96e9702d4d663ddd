//! An HTTP client for tests: one request, one connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What an endpoint said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    /// The head's lines, lower case.
    pub head: String,
    pub body: String,
}

/// Asks a port of loopback.
///
/// # Errors
/// What the system says: refused, reset.
pub fn get(port: u16, path: &str, accept: &str) -> io::Result<Said> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Said {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

/// Status and body of an endpoint; `None` if connections are refused.
pub fn status(port: u16, path: &str) -> Option<(u16, String)> {
    let said = get(port, path, "*/*").ok()?;
    Some((said.status, said.body))
}
