//! The states of a watch, and what leads from one to the next.

use super::Failure;
use crate::limits::KUBE_PAGE_OBJECTS;

/// After how many failures in a row another way is tried.
const PATIENCE: u32 = 3;

/// What the next request is.
///
/// ```text
///            refused (400, 405, 406, 422), or failed three times
///  ┌─▶ StreamList ───────────────────────────────▶ PageList ◀─┐ failed, token expired:
///  │       │ ended after the list was complete        │       │ again from the first page
///  │       ▼                                          ├───────┘
///  │     Watch ◀──────────────────────────────────────┘ last page
///  │      │ ▲│
///  │      │ └┘ ended, failed: on from the last version
///  └──────┘ 410 Gone, or the server answered with errors three times
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A watch that begins with all objects; when they are complete it goes on as a watch, on the
    /// same connection.
    StreamList,
    /// A list in pages.
    PageList {
        /// Objects of a page.
        limit: u32,
    },
    /// A watch from a version.
    Watch {
        /// The last version that was seen.
        version: String,
    },
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum End {
    /// The last page was read.
    Listed {
        /// The version of the list.
        version: String,
    },
    /// The stream ended, by the server's timeout or otherwise, with the list complete.
    Closed {
        /// The last version that was seen.
        version: String,
    },
    /// The version or the token is too old for the server.
    Gone,
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Status(status) if status.is_gone() => Self::Gone,
            failure => Self::Failed(failure),
        }
    }
}

impl State {
    /// The first page.
    pub(super) const PAGES: Self = Self::PageList {
        limit: KUBE_PAGE_OBJECTS,
    };

    /// The state after a request that ended so; `failures` in a row, this one included.
    pub(super) fn after(self, end: &End, failures: u32) -> Self {
        match (self, end) {
            (_, End::Listed { version } | End::Closed { version }) => Self::Watch {
                version: version.clone(),
            },
            (Self::PageList { limit }, End::Failed(Failure::TooLarge)) => Self::PageList {
                limit: (limit / 2).max(1),
            },
            (state @ Self::PageList { .. }, _) => state,
            (_, End::Gone) => Self::StreamList,
            (Self::StreamList, End::Failed(failure))
                if failure.is_refusal() || failures >= PATIENCE =>
            {
                Self::PAGES
            }
            (Self::Watch { .. }, End::Failed(Failure::Status(_))) if failures >= PATIENCE => {
                Self::StreamList
            }
            (state, End::Failed(_)) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::decode::Status;
    use super::*;

    fn status(code: u16) -> End {
        let status = Status {
            code,
            ..Status::default()
        };
        Failure::Status(status).into()
    }

    fn watch() -> State {
        State::Watch {
            version: "7".into(),
        }
    }

    #[test]
    fn transitions() {
        let listed = || End::Listed {
            version: "7".into(),
        };
        let closed = || End::Closed {
            version: "7".into(),
        };
        let cut = || End::Failed(Failure::Ended);
        let pages = |limit| State::PageList { limit };
        for (from, end, failures, to) in [
            (State::StreamList, closed(), 0, watch()),
            (State::StreamList, status(422), 1, State::PAGES),
            (State::StreamList, status(400), 1, State::PAGES),
            (State::StreamList, status(403), 1, State::StreamList),
            (State::StreamList, status(403), 3, State::PAGES),
            (State::StreamList, cut(), 2, State::StreamList),
            (State::StreamList, cut(), 3, State::PAGES),
            (State::StreamList, status(410), 1, State::StreamList),
            (State::PAGES, listed(), 0, watch()),
            (State::PAGES, status(410), 1, State::PAGES),
            (State::PAGES, status(500), 9, State::PAGES),
            (pages(500), End::Failed(Failure::TooLarge), 1, pages(250)),
            (pages(1), End::Failed(Failure::TooLarge), 9, pages(1)),
            (watch(), closed(), 0, watch()),
            (watch(), status(410), 1, State::StreamList),
            (watch(), status(500), 2, watch()),
            (watch(), status(500), 3, State::StreamList),
            (watch(), cut(), 9, watch()),
        ] {
            let text = format!("{from:?} {end:?} {failures}");
            assert_eq!(from.after(&end, failures), to, "{text}");
        }
    }
}
