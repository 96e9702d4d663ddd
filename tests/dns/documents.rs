//! The documents say what is so: what they name exists.

use portolan::plugins::TABLE;
use regex::Regex;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// README.md and everything in `docs/`.
fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = docs
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    all.push(root().join("README.md"));
    all
}

/// The text of every Rust file below `folder`.
fn rust(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&rust(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}

#[test]
fn links_lead_to_files() {
    let link = Regex::new(r"\]\(([^)#]+)(?:#[^)]*)?\)").unwrap();
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let path = document.parent().unwrap().join(&target);
            assert!(path.exists(), "{}: no {target}", document.display());
        }
    }
    assert!(count > TABLE.len());
}

#[test]
fn the_readme_lists_every_plugin_in_order() {
    let row =
        Regex::new(r"(?m)^\| \[([a-z0-9_]+)\]\(src/plugins/([a-z0-9_]+)/README\.md\) \|").unwrap();
    let text = read("README.md");
    let rows: Vec<_> = row
        .captures_iter(&text)
        .map(|row| [row[1].to_owned(), row[2].to_owned()])
        .collect();
    let table: Vec<_> = TABLE
        .iter()
        .map(|entry| [entry.name.to_owned(), entry.name.to_owned()])
        .collect();
    assert_eq!(rows, table);
}

/// Every difference has a test, and the test is there.
#[test]
fn differences_name_tests_that_exist() {
    let text = read("docs/differences.md");
    let code = rust(&root().join("src")) + &rust(&root().join("tests"));
    let test = Regex::new(r"`([a-z_0-9]+)`").unwrap();
    let mut differences = 0;
    for item in text.split("\n### ").skip(1) {
        differences += 1;
        let title = item.lines().next().unwrap_or_default();
        let tests = item.lines().find_map(|line| line.strip_prefix("Test: "));
        let tests = tests.unwrap_or_else(|| panic!("{title}: no line `Test: …`"));
        let names: Vec<_> = test
            .captures_iter(tests)
            .map(|found| found[1].to_owned())
            .collect();
        assert!(!names.is_empty(), "{title}: {tests}");
        for name in names {
            assert!(
                code.contains(&format!("fn {name}(")),
                "{title}: no test {name}"
            );
        }
    }
    assert!(differences > 8);
}

/// Rules of the behaviour inventory on the cluster (section 4), by prefix and how many there are.
const RULES: [(&str, u32); 15] = [
    ("KC", 9),
    ("KW", 6),
    ("KM", 9),
    ("KS", 7),
    ("KQ", 5),
    ("KA", 11),
    ("KV", 5),
    ("KP", 8),
    ("KO", 12),
    ("KD", 5),
    ("KE", 6),
    ("KN", 1),
    ("KF", 4),
    ("KX", 4),
    ("KL", 3),
];
/// What the inventory says of the cluster without such a number: its subtle cases (section 7) that
/// touch it, and sections of which the whole is a rule.
const OTHERS: [&str; 23] = [
    "KX-2a",
    "Case 1",
    "Case 2",
    "Case 5",
    "Case 6",
    "Case 7",
    "Case 8",
    "Case 9",
    "Case 10",
    "Case 11",
    "Case 12",
    "Case 13",
    "Case 14",
    "Case 15",
    "Case 16",
    "Case 18",
    "Case 38",
    "Case 39",
    "spec 4.7",
    "spec 4.8",
    "spec 4.11",
    "spec 4.12",
    "spec 4.13",
];
/// Rules that no test can show, and why.
const NOT_TESTED: [(&str, &str); 3] = [
    ("KC-9", "the log of a Go library, which is not here"),
    ("KM-7", "what helps Go's garbage collector"),
    ("KL-1", "what is left of federation in CoreDNS's code"),
];

/// Every rule on the cluster is named where it is tested.
#[test]
fn every_rule_has_a_test() {
    let mut text = tests_of_the_cluster(&root().join("src/plugins/kubernetes"));
    text.push_str(&texts_beside_this(&root().join("tests")));
    let numbered = RULES
        .iter()
        .flat_map(|&(prefix, count)| (1..=count).map(move |number| format!("{prefix}-{number}")));
    let all = numbered.chain(OTHERS.map(str::to_owned));
    // "KE-1 to KE-6" names the first and the last only.
    let named = |rule: &str| {
        let word = Regex::new(&format!(r"\b{}\b", regex::escape(rule))).unwrap();
        word.is_match(&text)
    };
    let missing: Vec<_> = all
        .filter(|rule| !NOT_TESTED.iter().any(|(known, _)| known == rule))
        .filter(|rule| !named(rule))
        .collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
    for (rule, why) in NOT_TESTED {
        assert!(!named(rule), "{rule} is tested, but: {why}");
    }
}

/// What Rust files below `folder` hold of tests.
fn tests_of_the_cluster(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&tests_of_the_cluster(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let all = fs::read_to_string(&path).unwrap();
            let tests = match all.split_once("\nmod tests {") {
                Some((_, tests)) => tests,
                None if path.ends_with("tests.rs") => &all,
                None => "",
            };
            text.push_str(tests);
        }
    }
    text
}

/// Every text below `folder` but this file.
fn texts_beside_this(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&texts_beside_this(&path));
        } else if !path.ends_with("documents.rs") {
            // Samples of other formats are no text.
            text.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
    text
}

#[test]
fn operations_list_every_limit() {
    let text = read("docs/operations.md");
    let limit = Regex::new(r"(?m)^pub const ([A-Z_0-9]+)").unwrap();
    let limits = read("src/limits.rs");
    for name in limit
        .captures_iter(&limits)
        .map(|found| found[1].to_owned())
    {
        assert!(text.contains(&format!("| `{name}` |")), "no row for {name}");
    }
}

/// Names in dashboards and alerts are names in the code (a histogram's series have suffixes).
#[test]
fn metrics_in_the_documents_exist() {
    let code = rust(&root().join("src"));
    let metric = Regex::new(r"\b(?:coredns|portolan|process)_[a-z_0-9]+[a-z0-9]\b").unwrap();
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for name in metric.find_iter(&text).map(|found| found.as_str()) {
            count += 1;
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            let known = code.contains(&format!("\"{family}\""));
            assert!(known, "{}: no {name}", document.display());
        }
    }
    assert!(count > 20);
}

#[test]
fn the_map_names_every_module() {
    let text = read("docs/architecture.md");
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let name = if path.is_dir() {
            format!("`{name}/`")
        } else {
            format!("`{name}`")
        };
        assert!(text.contains(&name), "no {name}");
    }
}
