//! What can go wrong with a request.

use super::super::decode::{self, Status};
use std::time::Duration;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection, or one that broke.
    #[error("{0}")]
    Connection(String),
    /// The server answered with an error, or sent one as an event.
    #[error("the API server answered {}{}", .0.code, .0.detail())]
    Status(Status),
    /// The server broke a streaming list off with an error: it may have no storage for that.
    #[error("the API server does not stream the list: {}{}", .0.code, .0.detail())]
    NoStream(Status),
    /// A response in a format that was not asked for.
    #[error("the API server answered in {0:?}, neither JSON nor protobuf")]
    ContentType(String),
    /// A page or an event that is no page or event.
    #[error("{0}")]
    Decode(#[from] decode::Error),
    /// A page beyond `limits::KUBE_PAGE_BYTES`.
    #[error("a page of too many octets")]
    TooLarge,
    /// Nothing came for this long.
    #[error("nothing received for {0:?}")]
    Silent(Duration),
    /// The stream ended within the initial list.
    #[error("the stream ended before the list was complete")]
    Ended,
}

impl Failure {
    /// Whether the server answered, with an error.
    pub(super) const fn is_answer(&self) -> bool {
        matches!(self, Self::Status(_) | Self::NoStream(_))
    }

    /// Whether the server does not have what was asked for.
    pub(super) const fn is_missing(&self) -> bool {
        matches!(self, Self::Status(status) if status.code == 404)
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Status(status) => Duration::from_secs(status.retry_after.into()),
            _ => Duration::ZERO,
        }
    }

    /// Whether the server says that it does not do what was asked, and never will.
    pub(super) const fn is_refusal(&self) -> bool {
        match self {
            Self::NoStream(_) => true,
            Self::Status(status) => matches!(status.code, 400 | 405 | 406 | 422),
            _ => false,
        }
    }
}

impl Status {
    /// Whether a version or a token is too old.
    pub(super) fn is_gone(&self) -> bool {
        self.code == 410 || self.reason == "Expired" || self.reason == "Gone"
    }

    fn detail(&self) -> String {
        match (&*self.message, &*self.reason) {
            ("", "") => String::new(),
            ("", reason) => format!(": {reason}"),
            (message, _) => format!(": {message}"),
        }
    }
}
