//! What goes wrong: switches, and a script of strikes.

use std::collections::HashMap;
use std::time::Duration;

/// Switches: what goes wrong for as long as they are set.
#[derive(Debug, Default)]
pub struct Faults {
    /// Streaming lists are refused with 422.
    pub no_watch_list: bool,
    /// Streaming lists break off after so many objects.
    pub cut_watch_list: Option<usize>,
    /// Every request is answered with this status code.
    pub all: Option<u16>,
    /// So many tokens of further pages are expired.
    pub expired_tokens: usize,
    /// A version that is gone is an event of the stream, and not the response's status.
    pub gone_in_stream: bool,
    /// A pause before each event of a stream.
    pub slow: Option<Duration>,
    /// Streams send nothing any more, nor will those that should have sent something meanwhile.
    pub mute: bool,
    /// There is no definition of ServiceImports.
    pub no_imports: bool,
}

/// What a strike does to one request or its response. `after` counts events that still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status code; and `Retry-After` in seconds.
    Status(u16, Option<u32>),
    /// 200 with a page of HTML, as a proxy in between would say.
    Html,
    /// So long before the response begins.
    Late(Duration),
    /// The body of a list breaks off in the middle; a stream in the middle of an event.
    Cut { after: usize },
    /// The stream ends, between two events.
    Close { after: usize },
    /// The stream sends nothing any more and stays open.
    Mute { after: usize },
    /// An `ERROR` event, after which the stream ends.
    Error { after: usize, code: u16 },
    /// An event that cannot be decoded, between two good ones.
    Garbage { after: usize },
    /// Every event comes twice.
    Twice,
    /// Events that are due together come in the reverse order.
    Reversed,
    /// After each event the one before it comes once more.
    Stale,
    /// So long before each event.
    Slow(Duration),
}

/// Which requests are struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// Any.
    Any,
    /// A list, its first page.
    List,
    /// A further page.
    NextPage,
    /// A watch that begins with all objects.
    StreamList,
    /// A watch from a version.
    Watch,
}

/// A fault, where and how often it strikes.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    pub at: At,
    /// Of one resource only.
    pub resource: Option<&'static str>,
    pub fault: Fault,
    /// How often, for each client and each resource.
    pub times: usize,
}

impl Strike {
    /// Strikes the first such request for each resource.
    pub const fn once(at: At, fault: Fault) -> Self {
        Self {
            at,
            resource: None,
            fault,
            times: 1,
        }
    }

    pub const fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    pub const fn only(self, resource: &'static str) -> Self {
        Self {
            resource: Some(resource),
            ..self
        }
    }
}

/// The strikes and whom they struck.
#[derive(Default)]
pub(super) struct Script {
    strikes: Vec<Strike>,
    used: HashMap<(String, usize, String), usize>,
    /// How often Portolan was struck.
    pub(super) struck: usize,
}

impl Script {
    pub(super) fn new(strikes: Vec<Strike>) -> Self {
        Self {
            strikes,
            ..Self::default()
        }
    }

    /// What strikes a request, if anything does.
    pub(super) fn strike(&mut self, agent: &str, at: At, resource: &str) -> Option<Fault> {
        for (index, strike) in self.strikes.iter().enumerate() {
            let meant = (strike.at == At::Any || strike.at == at)
                && strike.resource.is_none_or(|only| only == resource);
            if !meant {
                continue;
            }
            let key = (agent.to_owned(), index, resource.to_owned());
            let used = self.used.entry(key).or_default();
            if *used < strike.times {
                *used += 1;
                self.struck += usize::from(agent == "portolan");
                return Some(strike.fault);
            }
        }
        None
    }
}
