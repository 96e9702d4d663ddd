//! Label selectors in the API's syntax: `environment in (production, qa),application=nginx`.
//!
//! The API server gets the text as it is; manifests are matched here.

use std::fmt;

/// A label selector. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    is: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Present,
    Absent,
    In(Vec<String>),
    /// Also true where there is no such label.
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// Says what is wrong, in a few words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (requirement, after) = Requirement::parse(rest)?;
            requirements.push(requirement);
            rest = after.trim_start();
            match rest.strip_prefix(',') {
                Some(after) if !after.trim().is_empty() => rest = after.trim_start(),
                Some(_) => return Err("nothing after the last comma".into()),
                None if rest.is_empty() => {}
                None => return Err(format!("a comma is missing before {rest:?}")),
            }
        }
        Ok(Self {
            text: text.trim().to_owned(),
            requirements,
        })
    }

    /// This one, where besides the label `key` must be there.
    pub fn and_present(&self, key: &str) -> Self {
        let mut more = self.clone();
        let comma = if more.text.is_empty() { "" } else { "," };
        more.text = format!("{}{comma}{key}", more.text);
        more.requirements.push(Requirement {
            key: key.to_owned(),
            is: Condition::Present,
        });
        more
    }

    /// As it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether labels, asked for one at a time, are selected.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = label(&requirement.key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match &requirement.is {
                Condition::Present => value.is_some(),
                Condition::Absent => value.is_none(),
                Condition::In(values) => value.is_some_and(|v| values.iter().any(|of| of == v)),
                Condition::NotIn(values) => value.is_none_or(|v| values.iter().all(|of| of != v)),
                Condition::Above(bound) => number().is_some_and(|n| n > *bound),
                Condition::Below(bound) => number().is_some_and(|n| n < *bound),
            }
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Requirement {
    /// Reads a requirement from the beginning of `text`; and what comes after it.
    fn parse(text: &str) -> Result<(Self, &str), String> {
        let (absent, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let (key, rest) = word(text);
        if key.is_empty() {
            return Err(format!("a label is missing before {text:?}"));
        }
        let rest = rest.trim_start();
        let (is, rest) = if absent {
            (Condition::Absent, rest)
        } else if rest.is_empty() || rest.starts_with(',') {
            (Condition::Present, rest)
        } else if let Some(rest) = rest.strip_prefix("!=") {
            let (value, rest) = word(rest.trim_start());
            (Condition::NotIn(vec![value.to_owned()]), rest)
        } else if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
            let (value, rest) = word(rest.trim_start());
            (Condition::In(vec![value.to_owned()]), rest)
        } else if let Some(rest) = rest.strip_prefix('>') {
            let (bound, rest) = number(rest)?;
            (Condition::Above(bound), rest)
        } else if let Some(rest) = rest.strip_prefix('<') {
            let (bound, rest) = number(rest)?;
            (Condition::Below(bound), rest)
        } else {
            match word(rest) {
                ("in", rest) => {
                    let (values, rest) = values(rest)?;
                    (Condition::In(values), rest)
                }
                ("notin", rest) => {
                    let (values, rest) = values(rest)?;
                    (Condition::NotIn(values), rest)
                }
                _ => return Err(format!("no operator at {rest:?}")),
            }
        };
        let key = key.to_owned();
        Ok((Self { key, is }, rest))
    }
}

/// A label's name or value; and what comes after it.
fn word(text: &str) -> (&str, &str) {
    let of_word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    text.split_at(text.find(|c| !of_word(c)).unwrap_or(text.len()))
}

fn number(text: &str) -> Result<(i64, &str), String> {
    let (digits, rest) = word(text.trim_start());
    match digits.parse() {
        Ok(number) => Ok((number, rest)),
        Err(_) => Err(format!("{digits:?} is not a number")),
    }
}

/// `(a, b)`; and what comes after it.
fn values(text: &str) -> Result<(Vec<String>, &str), String> {
    let open = text.trim_start().strip_prefix('(');
    let (inside, rest) = open
        .and_then(|open| open.split_once(')'))
        .ok_or_else(|| format!("values in parentheses are missing at {text:?}"))?;
    let mut values = Vec::new();
    for value in inside.split(',').map(str::trim) {
        match word(value) {
            (value, "") => values.push(value.to_owned()),
            _ => return Err(format!("{value:?} is not a label's value")),
        }
    }
    Ok((values, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Selector;

    #[test]
    fn selects() {
        let labels = [("app", "web"), ("tier", "3"), ("kubernetes.io/x", "")];
        let of = |key: &str| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        for (text, wanted) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("! gone", true),
            ("app=web", true),
            ("app == web , tier=3", true),
            ("app=db", false),
            ("app!=db", true),
            ("gone!=db", true),
            ("app in (db, web)", true),
            ("app in(db)", false),
            ("app notin (db),tier", true),
            ("gone notin (x)", true),
            ("gone in (x)", false),
            ("tier > 2", true),
            ("tier<3", false),
            ("app>1", false),
            ("kubernetes.io/x=", true),
            ("environment in (production, qa),application=nginx", false),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(of), wanted, "{text}");
        }
    }

    #[test]
    fn with_one_label_more() {
        let read = |text: &str| Selector::parse(text).unwrap();
        let (one, two) = (Selector::default(), read("a in (b, c)"));
        assert_eq!(one.and_present("x/y"), read("x/y"));
        assert_eq!(two.and_present("x/y"), read("a in (b, c),x/y"));
    }

    #[test]
    fn refuses_what_is_no_selector() {
        for text in [
            ",",
            "a,",
            "=b",
            "a b",
            "a in b",
            "a in (b",
            "a in (b c)",
            "a>x",
            "a=b=c",
        ] {
            Selector::parse(text).unwrap_err();
        }
    }
}
