//! What can go wrong in an exchange, in the words of CoreDNS's logs.

use super::Protocol;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why an exchange gave no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// A reply with the right id answers another question (FW-17).
    #[error("reply from {remote} answers another question")]
    OtherQuestion {
        /// Who sent it.
        remote: SocketAddr,
    },
    /// A reply with the right id and question, but not in the case that was sent.
    #[error("reply from {remote} has another letter case")]
    OtherCase {
        /// Who sent it.
        remote: SocketAddr,
    },
    /// An error that came over UDP without the question: all that it has right is the id.
    #[error("reply from {remote} has no question")]
    Bare {
        /// Who seems to have sent it.
        remote: SocketAddr,
        /// The error, with the question.
        reply: Vec<u8>,
    },
    /// Too many datagrams that were no reply came while the query waited: somebody guesses.
    #[error("too many messages from {remote} that answer nothing")]
    Guessed {
        /// Who seems to have sent them.
        remote: SocketAddr,
    },
    /// A reply whose records are cut.
    #[error("malformed reply from {remote}")]
    Malformed {
        /// Who sent it.
        remote: SocketAddr,
    },
    /// The message to send has no question.
    #[error("query without a question")]
    NoQuestion,
    /// A bound of the pool is reached.
    #[error("too many queries in flight to {remote}")]
    Busy {
        /// The upstream.
        remote: SocketAddr,
    },
    /// The TLS handshake or session failed: a certificate that is not believed, for one.
    #[error("tls {remote}: {why}")]
    Tls {
        /// The upstream.
        remote: SocketAddr,
        /// What is wrong.
        why: Box<str>,
    },
    /// An answer over HTTPS that is no DNS message (RFC 8484 §4.2).
    #[error("https {remote}: {why}")]
    Http {
        /// The upstream.
        remote: SocketAddr,
        /// What is wrong.
        why: Box<str>,
    },
    /// The network failed.
    #[error("{}", Io { operation: *operation, protocol: *protocol, local: *local, remote: *remote, cause: *cause })]
    Io {
        /// What was being done.
        operation: Operation,
        /// Over which protocol.
        protocol: Protocol,
        /// From where, if known.
        local: Option<SocketAddr>,
        /// To where.
        remote: SocketAddr,
        /// What happened.
        cause: Cause,
    },
}

impl ExchangeError {
    /// The upstream that was asked.
    pub const fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::NoQuestion => None,
            Self::OtherQuestion { remote }
            | Self::OtherCase { remote }
            | Self::Bare { remote, .. }
            | Self::Guessed { remote }
            | Self::Malformed { remote }
            | Self::Busy { remote }
            | Self::Tls { remote, .. }
            | Self::Http { remote, .. }
            | Self::Io { remote, .. } => Some(*remote),
        }
    }

    /// What happened, without addresses.
    pub const fn cause(&self) -> Option<Cause> {
        match self {
            Self::Io { cause, .. } => Some(*cause),
            _ => None,
        }
    }
}

/// The step of an exchange that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a socket or connection.
    Dial,
    /// Receiving.
    Read,
    /// Sending.
    Write,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    const fn system_call(self) -> &'static str {
        match self {
            Self::Dial => "connect",
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What the network said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing, for too long.
    Timeout,
    /// The connection was closed by the other side.
    Eof,
    /// An error number of the system.
    Os(i32),
    /// Another kind of I/O error.
    Other(io::ErrorKind),
}

impl Cause {
    /// Whether a pooled connection with this error was closed before the query came.
    pub(super) const fn is_closed(self) -> bool {
        matches!(
            self,
            Self::Eof | Self::Os(libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN)
        )
    }
}

impl Cause {
    /// Whether it is what an ICMP error about an earlier datagram becomes.
    pub(super) const fn is_unreachable(self) -> bool {
        matches!(
            self,
            Self::Os(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH)
        )
    }
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Self {
        match (error.raw_os_error(), error.kind()) {
            (Some(libc::ETIMEDOUT), _) | (None, io::ErrorKind::TimedOut) => Self::Timeout,
            (Some(number), _) => Self::Os(number),
            (None, io::ErrorKind::UnexpectedEof) => Self::Eof,
            (None, kind) => Self::Other(kind),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("i/o timeout"),
            Self::Eof => f.write_str("EOF"),
            Self::Other(kind) => write!(f, "{kind}"),
            Self::Os(number) => {
                // The system's own words, as Go prints them: lower case, without the number.
                let text = io::Error::from_raw_os_error(*number).to_string();
                let text = text.split(" (os error").next().unwrap_or_default();
                let mut chars = text.chars();
                let first = chars.next().map(|c| c.to_ascii_lowercase());
                write!(f, "{}{}", first.unwrap_or('?'), chars.as_str())
            }
        }
    }
}

/// The text of [`ExchangeError::Io`]: `read udp 10.0.0.5:4242->8.8.8.8:53: i/o timeout`.
struct Io {
    operation: Operation,
    protocol: Protocol,
    local: Option<SocketAddr>,
    remote: SocketAddr,
    cause: Cause,
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cause == Cause::Eof {
            return f.write_str("EOF");
        }
        write!(
            f,
            "{} {} ",
            self.operation.as_str(),
            self.protocol.network()
        )?;
        if let Some(local) = self.local {
            write!(f, "{local}->")?;
        }
        write!(f, "{}: ", self.remote)?;
        if matches!(self.cause, Cause::Os(_)) {
            write!(f, "{}: ", self.operation.system_call())?;
        }
        self.cause.fmt(f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(operation: Operation, protocol: Protocol, local: bool, cause: Cause) -> String {
        ExchangeError::Io {
            operation,
            protocol,
            local: local.then(|| "10.0.0.5:4242".parse().unwrap()),
            remote: "8.8.8.8:53".parse().unwrap(),
            cause,
        }
        .to_string()
    }

    #[test]
    fn texts_are_those_of_coredns() {
        use super::Protocol::{Tcp, Udp};
        assert_eq!(
            text(Operation::Read, Udp, true, Cause::Timeout),
            "read udp 10.0.0.5:4242->8.8.8.8:53: i/o timeout"
        );
        assert_eq!(
            text(Operation::Read, Udp, true, Cause::Os(libc::ECONNREFUSED)),
            "read udp 10.0.0.5:4242->8.8.8.8:53: read: connection refused"
        );
        assert_eq!(
            text(Operation::Dial, Tcp, false, Cause::Os(libc::ECONNREFUSED)),
            "dial tcp 8.8.8.8:53: connect: connection refused"
        );
        assert_eq!(text(Operation::Read, Tcp, true, Cause::Eof), "EOF");
        assert_eq!(
            text(Operation::Dial, Protocol::Tls, false, Cause::Timeout),
            "dial tcp 8.8.8.8:53: i/o timeout"
        );
    }
}
