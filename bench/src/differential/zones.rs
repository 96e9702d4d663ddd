//! The zones that are asked about.

use std::fmt::Write as _;

/// Names of each kind.
pub const EACH: u32 = 200;
/// Chains have so many aliases.
pub const CHAIN: u32 = 4;
/// All zones; the last two are signed where the server can.
pub const ZONES: [&str; 6] = [
    ".",
    "alpha.diff.",
    "beta.diff.",
    "child.alpha.diff.",
    "signed.diff.",
    "nsec3.diff.",
];
/// How many of the last ones are signed.
pub const SIGNED: usize = 2;

/// The text of a zone.
pub fn text(zone: &str) -> String {
    let mut text = format!(
        "$ORIGIN {zone}\n$TTL 300\n@ SOA ns.diff. host.diff. 1 7200 1800 864000 60\n@ NS ns.diff.\n"
    );
    match zone {
        // Whatever is in no other zone does not exist.
        "." => text.push_str("ns.diff. A 127.0.0.1\n"),
        "beta.diff." => beta(&mut text),
        "child.alpha.diff." => plain(&mut text),
        _ => alpha(&mut text, zone),
    }
    text
}

// Writing into a string cannot fail.
fn plain(text: &mut String) {
    for i in 0..EACH {
        for k in 0..=i % 3 {
            let _ = writeln!(text, "a{i} A 192.0.2.{}", (i + k) % 256);
        }
        let _ = writeln!(text, "a{i} AAAA 2001:db8::{i:x}");
    }
}

fn beta(text: &mut String) {
    plain(text);
    for i in 0..EACH {
        let _ = writeln!(text, "back{i} CNAME a{i}.alpha.diff.");
    }
    text.push_str("*.any A 192.0.2.77\n");
}

fn alpha(text: &mut String, zone: &str) {
    plain(text);
    aliases(text);
    wildcards(text);
    types(text);
    if zone == "alpha.diff." {
        text.push_str("child NS ns.child\nns.child A 127.0.0.1\nlame NS ns.nowhere\n");
        text.push_str(
            "lame DS 7 13 2 0000000000000000000000000000000000000000000000000000000000000000\n",
        );
    }
}

fn aliases(text: &mut String) {
    for i in 0..EACH {
        for step in 0..CHAIN {
            let _ = writeln!(text, "chain{i}-{step} CNAME chain{i}-{}", step + 1);
        }
        let _ = writeln!(text, "chain{i}-{CHAIN} CNAME a{i}");
        let _ = writeln!(text, "across{i} CNAME a{i}.beta.diff.");
        let _ = writeln!(text, "there{i} CNAME back{i}.beta.diff.");
        let _ = writeln!(text, "dead{i} CNAME nothing{i}");
        let _ = writeln!(text, "deadacross{i} CNAME nothing{i}.beta.diff.");
        let _ = writeln!(text, "deadout{i} CNAME nothing{i}.elsewhere.");
        let _ = writeln!(text, "round{i} CNAME about{i}\nabout{i} CNAME round{i}");
    }
    text.push_str("tree DNAME leaves\n");
    for i in 0..EACH {
        let _ = writeln!(text, "a{i}.leaves A 198.51.100.{}", i % 256);
    }
    text.push_str("far DNAME beta.diff.\n");
}

fn wildcards(text: &mut String) {
    text.push_str(
        "*.wild A 192.0.2.70\n*.wild TXT \"wild\"\n*.wild MX 10 mail.wild\nhost.wild TXT \"host\"\n\
         *.aliaswild CNAME a1\n*.aliasfar CNAME a1.beta.diff.\n*.aliasdead CNAME nothing\n\
         *.below.empty.node A 192.0.2.71\n",
    );
    for i in 0..EACH {
        let _ = writeln!(text, "leaf.twig.branch{i} TXT \"leaf\"");
    }
}

fn types(text: &mut String) {
    for i in 0..EACH {
        let _ = writeln!(text, "mx{i} MX 10 a{i}\nmx{i} MX 20 A{i}.BETA.diff.");
        let _ = writeln!(text, "_sip._tcp.srv{i} SRV 1 2 5060 a{i}");
        let _ = writeln!(
            text,
            "naptr{i} NAPTR 100 10 \"s\" \"SIP+D2T\" \"\" _sip._tcp.srv{i}"
        );
        let _ = writeln!(text, "caa{i} CAA 0 issue \"ca{i}.example\"");
        let _ = writeln!(
            text,
            "svc{i} HTTPS 1 a{i} alpn=h2,h3 port=8443 ipv4hint=192.0.2.1\nsvc{i} SVCB 0 a{i}"
        );
        let _ = writeln!(text, "own{i} TYPE65280 \\# 5 0102030405");
        let _ = writeln!(text, "txt{i} TXT \"Mixed Case {i}\" \"\" \"two\"");
    }
    for i in 0..EACH / 4 {
        for k in 0..40 {
            let _ = writeln!(text, "many{i} A 203.0.113.{k}");
        }
        for k in 0..3 + i {
            let letters = "x".repeat(240);
            let _ = writeln!(text, "large{i} TXT \"{k}-{letters}\"");
        }
    }
    // Longer than a cache may be willing to keep.
    for k in 0..120 {
        let letters = "y".repeat(240);
        let _ = writeln!(text, "huge TXT \"{k}-{letters}\"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_an_apex_and_owners_in_them() {
        for zone in ZONES {
            let text = text(zone);
            assert_eq!(text.matches(" SOA ").count(), 1, "{zone}");
            assert!(!text.contains("  "), "{zone}");
        }
        assert!(text("alpha.diff.").contains("\nchild NS "));
        assert!(!text("signed.diff.").contains("\nchild NS "));
    }
}
