//! A scenario played: one block, its scripted upstreams, its clients, one clock.

use super::grammar::{Expected, Question, Scenario, Step};
use super::log::Lines;
use super::peer::Peer;
use super::reply::{Got, packet};
use super::words::{Problem, Span};
use crate::support::block::{Builder, TestBlock, ask_at};
use portolan::dns::{Rcode, Reply};
use portolan::plugin::{Client, Context, Outcome, Plugin, Step as Walk, Transport};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Plays the scenario; gives all that was not as it says.
pub async fn play(scenario: &Scenario) -> Vec<Problem> {
    let lines = Lines::default();
    let _kept = lines.keep();
    match World::new(scenario, lines).await {
        Ok(mut world) => {
            world.play(&scenario.steps).await;
            world.problems
        }
        Err(problem) => vec![problem],
    }
}

struct World {
    peers: Vec<Peer>,
    block: TestBlock,
    lines: Lines,
    start: Instant,
    waiting: BTreeMap<u32, JoinHandle<Got>>,
    /// Who asked last.
    last: Span<u32>,
    problems: Vec<Problem>,
}

impl World {
    async fn new(scenario: &Scenario, lines: Lines) -> Result<Self, Problem> {
        let replies = Arc::new(scenario.replies.clone());
        let mut peers = Vec::new();
        for name in &scenario.upstreams {
            peers.push(Peer::new(name, &replies).await);
        }
        let builder = Builder {
            behind: Some(("cache", Arc::new(Gate))),
            ..Builder::default()
        };
        let block = builder.build(&fill(&peers, &scenario.corefile));
        let block = block.map_err(|error| Problem::new(0, error.to_string()))?;
        block.serve().await;
        // What was set up read the real clock, which is a little ahead of the one that stands still.
        sleep(Duration::from_secs(1)).await;
        Ok(Self {
            peers,
            block,
            lines,
            start: Instant::now(),
            waiting: BTreeMap::new(),
            last: Span { first: 0, last: 0 },
            problems: Vec::new(),
        })
    }

    async fn play(&mut self, steps: &[(usize, Step)]) {
        for (line, step) in steps {
            self.step(*line, step).await;
            for peer in &self.peers {
                for problem in peer.problems() {
                    let text = format!("upstream {}: {problem}", peer.name);
                    self.problems.push(Problem::new(*line, text));
                }
            }
        }
        for (client, _) in std::mem::take(&mut self.waiting) {
            self.wrong(0, format!("nothing is expected of client {client}"));
        }
    }

    fn wrong(&mut self, line: usize, text: String) {
        self.problems.push(Problem::new(line, text));
    }

    async fn step(&mut self, line: usize, step: &Step) {
        match step {
            Step::At(time) => {
                let at = self.start + *time;
                if Instant::now() > at {
                    let now = self.start.elapsed();
                    self.wrong(line, format!("it is {now:?} already"));
                }
                sleep_until(at).await;
            }
            Step::Upstream(index, behaviour) => self.peers[*index].behave(behaviour).await,
            Step::Ask(who, question) => self.ask(*who, question),
            Step::Expect(who, expected) => {
                self.expect(line, who.unwrap_or(self.last), expected).await;
            }
            Step::Waiting(who) => {
                settle().await;
                for client in who.first..=who.last {
                    let waits = self
                        .waiting
                        .get(&client)
                        .is_some_and(|task| !task.is_finished());
                    if !waits {
                        self.wrong(line, format!("client {client} does not wait"));
                    }
                }
            }
            Step::Asked(wanted) => self.asked(line, wanted).await,
            Step::Probed(index, wanted) => {
                settle().await;
                if let Err(count) = self.peers[*index].probed(*wanted) {
                    self.wrong(
                        line,
                        format!("{wanted} probes expected, there were {count}"),
                    );
                }
            }
            Step::Metric(series, wanted) => {
                settle().await;
                let value = self.block.metric(&fill(&self.peers, series));
                if !wanted.contains(&value) {
                    self.wrong(line, format!("{wanted} expected, it is {value}"));
                }
            }
            Step::Log(part, wanted) => {
                settle().await;
                let part = fill(&self.peers, part);
                let all = self.lines.all();
                if all.iter().any(|one| one.contains(&part)) != *wanted {
                    let all = all.join("\n    ");
                    self.wrong(line, format!("the log has it or not:\n    {all}"));
                }
            }
            Step::Cached(question, expected) => {
                self.cached(line, question, expected.as_ref()).await
            }
        }
    }

    fn ask(&mut self, who: Span<u32>, question: &Question) {
        self.last = who;
        for client in who.first..=who.last {
            let address = Ipv4Addr::from(0xc633_6400 + client);
            let asked = self.send(question, client, address);
            self.waiting.insert(client, tokio::spawn(asked));
        }
    }

    /// The exchange of a client with the block, which begins now.
    fn send(
        &self,
        question: &Question,
        client: u32,
        address: Ipv4Addr,
    ) -> impl Future<Output = Got> + Send + 'static {
        let tcp = question.tcp;
        let from = Client {
            addr: SocketAddr::from((address, 4000)),
            local: "192.0.2.1:53".parse().unwrap(),
            transport: if tcp { Transport::Tcp } else { Transport::Udp },
        };
        let (chain, asked) = (Arc::clone(&self.block.chain), Instant::now());
        // One clock: what the cache goes by is tokio's.
        let received = asked.into_std();
        let packet = packet(question, 0x1000 + client as u16);
        let question = question.clone();
        async move {
            let answer = ask_at(&chain, packet.clone(), from, received).await;
            Got {
                question,
                packet,
                answer,
                elapsed: asked.elapsed(),
            }
        }
    }

    async fn expect(&mut self, line: usize, who: Span<u32>, expected: &Expected) {
        for client in who.first..=who.last {
            let Some(task) = self.waiting.remove(&client) else {
                self.wrong(line, format!("client {client} asked nothing"));
                continue;
            };
            match task.await {
                Ok(got) => self.compare(line, &got, expected),
                Err(error) => self.wrong(line, error.to_string()),
            }
        }
    }

    fn compare(&mut self, line: usize, got: &Got, expected: &Expected) {
        let problems = expected.compare(line, got, &|text| fill(&self.peers, text));
        self.problems.extend(problems);
    }

    async fn asked(&mut self, line: usize, wanted: &[(usize, Span<usize>, Option<String>)]) {
        settle().await;
        let mut problems = Vec::new();
        for (index, peer) in self.peers.iter().enumerate() {
            let mut named: Vec<_> = wanted.iter().filter(|(at, ..)| *at == index).collect();
            let nothing = (index, Span { first: 0, last: 0 }, None);
            if named.is_empty() {
                named.push(&nothing);
            }
            for (_, span, protocol) in &named {
                let count = peer.asked(protocol.as_deref());
                if !span.contains(&count) {
                    let protocol = protocol.as_deref().unwrap_or("in all");
                    let name = &peer.name;
                    problems.push(format!("{name} {span} expected, {count} {protocol} came"));
                }
            }
            // Where only one protocol is named, nothing came over the other.
            if named.iter().all(|(_, _, protocol)| protocol.is_some()) {
                for other in ["udp", "tcp"] {
                    let is_named = |(_, _, protocol): &&&(_, _, Option<String>)| {
                        protocol.as_deref() == Some(other)
                    };
                    let count = peer.asked(Some(other));
                    if count > 0 && !named.iter().any(|one| is_named(&one)) {
                        problems.push(format!("{}: {count} {other} came too", peer.name));
                    }
                }
            }
            peer.forget_asked();
        }
        for problem in problems {
            self.wrong(line, problem);
        }
    }

    /// Asks with the way to the plugins behind the cache shut.
    async fn cached(&mut self, line: usize, question: &Question, expected: Option<&Expected>) {
        settle().await;
        let got = self.send(question, 0, SHUT).await;
        let missed = got.answer.outcome != Outcome::Written;
        match expected {
            Some(_) if missed => self.wrong(line, "it is not in the cache".into()),
            Some(expected) => self.compare(line, &got, expected),
            None if missed => {}
            None => self.wrong(line, format!("{} is in the cache", got.answer.rcode())),
        }
    }
}

/// The client whose questions do not pass the [`Gate`].
const SHUT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

/// Stands behind the cache, to see what is in it and ask nobody.
struct Gate;

impl Plugin for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn query(&self, cx: &mut Context<'_>, _: &mut Reply) -> Walk {
        if cx.client.addr.ip() != SHUT {
            return Walk::Next;
        }
        // Nobody stores a REFUSED that no plugin wrote.
        Walk::Done(Outcome::Unwritten {
            rcode: Rcode::REFUSED,
            error: None,
        })
    }
}

/// Lets all happen that happens at this instant: a paused clock goes on when nothing is left to do.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// The text with an upstream's address and port in place of its name in braces.
fn fill(peers: &[Peer], text: &str) -> String {
    let mut text = text.to_owned();
    for peer in peers {
        text = text.replace(&format!("{{{}}}", peer.name), &peer.addr.to_string());
    }
    text
}
