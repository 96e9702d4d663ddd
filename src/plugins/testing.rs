//! What the tests of the plugins share: a server block built from Corefile text, questions put to
//! its chain, and the log lines that come out.

#![allow(clippy::unwrap_used)]

use super::TABLE;
use crate::corefile::{Directive, Line, Token};
use crate::dns::{
    Class, Header, MAX_MESSAGE, Name, OwnedQuery, Query, RecordType, Reply, Section, Zone, name,
};
use crate::metrics::{Format, Shard, exposition};
use crate::plugin::admin::{Endpoint, Request, Response};
use crate::plugin::chain::Flow;
use crate::plugin::{
    Block, Chain, Client, Context, Control, Hooks, Outcome, Plugin, Process, Setup, Step, Transport,
};
use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Once, OnceLock, Weak};
use std::time::Instant;
use tokio::sync::mpsc;

/// A server block under construction, with all that setup functions are given.
pub struct Rig {
    pub process: Arc<Process>,
    pub control: mpsc::Receiver<Control>,
    pub block: Block,
    pub hooks: Hooks,
    pub endpoints: Vec<Endpoint>,
    pub plugins: Vec<Arc<dyn Plugin>>,
    pub slot: Arc<OnceLock<Weak<Chain>>>,
    pub provided: Arc<crate::plugin::Provided>,
}

impl Rig {
    /// The block `.:53`.
    pub fn new() -> Self {
        Self::with_corefile(None)
    }

    /// The block `.:53` of a process with this Corefile.
    pub fn with_corefile(corefile: Option<std::path::PathBuf>) -> Self {
        subscribe();
        let (mut process, control) = Process::new(runtime(), 2);
        process.corefile = corefile;
        Self {
            process: Arc::new(process),
            control,
            block: Block {
                zones: vec![Zone::root()],
                scheme: "dns",
                port: 53,
                server: "dns://:53".into(),
                ..Block::default()
            },
            hooks: Hooks::default(),
            endpoints: Vec::new(),
            plugins: Vec::new(),
            slot: Arc::default(),
            provided: Arc::default(),
        }
    }

    /// The same with other zones.
    pub fn zones(mut self, zones: &[&str]) -> Self {
        self.block.zones = zones.iter().map(|z| Zone::from_text(z).unwrap()).collect();
        self
    }

    /// Another block of the same process.
    pub fn sibling(&self) -> Self {
        let mut rig = Self::new();
        rig.process = Arc::clone(&self.process);
        rig.block = self.block.clone();
        rig
    }

    /// Sets up the directives of `text`, in table order; the error as it is printed.
    pub fn setup(&mut self, text: &str) -> Result<(), String> {
        let directives = directives(text);
        let entries = TABLE.iter().map(|entry| {
            let named = directives.iter().filter(|d| d.name.text == entry.name);
            (entry, named.cloned().collect::<Vec<_>>())
        });
        let entries: Vec<_> = entries.filter(|(_, named)| !named.is_empty()).collect();
        let loaded: Vec<_> = entries.iter().map(|(entry, _)| entry.name).collect();
        let file = self.process.corefile.as_deref();
        let fingerprint = file.and_then(|file| crate::corefile::load(file).ok());
        let fingerprint = fingerprint.map_or_else(String::new, |file| file.fingerprint());
        for (entry, named) in &entries {
            let mut setup = Setup {
                directives: named,
                block: &mut self.block,
                process: &self.process,
                hooks: &mut self.hooks,
                endpoints: &mut self.endpoints,
                plugins: &mut self.plugins,
                chain: &self.slot,
                provided: &self.provided,
                loaded: &loaded,
                fingerprint: &fingerprint,
            };
            (entry.setup)(&mut setup).map_err(|error| error.in_plugin(entry.name).to_string())?;
        }
        Ok(())
    }

    /// The chain of the plugins so far and `terminal`.
    pub fn chain(&mut self, terminal: impl Plugin) -> Arc<Chain> {
        self.plugins.push(Arc::new(terminal));
        let chain = Chain::new(self.block.clone(), std::mem::take(&mut self.plugins));
        let chain = Arc::new(chain);
        self.slot.set(Arc::downgrade(&chain)).unwrap();
        chain
    }

    /// What the block's only endpoint answers to a request with this `Accept` header.
    pub fn get(&self, accept: &str) -> Response {
        get(&self.endpoints[0], accept)
    }

    /// The lines of the process's metrics (classic format) that start with `prefix`.
    pub fn metrics(&self, prefix: &str) -> Vec<String> {
        let text = exposition(&self.process.metrics, Format::Classic);
        let lines = text.lines().filter(|line| line.starts_with(prefix));
        lines.map(str::to_owned).collect()
    }
}

/// The setup error of a block with these directives.
pub fn setup_error(text: &str) -> String {
    Rig::new().setup(text).expect_err("a setup error")
}

/// What `endpoint` answers.
pub fn get(endpoint: &Endpoint, accept: &str) -> Response {
    (endpoint.handler)(&Request {
        query: "",
        accept,
        peer: "127.0.0.1:9".parse().unwrap(),
    })
}

fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    tokio::runtime::Handle::try_current().unwrap_or_else(|_| {
        let build = || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(1).enable_all().build().unwrap()
        };
        RUNTIME.get_or_init(build).handle().clone()
    })
}

/// Reads directives: a line each, options between braces, words in double quotes; lines from 1.
pub fn directives(text: &str) -> Vec<Directive> {
    let mut out: Vec<Directive> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let mut tokens = words(line, index as u32 + 1);
        match tokens.last().map(|token| token.text.as_str()) {
            None => continue,
            Some("}") => {
                inside = false;
                continue;
            }
            _ => {}
        }
        if inside {
            let name = tokens.remove(0);
            let block = &mut out.last_mut().unwrap().block;
            block.push(Line { name, args: tokens });
            continue;
        }
        if tokens.last().unwrap().text == "{" {
            tokens.pop();
            inside = true;
        }
        let name = tokens.remove(0);
        out.push(Directive {
            name,
            args: tokens,
            block: Vec::new(),
        });
    }
    out
}

fn words(line: &str, number: u32) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        out.push(Token {
            text: word.to_owned(),
            file: "Corefile".into(),
            line: number,
        });
        rest = tail.trim_start();
    }
    out
}

/// A question.
#[derive(Clone)]
pub struct Ask {
    name: String,
    qtype: RecordType,
    qclass: Class,
    edns: Option<(u16, bool)>,
    client: SocketAddr,
    transport: Transport,
}

/// `NAME IN QTYPE` over UDP from 10.240.0.1:40212, id 21342, RD set, without EDNS.
pub fn ask(name: &str, qtype: RecordType) -> Ask {
    Ask {
        name: name.to_owned(),
        qtype,
        qclass: Class::IN,
        edns: None,
        client: "10.240.0.1:40212".parse().unwrap(),
        transport: Transport::Udp,
    }
}

impl Ask {
    pub fn class(mut self, qclass: Class) -> Self {
        self.qclass = qclass;
        self
    }

    pub fn edns(mut self, size: u16, dnssec_ok: bool) -> Self {
        self.edns = Some((size, dnssec_ok));
        self
    }

    pub fn from(mut self, client: &str, transport: Transport) -> Self {
        self.client = client.parse().unwrap();
        self.transport = transport;
        self
    }

    pub fn packet(&self) -> Vec<u8> {
        let header = Header {
            id: 21342,
            bits: Header::RD,
            counts: [1, 0, 0, u16::from(self.edns.is_some())],
        };
        let mut packet = header.to_wire().to_vec();
        if self.name != "." {
            name::write_labels(&self.name, &mut packet).unwrap();
        }
        packet.push(0);
        packet.extend(self.qtype.0.to_be_bytes());
        packet.extend(self.qclass.0.to_be_bytes());
        if let Some((size, dnssec_ok)) = self.edns {
            packet.extend([0, 0, 41]);
            packet.extend(size.to_be_bytes());
            packet.extend([0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
        }
        packet
    }

    fn start<T>(
        &self,
        chain: &Arc<Chain>,
        walk: impl FnOnce(&mut Context<'_>, &mut Reply) -> T,
    ) -> (T, Reply) {
        let packet = self.packet();
        let mut cx = Context {
            query: Query::read(&packet).unwrap(),
            client: Client {
                addr: self.client,
                local: "10.96.0.10:53".parse().unwrap(),
                transport: self.transport,
            },
            received: Instant::now(),
            shard: Shard::worker(0),
            chain,
            position: 0,
            depth: 0,
            trace: None,
        };
        let mut reply = Reply::new();
        reply.start(&cx.query);
        (walk(&mut cx, &mut reply), reply)
    }

    /// Asks a chain that answers from memory.
    pub fn of(&self, chain: &Arc<Chain>) -> Answer {
        self.now(chain).expect("the chain waits")
    }

    /// Asks a chain; `None` if it would have to wait.
    pub fn now(&self, chain: &Arc<Chain>) -> Option<Answer> {
        let (flow, reply) = self.start(chain, |cx, reply| chain.walk(0, cx, reply));
        match flow {
            Flow::Done(outcome) => Some(self.answer(outcome, reply)),
            Flow::Wait(_) => None,
        }
    }

    /// Asks a chain, and waits.
    pub async fn wait(&self, chain: &Arc<Chain>) -> Answer {
        let (cx, _) = self.start(chain, |cx, _| cx.to_owned());
        let (outcome, reply) = Arc::clone(chain).ask(0, cx).await;
        self.answer(outcome, reply)
    }

    fn answer(&self, outcome: Outcome, mut reply: Reply) -> Answer {
        let query = OwnedQuery::new(self.packet()).unwrap();
        let message = reply.finish(&query.view(), MAX_MESSAGE).to_vec();
        Answer { outcome, message }
    }
}

/// How a question ended.
pub struct Answer {
    pub outcome: Outcome,
    pub message: Vec<u8>,
}

impl Answer {
    /// The reply as hickory-proto reads it.
    pub fn decoded(&self) -> hickory_proto::op::Message {
        hickory_proto::op::Message::from_vec(&self.message).unwrap()
    }

    /// What the client gets, a line each: response code with flags, then the records
    /// (`AN`, `NS`, `AR`); `-` and the outcome if nothing is written.
    pub fn lines(&self) -> Vec<String> {
        if self.outcome != Outcome::Written {
            return vec![format!("- {:?}", self.outcome)];
        }
        let message = self.decoded();
        let header = Header::read(&self.message).unwrap();
        let flags = [
            (Header::AA, " aa"),
            (Header::TC, " tc"),
            (Header::RA, " ra"),
        ];
        let flags = flags.iter().filter(|(flag, _)| header.has(*flag));
        let flags: String = flags.map(|(_, text)| *text).collect();
        let sections = [
            ("AN", &message.answers),
            ("NS", &message.authorities),
            ("AR", &message.additionals),
        ];
        let records = sections.into_iter().flat_map(|(name, records)| {
            records.iter().map(move |record| format!("{name} {record}"))
        });
        std::iter::once(format!("{}{flags}", header.rcode()))
            .chain(records)
            .collect()
    }
}

/// A plugin that ends every chain as it is told.
pub struct Terminal<F>(pub F);

impl<F: Fn(&mut Context<'_>, &mut Reply) -> Outcome + Send + Sync + 'static> Plugin
    for Terminal<F>
{
    fn name(&self) -> &'static str {
        "terminal"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        Step::Done((self.0)(cx, reply))
    }
}

/// A terminal that answers every question with 192.0.2.1 (29 octets: owner by pointer).
pub fn answers() -> impl Plugin {
    Terminal(|_: &mut Context<'_>, reply: &mut Reply| {
        reply.set_flag(Header::AA, true);
        let owner = crate::dns::Owner::Query;
        reply.push(Section::Answer, owner, RecordType::A, 30, &[192, 0, 2, 1]);
        Outcome::Written
    })
}

/// A terminal that fails with this error.
pub fn fails(error: &'static str) -> impl Plugin {
    Terminal(move |_: &mut Context<'_>, _: &mut Reply| Outcome::failed(error))
}

/// A terminal that says `passed`: the query came through to it.
pub fn passed() -> impl Plugin {
    fails("passed")
}

/// Whether the answer is that of [`passed`].
pub fn is_passed(answer: &Answer) -> bool {
    answer.outcome == Outcome::failed("passed")
}

/// A name in lower-case wire form.
pub fn wire(text: &str) -> Vec<u8> {
    Name::from_text(text).unwrap().wire().to_vec()
}

thread_local! {
    /// The log lines of this thread, while somebody collects them.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Collects the log lines of this thread while it lives.
pub struct Logs(());

struct Writer;

impl Write for Writer {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.extend_from_slice(data);
            }
        });
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One subscriber for all threads: those that come and go with a test would miss lines that
/// another thread logs for the first time just then.
fn subscribe() {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(|| Writer)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

impl Logs {
    pub fn start() -> Self {
        subscribe();
        LINES.set(Some(Vec::new()));
        Self(())
    }

    /// The lines since the last call: `LEVEL target: text`.
    pub fn take(&self) -> Vec<String> {
        let data = LINES.replace(Some(Vec::new())).unwrap_or_default();
        let text = String::from_utf8(data).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        LINES.set(None);
    }
}
