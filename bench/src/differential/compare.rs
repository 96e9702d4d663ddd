//! What differs, and whether there is a reason for it.

use super::client::Answer;

/// A difference between two answers to a question.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// What it is, in general.
    pub class: String,
    /// Why it is right all the same.
    pub reason: Option<&'static str>,
}

/// The difference, if there is one.
pub fn difference(ours: &Answer, theirs: &Answer) -> Option<Difference> {
    let class = if ours.rcode != theirs.rcode {
        format!("{} where unbound says {}", ours.rcode, theirs.rcode)
    } else if ours.answers == theirs.answers {
        return None;
    } else {
        let missing = theirs.answers.difference(&ours.answers).next().is_some();
        let more = ours.answers.difference(&theirs.answers).next().is_some();
        let what = match (missing, more) {
            (true, false) => "fewer records than unbound",
            (false, _) => "more records than unbound",
            (true, true) => "other records than unbound",
        };
        format!("{}, {what}", ours.rcode)
    };
    Some(Difference {
        class,
        reason: None,
    })
}

impl Difference {
    /// Looks for the reason, given what the authoritative server itself says.
    ///
    /// Every reason wants that Portolan passes on what it was told: it forwards, Unbound resolves.
    pub fn explain(&mut self, ours: &Answer, theirs: &Answer, source: &Answer) {
        if ours.rcode != source.rcode || ours.answers != source.answers {
            return;
        }
        let open = ours
            .targets
            .iter()
            .any(|target| !ours.owners.contains(target));
        let closed = ours
            .targets
            .iter()
            .all(|target| ours.owners.contains(target));
        self.reason = if open && ours.answers.is_subset(&theirs.answers) {
            Some("unbound follows an alias out of the zone, a forwarder does not")
        } else if !ours.targets.is_empty() && closed && theirs.rcode == "SERVFAIL" && is_round(ours)
        {
            Some("unbound refuses aliases that go round")
        } else {
            None
        };
    }
}

/// Whether there are only aliases (and signatures), all of which lead to others.
fn is_round(answer: &Answer) -> bool {
    let mut answers = answer.answers.iter();
    answers.all(|answer| answer.contains(" CNAME ") || answer.ends_with(" RRSIG CNAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rcode: &str, answers: &[&str]) -> Answer {
        let mut out = Answer {
            rcode: rcode.into(),
            ..Answer::default()
        };
        for text in answers {
            let mut words = text.split(' ');
            out.owners.insert(words.next().unwrap().into());
            if words.next() == Some("CNAME") {
                out.targets.insert(words.next().unwrap().into());
            }
            out.answers.insert((*text).into());
        }
        out
    }

    #[test]
    fn differences_and_reasons() {
        let alias = answer("NOERROR", &["a. CNAME b."]);
        let whole = answer("NOERROR", &["a. CNAME b.", "b. A 192.0.2.1"]);
        assert_eq!(difference(&whole, &whole), None);
        let mut found = difference(&alias, &whole).unwrap();
        assert_eq!(found.class, "NOERROR, fewer records than unbound");
        found.explain(&alias, &whole, &alias);
        assert!(found.reason.is_some());
        // What the authoritative server did say was lost.
        found.reason = None;
        found.explain(&alias, &whole, &whole);
        assert_eq!(found.reason, None);
        let failed = answer("SERVFAIL", &[]);
        let mut found = difference(&whole, &failed).unwrap();
        assert_eq!(found.class, "NOERROR where unbound says SERVFAIL");
        found.explain(&whole, &failed, &whole);
        assert_eq!(found.reason, None);
        let round = answer("NOERROR", &["a. CNAME b.", "b. CNAME a."]);
        found.explain(&round, &failed, &round);
        assert_eq!(found.reason, Some("unbound refuses aliases that go round"));
    }
}
