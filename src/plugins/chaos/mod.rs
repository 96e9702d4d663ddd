#![doc = include_str!("README.md")]

use crate::corefile::Error;
use crate::dns::{Class, Owner, RecordType, Reply, Section};
use crate::plugin::{Context, Outcome, Plugin, Setup, Step};
use std::collections::BTreeSet;
use std::fs;

/// Octets of one character string of a TXT record (RFC 1035 §3.3).
const LONGEST: usize = 255;

/// Builds the plugin from its occurrences in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let args = setup
        .directives
        .first()
        .map(|directive| directive.args.as_slice());
    let (version, authors) = match args.unwrap_or_default() {
        [] => (None, &[][..]),
        [version, authors @ ..] => (Some(version.text.as_str()), authors),
    };
    let authors: BTreeSet<_> = authors.iter().map(|author| author.text.as_str()).collect();
    let authors = match authors.len() {
        0 => vec![text("The Portolan authors")],
        _ => authors.into_iter().map(text).collect(),
    };
    setup.block.any_class = true;
    setup.add(Chaos {
        version: text(version.unwrap_or(concat!("Portolan-", env!("CARGO_PKG_VERSION")))),
        authors,
        hostname: text(&hostname()),
    });
    Ok(())
}

/// The rdata of a TXT record with this text, as much of it as fits.
fn text(text: &str) -> Box<[u8]> {
    let octets = &text.as_bytes()[..text.len().min(LONGEST)];
    let mut rdata = vec![octets.len() as u8];
    rdata.extend_from_slice(octets);
    rdata.into()
}

fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// Answers questions of class CH about the server.
struct Chaos {
    version: Box<[u8]>,
    authors: Vec<Box<[u8]>>,
    hostname: Box<[u8]>,
}

impl Plugin for Chaos {
    fn name(&self) -> &'static str {
        "chaos"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let query = &cx.query;
        if query.qclass() != Class::CH || query.qtype() != RecordType::TXT {
            return Step::Next;
        }
        let mut answer = |rdata: &[u8]| {
            let kind = (RecordType::TXT, Class::CH);
            reply.push_with(Section::Answer, Owner::Query, kind, 0, |out| {
                out.octets(rdata)
            });
        };
        match query.name().wire() {
            b"\x07version\x04bind\0" | b"\x07version\x06server\0" => answer(&self.version),
            b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => answer(&self.hostname),
            b"\x07authors\x04bind\0" => {
                // Everybody is first now and then; a rotation needs no memory.
                let first = rand::random_range(0..self.authors.len());
                let (last, front) = self.authors.split_at(first);
                front.iter().chain(last).for_each(|author| answer(author));
            }
            _ => return Step::Next,
        }
        Step::Done(Outcome::Written)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plugins::testing::{Ask, Rig, ask, is_passed, passed};

    fn chaos(name: &str) -> Ask {
        ask(name, RecordType::TXT).class(Class::CH)
    }

    #[test]
    fn answers() {
        let mut rig = Rig::new();
        rig.setup("chaos CoreDNS-1.14.7 Zoe \"Ann B\" Zoe").unwrap();
        assert!(rig.block.any_class);
        let chain = rig.chain(passed());
        for name in ["version.bind", "VERSION.server"] {
            let expected = format!("AN {name}. 0 CH TXT CoreDNS-1.14.7");
            assert_eq!(
                chaos(name).of(&chain).lines(),
                ["NOERROR".to_owned(), expected]
            );
        }
        for name in ["hostname.bind", "id.server"] {
            let expected = format!("AN {name}. 0 CH TXT {}", hostname());
            assert_eq!(
                chaos(name).of(&chain).lines(),
                ["NOERROR".to_owned(), expected]
            );
        }
        let mut authors = chaos("authors.bind").of(&chain).lines();
        authors.sort();
        assert_eq!(
            authors,
            [
                "AN authors.bind. 0 CH TXT Ann B",
                "AN authors.bind. 0 CH TXT Zoe",
                "NOERROR"
            ]
        );
    }

    #[test]
    fn everything_else_passes() {
        let mut rig = Rig::new();
        rig.setup("chaos").unwrap();
        let chain = rig.chain(passed());
        assert!(is_passed(&chaos("bind").of(&chain)));
        assert!(is_passed(&chaos("x.version.bind").of(&chain)));
        assert!(is_passed(&ask("version.bind", RecordType::TXT).of(&chain)));
        assert!(is_passed(
            &ask("version.bind", RecordType::A)
                .class(Class::CH)
                .of(&chain)
        ));
        let version = format!(
            "AN version.bind. 0 CH TXT Portolan-{}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(chaos("version.bind").of(&chain).lines()[1], version);
    }

    #[test]
    fn long_texts_are_cut() {
        let mut rig = Rig::new();
        rig.setup(&format!("chaos {}", "v".repeat(300))).unwrap();
        let chain = rig.chain(passed());
        let line = chaos("version.bind").of(&chain).lines().remove(1);
        assert_eq!(
            line,
            format!("AN version.bind. 0 CH TXT {}", "v".repeat(255))
        );
    }
}
