//! From the text of a scenario to its steps. README.md beside this is the grammar.

use super::behaviour::{self, Line, ReplyText};
use super::records::{self, Record};
use super::words::{Problem, Span, Words, duration};
use portolan::dns::{Header, Rcode, RecordType};
use std::time::Duration;

/// A scenario.
#[derive(Debug, Default)]
pub struct Scenario {
    /// What must be built before it can pass.
    pub needs: Vec<String>,
    pub corefile: String,
    /// Names of the upstreams, in the order in which they are first mentioned.
    pub upstreams: Vec<String>,
    pub replies: Vec<ReplyText>,
    pub steps: Vec<(usize, Step)>,
}

/// What happens, or is to be so.
#[derive(Clone, Debug)]
pub enum Step {
    /// Waits for this time since the start.
    At(Duration),
    Upstream(usize, Line),
    Ask(Span<u32>, Question),
    Expect(Option<Span<u32>>, Expected),
    /// These have no answer yet.
    Waiting(Span<u32>),
    /// How many queries arrived since the last such step, by upstream and protocol.
    Asked(Vec<(usize, Span<usize>, Option<String>)>),
    /// How many probes arrived at an upstream, likewise.
    Probed(usize, Span<usize>),
    Metric(String, Span<f64>),
    Log(String, bool),
    /// What is in the cache; `None` for nothing.
    Cached(Question, Option<Expected>),
}

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Question {
    pub name: Vec<u8>,
    pub qtype: RecordType,
    pub bits: u16,
    pub dnssec: bool,
    pub tcp: bool,
    /// The payload size; `None` without EDNS.
    pub edns: Option<u16>,
}

/// What a client is to get.
#[derive(Clone, Debug)]
pub struct Expected {
    pub rcode: Rcode,
    pub flags: u16,
    pub within: Option<Span<Duration>>,
    /// The texts of the records of each section.
    pub sections: [Vec<(usize, String)>; 3],
    /// Extended errors, each with a part of its text; `None` for any.
    pub errors: Option<Vec<(usize, u16, Option<String>)>>,
    /// A part of what `errors` logs.
    pub error: Option<String>,
}

/// The flags of a reply that scenarios speak of; RD is as the client set it.
pub const FLAGS: [(&str, u16); 5] = [
    ("aa", Header::AA),
    ("tc", Header::TC),
    ("ra", Header::RA),
    ("ad", Header::AD),
    ("cd", Header::CD),
];

type Read<T> = Result<T, Problem>;

/// The scenario of a file, or the first line that is wrong.
pub fn read(text: &str) -> Read<Scenario> {
    let mut scenario = Scenario::default();
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((text, number)) = lines.next() {
        let mut words = Words::new(number, text)?;
        if words.is_empty() {
            continue;
        }
        let mut block = || {
            let mut inner = Vec::new();
            while let Some((text, number)) =
                lines.next_if(|(text, _)| text.trim().is_empty() || text.starts_with([' ', '\t']))
            {
                if !text.trim().is_empty() && !text.trim_start().starts_with('#') {
                    inner.push((number, text.trim().to_owned()));
                }
            }
            inner
        };
        let indented = text.starts_with([' ', '\t']);
        match words.peek() {
            "needs" if !indented => {
                words.expect("needs")?;
                scenario.needs.push(words.next("what it needs")?);
                words.end()?;
            }
            "corefile" if !indented => {
                words.expect("corefile")?;
                words.end()?;
                for (_, text) in block() {
                    scenario.corefile.push_str(&text);
                    scenario.corefile.push('\n');
                }
            }
            "reply" if !indented => {
                let reply = behaviour::reply(&mut words, &block())?;
                scenario.replies.push(reply);
            }
            _ => scenario.step(words, text)?,
        }
    }
    Ok(scenario)
}

impl Scenario {
    fn step(&mut self, mut words: Words, text: &str) -> Read<()> {
        let number = words.line;
        if let Some(time) = duration(words.peek()) {
            words.duration()?;
            self.steps.push((number, Step::At(time)));
            if words.is_empty() {
                return Ok(());
            }
        }
        let verb = words.next("a step")?;
        let step = match verb.as_str() {
            "upstream" => {
                let index = self.upstream(&mut words, true)?;
                Step::Upstream(index, behaviour::line(&mut words)?)
            }
            "client" | "clients" => {
                let who = words.span("a client's number")?;
                words.expect(if verb == "client" { "asks" } else { "ask" })?;
                Step::Ask(who, question(&mut words)?)
            }
            "expect" => {
                let one = words.take("client") || words.take("clients");
                let who = match one {
                    true => Some(words.span("a client's number")?),
                    false => None,
                };
                Step::Expect(who, expected(&mut words)?)
            }
            "answer" | "authority" | "additional" | "ede" | "error" => {
                return self.more(&verb, words, text);
            }
            "waiting" => {
                let _ = words.take("client") || words.take("clients");
                Step::Waiting(words.span("a client's number")?)
            }
            "asked" => self.asked(&mut words)?,
            "probed" => {
                let index = self.upstream(&mut words, false)?;
                Step::Probed(index, words.span("a number of probes")?)
            }
            "metric" => {
                let step = metric(number, text)?;
                words.rest();
                step
            }
            "log" => Step::Log(words.next("a text")?, true),
            "no" => {
                words.expect("log")?;
                Step::Log(words.next("a text")?, false)
            }
            "cached" => {
                let question = question(&mut words)?;
                words.expect(":")?;
                Step::Cached(question, Some(expected(&mut words)?))
            }
            "not" => {
                words.expect("cached")?;
                Step::Cached(question(&mut words)?, None)
            }
            _ => return Err(words.problem(format!("unknown word `{verb}`"))),
        };
        words.end()?;
        self.steps.push((number, step));
        Ok(())
    }

    /// The upstream that the next word names. New ones come with a behaviour.
    fn upstream(&mut self, words: &mut Words, new: bool) -> Read<usize> {
        let name = words.next("an upstream")?;
        if let Some(known) = self.upstreams.iter().position(|known| *known == name) {
            return Ok(known);
        }
        if !new {
            return Err(words.problem(format!("no upstream `{name}`")));
        }
        self.upstreams.push(name);
        Ok(self.upstreams.len() - 1)
    }

    fn asked(&mut self, words: &mut Words) -> Read<Step> {
        let mut all = Vec::new();
        if words.take("nobody") {
            return Ok(Step::Asked(all));
        }
        loop {
            let index = self.upstream(words, false)?;
            let count = words.span("a number of queries")?;
            let protocol = ["udp", "tcp"].into_iter().find(|&word| words.take(word));
            all.push((index, count, protocol.map(str::to_owned)));
            if !words.take(",") {
                return Ok(Step::Asked(all));
            }
        }
    }

    /// What a line says besides of the reply that the lines before began.
    fn more(&mut self, verb: &str, mut words: Words, text: &str) -> Read<()> {
        let (Some((_, Step::Expect(_, reply) | Step::Cached(_, Some(reply)))), number) =
            (self.steps.last_mut(), words.line)
        else {
            return Err(words.problem(format!("`{verb}` without an `expect` before it")));
        };
        match verb {
            "ede" if words.take("any") => reply.errors = None,
            "ede" => {
                let code = words.parse("a code of an extended error")?;
                let part = (!words.is_empty()).then(|| words.next("a text"));
                let known = reply.errors.get_or_insert_default();
                known.push((number, code, part.transpose()?));
            }
            "error" => reply.error = Some(words.next("a text")?),
            _ => {
                let section = ["answer", "authority", "additional"];
                let section = section.iter().position(|&name| name == verb).unwrap_or(0);
                let (_, record) = text.split_once(verb).unwrap_or_default();
                for record in Record::read(number, record)? {
                    reply.sections[section].push((number, record.text()));
                }
                return Ok(());
            }
        }
        words.end()
    }
}

fn question(words: &mut Words) -> Read<Question> {
    let text = words.next("a name")?;
    let name = records::name(&text);
    let name = name.ok_or_else(|| words.problem(format!("bad name `{text}`")))?;
    let mut question = Question {
        name,
        qtype: words.parse("a record type")?,
        bits: Header::RD,
        dnssec: false,
        tcp: false,
        edns: Some(1232),
    };
    while !words.is_empty() && words.peek() != ":" {
        match words.peek() {
            "+do" => question.dnssec = true,
            "+cd" => question.bits |= Header::CD,
            "+ad" => question.bits |= Header::AD,
            "-rd" => question.bits &= !Header::RD,
            "tcp" => question.tcp = true,
            "plain" => question.edns = None,
            "edns" => {
                words.expect("edns")?;
                question.edns = Some(words.parse("a payload size")?);
                continue;
            }
            _ => return Err(words.unknown()),
        }
        words.next("a word")?;
    }
    Ok(question)
}

fn expected(words: &mut Words) -> Read<Expected> {
    let mut expected = Expected {
        rcode: words.parse("a response code")?,
        flags: 0,
        within: None,
        sections: Default::default(),
        errors: Some(Vec::new()),
        error: None,
    };
    while !words.is_empty() {
        if words.take("within") {
            expected.within = Some(words.durations()?);
        } else if words.take("at") {
            words.expect("once")?;
            let none = Duration::ZERO;
            expected.within = Some(Span {
                first: none,
                last: none,
            });
        } else {
            expected.flags |= flag(words)?;
        }
    }
    Ok(expected)
}

/// The flag that the next word is.
pub fn flag(words: &mut Words) -> Read<u16> {
    let flag = FLAGS.iter().find(|(name, _)| *name == words.peek());
    let (_, bit) = flag.ok_or_else(|| words.unknown())?;
    words.next("a flag")?;
    Ok(*bit)
}

fn metric(line: usize, text: &str) -> Read<Step> {
    let wrong = |text: &str| Problem::new(line, text);
    let (_, text) = text.split_once("metric").unwrap_or_default();
    let (series, value) = text
        .rsplit_once(" = ")
        .ok_or_else(|| wrong("`metric SERIES = VALUE` expected"))?;
    let (first, last) = value.split_once("..").unwrap_or((value, value));
    let number = |text: &str| text.trim().parse::<f64>();
    match (number(first), number(last)) {
        (Ok(first), Ok(last)) => Ok(Step::Metric(series.trim().into(), Span { first, last })),
        _ => Err(wrong("not a number, nor a range of it")),
    }
}
