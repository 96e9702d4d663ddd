//! An explanation as text (one fact a line) and as JSON.

use super::ask::{End, Explained};
use super::question::LISTENER;
use crate::dns::ExtendedError;
use crate::plugin::admin::Response;
use crate::plugin::trace::Kind;
use hickory_proto::op::Message;
use hickory_proto::rr::Record;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// A request that is not answered.
pub(super) fn refusal(status: u16, text: String, json: bool) -> Response {
    if json {
        return body(status, &json!({ "error": text }));
    }
    Response::text(status, text + "\n")
}

fn body(status: u16, value: &Value) -> Response {
    Response {
        status,
        content_type: "application/json",
        body: format!("{value:#}\n"),
    }
}

/// The explanation as text.
pub(super) fn text(explained: &Explained) -> String {
    let question = &explained.question;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "question: {} {} {} from {} over {}",
        question.name,
        question.qclass,
        question.qtype,
        question.client.ip(),
        question.transport.proto()
    );
    let _ = writeln!(out, "listener: {}", explained.listener);
    for other in &explained.other_listeners {
        let _ = writeln!(
            out,
            "other listener: {other} (ask it with {LISTENER}={other})"
        );
    }
    let routing = &explained.routing;
    if let Some(block) = &routing.block {
        let _ = writeln!(out, "server block: {block}");
    }
    let _ = writeln!(out, "because: {}", routing.why);
    for zone in &routing.other_zones {
        let _ = writeln!(out, "other zone here: {zone}");
    }
    let _ = writeln!(out, "\nsteps:");
    for step in &explained.steps {
        let indent = 2 * (usize::from(step.depth) + 1);
        let way = if step.kind == Kind::Changed {
            " on the way out"
        } else {
            ""
        };
        let after = match step.kind {
            Kind::Decided if step.at_micros >= 1_000 => {
                format!(" at {}", millis(Duration::from_micros(step.at_micros)))
            }
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "{:indent$}{}{way}: {}{after}",
            "", step.plugin, step.text
        );
    }
    if explained.steps.is_empty() {
        out.push_str("  none\n");
    }
    let _ = writeln!(out, "\nreply after {}:", millis(explained.took));
    match &explained.end {
        End::Reply(message, errors) => dig(&mut out, message, errors),
        other => {
            let _ = writeln!(out, "  {}", without_reply(other));
        }
    }
    out
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

fn without_reply(end: &End) -> String {
    match end {
        End::Reply(..) => String::new(),
        End::Nothing => "none: the query is dropped".into(),
        End::Late(patience) => format!(
            "none within {} s: the query waits still",
            patience.as_secs()
        ),
        End::Panicked => "SERVFAIL: the server panicked, see its log".into(),
        End::Unreadable(error) => format!("a message that cannot be read: {error}"),
    }
}

/// The flags, as `dig` calls them.
fn flags(message: &Message) -> Vec<&'static str> {
    let meta = &message.metadata;
    let all = [
        (true, "qr"),
        (meta.authoritative, "aa"),
        (meta.truncation, "tc"),
        (meta.recursion_desired, "rd"),
        (meta.recursion_available, "ra"),
        (meta.authentic_data, "ad"),
        (meta.checking_disabled, "cd"),
    ];
    let set = all.into_iter().filter(|(on, _)| *on);
    set.map(|(_, name)| name).collect()
}

fn rcode(message: &Message) -> String {
    crate::dns::Rcode(u16::from(message.metadata.response_code)).to_string()
}

fn sections(message: &Message) -> [(&'static str, &[Record]); 3] {
    [
        ("answer", &message.answers),
        ("authority", &message.authorities),
        ("additional", &message.additionals),
    ]
}

fn dig(out: &mut String, message: &Message, errors: &[ExtendedError]) {
    let _ = writeln!(
        out,
        "  status: {}, flags: {}",
        rcode(message),
        flags(message).join(" ")
    );
    for error in errors {
        let _ = writeln!(out, "  EDE: {} {}", error.code, error.text);
    }
    for (name, records) in sections(message) {
        if !records.is_empty() {
            let _ = writeln!(out, "  {name}:");
        }
        for record in records {
            let _ = writeln!(out, "    {record}");
        }
    }
}

/// The explanation as JSON.
pub(super) fn json(explained: &Explained) -> Response {
    let question = &explained.question;
    let routing = &explained.routing;
    let steps = explained.steps.iter().map(|step| {
        json!({
            "depth": step.depth,
            "plugin": step.plugin,
            "kind": step.kind.word(),
            "text": step.text,
            "at_ms": step.at_micros as f64 / 1e3,
        })
    });
    let reply = match &explained.end {
        End::Reply(message, errors) => {
            let shown = |records: &[Record]| -> Vec<String> {
                records.iter().map(ToString::to_string).collect()
            };
            let errors = errors.iter();
            json!({
                "status": rcode(message),
                "flags": flags(message),
                "extended_errors": errors
                    .map(|error| json!({ "code": error.code, "text": error.text }))
                    .collect::<Vec<_>>(),
                "answer": shown(&message.answers),
                "authority": shown(&message.authorities),
                "additional": shown(&message.additionals),
            })
        }
        other => json!({ "none": without_reply(other) }),
    };
    let value = json!({
        "question": {
            "name": question.name,
            "type": question.qtype.to_string(),
            "class": question.qclass.to_string(),
            "client": question.client.ip(),
            "proto": question.transport.proto(),
        },
        "listener": explained.listener,
        "other_listeners": explained.other_listeners,
        "server_block": routing.block,
        "because": routing.why,
        "other_zones": routing.other_zones,
        "steps": steps.collect::<Vec<_>>(),
        "reply": reply,
        "took_ms": explained.took.as_secs_f64() * 1e3,
    });
    body(200, &value)
}
