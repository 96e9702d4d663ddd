//! A server block without a server: its chain, asked directly.

use portolan::corefile::{Directive, Error, Line, Token};
use portolan::dns::{OwnedQuery, Rcode, Reply, Zone};
use portolan::metrics::{Format, exposition};
use portolan::plugin::{
    Block, Chain, Client, Hooks, Outcome, OwnedContext, Plugin, Process, Setup, Transport,
};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

/// A block under test.
pub struct TestBlock {
    pub chain: Arc<Chain>,
    pub process: Arc<Process>,
    pub hooks: Mutex<Hooks>,
}

/// What a client got.
#[derive(Debug)]
pub struct Answer {
    pub outcome: Outcome,
    /// The message as sent.
    pub message: Vec<u8>,
    /// INFO-CODE and EXTRA-TEXT of the extended errors.
    pub extended: Vec<(u16, String)>,
}

impl Answer {
    pub fn rcode(&self) -> Rcode {
        match &self.outcome {
            Outcome::Unwritten { rcode, .. } => *rcode,
            _ => Rcode(u16::from(self.message[3] & 0xf)),
        }
    }

    pub fn error(&self) -> &str {
        match &self.outcome {
            Outcome::Unwritten { error, .. } => error.as_deref().unwrap_or(""),
            _ => "",
        }
    }
}

/// How a block is built.
pub struct Builder {
    pub port: u16,
    pub zone: &'static str,
    /// Directives that count as loaded, besides those that are.
    pub loaded: Vec<&'static str>,
    /// Plugins in front.
    pub front: Vec<Arc<dyn Plugin>>,
    /// A plugin behind those of this directive.
    pub behind: Option<(&'static str, Arc<dyn Plugin>)>,
    pub process: Option<Arc<Process>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            port: 0,
            zone: ".",
            loaded: Vec::new(),
            front: Vec::new(),
            behind: None,
            process: None,
        }
    }
}

/// The block of these directives.
pub fn block(text: &str) -> TestBlock {
    Builder::default().build(text).unwrap()
}

/// The error of these directives.
pub fn error(text: &str) -> String {
    match Builder::default().build(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

pub fn process() -> Arc<Process> {
    Arc::new(Process::new(tokio::runtime::Handle::current(), 1).0)
}

impl Builder {
    pub fn build(self, text: &str) -> Result<TestBlock, Error> {
        let process = self.process.unwrap_or_else(process);
        let mut block = Block {
            zones: vec![Zone::from_text(self.zone).unwrap()],
            scheme: "dns",
            port: self.port,
            server: format!("dns://:{}", self.port),
            ..Block::default()
        };
        let all = directives(text);
        let entries = portolan::plugins::TABLE
            .iter()
            .filter(|entry| all.iter().any(|d| d.name.as_str() == entry.name));
        let entries: Vec<_> = entries.collect();
        let mut loaded = self.loaded;
        loaded.extend(entries.iter().map(|entry| entry.name));
        let (mut hooks, mut endpoints, mut plugins) = (Hooks::default(), Vec::new(), self.front);
        let chain = Arc::new(OnceLock::new());
        let provided = Arc::default();
        for entry in entries {
            let own: Vec<_> = all
                .iter()
                .filter(|d| d.name.as_str() == entry.name)
                .cloned()
                .collect();
            (entry.setup)(&mut Setup {
                directives: &own,
                block: &mut block,
                process: &process,
                hooks: &mut hooks,
                endpoints: &mut endpoints,
                plugins: &mut plugins,
                chain: &chain,
                provided: &provided,
                loaded: &loaded,
                fingerprint: "",
            })?;
            if let Some((name, plugin)) = &self.behind
                && *name == entry.name
            {
                plugins.push(Arc::clone(plugin));
            }
        }
        let built = Arc::new(Chain::new(block, plugins));
        let _ = chain.set(Arc::downgrade(&built));
        Ok(TestBlock {
            chain: built,
            process,
            hooks: Mutex::new(hooks),
        })
    }
}

impl TestBlock {
    pub async fn ask(&self, packet: Vec<u8>, transport: Transport) -> Answer {
        ask(&self.chain, packet, transport).await
    }

    /// Over UDP.
    pub async fn udp(&self, packet: Vec<u8>) -> Answer {
        self.ask(packet, Transport::Udp).await
    }

    /// Runs the hooks for when queries are served.
    pub async fn serve(&self) {
        let hooks = std::mem::take(&mut self.hooks.lock().unwrap().serving);
        for hook in hooks {
            hook().await;
        }
    }

    /// The value of the metric on the line that starts with `series`, zero if there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let text = exposition(&self.process.metrics, Format::Classic);
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }
}

pub async fn ask(chain: &Arc<Chain>, packet: Vec<u8>, transport: Transport) -> Answer {
    let client = Client {
        addr: "192.0.2.7:4000".parse().unwrap(),
        local: "192.0.2.1:53".parse().unwrap(),
        transport,
    };
    ask_at(chain, packet, client, Instant::now()).await
}

/// As [`ask`], for this client, at this time of the clock that caches go by.
pub async fn ask_at(
    chain: &Arc<Chain>,
    packet: Vec<u8>,
    client: Client,
    received: Instant,
) -> Answer {
    let query = OwnedQuery::new(packet).unwrap();
    let cx = OwnedContext {
        query: query.clone(),
        client,
        received,
        chain: Arc::clone(chain),
        position: 0,
        depth: 0,
        trace: None,
    };
    let limit = cx.view().reply_limit();
    let (outcome, mut reply) = Arc::clone(chain).ask(0, cx).await;
    let extended = reply.extended_errors().iter();
    let extended = extended.map(|e| (e.code, e.text.to_string())).collect();
    if let Outcome::Unwritten { rcode, .. } = &outcome {
        let errors = reply.extended_errors().to_vec();
        reply = Reply::new();
        reply.start(&query.view());
        reply.set_rcode(*rcode);
        for error in errors {
            reply.add_extended_error(error);
        }
    }
    Answer {
        outcome,
        message: reply.finish(&query.view(), limit).to_vec(),
        extended,
    }
}

fn directives(text: &str) -> Vec<Directive> {
    let mut all: Vec<Directive> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let mut words: Vec<_> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        if words == ["}"] {
            inside = false;
            continue;
        }
        let opens = words.last() == Some(&"{");
        if opens {
            words.pop();
        }
        let mut tokens = words.into_iter().map(|word| Token {
            text: word.to_owned(),
            file: "Corefile".into(),
            line: number as u32 + 1,
        });
        let name = tokens.next().unwrap();
        let args = tokens.collect();
        if inside {
            all.last_mut().unwrap().block.push(Line { name, args });
        } else {
            all.push(Directive {
                name,
                args,
                block: Vec::new(),
            });
        }
        inside |= opens;
    }
    all
}
