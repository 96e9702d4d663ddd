//! The scripted upstreams of a scenario.

use super::behaviour::{Line, Of, ReplyText, Sequence, is_probe};
use super::words::Span;
use crate::support::upstream::{Act, Seen, Upstream};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// An upstream at an address that stays, also while nobody listens there.
pub struct Peer {
    pub name: String,
    pub addr: SocketAddr,
    server: Option<Upstream>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// For both protocols, as long as they have no own.
    all: Sequence,
    udp: Option<Sequence>,
    tcp: Option<Sequence>,
    probes: Option<Sequence>,
    replies: Arc<Vec<ReplyText>>,
    /// Protocols of the queries since they were last counted.
    asked: Vec<&'static str>,
    probed: usize,
    problems: Vec<String>,
}

impl Peer {
    pub async fn new(name: &str, replies: &Arc<Vec<ReplyText>>) -> Self {
        let state = State {
            replies: Arc::clone(replies),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let server = Upstream::new(script(&state)).await;
        Self {
            name: name.to_owned(),
            addr: server.addr,
            server: Some(server),
            state,
        }
    }

    /// Takes up another behaviour.
    pub async fn behave(&mut self, line: &Line) {
        if line.gone {
            self.server = None;
            // The port is free when its tasks were told.
            tokio::task::yield_now().await;
            return;
        }
        {
            let mut state = self.state.lock().unwrap();
            let sequence = line.sequence.clone();
            match line.of {
                Of::All => {
                    (state.udp, state.tcp, state.probes) = (None, None, None);
                    state.all = sequence;
                }
                Of::Udp => state.udp = Some(sequence),
                Of::Tcp => state.tcp = Some(sequence),
                Of::Probes => state.probes = Some(sequence),
            }
        }
        if self.server.is_none() {
            self.server = Some(Upstream::at(self.addr, script(&self.state)).await);
        }
    }

    /// How many queries came over this protocol, or any, since it was last asked.
    pub fn asked(&self, protocol: Option<&str>) -> usize {
        let state = self.state.lock().unwrap();
        let of = |seen: &&&str| protocol.is_none_or(|protocol| protocol == **seen);
        state.asked.iter().filter(of).count()
    }

    pub fn forget_asked(&self) {
        self.state.lock().unwrap().asked.clear();
    }

    /// Whether so many probes came since it was last asked; if not, how many did.
    pub fn probed(&self, wanted: Span<usize>) -> Result<(), usize> {
        let count = std::mem::take(&mut self.state.lock().unwrap().probed);
        if wanted.contains(&count) {
            Ok(())
        } else {
            Err(count)
        }
    }

    /// What the file lacks.
    pub fn problems(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().problems)
    }
}

fn script(state: &Arc<Mutex<State>>) -> impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static {
    let state = Arc::clone(state);
    move |seen| state.lock().unwrap().acts(seen)
}

impl State {
    fn acts(&mut self, seen: &Seen) -> Vec<Act> {
        let (probe, tcp) = (is_probe(&seen.packet), seen.proto == "tcp");
        if probe {
            self.probed += 1;
        } else {
            self.asked.push(seen.proto);
        }
        let replies = Arc::clone(&self.replies);
        let own = if tcp { &mut self.tcp } else { &mut self.udp };
        let own = if probe && self.probes.is_some() {
            &mut self.probes
        } else {
            own
        };
        let sequence = own.as_mut().unwrap_or(&mut self.all);
        let acts = if probe {
            sequence.peek(&seen.packet, tcp, &replies)
        } else {
            sequence.next(&seen.packet, tcp, &replies)
        };
        acts.unwrap_or_else(|problem| {
            self.problems.push(problem);
            Vec::new()
        })
    }
}
