//! The records of a template: rendered, looked up where they are aliases, and written.

use super::go::{self, Data};
use super::metrics::Metrics;
use super::record::Record;
use crate::dns::{
    Class, ExtendedError, Header, MAX_MESSAGE, OwnedQuery, Rcode, RecordType, Reply, Section, Zone,
    name,
};
use crate::plugin::{Answer, Context, Outcome, OwnedContext, Step};
use regex::Regex;

/// The records that a template makes.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) answer: Vec<go::Template>,
    pub(super) authority: Vec<go::Template>,
    pub(super) additional: Vec<go::Template>,
    pub(super) error: Option<ExtendedError>,
}

/// What the templates of a question print.
pub(super) fn data<'d>(
    cx: &Context<'_>,
    text: &'d str,
    zone: &'d Zone,
    (class, rtype): (Class, RecordType),
    expression: Option<&'d Regex>,
) -> Data<'d> {
    let mut typed = String::new();
    // Writing to a string does not fail.
    let _ = name::write_text(cx.query.name_as_typed(), &mut typed);
    Data {
        zone: zone.text(),
        name: text,
        class: class.to_string(),
        rtype: rtype.to_string(),
        remote: cx.client.addr.ip().to_string(),
        regex: expression.map_or(".*", Regex::as_str),
        captures: expression.and_then(|expression| expression.captures(text)),
        question: (typed, cx.query.qtype().0, cx.query.qclass().0),
    }
}

impl Answers {
    /// Whether there is no record to make.
    pub(super) const fn are_none(&self) -> bool {
        self.answer.is_empty() && self.authority.is_empty() && self.additional.is_empty()
    }

    /// Writes a reply without records.
    pub(super) fn write_empty(&self, reply: &mut Reply, rcode: Rcode) {
        reply.set_rcode(rcode);
        reply.set_flag(Header::AA, true);
        if let Some(error) = &self.error {
            reply.add_extended_error(error.clone());
        }
    }

    /// Makes the records.
    ///
    /// # Errors
    /// The first one that cannot be made, which was counted.
    pub(super) fn render(&self, data: &Data<'_>, metrics: &Metrics) -> Result<Rendered, String> {
        let section = |name, templates: &[go::Template]| -> Result<Vec<Record>, String> {
            let records = templates.iter().map(|template| {
                let text = template.render(data).inspect_err(|_| {
                    metrics.template_failed(data, name, template.source());
                })?;
                Record::parse(&text).map_err(|error| {
                    metrics.record_failed(data, name, template.source());
                    format!("{error}: \"{text}\"")
                })
            });
            records.collect()
        };
        Ok(Rendered {
            answer: section("answer", &self.answer)?,
            additional: section("additional", &self.additional)?,
            authority: section("authority", &self.authority)?,
            error: self.error.clone(),
        })
    }
}

/// The records of a reply.
pub(super) struct Rendered {
    answer: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
    error: Option<ExtendedError>,
}

impl Rendered {
    /// Writes the records now, or once the targets of aliases are known.
    pub(super) fn step(self, cx: &Context<'_>, reply: &mut Reply, rcode: Rcode) -> Step {
        let asked = matches!(cx.query.qtype(), RecordType::A | RecordType::AAAA);
        if asked && self.answer.iter().any(|r| r.rtype == RecordType::CNAME) {
            return Step::Wait(self.follow(cx.to_owned(), rcode));
        }
        self.write(reply, rcode);
        Step::Done(Outcome::Written)
    }

    fn write(&self, reply: &mut Reply, rcode: Rcode) {
        reply.set_rcode(rcode);
        reply.set_flag(Header::AA, true);
        for (section, records) in [
            (Section::Answer, &self.answer),
            (Section::Authority, &self.authority),
            (Section::Additional, &self.additional),
        ] {
            records
                .iter()
                .for_each(|record| record.push(reply, section));
        }
        if let Some(error) = &self.error {
            reply.add_extended_error(error.clone());
        }
    }

    /// Asks the server for what every alias leads to, and puts that behind the alias.
    fn follow(mut self, cx: OwnedContext, rcode: Rcode) -> Answer {
        Box::pin(async move {
            let mut truncated = false;
            let mut answer = Vec::new();
            for record in std::mem::take(&mut self.answer) {
                let target = (record.rtype == RecordType::CNAME).then(|| record.rdata.clone());
                answer.push(record);
                let Some(target) = target else { continue };
                if let Some((records, cut)) = look_up(&cx, &target).await {
                    answer.extend(records);
                    truncated = cut;
                }
            }
            self.answer = answer;
            let mut reply = Reply::new();
            reply.start(&cx.query.view());
            self.write(&mut reply, rcode);
            if truncated {
                reply.set_flag(Header::TC, true);
            }
            (Outcome::Written, reply)
        })
    }
}

/// The answer section for `target` and the type asked for, and whether it was cut.
async fn look_up(cx: &OwnedContext, target: &[u8]) -> Option<(Vec<Record>, bool)> {
    let query = cx.query.view();
    let question = OwnedQuery::with_question(&query, target, query.qtype(), Class::IN);
    let inner = OwnedContext {
        query: question.clone(),
        ..cx.clone()
    };
    let (outcome, mut reply) = cx.chain.resolve(inner)?.await;
    if outcome != Outcome::Written {
        return None;
    }
    let truncated = reply.has_flag(Header::TC);
    // Names in it may be compressed: they are written out by way of the codec.
    let message = reply.finish(&question.view(), MAX_MESSAGE);
    let message = hickory_proto::op::Message::from_vec(message).ok()?;
    let records = message.answers.iter().map(Record::from_decoded);
    Some((records.collect::<Result<_, _>>().ok()?, truncated))
}
