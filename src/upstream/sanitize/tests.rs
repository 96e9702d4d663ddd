#![allow(clippy::unwrap_used)]

use super::*;
use crate::dns::{Name, Zone};
use proptest::prelude::*;

fn wire(name: &str) -> Vec<u8> {
    Zone::from_text(name).unwrap().wire().to_vec()
}

fn kind(name: &str) -> u16 {
    match name {
        "OPT" => 41,
        name => name.parse::<RecordType>().unwrap().0,
    }
}

/// The rdata of a record whose interesting part is `text`: a name, or nothing of interest.
fn rdata(rtype: &str, text: &str) -> Vec<u8> {
    let before = |octets: &[u8]| [octets, &wire(text)].concat();
    match rtype {
        "A" => vec![192, 0, 2, 1],
        "AAAA" => vec![0; 16],
        "NS" | "CNAME" | "DNAME" | "PTR" => wire(text),
        "SOA" => [wire("ns"), wire("mail"), vec![0; 20]].concat(),
        "MX" | "HTTPS" => before(&[0, 1]),
        "SRV" => before(&[0; 6]),
        "NAPTR" => before(b"\0\0\0\0\x01s\x03abc\0"),
        "NSEC" => [wire(text), vec![0, 1, 0x40]].concat(),
        // The covered type and the signer.
        "RRSIG" => {
            let (covered, signer) = text.split_once(' ').unwrap();
            let mut rdata = kind(covered).to_be_bytes().to_vec();
            rdata.resize(18, 0);
            [rdata, wire(signer), vec![1, 2, 3]].concat()
        }
        _ => vec![1, 2, 3, 4],
    }
}

/// A reply; each line is `SECTION OWNER TYPE [NAME]`, with sections `an`, `ns` and `ar`.
fn message(question: &str, records: &str) -> Vec<u8> {
    let (name, qtype) = question.split_once(' ').unwrap();
    let mut message = vec![0, 7, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(wire(name));
    message.extend(kind(qtype).to_be_bytes());
    message.extend([0, 1]);
    for line in records
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let fields: Vec<_> = line.splitn(4, ' ').collect();
        let section = ["an", "ns", "ar"].iter().position(|s| *s == fields[0]);
        message[7 + 2 * section.unwrap()] += 1;
        let rdata = rdata(fields[2], fields.get(3).unwrap_or(&""));
        message.extend(wire(fields[1]));
        message.extend(kind(fields[2]).to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend((rdata.len() as u16).to_be_bytes());
        message.extend(rdata);
    }
    message
}

/// The records as `SECTION OWNER TYPE`.
fn list(message: &[u8]) -> Vec<String> {
    let records = Records::new(message).unwrap().map(Result::unwrap);
    let line = |record: Record| {
        let section = ["an", "ns", "ar"][record.section as usize];
        let owner = Name::read(message, record.start).unwrap().0;
        format!(
            "{section} {owner} {}",
            record.rtype.mnemonic().unwrap_or("?")
        )
    };
    records.map(line).collect()
}

#[test]
fn what_was_asked_for_stays_as_it_is() {
    for (question, records) in [
        ("www.example.org A", "an www.example.org A"),
        ("WWW.example.org A", "an www.EXAMPLE.org A\nar . OPT"),
        ("gone.example.org A", "ns example.org SOA"),
        (
            "example.org NS",
            "an example.org NS ns.example.net\nar ns.example.net A\nar ns.example.net AAAA",
        ),
        (
            "example.org MX",
            "an example.org MX mail.example.net\nar mail.example.net A\nar mail.example.net RRSIG A example.net",
        ),
        (
            "_a._tcp.example.org SRV",
            "an _a._tcp.example.org SRV b.test\nar b.test AAAA",
        ),
        (
            "example.org HTTPS",
            "an example.org HTTPS .\nar example.org A",
        ),
        (
            "example.org HTTPS",
            "an example.org HTTPS svc.test\nar svc.test A",
        ),
        (
            "example.org NAPTR",
            "an example.org NAPTR sip.test\nar sip.test A",
        ),
        // Aliases, in the order of the chain and in others.
        (
            "a.test A",
            "an a.test CNAME b.test\nan b.test CNAME c.other\nan c.other A\nan c.other A",
        ),
        (
            "a.test A",
            "an c.other A\nan b.test CNAME c.other\nan a.test CNAME b.test",
        ),
        ("a.test A", "an a.test CNAME b.test\nan b.test CNAME a.test"),
        ("a.test A", "an a.test CNAME b.other\nns other SOA"),
        ("a.test CNAME", "an a.test CNAME b.test"),
        (
            "a.b.test A",
            "an b.test DNAME c.other\nan a.b.test CNAME a.c.other\nan a.c.other A",
        ),
        (
            "a.test A",
            "an a.test A\nns test NS ns.other\nar ns.other A",
        ),
        (
            "a.test ANY",
            "an a.test A\nan a.test MX b.test\nan a.test RRSIG A test\nar b.test A",
        ),
        ("test AXFR", "an test SOA\nan a.test A\nan test SOA"),
        // Signed.
        (
            "a.test A",
            "an a.test A\nan a.test RRSIG A test\nns b.test NSEC c.test\nns b.test RRSIG NSEC test",
        ),
        (
            "b.test A",
            "ns a.test NSEC c.test\nns a.test RRSIG NSEC test\nns test SOA\nns test RRSIG SOA test",
        ),
        ("foo A", "ns . SOA\nns fa NSEC fz\nns . NSEC aaa"),
        (
            "a.b.test A",
            "ns b.test NS ns.b.test\nns b.test DS\nns b.test RRSIG DS test\nar ns.b.test A",
        ),
        (
            "a.test RRSIG",
            "an a.test RRSIG A test\nan a.test RRSIG MX test",
        ),
    ] {
        assert_eq!(
            check(&message(question, records)),
            Checked::Clean,
            "{question}: {records}"
        );
    }
}

#[test]
fn what_was_not_asked_for_goes() {
    for (question, records, left) in [
        // Answers to other questions.
        ("a.test A", "an b.test A", ""),
        (
            "a.test A",
            "an a.test A\nan www.bank.test A",
            "an a.test. A",
        ),
        (
            "a.test A",
            "an a.test A\nan a.test MX m.test\nar m.test A",
            "an a.test. A",
        ),
        (
            "a.test A",
            "an a.test A\nan a.test RRSIG MX test",
            "an a.test. A",
        ),
        ("a.test ANY", "an a.test A\nan b.test A", "an a.test. A"),
        (
            "a.test CNAME",
            "an a.test CNAME b.test\nan b.test A",
            "an a.test. CNAME",
        ),
        (
            "a.test A",
            "an a.test CNAME b.test\nan c.test CNAME d.test\nan d.test A\nan b.test A",
            "an a.test. CNAME\nan b.test. A",
        ),
        (
            "a.test A",
            "an other DNAME bank\nan a.test A",
            "an a.test. A",
        ),
        ("test AXFR", "an test SOA\nan a.other A", "an test. SOA"),
        // Kaminsky: a name that does not exist, and with it servers for a zone that does.
        (
            "x1.example.org A",
            "ns bank.test NS ns.evil.test\nar ns.evil.test A",
            "",
        ),
        (
            "x1.example.org A",
            "an x1.example.org A\nns example.org NS www.example.org\nar www.example.org A\nar www.bank.test A",
            "an x1.example.org. A\nns example.org. NS\nar www.example.org. A",
        ),
        (
            "x1.example.org A",
            "an x1.example.org A\nns sub.x1.example.org NS a.test",
            "an x1.example.org. A",
        ),
        (
            "a.test A",
            "ns other SOA\nns test SOA\nar . OPT",
            "ns test. SOA\nar . OPT",
        ),
        (
            "a.test A",
            "an a.test A\nns test A\nns a.test TXT",
            "an a.test. A",
        ),
        (
            "b.test A",
            "ns a.other NSEC c.other\nns a.other RRSIG NSEC other\nns test SOA",
            "ns test. SOA",
        ),
        (
            "b.test A",
            "ns a.other RRSIG NSEC test\nns test SOA",
            "ns test. SOA",
        ),
        // Glue of what was taken out, and what is no address.
        (
            "a.test A",
            "an a.test A\nns other NS ns.other\nar ns.other A\nar a.test TXT",
            "an a.test. A",
        ),
        (
            "a.test MX",
            "an a.test MX m.test\nar m.test TXT\nar m.test A",
            "an a.test. MX\nar m.test. A",
        ),
        (
            "a.test A",
            "an a.test A\nar . OPT\nar . OPT",
            "an a.test. A\nar . OPT",
        ),
        ("a.test A", "an a.test A\nar x.test OPT", "an a.test. A"),
    ] {
        let sent = message(question, records);
        let Checked::Cleaned { message, removed } = check(&sent) else {
            panic!("{question}: {records}");
        };
        assert_eq!(list(&message).join("\n"), left, "{question}: {records}");
        assert_eq!(list(&sent).len(), list(&message).len() + removed as usize);
        assert_eq!(message[..4], sent[..4], "id and flags stay");
        assert_eq!(check(&message), Checked::Clean, "{question}: {records}");
    }
}

#[test]
fn another_class_is_another_question() {
    let mut chaos = message("a.test A", "an a.test A");
    let at = chaos.len() - 4 - 2 - 4 - 2;
    chaos[at..at + 2].copy_from_slice(&[0, 3]);
    assert!(matches!(check(&chaos), Checked::Cleaned { removed: 1, .. }));
}

#[test]
fn names_that_point_into_what_goes_are_written_anew() {
    // The second record's owner points to the first one's, which goes.
    let mut sent = message("a.test A", "an x.test A");
    let first = 12 + 8 + 4;
    sent[7] = 2;
    sent.extend([1, b'a', 0xc0, first + 2]);
    sent.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    let Checked::Cleaned {
        message,
        removed: 1,
    } = check(&sent)
    else {
        panic!("one record goes");
    };
    assert_eq!(list(&message), ["an a.test. A"]);
    assert!(message.ends_with(&[192, 0, 2, 7]));
}

#[test]
fn what_is_cut_is_malformed() {
    let whole = message("a.test MX", "an a.test MX m.test\nar m.test A\nar . OPT");
    for len in 0..whole.len() {
        assert_eq!(check(&whole[..len]), Checked::Malformed, "{len}");
    }
    let mut two = whole.clone();
    two[5] = 2;
    assert_eq!(check(&two), Checked::Malformed);
}

#[test]
fn many_names_are_bounded() {
    let chain: String = (0..60)
        .map(|i| format!("an n{i}.test CNAME n{}.test\n", i + 1))
        .collect();
    let Checked::Cleaned { message: short, .. } = check(&message("n0.test A", &chain)) else {
        panic!("too long");
    };
    assert_eq!(list(&short).len(), UPSTREAM_ALIASES);
    let glue: String = (0..200)
        .map(|i| format!("an a.test SRV n{i}.test\n"))
        .collect();
    let glue = glue
        + &(0..50)
            .map(|i| format!("ar n{}.test A\n", 100 + i))
            .collect::<String>();
    let Checked::Cleaned { message, removed } = check(&message("a.test SRV", &glue)) else {
        panic!("too much");
    };
    assert_eq!((list(&message).len(), removed), (228, 22));
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        ".", "test", "a.test", "b.test", "x.a.test", "other", "a.other",
    ])
}

fn line() -> impl Strategy<Value = String> {
    let types = vec![
        "A", "AAAA", "NS", "CNAME", "DNAME", "SOA", "MX", "SRV", "HTTPS", "NSEC", "TXT", "OPT",
    ];
    let rtype = prop::sample::select(types);
    let section = prop::sample::select(vec!["an", "ns", "ar"]);
    (section, name(), rtype, name(), any::<bool>()).prop_map(
        |(section, owner, rtype, to, signed)| match (signed, rtype) {
            (true, rtype) if rtype != "OPT" => format!("{section} {owner} RRSIG {rtype} {to}"),
            _ => format!("{section} {owner} {rtype} {to}"),
        },
    )
}

/// What must hold of anything that is given on.
fn holds(sent: &[u8]) -> Result<(), TestCaseError> {
    match check(sent) {
        Checked::Malformed => {}
        Checked::Clean => {
            for record in Records::new(sent).unwrap() {
                prop_assert!(record.is_ok());
            }
        }
        Checked::Cleaned { message, removed } => {
            prop_assert!(removed > 0);
            let count = |message: &[u8]| Records::new(message).unwrap().count();
            prop_assert!(count(&message) + removed as usize <= count(sent));
            prop_assert_eq!(check(&message), Checked::Clean, "once is enough");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn records_at_random(
        qname in name(),
        qtype in prop::sample::select(vec!["A", "NS", "CNAME", "MX", "SRV", "ANY", "AXFR"]),
        mut lines in prop::collection::vec(line(), 0..12),
    ) {
        lines.sort_by_key(|line| ["an", "ns", "ar"].iter().position(|s| line.starts_with(s)));
        let sent = message(&format!("{qname} {qtype}"), &lines.join("\n"));
        holds(&sent)?;
        let left = match check(&sent) {
            Checked::Cleaned { message, .. } => list(&message),
            _ => list(&sent),
        };
        // Said independently of the code: no answer or authority of names that nothing leads to.
        let leads = lines.iter().any(|line| line.contains("CNAME") || line.contains("DNAME"));
        if !leads && qtype != "AXFR" {
            let asked = if qname == "." { ".".to_owned() } else { format!("{qname}.") };
            for line in left {
                let owner = line.split(' ').nth(1).unwrap();
                if line.starts_with("an") {
                    prop_assert_eq!(owner, &asked);
                }
                if line.starts_with("ns") && !line.ends_with("RRSIG") && !line.ends_with("NSEC") {
                    let above = owner == "." || asked == owner || asked.ends_with(&format!(".{owner}"));
                    prop_assert!(above, "{}", line);
                }
            }
        }
    }

    #[test]
    fn changed_octets(
        lines in prop::collection::vec(line(), 0..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut sent = message("a.test A", &lines.join("\n"));
        for (at, to) in changes {
            let at = at.index(sent.len());
            sent[at] = to;
        }
        holds(&sent)?;
    }

    #[test]
    fn octets_at_random(counts in prop::array::uniform3(0u8..4), octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut sent = message("a.test A", "");
        for (section, count) in counts.into_iter().enumerate() {
            sent[7 + 2 * section] = count;
        }
        sent.extend(octets);
        holds(&sent)?;
    }
}
