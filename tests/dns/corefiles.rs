//! Every Corefile that this project shows or that is met in the field passes `-check`.

use portolan::corefile;
use portolan::plugin::Process;
use portolan::plugins::{TABLE, legacy};
use portolan::server::Configuration;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Builds the Corefile `text` as `-check` does; the errors in lines.
fn check(path: &Path, text: &str) -> Result<Vec<String>, String> {
    let (mut process, _requests) = Process::new(tokio::runtime::Handle::current(), 1);
    process.check_only = true;
    process.corefile = Some(path.to_owned());
    let name = path.display().to_string();
    let mut corefile = corefile::parse(&name, text, &|name| match name {
        "CLUSTER_DOMAIN" => Some("cluster.local".into()),
        _ => None,
    })
    .map_err(|error| error.to_string())?;
    let warnings = legacy::modernise(&mut corefile);
    Configuration::build(&corefile, TABLE, &Arc::new(process), 53)
        .map(|_| warnings)
        .map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect())
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(ending));
    paths.sort();
    paths
}

/// The Corefiles between fences in a document.
fn fenced(text: &str) -> Vec<String> {
    let parts = text.split("```corefile\n").skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn corefiles_of_the_field() {
    let files = files("tests/corefiles", ".Corefile");
    assert!(files.len() > 15, "{files:?}");
    let mut bad = String::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        if let Err(error) = check(&path, &text) {
            bad.push_str(&error);
        }
    }
    assert!(bad.is_empty(), "{bad}");
}

#[tokio::test]
async fn corefiles_of_the_readmes() {
    let mut bad = String::new();
    let mut folders = fs::read_dir(Path::new(ROOT).join("src/plugins")).unwrap();
    let mut examples = 0;
    while let Some(Ok(folder)) = folders.next() {
        if !folder.path().is_dir() {
            continue;
        }
        let readme = folder.path().join("README.md");
        let text =
            fs::read_to_string(&readme).unwrap_or_else(|error| panic!("{readme:?}: {error}"));
        let found = fenced(&text);
        assert!(!found.is_empty(), "{readme:?} shows no Corefile");
        for section in [
            "Name",
            "Syntax",
            "Behaviour",
            "Metrics",
            "Examples",
            "Differences",
        ] {
            assert!(
                text.contains(&format!("## {section}\n")),
                "{readme:?} has no {section}"
            );
        }
        for text in found {
            examples += 1;
            if let Err(error) = check(&readme, &text) {
                bad.push_str(&error);
            }
        }
    }
    assert!(bad.is_empty(), "{bad}");
    assert!(examples >= TABLE.len(), "{examples} examples");
}

#[tokio::test]
async fn old_syntax_warns_and_runs() {
    let path = Path::new(ROOT).join("tests/corefiles/kubeadm-1.12.Corefile");
    let warnings = check(&path, &fs::read_to_string(&path).unwrap()).unwrap();
    let all = warnings.join("\n");
    assert!(all.contains("proxy") && all.contains("forward"), "{all}");
    assert!(all.contains("upstream"), "{all}");
}

#[tokio::test]
async fn every_error_is_told_with_its_place() {
    let text = ".:53 {\n    nonsense\n}\na.example:53 {\n    cache -1\n    whoami x\n}\n";
    let errors = check(Path::new("/dev/null/Corefile"), text).unwrap_err();
    assert!(
        errors.contains("Corefile:2 - Error during parsing: Unknown directive 'nonsense'"),
        "{errors}"
    );
    assert!(
        errors.contains("plugin/cache: /dev/null/Corefile:5 - "),
        "{errors}"
    );
    assert!(
        errors.contains("plugin/whoami: /dev/null/Corefile:6 - "),
        "{errors}"
    );
}
