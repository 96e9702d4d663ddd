//! Scenarios: what happens in turn.

use super::lab::{Lab, Variant};
use super::objects;
use super::world::Change;
use crate::support::kube::fault::Strike;
use std::time::Duration;

/// A step of a scenario.
#[derive(Clone, Debug)]
pub enum Act {
    /// The cluster changes so many times.
    Changes(usize),
    /// One service changes so many times.
    Burst(usize),
    /// These strikes lie in wait from now on.
    Strikes(Vec<Strike>),
    /// All watches break off in the middle of an event.
    Cut,
    /// The API server is away, or back.
    Down,
    Up,
    /// Versions before the current one are forgotten.
    Compact,
    /// The same, and the version jumps ahead: the server was restored.
    LoseHistory,
    /// The server has other storage, whose versions are lower.
    ReplaceStorage,
    /// Every request is answered with this code, or no longer.
    All(Option<u16>),
    /// The network forgets all connections; nobody is told.
    Freeze,
    Thaw,
    /// The token is replaced.
    Token(&'static str),
    /// The authority is replaced, and the certificate that it signed.
    Authority,
    /// Objects with missing and absurd fields are created.
    Odd,
    /// Events of no sense for all watches.
    Nonsense,
    /// A bookmark for each watch.
    Bookmarks,
    /// So many requests more have come.
    Asked(usize),
    Pause(Duration),
    /// Everybody knows the same.
    Settle,
}

/// What is done, and to whom.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// Lists come in pages, since the server does not stream them.
    pub paged: bool,
    /// Silent streams are given up soon.
    pub watchful: bool,
    /// Strikes from the first request on.
    pub at_start: Vec<Strike>,
    pub acts: Vec<Act>,
    /// Why kube's watcher does not come to the right state here, if it does not.
    pub no_oracle: Option<&'static str>,
    pub only_tls: bool,
}

impl Scenario {
    pub fn new(name: &'static str, acts: impl IntoIterator<Item = Act>) -> Self {
        Self {
            name,
            paged: false,
            watchful: false,
            at_start: Vec::new(),
            acts: acts.into_iter().collect(),
            no_oracle: None,
            only_tls: false,
        }
    }

    pub fn paged(self) -> Self {
        Self {
            paged: true,
            ..self
        }
    }

    pub fn watchful(self) -> Self {
        Self {
            watchful: true,
            ..self
        }
    }

    pub fn at_start(self, strikes: impl IntoIterator<Item = Strike>) -> Self {
        Self {
            at_start: strikes.into_iter().collect(),
            ..self
        }
    }

    pub fn without_oracle(self, why: &'static str) -> Self {
        Self {
            no_oracle: Some(why),
            ..self
        }
    }

    pub fn only_tls(self) -> Self {
        Self {
            only_tls: true,
            ..self
        }
    }

    /// Runs it, and settles at the end. Strikes that strike nobody are an error: they show nothing.
    pub async fn run(self, variant: Variant) -> Result<(), String> {
        let variant = Variant {
            paged: self.paged,
            watchful: self.watchful,
            ..variant
        };
        let strikes = self.at_start.clone();
        let prepare = |world: &mut super::world::World| world.api.script(strikes);
        let mut lab = Lab::start(variant, self.no_oracle.is_none(), prepare).await?;
        let mut armed = !self.at_start.is_empty();
        for act in self.acts {
            if let Act::Strikes(_) = act {
                check_struck(&lab, armed)?;
                armed = true;
            }
            act.perform(&mut lab).await?;
        }
        lab.settle().await?;
        check_struck(&lab, armed)
    }
}

fn check_struck(lab: &Lab, armed: bool) -> Result<(), String> {
    match armed && lab.api().struck() == 0 {
        true => Err("a strike struck nobody".into()),
        false => Ok(()),
    }
}

impl Act {
    pub async fn perform(self, lab: &mut Lab) -> Result<(), String> {
        let api = lab.api();
        let resources = ["namespaces", "services", "endpointslices", "pods"];
        match self {
            Self::Changes(count) => lab.world.changes(count),
            Self::Burst(count) => {
                for _ in 0..count {
                    lab.world.change(Change::Service(0));
                }
            }
            Self::Strikes(strikes) => api.script(strikes),
            Self::Cut => api.cut(),
            Self::Down => api.down().await,
            Self::Up => api.up().await,
            Self::Compact => api.compact(),
            Self::LoseHistory => api.lose_history(),
            Self::ReplaceStorage => api.replace_storage(),
            Self::All(code) => api.faults().all = code,
            Self::Freeze => lab.proxy.freeze(),
            Self::Thaw => lab.proxy.thaw(),
            Self::Token(token) => lab.rotate_token(token),
            Self::Authority => lab.rotate_authority(),
            Self::Odd => {
                api.apply(objects::odd());
                api.apply(objects::unreadable());
            }
            Self::Nonsense => {
                for resource in resources {
                    api.raw_event(resource, "no event");
                    api.event(resource, "ADDED", serde_json::json!({"metadata": {}}));
                    api.event(resource, "SOMETHING", serde_json::json!({"metadata": {}}));
                }
            }
            Self::Bookmarks => {
                for resource in resources {
                    api.bookmark(resource);
                }
            }
            Self::Asked(count) => {
                let enough = api.requests().len() + count;
                let end = tokio::time::Instant::now() + Duration::from_secs(20);
                while api.requests().len() < enough {
                    if tokio::time::Instant::now() > end {
                        return Err(format!("no {count} requests more"));
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Self::Pause(pause) => tokio::time::sleep(pause).await,
            Self::Settle => lab.settle().await?,
        }
        Ok(())
    }
}
