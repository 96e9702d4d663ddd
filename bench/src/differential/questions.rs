//! The mixed questions.

use super::zones::{CHAIN, EACH};
use portolan::dns::RecordType;
use std::fmt;

/// A question, and how it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub name: String,
    pub rtype: RecordType,
    /// Payload size, with EDNS.
    pub edns: Option<u16>,
    pub dnssec: bool,
    pub tcp: bool,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.rtype)?;
        match self.edns {
            Some(size) => write!(f, ", EDNS {size}")?,
            None => write!(f, ", no EDNS")?,
        }
        let dnssec = if self.dnssec { ", DO" } else { "" };
        write!(f, "{dnssec}, {}", if self.tcp { "TCP" } else { "UDP" })
    }
}

/// A sequence of numbers that a seed gives (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The bound is small: what is unequal does not matter.
        ((mixed ^ mixed >> 31) % u64::from(bound.max(1))) as u32
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.below(all.len() as u32) as usize).copied()
    }
}

/// So many questions.
pub fn questions(count: u32, seed: u32, signed: bool) -> Vec<Question> {
    let mut numbers = Numbers(seed.into());
    (0..count).map(|_| question(&mut numbers, signed)).collect()
}

fn question(numbers: &mut Numbers, signed: bool) -> Question {
    let zones: &[&str] = match signed {
        true => &["alpha", "alpha", "signed", "nsec3"],
        false => &["alpha"],
    };
    let zone = numbers.of(zones).unwrap_or("alpha");
    let (relative, types) = relative(numbers);
    let name = match relative.strip_suffix('.') {
        Some(_) => relative,
        None => format!("{relative}.{zone}.diff."),
    };
    let name = match numbers.below(5) {
        0 => name.to_ascii_uppercase(),
        _ => name,
    };
    let edns = numbers
        .of(&[None, Some(1232), Some(1232), Some(4096)])
        .flatten();
    Question {
        name,
        rtype: numbers.of(types).unwrap_or(RecordType::A),
        edns,
        dnssec: edns.is_some() && numbers.below(2) == 0,
        tcp: numbers.below(5) == 0,
    }
}

const ADDRESSES: &[RecordType] = &[
    RecordType::A,
    RecordType::A,
    RecordType::AAAA,
    RecordType::MX,
];
const ALIAS: &[RecordType] = &[
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::TXT,
];
const TEXT: &[RecordType] = &[RecordType::TXT];

/// A name without its zone (absolute with a dot at the end), and the types to ask for.
fn relative(numbers: &mut Numbers) -> (String, &'static [RecordType]) {
    let i = numbers.below(EACH);
    let few = numbers.below(EACH / 4);
    match numbers.below(36) {
        0..3 => (format!("a{i}"), ADDRESSES),
        3 => (format!("many{few}"), ADDRESSES),
        4..6 => (format!("large{few}"), TEXT),
        6 if i.is_multiple_of(8) => ("huge".into(), TEXT),
        6 => (format!("txt{i}"), TEXT),
        7..9 => (format!("chain{i}-{}", numbers.below(CHAIN + 1)), ALIAS),
        9 => (format!("across{i}"), ALIAS),
        10 => (format!("there{i}"), ALIAS),
        11 => (format!("dead{i}"), ALIAS),
        12 => (format!("deadacross{i}"), ALIAS),
        13 => (format!("deadout{i}"), ALIAS),
        14 if i.is_multiple_of(8) => (format!("round{i}"), ALIAS),
        14 => (format!("a{i}.tree"), ALIAS),
        15 => (format!("a{i}.far"), ALIAS),
        16..18 => (
            format!("any{i}.wild"),
            &[
                RecordType::A,
                RecordType::TXT,
                RecordType::MX,
                RecordType::AAAA,
            ],
        ),
        18 => (format!("x.y{i}.host.wild"), ADDRESSES),
        19 => ("host.wild".into(), &[RecordType::A, RecordType::TXT]),
        20 => (format!("any{i}.aliaswild"), ALIAS),
        21 => (format!("any{i}.aliasfar"), ALIAS),
        22 => (format!("any{i}.aliasdead"), ALIAS),
        23 => (format!("any{i}.below.empty.node"), ADDRESSES),
        24 => (
            numbers
                .of(&["empty.node", "node", "below.empty.node"])
                .unwrap_or("node")
                .into(),
            ADDRESSES,
        ),
        25 => (
            format!(
                "{}branch{i}",
                numbers.of(&["", "twig.", "leaf.twig."]).unwrap_or("")
            ),
            &[RecordType::A, RecordType::TXT],
        ),
        26 => (format!("nothing{i}"), ADDRESSES),
        27 => (format!("deep.er.nothing{i}"), ADDRESSES),
        28 => (format!("nothing{i}.elsewhere."), ADDRESSES),
        29 => (format!("a{i}.child.alpha.diff."), ADDRESSES),
        30 if i.is_multiple_of(4) => (
            "child.alpha.diff.".into(),
            &[RecordType::NS, RecordType::SOA, RecordType::DS],
        ),
        30 if i % 4 == 1 => (format!("a{i}.lame.alpha.diff."), ADDRESSES),
        30 => (format!("nothing{i}.child.alpha.diff."), ADDRESSES),
        31 => (format!("mx{i}"), &[RecordType::MX, RecordType::A]),
        32 => (
            format!("_sip._tcp.srv{i}"),
            &[RecordType::SRV, RecordType::A],
        ),
        33 if i.is_multiple_of(2) => (format!("naptr{i}"), &[RecordType(35)]),
        33 => (format!("caa{i}"), &[RecordType(257)]),
        34 if i.is_multiple_of(2) => (format!("svc{i}"), &[RecordType(64), RecordType(65)]),
        34 => (format!("own{i}"), &[RecordType(65280), RecordType(65281)]),
        _ => (
            numbers
                .of(&["alpha.diff.", "beta.diff.", "signed.diff.", "nsec3.diff."])
                .unwrap_or(".")
                .into(),
            &[
                RecordType::SOA,
                RecordType::NS,
                RecordType::A,
                RecordType(48),
                RecordType(51),
            ],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_gives_the_same_questions() {
        let all = questions(2_000, 1, true);
        assert_eq!(all, questions(2_000, 1, true));
        assert_ne!(all, questions(2_000, 2, true));
        let names: HashSet<_> = all.iter().map(|question| &question.name).collect();
        assert!(names.len() > 1_000, "{}", names.len());
        assert!(all.iter().any(|question| question.dnssec && question.tcp));
        assert!(
            questions(500, 1, false)
                .iter()
                .all(|one| !one.name.contains("signed")
                    || one.name == "signed.diff."
                    || one.name == "SIGNED.DIFF.")
        );
    }
}
