//! A small part of Go's `text/template`: text with actions that print a value.
//!
//! What is known: the fields of [`Data`], `index .Match N`, `index .Group "NAME"`, `parseInt TEXT BASE
//! BITS`, `.Meta "LABEL"`, strings, numbers, parentheses, comments, and trim markers. Everything
//! else (variables, conditions, loops, pipelines) is an error when the template is compiled.

use std::fmt::Write;

/// What a template can print.
#[derive(Debug)]
pub(super) struct Data<'d> {
    pub(super) zone: &'d str,
    /// The name asked for, in lower case.
    pub(super) name: &'d str,
    pub(super) class: String,
    pub(super) rtype: String,
    /// The address of the client.
    pub(super) remote: String,
    /// The regular expression that matched.
    pub(super) regex: &'d str,
    /// Its groups in `name`; `None` without an expression.
    pub(super) captures: Option<regex::Captures<'d>>,
    /// Name (as typed), type and class asked for.
    pub(super) question: (String, u16, u16),
}

/// A compiled template.
#[derive(Debug)]
pub(super) struct Template {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Value),
}

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Zone,
    Name,
    Class,
    Type,
    Remote,
    Regex,
    QuestionName,
    QuestionType,
    QuestionClass,
    /// `.Group.NAME`.
    Group(String),
    /// `index .Group "NAME"`.
    GroupAt(Box<Value>),
    /// `index .Match N`.
    MatchAt(Box<Value>),
    Text(String),
    Number(i64),
    ParseInt(Box<[Value; 3]>),
    /// Metadata that nobody publishes.
    Meta,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// What of it is not known here.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = source;
        let mut trim = false;
        loop {
            let Some((text, action)) = rest.split_once("{{") else {
                push_text(&mut pieces, rest, trim, false);
                break;
            };
            let (action, tail) = action
                .split_once("}}")
                .ok_or_else(|| format!("unclosed action in \"{source}\""))?;
            let before = action
                .strip_prefix('-')
                .filter(|a| a.starts_with(char::is_whitespace));
            push_text(&mut pieces, text, trim, before.is_some());
            let action = before.unwrap_or(action);
            let after = action
                .strip_suffix('-')
                .filter(|a| a.ends_with(char::is_whitespace));
            trim = after.is_some();
            let action = after.unwrap_or(action).trim();
            if !(action.starts_with("/*") && action.ends_with("*/")) {
                pieces.push(Piece::Value(parse(action)?));
            }
            rest = tail;
        }
        Ok(Self {
            source: source.to_owned(),
            pieces,
        })
    }

    /// The text that it was compiled from.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The text with all values in it.
    ///
    /// # Errors
    /// Which value does not exist.
    pub(super) fn render(&self, data: &Data<'_>) -> Result<String, String> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value(value) => out.push_str(&value.text(data)?),
            }
        }
        Ok(out)
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// Reads an action.
fn parse(action: &str) -> Result<Value, String> {
    let tokens = tokens(action)?;
    let mut rest = tokens.as_slice();
    let value = command(&mut rest)?;
    match rest.first() {
        None => Ok(value),
        Some(token) => Err(format!("unexpected \"{token}\" in \"{action}\"")),
    }
}

/// Words, strings (with their quotes), and parentheses.
fn tokens(action: &str) -> Result<Vec<&str>, String> {
    let mut out = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '(' | ')' | '|' | ',' => 1,
            '"' | '`' => {
                let close = rest[1..].find(first);
                close.ok_or_else(|| format!("unterminated string in \"{action}\""))? + 2
            }
            _ => rest
                .find(|c: char| c.is_whitespace() || "()|,\"`".contains(c))
                .unwrap_or(rest.len()),
        };
        let (token, tail) = rest.split_at(len);
        out.push(token);
        rest = tail.trim_start();
    }
    Ok(out)
}

/// A function with its operands, or one operand.
fn command(rest: &mut &[&str]) -> Result<Value, String> {
    match rest {
        ["index", tail @ ..] => {
            let [what, tail @ ..] = tail else {
                return Err("missing argument for index".into());
            };
            *rest = tail;
            let at = Box::new(operand(rest)?);
            match *what {
                ".Match" => Ok(Value::MatchAt(at)),
                ".Group" => Ok(Value::GroupAt(at)),
                other => Err(format!("can't index \"{other}\"")),
            }
        }
        ["parseInt", tail @ ..] => {
            *rest = tail;
            let operands = [operand(rest)?, operand(rest)?, operand(rest)?];
            Ok(Value::ParseInt(Box::new(operands)))
        }
        [".Meta", tail @ ..] => {
            *rest = tail;
            operand(rest).map(|_| Value::Meta)
        }
        _ => operand(rest),
    }
}

fn operand(rest: &mut &[&str]) -> Result<Value, String> {
    let [first, tail @ ..] = *rest else {
        return Err("missing value".into());
    };
    *rest = tail;
    let value = match *first {
        "(" => {
            let value = command(rest)?;
            let [")", tail @ ..] = *rest else {
                return Err("missing \")\"".into());
            };
            *rest = tail;
            value
        }
        ".Zone" => Value::Zone,
        ".Name" => Value::Name,
        ".Class" => Value::Class,
        ".Type" => Value::Type,
        ".Remote" => Value::Remote,
        ".Regex" => Value::Regex,
        ".Question.Name" => Value::QuestionName,
        ".Question.Qtype" => Value::QuestionType,
        ".Question.Qclass" => Value::QuestionClass,
        token => literal(token).ok_or_else(|| format!("\"{token}\" is not supported"))?,
    };
    Ok(value)
}

fn literal(token: &str) -> Option<Value> {
    if let Some(group) = token.strip_prefix(".Group.") {
        let name = group.chars().all(|c| c.is_alphanumeric() || c == '_');
        return (name && !group.is_empty()).then(|| Value::Group(group.to_owned()));
    }
    let quoted = |quote| {
        let text = token.strip_prefix(quote)?.strip_suffix(quote)?;
        // Escapes are not known.
        (quote == '`' || !text.contains('\\')).then(|| Value::Text(text.to_owned()))
    };
    let text = quoted('"').or_else(|| quoted('`'));
    text.or_else(|| token.parse().ok().map(Value::Number))
}

impl Value {
    fn text(&self, data: &Data<'_>) -> Result<String, String> {
        Ok(match self {
            Self::Zone => data.zone.to_owned(),
            Self::Name => data.name.to_owned(),
            Self::Class => data.class.clone(),
            Self::Type => data.rtype.clone(),
            Self::Remote => data.remote.clone(),
            Self::Regex => data.regex.to_owned(),
            Self::QuestionName => data.question.0.clone(),
            Self::QuestionType => data.question.1.to_string(),
            Self::QuestionClass => data.question.2.to_string(),
            // As Go prints what a map does not hold.
            Self::Group(name) => data.group(name).unwrap_or("<no value>").to_owned(),
            Self::GroupAt(name) => data.group(&name.text(data)?).unwrap_or("").to_owned(),
            Self::MatchAt(at) => {
                let at = at.text(data)?;
                let found = at.parse().ok().and_then(|at: usize| data.matched(at));
                found
                    .ok_or_else(|| format!("index out of range: {at}"))?
                    .to_owned()
            }
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::ParseInt(operands) => {
                let [text, base, bits] = &**operands;
                parse_int(&text.text(data)?, &base.text(data)?, &bits.text(data)?)?
            }
            Self::Meta => String::new(),
        })
    }
}

impl<'d> Data<'d> {
    /// Group `index`, empty if it took no part in the match; `None` if there is no such group.
    fn matched(&self, index: usize) -> Option<&'d str> {
        match &self.captures {
            Some(captures) if index < captures.len() => {
                Some(captures.get(index).map_or("", |group| group.as_str()))
            }
            // Without an expression, everything matches as a whole.
            None if index == 0 => Some(self.name),
            _ => None,
        }
    }

    fn group(&self, name: &str) -> Option<&'d str> {
        if let Ok(index) = name.parse() {
            return self.matched(index);
        }
        let group = self.captures.as_ref()?.name(name)?;
        Some(group.as_str())
    }
}

/// An unsigned number of at most so many bits, as decimal digits.
fn parse_int(text: &str, base: &str, bits: &str) -> Result<String, String> {
    let wrong = || format!("parseInt: parsing \"{text}\": invalid syntax");
    let base = base.parse().ok().filter(|base| (2..=36).contains(base));
    let digits = text.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let number = base.and_then(|base| u64::from_str_radix(text, base).ok());
    let number = number.filter(|_| digits).ok_or_else(wrong)?;
    let most = match bits.parse::<u32>() {
        Ok(0 | 64) => u64::MAX,
        Ok(bits @ 1..64) => (1 << bits) - 1,
        _ => return Err(format!("parseInt: invalid bit size {bits}")),
    };
    if number > most {
        return Err(format!("parseInt: parsing \"{text}\": value out of range"));
    }
    let mut out = String::new();
    write!(out, "{number}").map_err(|_| wrong())?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn render(source: &str) -> Result<String, String> {
        let regex = regex::Regex::new(r"^ip-(?P<a>[0-9a-f]+)-(x)?(\d+)\.").unwrap();
        let name = "ip-0a-77.example.";
        Template::new(source)?.render(&Data {
            zone: "example.",
            name,
            class: "IN".into(),
            rtype: "A".into(),
            remote: "10.240.0.1".into(),
            regex: regex.as_str(),
            captures: regex.captures(name),
            question: ("IP-0a-77.Example.".into(), 1, 255),
        })
    }

    #[test]
    fn values() {
        for (source, expected) in [
            ("plain } { text", "plain } { text"),
            (
                "{{ .Name }} 60 {{.Class}} {{ .Type}}",
                "ip-0a-77.example. 60 IN A",
            ),
            ("{{ .Zone }}|{{ .Remote }}", "example.|10.240.0.1"),
            ("{{ .Group.a }}.{{ .Group.nosuch }}", "0a.<no value>"),
            (
                "{{ index .Match 0 }}|{{ index .Match 2 }}|{{ index .Match 3 }}",
                "ip-0a-77.||77",
            ),
            (
                "{{ index .Group \"a\" }}{{ index .Group \"3\" }}{{ index .Group \"z\" }}",
                "0a77",
            ),
            ("{{ parseInt .Group.a 16 8 }}", "10"),
            ("{{ parseInt (index .Match 3) 10 64 }}", "77"),
            (
                "{{ .Question.Name }} {{ .Question.Qtype }} {{ .Question.Qclass }}",
                "IP-0a-77.Example. 1 255",
            ),
            ("{{ \"x y\" }}{{ `z` }}{{ 7 }}{{ .Meta \"a/b\" }}", "x yz7"),
            ("a {{- .Class -}} b{{/* no */}}", "aINb"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_fails_when_it_is_rendered() {
        for (source, error) in [
            ("{{ index .Match 4 }}", "index out of range: 4"),
            (
                "{{ parseInt .Group.a 10 8 }}",
                "parseInt: parsing \"0a\": invalid syntax",
            ),
            (
                "{{ parseInt \"256\" 10 8 }}",
                "parseInt: parsing \"256\": value out of range",
            ),
            (
                "{{ parseInt \"+1\" 10 8 }}",
                "parseInt: parsing \"+1\": invalid syntax",
            ),
            (
                "{{ parseInt \"1\" 10 65 }}",
                "parseInt: invalid bit size 65",
            ),
        ] {
            assert_eq!(render(source), Err(error.to_owned()), "{source}");
        }
    }

    #[test]
    fn what_is_not_known() {
        for (source, error) in [
            ("{{ .Name", "unclosed action in \"{{ .Name\""),
            ("{{ }}", "missing value"),
            ("{{ .Nmae }}", "\".Nmae\" is not supported"),
            ("{{ if eq .Name \"x\" }}", "\"if\" is not supported"),
            ("{{ $x := .Name }}", "\"$x\" is not supported"),
            ("{{ .Name | len }}", "unexpected \"|\" in \".Name | len\""),
            ("{{ printf \"%d\" 1 }}", "\"printf\" is not supported"),
            ("{{ parseInt .Name 16 }}", "missing value"),
            ("{{ index .Name 1 }}", "can't index \".Name\""),
            ("{{ (index .Match 1 }}", "missing \")\""),
            ("{{ \"x }}", "unterminated string in \"\"x\""),
            ("{{ \"\\n\" }}", "\"\"\\n\"\" is not supported"),
            ("{{ .Group. }}", "\".Group.\" is not supported"),
        ] {
            let found = Template::new(source).map(|_| ());
            assert_eq!(found, Err(error.to_owned()), "{source}");
        }
    }
}
