//! What became of the attempts that brought no answer, in words for the client (RFC 8914).

use crate::dns::{ExtendedError, Rcode};
use crate::limits::FORWARD_TOLD_UPSTREAMS;
use crate::upstream::{Cause, ExchangeError};
use std::fmt::Write;
use std::net::SocketAddr;

/// All attempts failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The last error, if any upstream was asked; [`ExchangeError::OtherQuestion`] only if there
    /// was none of another kind.
    pub(super) error: Option<ExchangeError>,
    /// Which upstreams were asked, and what happened; not our source ports.
    pub(super) told: ExtendedError,
}

/// The attempts of a query that brought no answer, the last one of each upstream. Empty, and
/// nothing is allocated, while there is none.
#[derive(Debug, Default)]
pub(super) struct Tale {
    by_upstream: Vec<(SocketAddr, Ending)>,
    error: Option<ExchangeError>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    Failed(ExchangeError),
    Answered(Rcode),
}

impl Tale {
    /// An attempt at `to` failed.
    pub(super) fn failed(&mut self, to: SocketAddr, error: ExchangeError) {
        let mistaken = |error: &ExchangeError| matches!(error, ExchangeError::OtherQuestion { .. });
        if self.error.is_none() || !mistaken(&error) {
            self.error = Some(error.clone());
        }
        self.add(to, Ending::Failed(error));
    }

    /// The upstream `to` answered with a code that is no use.
    pub(super) fn answered(&mut self, to: SocketAddr, rcode: Rcode) {
        self.add(to, Ending::Answered(rcode));
    }

    fn add(&mut self, to: SocketAddr, ending: Ending) {
        match self.by_upstream.iter_mut().find(|(known, _)| *known == to) {
            Some((_, known)) => *known = ending,
            None => self.by_upstream.push((to, ending)),
        }
    }

    /// The extended error that goes with a useless answer.
    pub(super) fn remark(&self) -> ExtendedError {
        ExtendedError::new(ExtendedError::OTHER, self.text())
    }

    /// The failure of everything.
    pub(super) fn into_failure(self) -> Failure {
        let code = match &self.error {
            None => ExtendedError::NO_REACHABLE_AUTHORITY,
            Some(
                ExchangeError::OtherQuestion { .. }
                | ExchangeError::OtherCase { .. }
                | ExchangeError::Bare { .. }
                | ExchangeError::Guessed { .. }
                | ExchangeError::Malformed { .. },
            ) => ExtendedError::INVALID_DATA,
            Some(ExchangeError::Tls { .. } | ExchangeError::Http { .. }) => {
                ExtendedError::NETWORK_ERROR
            }
            Some(error) => match error.cause() {
                Some(Cause::Timeout) => ExtendedError::NO_REACHABLE_AUTHORITY,
                Some(_) => ExtendedError::NETWORK_ERROR,
                None => ExtendedError::OTHER,
            },
        };
        Failure {
            told: ExtendedError::new(code, self.text()),
            error: self.error,
        }
    }

    fn text(&self) -> String {
        if self.by_upstream.is_empty() {
            return "all upstreams are down".to_owned();
        }
        let mut text = String::new();
        for (to, ending) in self.by_upstream.iter().take(FORWARD_TOLD_UPSTREAMS) {
            let separator = if text.is_empty() { "" } else { "; " };
            // Writing to a string does not fail.
            let _ = write!(text, "{separator}upstream {to}");
            let _ = match ending {
                Ending::Answered(rcode) => write!(text, " answered {rcode}"),
                Ending::Failed(error) => write!(text, ": {}", why(error)),
            };
        }
        let more = self
            .by_upstream
            .len()
            .saturating_sub(FORWARD_TOLD_UPSTREAMS);
        if more > 0 {
            let _ = write!(text, "; and {more} more");
        }
        text
    }
}

fn why(error: &ExchangeError) -> String {
    match error {
        ExchangeError::OtherQuestion { .. }
        | ExchangeError::OtherCase { .. }
        | ExchangeError::Bare { .. }
        | ExchangeError::Guessed { .. }
        | ExchangeError::Malformed { .. } => "not a reply".to_owned(),
        ExchangeError::Tls { why, .. } | ExchangeError::Http { why, .. } => why.to_string(),
        error => match error.cause() {
            Some(cause) => cause.to_string(),
            None => "too many queries wait".to_owned(),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::upstream::{Operation, Protocol};

    fn at(last: u8) -> SocketAddr {
        format!("192.0.2.{last}:53").parse().unwrap()
    }

    fn io(remote: SocketAddr, cause: Cause) -> ExchangeError {
        ExchangeError::Io {
            operation: Operation::Read,
            protocol: Protocol::Udp,
            local: Some("10.0.0.5:4242".parse().unwrap()),
            remote,
            cause,
        }
    }

    #[test]
    fn each_upstream_is_named_once_with_what_happened_last() {
        let mut tale = Tale::default();
        tale.failed(at(1), io(at(1), Cause::Os(libc::ECONNREFUSED)));
        tale.answered(at(2), Rcode::REFUSED);
        tale.failed(at(1), io(at(1), Cause::Timeout));
        let told = "upstream 192.0.2.1:53: i/o timeout; upstream 192.0.2.2:53 answered REFUSED";
        assert_eq!(tale.remark(), ExtendedError::new(0, told));
        let failure = tale.into_failure();
        assert_eq!(failure.told, ExtendedError::new(22, told));
        let error = failure.error.unwrap().to_string();
        assert_eq!(error, "read udp 10.0.0.5:4242->192.0.2.1:53: i/o timeout");
    }

    #[test]
    fn another_question_is_the_error_only_if_there_is_no_other() {
        let mistaken = |last| ExchangeError::OtherQuestion { remote: at(last) };
        let refused = io(at(1), Cause::Os(libc::ECONNREFUSED));
        for first in [true, false] {
            let mut tale = Tale::default();
            if first {
                tale.failed(at(2), mistaken(2));
            }
            tale.failed(at(1), refused.clone());
            tale.failed(at(2), mistaken(2));
            let failure = tale.into_failure();
            assert_eq!(failure.error, Some(refused.clone()));
            assert_eq!(failure.told.code, 23);
        }
        let mut tale = Tale::default();
        tale.failed(at(2), mistaken(2));
        assert_eq!(tale.into_failure().told.code, 24);
    }

    #[test]
    fn the_text_is_bounded() {
        let mut tale = Tale::default();
        assert_eq!(tale.text(), "all upstreams are down");
        for last in 1..=15 {
            tale.failed(at(last), io(at(last), Cause::Timeout));
        }
        let text = tale.text();
        assert!(text.ends_with("; and 11 more"), "{text}");
        assert!(text.len() < 200, "{}", text.len());
    }
}
