//! Names that lead out of what a plugin knows: the server itself is asked for them.

use crate::dns::{
    Class, Header, Name, OwnedQuery, Owner, RecordType, Records, Reply, Section, Spelled,
};
use crate::plugin::{Context, Outcome, OwnedContext, Step};

/// A name to be asked for, and where the answer's addresses and aliases belong.
#[derive(Clone, Debug)]
pub(in crate::plugins) struct Wanted {
    /// The name.
    pub name: Name,
    /// The type.
    pub qtype: RecordType,
    /// The section.
    pub section: Section,
}

/// Asks the server for names (KA-5), and appends what it answers to `reply`. No answer section may
/// be wanted where `reply` has additional records already.
pub(in crate::plugins) fn follow(cx: &Context<'_>, reply: &Reply, wanted: Vec<Wanted>) -> Step {
    let records = reply.message()[reply.records_offset()..].to_vec();
    let (counts, rcode) = (reply.counts(), reply.rcode());
    // Where the sections end in `records`.
    let mut ends = [0; 3];
    for record in reply.records() {
        for end in &mut ends[record.section as usize..] {
            *end = record.rdata.end - reply.records_offset();
        }
    }
    let cx = cx.to_owned();
    Step::Wait(Box::pin(async move {
        let mut answers = Vec::new();
        for (at, each) in wanted.iter().enumerate() {
            // Another type of the same name has the same aliases.
            let again = wanted[..at].iter().any(|before| before.name == each.name);
            answers.push((each.section, again, ask(&cx, each).await));
        }
        let view = cx.view();
        let mut reply = Reply::new();
        reply.start(&view.query);
        reply.set_rcode(rcode);
        reply.set_flag(Header::AA, true);
        reply.set_cluster_data();
        let mut from = 0;
        for section in Section::ALL {
            let end = ends[section as usize];
            reply.push_wire(section, &records[from..end], counts[section as usize]);
            from = end;
            for (_, again, answer) in answers.iter().filter(|(wanted, ..)| *wanted == section) {
                if let Some((outcome, inner)) = answer
                    && *outcome != Outcome::Dropped
                {
                    append_answers(inner, section, !again, &mut reply);
                }
            }
        }
        (Outcome::Written, reply)
    }))
}

async fn ask(cx: &OwnedContext, wanted: &Wanted) -> Option<(Outcome, Reply)> {
    let mut inner = cx.clone();
    let (name, qtype) = (wanted.name.wire(), wanted.qtype);
    inner.query = OwnedQuery::with_question(&cx.query.view(), name, qtype, Class::IN);
    let answer = cx.chain.resolve(inner)?;
    Some(answer.await)
}

/// Appends addresses (and `aliases`) of another reply's answer section, their names in full and as
/// they are spelled there.
fn append_answers(from: &Reply, section: Section, aliases: bool, to: &mut Reply) {
    if from.has_flag(Header::TC) {
        to.set_flag(Header::TC, true);
    }
    let message = from.message();
    let spelled = |at: usize| Spelled::read(message, at).map(|(name, _)| name);
    let records = Records::at(message, from.records_offset(), [from.counts()[0], 0, 0]);
    // The last alias's target, and where it stands in `to`: mostly the next owner.
    let mut last: Option<(Spelled, usize)> = None;
    for record in records.map_while(Result::ok) {
        let Ok(owner) = spelled(record.start) else {
            return;
        };
        let owner = match &last {
            Some((name, at)) if name.wire() == owner.wire() && *at < 0x4000 => Owner::At(*at),
            _ => Owner::Wire(owner.wire()),
        };
        let (rtype, ttl) = (record.rtype, record.ttl);
        match rtype {
            RecordType::A | RecordType::AAAA => {
                to.push(section, owner, rtype, ttl, &message[record.rdata]);
            }
            RecordType::CNAME if aliases => {
                let Ok(target) = spelled(record.rdata.start) else {
                    return;
                };
                if to.push(section, owner, rtype, ttl, target.wire()) {
                    let at = to.message().len() - target.wire().len();
                    last = Some((target, at));
                }
            }
            _ => {}
        }
    }
}
