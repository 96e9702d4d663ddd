//! Trees and error texts as snapshots, one case under its rule's number; properties of the parser.

#![allow(clippy::unwrap_used)]

use super::files::Memory;
use super::keys::{Key, Served, check};
use super::*;
use crate::dns::Zone;
use proptest::prelude::*;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "ZONE" => "example.org",
        "SPACES" => "a b # {",
        "BRACE" => "{",
        "IMPORT" => "import",
        "NAME" => "whoami",
        "SELF" => "<{$SELF}>",
        "PERCENT" => "{$ZONE}",
        _ => return None,
    };
    Some(value.to_owned())
}

fn memory(files: &[(&str, &str)]) -> Memory {
    let files = files.iter();
    Memory(
        files
            .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
            .collect(),
    )
}

fn read_with(text: &str, files: &[(&str, &str)]) -> Result<Corefile, Error> {
    parse_with("etc/Corefile", text, &env, &memory(files))
}

fn read(text: &str) -> Result<Corefile, Error> {
    read_with(text, &[])
}

/// A tree, one line for each directive and option; `@` before the line number of its first token.
fn show(result: &Result<Corefile, Error>) -> String {
    let corefile = match result {
        Ok(corefile) => corefile,
        Err(error) => return format!("{error}\n"),
    };
    let words = |name: &[Token], args: &[Token]| {
        let mut out = String::new();
        for (at, token) in name.iter().chain(args).enumerate() {
            let text = &token.text;
            let _ = match at {
                0 => write!(out, "@{} {text:?}", token.line),
                _ => write!(out, " {text:?}"),
            };
        }
        out
    };
    let mut out = String::new();
    for block in &corefile.blocks {
        let _ = writeln!(out, "block {}", words(&[], &block.keys));
        for directive in &block.directives {
            let own = words(std::slice::from_ref(&directive.name), &directive.args);
            let _ = writeln!(out, "  {own}");
            for line in &directive.block {
                let own = words(std::slice::from_ref(&line.name), &line.args);
                let _ = writeln!(out, "    {own}");
            }
        }
    }
    for warning in &corefile.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn cases<'a>(cases: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (rule, text) in cases {
        let _ = writeln!(out, "--- {rule}\n{text:?}\n{}", show(&read(text)));
    }
    out
}

#[test]
fn words() {
    let shown = cases([
        ("CF-1 byte-order mark", "\u{feff}.:53"),
        ("CF-2 white space", "a\u{a0}b\u{2003}c\u{85}d\te"),
        ("CF-3 CR", ". {\r\n who\rami\r\n}\r\n"),
        ("CF-4 quote inside a word", "a\"b\" c"),
        ("CF-5 closing quote ends the token", "\"a\"b"),
        ("CF-6 escapes", r#". "\.example\.org\.$" "say \"hi\"" "\\""#),
        ("CF-7 line break in quotes", "a\nlog \"x\ny\" z\nerrors"),
        ("CF-8 empty token", ".\nlog \"\" x"),
        ("CF-9 quote not closed", ".\nlog \"x y\nz"),
        ("CF-9 quote not closed, nothing in it", ".\nlog \""),
        ("CF-10 backslash", ".\nlog a\\\nerrors"),
        ("CF-11 comments", "# one\n. # two\nlog foo#bar\n#three"),
        (
            "CF-12 comment inside a word",
            ".\nlog foo#bar baz # x y\nerrors",
        ),
        ("CF-13 braces inside words", ".{ {x} }\nlog {}"),
        ("no text", ""),
        ("only comments", "# nothing\n\n"),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn variables() {
    let shown = cases([
        ("CF-20 both spellings", "{$ZONE}:53 {%ZONE%}:{$NAME}"),
        ("CF-20 percent first", "a{%PERCENT%}b"),
        ("CF-21 not set", ".\nlog a{$NONE}b {$NONE}"),
        (
            "CF-22 stays one token",
            ".\nlog {$SPACES}\nerrors {$BRACE}\n{$IMPORT} x",
        ),
        ("CF-23 directive name", ". {\n{$NAME}\n}"),
        ("CF-24 empty name", ".\nlog {$} {%%} {%} {$"),
        ("CF-24 names itself", ".\nlog {$SELF}"),
        ("key is empty", "{$NONE} {\nwhoami\n}\n. {\nlog\n}"),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn server_blocks() {
    let shown = cases([
        ("CF-31 keys", "a.org b.org, c.org,\nd.org {\nlog\n}"),
        ("CF-31 comma alone", "a.org , b.org {\n}"),
        ("CF-32 comma inside", "a.org,b.org {\n}"),
        ("CF-33 brace after comma", "a.org, {\nlog\n}"),
        ("CF-33 end after comma", "a.org,"),
        ("CF-34 brace on the next line", "a.org\n{\nlog\n}"),
        ("CF-35 without braces", ".:53\nerrors\nlog\n"),
        ("CF-35 without braces, stray brace", ".:53\nlog\n}\n"),
        ("CF-36 keys only", "a.org b.org"),
        ("CF-37 one line", ". { whoami }"),
        ("CF-38 not closed", ". {\nwhoami\n"),
        ("CF-38 not closed, empty", ". {"),
        ("two blocks", "a {\nlog\n} b {\nerrors\n}\n"),
        ("directive on the line of the brace", ". { log\n errors\n}"),
        ("no key", "{\nlog\n}"),
        ("closing brace first", "}"),
        ("two opening braces", ". {\n{\n}\n}"),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn directive_blocks() {
    let shown = cases([
        (
            "CF-39",
            ". {\ncache 30 a {\nsuccess 10 20\nprefetch 1\n}\nlog\n}",
        ),
        (
            "CF-40 brace on the next line",
            ". {\nhealth\n{\nlameduck 5s\n}\n}",
        ),
        ("CF-41 nested", ". {\na {\nb {\nc\n}\n}\n}"),
        (
            "CF-42 closing brace behind an option",
            ". {\nhealth { lameduck 5s }\n}",
        ),
        (
            "CF-42 option behind the brace",
            ". {\nhealth { lameduck 5s\n}\n}",
        ),
        ("CF-42 nothing between", ". {\nerrors { }\ncache {\n}\n}"),
        ("CF-42 braces as one word", ". {\nerrors {}\n}"),
        ("CF-43 repeated", ". {\nlog a\nerrors\nlog b\n}"),
        ("text behind the brace", ". {\nhealth {\n} errors\n}"),
        ("brace behind the brace", ". {\nhealth {\n} }\n}"),
        ("not closed", ". {\nhealth {\nlameduck 5s\n"),
        ("not closed at once", ". {\nhealth {"),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn snippets() {
    let shown = cases([
        (
            "CF-50",
            "(s) {\nlog\ncache {\nprefetch 1\n}\n}\n. {\nimport s\nerrors\nimport s\n}",
        ),
        ("CF-50 again", "(s) {\n}\n(s) {\n}"),
        ("CF-50 without brace", "(s)\nlog"),
        ("CF-50 without anything", "(s)"),
        ("CF-50 not closed", "(s) {\nlog {\n}"),
        ("CF-50 two keys make no snippet", "(s) b {\nlog\n}"),
        (
            "CF-23 variables where it is used",
            "(s) {\n{$NAME} {$ZONE}\n}\n. {\nimport s\n}",
        ),
        ("CF-51 used before", ". {\nimport s\n}\n(s) {\n}"),
        (
            "CF-52 in a directive's block",
            "(s) {\nsuccess 1\ndenial 2\n}\n. {\ncache {\nimport s\nprefetch 3\n}\n}",
        ),
        (
            "CF-52 at top level",
            "(s) {\na {\nlog\n}\n}\nimport s\nb {\nerrors\n}",
        ),
        ("CF-52 keys", "(s) {\na b\n}\nimport s\n{\nlog\n}"),
        ("CF-52 not at the start of a line", ". {\nlog import s\n}"),
        ("CF-53 none", ". {\nimport\nlog\n}"),
        ("CF-53 none at the end", ". {\nimport"),
        ("CF-53 two", ". {\nimport a b\n}"),
        ("CF-53 empty", ". {\nimport {$NONE}\n}"),
        ("CF-59 cycle", "(s) {\nimport s\n}\n. {\nimport s\n}"),
        (
            "CF-59 long cycle",
            "(a) {\nimport b\n}\n(b) {\nlog\nimport a\n}\n. {\nimport a\n}",
        ),
        (
            "body on the line of the brace",
            "(s) { log x\nerrors\n}\n. {\nwhoami\nimport s\n}",
        ),
        ("empty body", "(s) {\n}\n. {\nimport s\nlog\n}"),
    ]);
    insta::assert_snapshot!(shown);
}

#[test]
fn imported_files() {
    let files = &[
        ("/etc/custom/b.override", "log b"),
        ("/etc/custom/a.override", "\nlog a {\n class error\n}\n"),
        (
            "/etc/custom/stub.server",
            "example.org:53 {\n errors\n import *.inner\n}\n",
        ),
        ("/etc/custom/x.inner", "whoami"),
        ("/etc/snippets", "(s) {\nlog {$NAME}\n}"),
        ("/etc/broken", "health {\nlameduck 5s"),
        ("/etc/self", "errors\nimport self"),
        ("/etc/ping", "import pong\nlog"),
        ("/etc/pong", "import ping"),
        ("/etc/empty", "# nothing"),
    ];
    let mut out = String::new();
    for (rule, text) in [
        (
            "CF-54 relative to the importing file",
            "import custom/stub.server",
        ),
        (
            "CF-54 absolute, ..",
            ". {\nimport /etc/x/../custom/x.inner\n}",
        ),
        ("CF-55 two stars", ". {\nimport */*.override\n}"),
        ("CF-55 class", ". {\nimport custom/[ab].override\n}"),
        (
            "CF-55 star and question mark",
            ". {\nimport cust?m/*.inner\n}",
        ),
        (
            "CF-56 no match",
            ". {\nimport custom/*.none\nlog\n}\nimport none/*.server",
        ),
        ("CF-56 no file", ". {\nimport custom/none\n}"),
        (
            "CF-57 in lexical order",
            ". {\nimport custom/*.override\nerrors\n}",
        ),
        ("CF-57 directory", ". {\nimport custom\n}"),
        ("CF-57 directory among the matches", ". {\nimport *ustom\n}"),
        (
            "CF-51 snippet of a file",
            "import snippets\n. {\nimport s\n}",
        ),
        ("CF-59 file that imports itself", ". {\nimport self\n}"),
        ("CF-59 two files", ". {\nimport ping\n}"),
        ("CF-59 the Corefile", "import Corefile\n"),
        ("error inside", ". {\nimport broken\n}"),
        ("empty file", ". {\nimport empty\nlog\n}\nimport empty"),
        (
            "the same file twice",
            ". {\nimport custom/x.inner\nimport custom/x.inner\n}",
        ),
    ] {
        let mut all = files.to_vec();
        all.push(("/etc/Corefile", text));
        let result = read_with(text, &all);
        let _ = writeln!(out, "--- {rule}\n{text:?}\n{}", show(&result));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn imported_tokens_keep_their_place() {
    let files = &[
        ("/etc/custom/a.override", "\n\nlog a"),
        ("/etc/b", "errors"),
    ];
    let corefile = read_with(". {\nimport custom/*.override\nimport b\n}", files).unwrap();
    let [log, errors] = corefile.blocks[0].directives.as_slice() else {
        panic!("{corefile:?}");
    };
    assert_eq!(
        (&*log.name.file, log.name.line),
        ("/etc/custom/a.override", 3)
    );
    assert_eq!((&*errors.name.file, errors.name.line), ("/etc/b", 1));
    assert_eq!(&*corefile.blocks[0].keys[0].file, "etc/Corefile");
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(
        corefile.files,
        paths(&["/etc/Corefile", "/etc/b", "/etc/custom/a.override"])
    );
    assert_eq!(corefile.dirs, paths(&["/etc/custom"]));
}

/// Snippets that double what they import, as often as the limit allows and beyond.
#[test]
fn expansion_is_bounded() {
    let doubling = |levels: u32, leaf: &str| {
        let mut text = format!("(s0) {{\n{leaf}\n}}\n");
        for level in 1..=levels {
            let below = level - 1;
            let _ = writeln!(text, "(s{level}) {{\nimport s{below}\nimport s{below}\n}}");
        }
        let _ = writeln!(text, ". {{\nimport s{levels}\n}}");
        read(&text)
    };
    let shown = |result: Result<Corefile, Error>| result.unwrap_err().to_string();
    assert_eq!(
        doubling(10, "log").unwrap().blocks[0].directives.len(),
        1024
    );
    assert_eq!(
        shown(doubling(20, "log")),
        "etc/Corefile:5 - Error during parsing: more than 10000 snippets are imported"
    );
    assert_eq!(
        shown(doubling(12, &"x ".repeat(10_000))),
        "etc/Corefile:6 - Error during parsing: imports make the Corefile longer than 64 MiB"
    );
    let deep: String = (0..9_999).fold("(s0) {\nlog\n}\n".to_owned(), |mut text, level| {
        let _ = writeln!(text, "(s{}) {{\nimport s{level}\n}}", level + 1);
        text
    });
    let deep = read(&format!("{deep}. {{\nimport s9999\n}}")).unwrap();
    assert_eq!(deep.blocks[0].directives.len(), 1);
}

#[test]
fn read_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Corefile");
    let missing = load(&path).unwrap_err().to_string();
    assert!(
        missing.starts_with(&format!("open {}: ", path.display())),
        "{missing}"
    );
    std::fs::create_dir(dir.path().join("custom")).unwrap();
    std::fs::write(dir.path().join("custom/b.override"), "log bÿ").unwrap();
    std::fs::write(dir.path().join("custom/a.override"), b"log a\xff").unwrap();
    std::fs::write(
        &path,
        ".:53 {\nimport custom/*.override\nimport custom/*.no\n}",
    )
    .unwrap();
    let corefile = load(&path).unwrap();
    let args = corefile.blocks[0]
        .directives
        .iter()
        .map(|log| log.args[0].as_str());
    assert_eq!(args.collect::<Vec<_>>(), ["a\u{fffd}", "bÿ"]);
    assert_eq!(
        corefile.warnings,
        ["No files matching import glob pattern: custom/*.no"]
    );
    std::fs::write(&path, ".:53 {\nimport custom\n}").unwrap();
    assert_eq!(
        load(&path).unwrap_err().to_string(),
        format!(
            "{}:2 - Error during parsing: Could not import {}: is a directory",
            path.display(),
            dir.path().join("custom").display()
        )
    );
}

#[test]
fn endless_file() {
    let error = parse("Corefile", ". {\nimport /dev/zero\n}", &env).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Corefile:2 - Error during parsing: Could not import /dev/zero: longer than 4 MiB"
    );
}

fn token(text: &str) -> Token {
    Token {
        text: text.to_owned(),
        file: Arc::from("Corefile"),
        line: 1,
    }
}

#[test]
fn server_keys() {
    let shown = |text| match Key::parse(&token(text), 1053) {
        Ok(Key {
            scheme,
            zones,
            port,
        }) => format!("{scheme} {zones:?} {port}"),
        Err(error) => error.to_string(),
    };
    let mut out = String::new();
    for key in [
        ".",
        ".:53",
        ":53",
        "",
        "Example.ORG",
        "example.org.:5353",
        "example.org:0053",
        "dns://",
        "DNS://.:53",
        "tls://example.org",
        "tls://.:8853",
        "quic://.",
        "grpc://.",
        "https://.",
        "https3://.",
        "unix://tmp/x",
        "ftp://.",
        "a.org:",
        "a.org,b.org",
        "a..org",
        "a.org:99999",
        "10.0.0.0/24",
        "10.0.0.0/15:53",
        "tls://10.0.0.0/8:853",
        "2001:db8::/32",
        "2001:db8::/30:53",
        "2001:db8::1",
        "::1:53",
        "0.0.0.0/0",
        "::/0",
        "10.0.0.0",
        "10.0.0.0/33",
        "a.org:http",
    ] {
        let _ = writeln!(out, "{key:24} {}", shown(key));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn zones_are_served_once() {
    let keys: Vec<Token> = ["a", "b"].map(token).into();
    let (org, net) = (Zone::from_text("example.org").unwrap(), Zone::root());
    let served = |zone, port, address: &str| Served {
        scheme: "dns",
        zone,
        port,
        address: address.parse().ok(),
    };
    let one = served(&org, 53, "");
    let bound = served(&org, 53, "127.0.0.1");
    let defined = "Corefile:1 - Error during parsing: cannot serve dns://example.org.:53 - it is already defined";
    let overlap = "Corefile:1 - Error during parsing: cannot serve dns://example.org.:53 - zone overlap listener capacity with dns://example.org.:53 on 127.0.0.1";
    let reverse = "Corefile:1 - Error during parsing: cannot serve dns://example.org.:53 on 127.0.0.1 - zone overlap listener capacity with dns://example.org.:53";
    for (a, b, views, expected) in [
        (one, one, [false; 2], Some(defined)),
        (one, served(&org, 54, ""), [false; 2], None),
        (one, served(&net, 53, ""), [false; 2], None),
        (
            one,
            Served {
                scheme: "tls",
                ..one
            },
            [false; 2],
            None,
        ),
        (bound, one, [false; 2], Some(overlap)),
        (one, bound, [false; 2], Some(reverse)),
        (bound, served(&org, 53, "127.0.0.2"), [false; 2], None),
        // CF-80
        (one, one, [true, false], None),
        (one, one, [false, true], None),
        (one, one, [true, true], None),
        (one, bound, [true, true], Some(reverse)),
        (bound, one, [false, true], Some(overlap)),
    ] {
        let result = check([(&keys[0], a, views[0]), (&keys[1], b, views[1])]);
        let shown = result.err().map(|error| error.to_string());
        assert_eq!(shown.as_deref(), expected, "{a} {b} {views:?}");
    }
}

/// The Corefiles that installers ship.
#[test]
fn corefiles_in_the_field() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corefiles");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "Corefile")
        {
            continue;
        }
        let corefile = load(&path).unwrap();
        assert!(!corefile.blocks.is_empty(), "{path:?}");
        for block in &corefile.blocks {
            assert!(!block.directives.is_empty(), "{path:?}");
            for key in &block.keys {
                let key = Key::parse(key, 53).unwrap();
                assert!([53, 5353, 8053].contains(&key.port), "{path:?}");
            }
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let globs = text
            .lines()
            .filter(|line| line.contains("import") && line.contains('*'));
        assert_eq!(corefile.warnings.len(), globs.count(), "{path:?}");
        count += 1;
    }
    assert!(count >= 21, "{count}");
}

#[test]
fn fingerprint_sees_what_counts() {
    let print = |text| read(text).unwrap().fingerprint();
    let base = print(". {\nlog a b\n}");
    assert_eq!(base.len(), 128);
    assert_eq!(base, print(".  { # comment\nlog  \"a\" b # more\n}\n# end"));
    for other in [
        ". {\n\nlog a b\n}",
        ". {\nlog ab\n}",
        ". {\nlog a \"b \"\n}",
        ". {\nlog a { b\n}\n}",
        ". {\nlog a\nb\n}",
        ". {\n}",
        ". x {\nlog a b\n}",
        "",
    ] {
        assert_ne!(base, print(other), "{other}");
    }
    let renamed = parse_with("other", ". {\nlog a b\n}", &env, &memory(&[])).unwrap();
    assert_ne!(base, renamed.fingerprint());
}

/// Text made of what the parser looks at, so that most of it gets far.
fn corefile_text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "\n",
        "\n",
        "\n",
        " ",
        "import",
        "(s)",
        "s",
        "f",
        "g/*",
        ".:53",
        "a.org,",
        "log",
        "\"",
        "\\",
        "#",
        "{$ZONE}",
        "{%BRACE%}",
        "{$",
        "\r",
        "é",
        "\u{feff}",
    ]);
    let joint = prop::sample::select(vec![" ", "", "\n"]);
    prop::collection::vec((word, joint), 0..60).prop_map(|words| {
        words
            .iter()
            .flat_map(|(word, joint)| [*word, *joint])
            .collect()
    })
}

proptest! {
    #[test]
    fn any_text_ends(text in prop_oneof![corefile_text(), any::<String>()], f in corefile_text()) {
        let files = [("/etc/f", f.as_str()), ("/etc/g/a", "log"), ("/etc/g/b", &text)];
        let first = read_with(&text, &files);
        let again = read_with(&text, &files);
        prop_assert_eq!(&first, &again);
        if let Ok(corefile) = first {
            prop_assert_eq!(corefile.fingerprint(), again.unwrap().fingerprint());
            for key in corefile.blocks.iter().flat_map(|block| &block.keys) {
                let _ = Key::parse(key, 53);
            }
        }
    }

    /// Arguments that are quoted come back as they were, but for braces: a lone one ends the block,
    /// quoted or not, as in CoreDNS.
    #[test]
    fn quoting_round_trip(
        args in prop::collection::vec("[^\\\\{]*".prop_filter("a brace", |arg| arg != "}"), 0..5),
    ) {
        let quoted = args.iter().map(|arg| format!(" \"{}\"", arg.replace('"', "\\\"")));
        let text = format!(". {{\nlog{}\nerrors\n}}", quoted.collect::<String>());
        let corefile = read(&text).unwrap();
        let [log, errors] = corefile.blocks[0].directives.as_slice() else {
            panic!("{corefile:?}");
        };
        prop_assert_eq!(log.args.iter().map(Token::as_str).collect::<Vec<_>>(), args);
        prop_assert_eq!(errors.name.as_str(), "errors");
    }
}
