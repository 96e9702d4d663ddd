//! The states of a watch, and what leads from one to the next.

use super::Failure;
use crate::limits::KUBE_PAGE_OBJECTS;

/// After how many failures in a row another way is tried.
const PATIENCE: u32 = 3;
/// After how many watches in a row of which nothing was heard the version is given up.
const SILENCES: u32 = 2;

/// What the next request is.
///
/// ```text
///            refused (400, 405, 406, 422, error event), or failed three times
///  ┌─▶ StreamList ───────────────────────────────▶ PageList ◀─┐ failed, token expired:
///  │       │ ended after the list was complete        │       │ again from the first page
///  │       ▼                                          ├───────┘
///  │     Watch ◀──────────────────────────────────────┘ last page
///  │      │ ▲│
///  │      │ └┘ ended, failed: on from the last version
///  └──────┘ 410 Gone, or the server answered with errors three times, or said nothing twice
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
    Failed {
        /// What it was.
        failure: Failure,
        /// The last version that was seen, once the list was complete.
        version: Option<String>,
    },
}

impl End {
    /// The end by a failure, after `version` was seen.
    pub(super) fn failed(failure: Failure, version: Option<String>) -> Self {
        match failure {
            Failure::Status(status) if status.is_gone() => Self::Gone,
            failure => Self::Failed { failure, version },
        }
    }

    /// Whether it was a watch of which nothing was heard, not even a bookmark.
    pub(super) const fn is_silence(&self, progress: bool) -> bool {
        let silent = matches!(
            self,
            Self::Failed {
                failure: Failure::Silent(_),
                version: Some(_),
            }
        );
        silent && !progress
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
            (
                Self::PageList { limit },
                End::Failed {
                    failure: Failure::TooLarge,
                    ..
                },
            ) => Self::PageList {
                limit: (limit / 2).max(1),
            },
            (state @ Self::PageList { .. }, _) => state,
            (_, End::Gone) => Self::StreamList,
            (state, End::Failed { failure, version }) => match version {
                Some(_) if failures >= PATIENCE && failure.is_answer() => Self::StreamList,
                Some(version) => Self::Watch {
                    version: version.clone(),
                },
                // What begins a list and does not go on may do better with pages.
                None if matches!(failure, Failure::Silent(_)) => Self::PAGES,
                None if failures >= PATIENCE || failure.is_refusal() => Self::PAGES,
                None => state,
            },
        }
    }
}

impl State {
    /// The state once so many watches in a row were silent. A server whose storage was replaced has
    /// lower versions, and says nothing to who asks for what comes after a higher one; any other
    /// sends a bookmark about once a minute.
    pub(super) fn despite(self, silences: u32) -> Self {
        match self {
            Self::Watch { .. } if silences >= SILENCES => Self::StreamList,
            state => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::decode::Status;
    use super::*;

    fn status(code: u16) -> Failure {
        Failure::Status(Status {
            code,
            ..Status::default()
        })
    }

    fn watch() -> State {
        State::Watch {
            version: "7".into(),
        }
    }

    #[test]
    fn transitions() {
        let version = || "7".to_owned();
        let listed = || End::Listed { version: version() };
        let closed = || End::Closed { version: version() };
        let before = |failure| End::failed(failure, None);
        let later = |failure| End::failed(failure, Some(version()));
        let pages = |limit| State::PageList { limit };
        for (from, end, failures, to) in [
            (State::StreamList, closed(), 0, watch()),
            (State::StreamList, before(status(422)), 1, State::PAGES),
            (State::StreamList, before(status(400)), 1, State::PAGES),
            (
                State::StreamList,
                before(Failure::NoStream(Status::default())),
                1,
                State::PAGES,
            ),
            (State::StreamList, before(status(403)), 1, State::StreamList),
            (State::StreamList, before(status(403)), 3, State::PAGES),
            (
                State::StreamList,
                before(Failure::Ended),
                2,
                State::StreamList,
            ),
            (State::StreamList, before(Failure::Ended), 3, State::PAGES),
            (State::StreamList, before(status(410)), 1, State::StreamList),
            (State::StreamList, later(Failure::Ended), 1, watch()),
            (State::StreamList, later(status(500)), 1, watch()),
            (State::PAGES, listed(), 0, watch()),
            (State::PAGES, before(status(410)), 1, State::PAGES),
            (State::PAGES, before(status(500)), 9, State::PAGES),
            (State::PAGES, before(Failure::TooLarge), 1, pages(250)),
            (pages(1), before(Failure::TooLarge), 9, pages(1)),
            (watch(), closed(), 0, watch()),
            (watch(), later(status(410)), 1, State::StreamList),
            (watch(), later(status(500)), 2, watch()),
            (watch(), later(status(500)), 3, State::StreamList),
            (watch(), later(Failure::Ended), 9, watch()),
        ] {
            let text = format!("{from:?} {end:?} {failures}");
            assert_eq!(from.after(&end, failures), to, "{text}");
        }
    }

    #[test]
    fn versions_that_nobody_speaks_of_are_given_up() {
        let silence = |version: Option<&str>| End::Failed {
            failure: Failure::Silent(std::time::Duration::ZERO),
            version: version.map(str::to_owned),
        };
        assert!(silence(Some("7")).is_silence(false));
        assert!(!silence(Some("7")).is_silence(true), "a bookmark came");
        assert!(!silence(None).is_silence(false), "the list was silent");
        assert_eq!(State::StreamList.after(&silence(None), 1), State::PAGES);
        assert_eq!(watch().despite(1), watch());
        assert_eq!(watch().despite(2), State::StreamList);
        assert_eq!(State::PAGES.despite(2), State::PAGES);
    }
}
