//! The arguments of `autopath`, and the search lists that files hold.

use crate::corefile::{Directive, Error, value};
use crate::dns::Zone;
use crate::limits::SEARCH_DOMAINS;
use std::path::Path;

/// Where a process finds its own search list.
pub(crate) const OWN: &str = "/etc/resolv.conf";

/// What the directive says.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// Names outside of these are not completed.
    pub zones: Vec<Zone>,
    /// Where the search list comes from.
    pub source: Source,
}

/// Where the search list comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A plugin, by its name.
    Plugin(String),
    /// These domains.
    Domains(Vec<Zone>),
}

impl Config {
    /// Reads the directive. Relative paths start at `base`; `zones` are the server block's.
    ///
    /// # Errors
    /// Points at what is wrong. Where configurations are only checked, no file is read.
    pub fn read(
        directive: &Directive,
        zones: &[Zone],
        base: &Path,
        check_only: bool,
    ) -> Result<Self, Error> {
        directive.no_block()?;
        let Some((last, rest)) = directive.args.split_last() else {
            return Err(directive.error("no resolv-conf specified"));
        };
        let source = match last.as_str().strip_prefix('@') {
            Some(plugin) => Source::Plugin(plugin.to_owned()),
            None if check_only => Source::Domains(Vec::new()),
            None => {
                let failed = |what: String| {
                    last.error(format!("failed to parse \"{}\": {what}", last.as_str()))
                };
                let path = base.join(last.as_str());
                let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
                Source::Domains(domains(&text).map_err(failed)?)
            }
        };
        Ok(Self {
            zones: value::zones_or(rest, zones)?,
            source,
        })
    }
}

/// The domains of the last `search` (or `domain`) line.
///
/// # Errors
/// Says which is no name, or that there are too many.
pub(crate) fn domains(text: &str) -> Result<Vec<Zone>, String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let take = match words.next() {
            Some("search") => usize::MAX,
            Some("domain") => 1,
            _ => continue,
        };
        let zone = |word| Zone::from_text(word).map_err(|error| format!("{word}: {error}"));
        found = words.take(take).map(zone).collect::<Result<_, _>>()?;
    }
    if found.len() > SEARCH_DOMAINS {
        return Err(format!("more than {SEARCH_DOMAINS} search domains"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_lists() {
        let list = |text: &str| -> Result<Vec<String>, String> {
            domains(text).map(|zones| zones.iter().map(ToString::to_string).collect())
        };
        let texts = |texts: &[&str]| -> Result<Vec<String>, String> {
            Ok(texts.iter().map(|&text| text.to_owned()).collect())
        };
        assert_eq!(list(""), texts(&[]));
        assert_eq!(
            list("nameserver 192.0.2.1\nsearch a.example  B.example.\noptions ndots:5\n"),
            texts(&["a.example.", "b.example."])
        );
        assert_eq!(list("search a b\nsearch c\n"), texts(&["c."]));
        assert_eq!(list("search a b\ndomain d e\n"), texts(&["d."]));
        assert_eq!(list("# search a\n; search b"), texts(&[]));
        assert_eq!(list("search a..b"), Err("a..b: bad label".into()));
        let many = format!("search {}", "a ".repeat(SEARCH_DOMAINS + 1));
        assert_eq!(list(&many), Err("more than 32 search domains".into()));
    }
}
