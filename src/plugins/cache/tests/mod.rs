//! The cache in front of a scripted plugin, with a clock that the tests set.
#![allow(clippy::unwrap_used)]

mod config;
mod failures;
mod rules;
mod stale;
mod store;

use super::*;
use crate::corefile::{Directive, Line, Token};
use crate::dns::OwnedQuery;
use crate::dns::{Normalised, edns};
use crate::plugin::{Answer, Block, Chain, Client, Flow, Hooks, OwnedContext, Process, Transport};
use hickory_proto::op::{Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{Name as HickoryName, RData, Record, rdata};
use hickory_proto::serialize::binary::BinDecodable;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// A directive from its text: `cache 30 {` and option lines. Stands in line 1 and the following.
pub(super) fn directive(text: &str) -> Directive {
    let token = |text: &str, line| Token {
        text: text.to_owned(),
        file: "Corefile".into(),
        line,
    };
    let mut lines = text.lines().zip(1..).filter_map(|(text, line)| {
        let mut words = text.split_whitespace().map(|word| token(word, line));
        let name = words.next()?;
        Some(Line {
            name,
            args: words.collect(),
        })
    });
    let head = lines.next().unwrap();
    Directive {
        name: head.name,
        args: head.args,
        block: lines.collect(),
    }
}

/// One record, `OWNER TTL TYPE DATA`; behind the data of an SOA its MINIMUM.
fn record(text: &str) -> Record {
    let mut words = text.split_whitespace();
    let mut next = || words.next().unwrap();
    let owner = HickoryName::from_ascii(next()).unwrap();
    let ttl = next().parse().unwrap();
    let name = |text: &str| HickoryName::from_ascii(text).unwrap();
    let (rtype, data) = (next(), next());
    let data = match (rtype, data) {
        ("A", data) => RData::A(rdata::A(data.parse().unwrap())),
        ("AAAA", data) => RData::AAAA(rdata::AAAA(data.parse().unwrap())),
        ("CNAME", data) => RData::CNAME(rdata::CNAME(name(data))),
        ("NS", data) => RData::NS(rdata::NS(name(data))),
        ("SOA", data) => {
            let (mname, rname) = (name(data), name("hostmaster.example."));
            let minimum = words.next().map_or(9_999_999, |text| text.parse().unwrap());
            RData::SOA(rdata::SOA::new(mname, rname, 1, 2, 3, 4, minimum))
        }
        ("TXT", data) => RData::TXT(rdata::TXT::new(vec![data.to_owned(); 100])),
        (other, _) => panic!("{other}"),
    };
    Record::from_rdata(owner, ttl, data)
}

/// How the scripted plugin answers.
#[derive(Clone, Debug, Default)]
struct Script {
    rcode: u16,
    flags: u16,
    /// Sections: answer, authority, additional.
    records: [Vec<&'static str>; 3],
    options: &'static [u8],
    /// As if it came from the cluster index, or from a plugin other than `forward`.
    cluster: bool,
    local: bool,
    /// Nothing is written.
    unwritten: bool,
    /// The extended error of what is not written.
    why: Option<u16>,
    delay: Duration,
}

fn answer(records: &[&'static str]) -> Script {
    Script {
        flags: Header::RA,
        records: [records.to_vec(), vec![], vec![]],
        ..Script::default()
    }
}

fn denial(rcode: u16, soa: &'static str) -> Script {
    Script {
        rcode,
        records: [vec![], vec![soa], vec![]],
        ..answer(&[])
    }
}

/// No upstream answers.
fn dead() -> Script {
    Script {
        unwritten: true,
        why: Some(ExtendedError::NO_REACHABLE_AUTHORITY),
        ..Script::default()
    }
}

fn rcode(rcode: u16) -> Script {
    Script {
        rcode,
        ..answer(&[])
    }
}

impl Script {
    fn write(&self, query: &Query<'_>, reply: &mut Reply) -> Outcome {
        if self.unwritten {
            if let Some(code) = self.why {
                reply.add_extended_error(ExtendedError::new(code, "upstream 192.0.2.53:53: dead"));
            }
            return Outcome::failed("scripted");
        }
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        let name = HickoryName::from_ascii(query.name().to_string()).unwrap();
        message.add_query(Question::query(name, query.qtype().0.into()));
        let records = |section: usize| self.records[section].iter().map(|r| record(r)).collect();
        message.answers = records(0);
        message.authorities = records(1);
        message.additionals = records(2);
        message.metadata.response_code = ResponseCode::from(0, self.rcode as u8);
        let mut wire = message.to_vec().unwrap();
        wire[2] |= (self.flags >> 8) as u8;
        wire[3] |= self.flags as u8;
        if !self.options.is_empty() {
            wire.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0");
            wire.push(self.options.len() as u8);
            wire.extend_from_slice(self.options);
            wire[11] += 1;
        }
        if self.local || self.cluster {
            let (records, flags) = (Normalised::of_message(&wire).unwrap(), self.flags);
            records.replace(reply);
            reply.set_flag(flags, true);
            reply.set_rcode(Rcode(self.rcode));
            if self.cluster {
                reply.set_cluster_data();
            }
        } else {
            reply.adopt(query, &wire).unwrap();
        }
        Outcome::Written
    }
}

/// The plugin behind the cache: answers from its scripts, the last one again and again.
#[derive(Default)]
struct Upstream {
    scripts: Mutex<VecDeque<Script>>,
    asked: AtomicUsize,
}

struct Scripted(Arc<Upstream>);

impl Plugin for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let mut scripts = self.0.scripts.lock().unwrap();
        let script = match scripts.len() {
            1 => scripts[0].clone(),
            _ => scripts.pop_front().unwrap(),
        };
        if script.delay.is_zero() {
            return Step::Done(script.write(&cx.query, reply));
        }
        let owned = cx.to_owned();
        let wait: Answer = Box::pin(async move {
            tokio::time::sleep(script.delay).await;
            let mut reply = Reply::new();
            let view = owned.query.view();
            reply.start(&view);
            (script.write(&view, &mut reply), reply)
        });
        Step::Wait(wait)
    }
}

/// What a client got.
#[derive(Debug, PartialEq)]
struct Got {
    outcome: Outcome,
    rcode: u16,
    flags: u16,
    records: Vec<String>,
    errors: Vec<u16>,
}

impl Got {
    fn texts(&self) -> Vec<&str> {
        self.records.iter().map(String::as_str).collect()
    }

    /// The TTLs of all records.
    fn ttls(&self) -> Vec<u32> {
        let ttl = |text: &String| text.split(' ').nth(1).unwrap().parse().unwrap();
        self.records.iter().map(ttl).collect()
    }
}

struct World {
    process: Arc<Process>,
    chain: Arc<Chain>,
    upstream: Arc<Upstream>,
    base: Instant,
}

/// A question: name, type and what else tells questions apart.
#[derive(Clone, Copy)]
struct Ask {
    name: &'static str,
    qtype: RecordType,
    bits: u16,
    dnssec: bool,
}

fn ask(name: &'static str) -> Ask {
    Ask {
        name,
        qtype: RecordType::A,
        bits: Header::RD,
        dnssec: false,
    }
}

impl World {
    /// A cache of this directive before plugins that answer with `scripts`.
    fn new(text: &str, scripts: Vec<Script>) -> Self {
        let (process, _) = Process::new(tokio::runtime::Handle::current(), 2);
        Self::within(Arc::new(process), text, scripts)
    }

    fn within(process: Arc<Process>, text: &str, scripts: Vec<Script>) -> Self {
        let upstream = Arc::new(Upstream::default());
        upstream.scripts.lock().unwrap().extend(scripts);
        let mut block = Block {
            zones: vec![Zone::root()],
            server: "dns://:53".into(),
            ..Block::default()
        };
        let mut plugins: Vec<Arc<dyn Plugin>> = Vec::new();
        setup(&mut Setup {
            provided: &Arc::default(),
            directives: &[directive(text)],
            block: &mut block,
            process: &process,
            hooks: &mut Hooks::default(),
            endpoints: &mut Vec::new(),
            plugins: &mut plugins,
            chain: &Arc::new(OnceLock::new()),
            loaded: &["cache"],
            fingerprint: "",
        })
        .unwrap();
        plugins.push(Arc::new(Scripted(Arc::clone(&upstream))));
        Self {
            process,
            chain: Arc::new(Chain::new(block, plugins)),
            upstream,
            base: Instant::now() + Duration::from_secs(1000),
        }
    }

    fn then(&self, scripts: Vec<Script>) {
        *self.upstream.scripts.lock().unwrap() = scripts.into();
    }

    /// Asks at `at` seconds of the clock.
    async fn ask(&self, at: f64, question: Ask) -> Got {
        let mut wire = Vec::new();
        if question.name != "." {
            crate::dns::name::write_labels(question.name, &mut wire).unwrap();
        }
        wire.push(0);
        let header = Header {
            id: 1,
            bits: question.bits,
            counts: [1, 0, 0, 1],
        };
        let mut packet = header.to_wire().to_vec();
        packet.extend_from_slice(&wire);
        packet.extend_from_slice(&question.qtype.0.to_be_bytes());
        packet.extend_from_slice(b"\0\x01\0\0\x29\xff\xff\0\0");
        packet.extend_from_slice(&[if question.dnssec { 0x80 } else { 0 }, 0, 0, 0]);
        let owned = OwnedContext {
            query: OwnedQuery::new(packet).unwrap(),
            client: Client {
                addr: "192.0.2.9:5000".parse().unwrap(),
                local: "192.0.2.1:53".parse().unwrap(),
                transport: Transport::Udp,
            },
            received: self.base + Duration::from_secs_f64(at),
            chain: Arc::clone(&self.chain),
            position: 0,
            depth: 0,
            trace: None,
        };
        let mut view = owned.view();
        let mut reply = Reply::new();
        reply.start(&view.query);
        let (outcome, mut reply) = match self.chain.walk(0, &mut view, &mut reply) {
            Flow::Done(outcome) => (outcome, reply),
            Flow::Wait(pending) => pending.finish(&owned).await,
        };
        let wire = reply.finish(&view.query, 65_535).to_vec();
        let message = Message::from_bytes(&wire).unwrap();
        let header = Header::read(&wire).unwrap();
        let sections = [&message.answers, &message.authorities, &message.additionals];
        let opt = wire.windows(3).rposition(|w| w == b"\0\0\x29").unwrap();
        Got {
            outcome,
            rcode: header.rcode().0,
            flags: header.bits & (Header::AA | Header::TC | Header::RA | Header::AD),
            records: sections
                .iter()
                .flat_map(|section| section.iter())
                .map(ToString::to_string)
                .collect(),
            errors: edns::options(&wire[opt + 11..])
                .filter(|(code, _)| *code == edns::option::EXTENDED_ERROR)
                .map(|(_, data)| u16::from_be_bytes([data[0], data[1]]))
                .collect(),
        }
    }

    /// How often the plugin behind the cache was asked.
    fn asked(&self) -> usize {
        self.upstream.asked.load(Ordering::Relaxed)
    }

    /// Lets background work go on.
    async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// The value of a metric of this cache: `requests_total`, `hits_total success`.
    fn metric(&self, name: &str) -> f64 {
        use crate::metrics::{Format, exposition};
        let (name, kind) = name.split_once(' ').unwrap_or((name, ""));
        let kind = if kind.is_empty() {
            String::new()
        } else {
            format!("type=\"{kind}\",")
        };
        let text = exposition(&self.process.metrics, Format::Classic);
        let series = format!("{name}{{server=\"dns://:53\",{kind}zones=\".\",view=\"\"}} ");
        let line = text.lines().find_map(|line| line.split_once(&series));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
            .1
            .parse()
            .unwrap()
    }
}
