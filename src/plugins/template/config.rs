//! The directive, read.

use super::answer::Answers;
use super::{Template, go};
use crate::corefile::value::{self, Fallthrough};
use crate::corefile::{Directive, Error, Line, Token};
use crate::dns::{ExtendedError, Rcode};
use crate::plugin::Block;
use crate::plugins::common;

/// Reads one directive.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub(super) fn parse(directive: &Directive, block: &Block) -> Result<Template, Error> {
    let [class, rtype, zones @ ..] = directive.args.as_slice() else {
        return Err(directive.args.last().unwrap_or(&directive.name).arg_error());
    };
    let mut template = Template {
        zones: value::zones_or(zones, &block.zones)?,
        class: class
            .text
            .parse()
            .map_err(|_| class.error(format!("invalid query class {class}")))?,
        rtype: rtype
            .text
            .parse()
            .map_err(|_| rtype.error(format!("invalid RR class {rtype}")))?,
        expressions: Vec::new(),
        rcode: Rcode::NOERROR,
        answers: Answers::default(),
        fallthrough: Fallthrough::NONE,
    };
    for line in &directive.block {
        option(line, &mut template)?;
    }
    Ok(template)
}

fn option(line: &Line, template: &mut Template) -> Result<(), Error> {
    let answers = &mut template.answers;
    match line.name.as_str() {
        "match" => {
            for arg in line.some_args()? {
                template.expressions.push(common::regex(arg)?);
            }
        }
        "answer" => compile(line, &mut answers.answer)?,
        "authority" => compile(line, &mut answers.authority)?,
        "additional" => compile(line, &mut answers.additional)?,
        "rcode" => {
            let [rcode, ..] = line.some_args()? else {
                return Err(line.name.arg_error());
            };
            template.rcode = rcode
                .text
                .parse()
                .map_err(|_| rcode.error(format!("unknown rcode {rcode}")))?;
        }
        "ederror" => answers.error = Some(extended_error(line)?),
        "fallthrough" => template.fallthrough = Fallthrough::from_args(&line.args)?,
        // Of older versions; targets of aliases are always looked up.
        "upstream" => {}
        "var" | "expr" => {
            return Err(line.error(format!("{} is not supported yet", line.name)));
        }
        _ => return Err(line.args.last().unwrap_or(&line.name).arg_error()),
    }
    Ok(())
}

fn compile(line: &Line, templates: &mut Vec<go::Template>) -> Result<(), Error> {
    for arg in line.some_args()? {
        templates.push(go::Template::new(&arg.text).map_err(|error| {
            arg.error(format!(
                "could not compile template: {}, {error}",
                line.name
            ))
        })?);
    }
    Ok(())
}

fn extended_error(line: &Line) -> Result<ExtendedError, Error> {
    let (code, text) = match line.args.as_slice() {
        [code] => (code, None),
        [code, text] => (code, Some(text)),
        _ => return Err(line.args.last().unwrap_or(&line.name).arg_error()),
    };
    let number = code
        .text
        .parse()
        .map_err(|_| code.error(format!("error parsing extended DNS error code {code}")))?;
    let text = text.map(Token::as_str).unwrap_or_default();
    Ok(ExtendedError::new(number, text.to_owned()))
}
