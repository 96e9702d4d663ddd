//! The words of a line, and what is wrong with a scenario.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Something wrong at a line: in the text of the scenario, or in what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub line: usize,
    pub text: String,
}

impl Problem {
    pub fn new(line: usize, text: impl Into<String>) -> Self {
        Self {
            line,
            text: text.into(),
        }
    }
}

/// From the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<T> {
    pub first: T,
    pub last: T,
}

impl<T: PartialOrd> Span<T> {
    pub fn contains(&self, value: &T) -> bool {
        self.first <= *value && *value <= self.last
    }
}

impl<T: fmt::Debug + PartialEq> fmt::Display for Span<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{:?}", self.first);
        }
        write!(f, "{:?}..{:?}", self.first, self.last)
    }
}

/// A line's words, read from the left. A text in double quotes is one word; a comma, and the colon
/// behind a name, stand alone.
#[derive(Clone, Debug)]
pub struct Words {
    pub line: usize,
    words: Vec<String>,
    at: usize,
}

type Read<T> = Result<T, Problem>;

impl Words {
    pub fn new(line: usize, text: &str) -> Read<Self> {
        let mut words = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let len = if let Some(text) = rest.strip_prefix('"') {
                let end = text.find('"');
                end.ok_or_else(|| Problem::new(line, "a quote without its end"))? + 2
            } else {
                rest.find(char::is_whitespace).unwrap_or(rest.len())
            };
            let (word, more) = rest.split_at(len);
            let (name, mark) = match word.strip_suffix([',', ':']) {
                // The colons of an IPv6 address stay.
                Some(name) if !word.starts_with('"') && !name.contains(':') => {
                    (name, &word[name.len()..])
                }
                _ => (word, ""),
            };
            let parts = [name.trim_matches('"'), mark];
            words.extend(
                parts
                    .iter()
                    .filter(|part| !part.is_empty())
                    .map(|&p| p.into()),
            );
            rest = more.trim_start();
        }
        Ok(Self { line, words, at: 0 })
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.words.len()
    }

    pub fn peek(&self) -> &str {
        self.words.get(self.at).map_or("", String::as_str)
    }

    pub fn rest(&mut self) -> Vec<&str> {
        let from = std::mem::replace(&mut self.at, self.words.len());
        self.words[from..].iter().map(String::as_str).collect()
    }

    /// The next word; `what` it is to be.
    pub fn next(&mut self, what: &str) -> Read<String> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word.ok_or_else(|| Problem::new(self.line, format!("{what} is missing")))
    }

    /// Takes the next word if it is this one.
    pub fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == word && !self.is_empty();
        self.at += usize::from(found);
        found
    }

    /// The next word, which must be this one.
    pub fn expect(&mut self, word: &str) -> Read<()> {
        let got = self.next(&format!("`{word}`"))?;
        if got == word {
            return Ok(());
        }
        Err(self.problem(format!("`{word}` expected, not `{got}`")))
    }

    pub fn parse<T: FromStr>(&mut self, what: &str) -> Read<T> {
        let word = self.next(what)?;
        word.parse()
            .map_err(|_| self.problem(format!("`{word}` is not {what}")))
    }

    /// `3`, or `3..5`.
    pub fn span<T: FromStr + Copy>(&mut self, what: &str) -> Read<Span<T>> {
        let word = self.next(what)?;
        let (first, last) = word.split_once("..").unwrap_or((&word, &word));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => Ok(Span { first, last }),
            _ => Err(self.problem(format!("`{word}` is not {what}"))),
        }
    }

    pub fn duration(&mut self) -> Read<Duration> {
        let word = self.next("a time")?;
        duration(&word).ok_or_else(|| self.problem(format!("`{word}` is not a time")))
    }

    /// `400ms`, `400..450ms` or `1.9s..2s`.
    pub fn durations(&mut self) -> Read<Span<Duration>> {
        let word = self.next("a time")?;
        let read = || {
            let (first, last) = word.split_once("..").unwrap_or((&word, &word));
            let unit = last.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            let first = duration(first).or_else(|| duration(&format!("{first}{unit}")));
            Some(Span {
                first: first?,
                last: duration(last)?,
            })
        };
        read().ok_or_else(|| self.problem(format!("`{word}` is not a time, nor a range of it")))
    }

    /// An error if words are left.
    pub fn end(&self) -> Read<()> {
        match self.is_empty() {
            true => Ok(()),
            false => Err(self.unknown()),
        }
    }

    pub fn unknown(&self) -> Problem {
        self.problem(format!("unknown word `{}`", self.peek()))
    }

    pub fn problem(&self, text: impl Into<String>) -> Problem {
        Problem::new(self.line, text)
    }
}

/// `400ms`, `1.5s`, `10m` or `1h`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = digits.parse().ok()?;
    (number >= 0.0).then(|| Duration::from_secs_f64(number * unit))
}
