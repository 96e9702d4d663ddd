#![allow(clippy::unwrap_used)]

use super::events::Events;
use super::period;
use crate::plugin::Control;
use crate::plugins::testing::{Logs, Rig, setup_error};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

const FIRST: &str = ". {\n    whoami\n    reload\n}\n";
const SECOND: &str = ". {\n    whoami\n    errors\n    reload\n}\n";
const BROKEN: &str = ". {\n    whoami\n";

/// Longer than any period of the defaults.
const LONG: Duration = Duration::from_secs(40);

/// A process whose Corefile is watched, and what keeps it so.
struct Watched {
    rig: Rig,
    logs: Logs,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

async fn watched() -> Watched {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Corefile");
    fs::write(&path, FIRST).unwrap();
    let mut rig = Rig::with_corefile(Some(path.clone()));
    let logs = Logs::start();
    rig.setup("reload").unwrap();
    rig.hooks.serving.pop().unwrap()().await;
    Watched {
        rig,
        logs,
        path,
        _directory: directory,
    }
}

fn hash(path: &Path) -> String {
    crate::corefile::load(path).unwrap().fingerprint()
}

impl Watched {
    /// Takes the next request, and tells this outcome.
    async fn outcome(&mut self, outcome: Result<(), String>) {
        let Control::Reload(told) = self.rig.control.recv().await.unwrap();
        told.send(outcome).unwrap();
        // Lets the watch see it.
        sleep(Duration::from_millis(1)).await;
    }

    async fn idle(&mut self) {
        let request = tokio::time::timeout(LONG * 3, self.rig.control.recv()).await;
        assert!(request.is_err(), "no reload is asked for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_reloaded_once() {
    let mut watched = watched().await;
    watched.idle().await;
    let first = hash(&watched.path);
    assert_eq!(first.len(), 128);
    assert_eq!(
        watched.logs.take(),
        [format!(
            "INFO plugin/reload: Running configuration SHA512 = {first}"
        )]
    );
    assert_eq!(watched.rig.metrics("coredns_reload_version_info"), [""; 0]);
    fs::write(&watched.path, SECOND).unwrap();
    let second = hash(&watched.path);
    watched.outcome(Ok(())).await;
    watched.idle().await;
    assert_eq!(
        watched.rig.metrics("coredns_reload"),
        [
            "coredns_reload_failed_total 0".to_owned(),
            format!("coredns_reload_version_info{{hash=\"sha512\",value=\"{second}\"}} 1.0"),
        ]
    );
    assert_eq!(watched.logs.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_reload_is_tried_again_and_told_once() {
    let mut watched = watched().await;
    sleep(Duration::from_millis(1)).await;
    watched.logs.take();
    fs::write(&watched.path, SECOND).unwrap();
    for _ in 0..3 {
        watched.outcome(Err("plugin/x: no".into())).await;
    }
    let told = "ERROR plugin/reload: Corefile changed but reload failed: plugin/x:";
    assert_eq!(watched.logs.take(), [format!("{told} no")]);
    assert_eq!(
        watched
            .rig
            .metrics("portolan_config_last_reload_successful"),
        ["portolan_config_last_reload_successful 0.0"]
    );
    watched.outcome(Err("plugin/x: never".into())).await;
    assert_eq!(watched.logs.take(), [format!("{told} never")]);
    watched.outcome(Ok(())).await;
    watched.idle().await;
    assert_eq!(
        watched.rig.metrics("coredns_reload_failed_total"),
        ["coredns_reload_failed_total 4"]
    );
    assert_eq!(
        watched
            .rig
            .metrics("portolan_config_last_reload_successful"),
        ["portolan_config_last_reload_successful 1.0"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_corefile_is_told_once() {
    let mut watched = watched().await;
    sleep(Duration::from_millis(1)).await;
    watched.logs.take();
    fs::write(&watched.path, BROKEN).unwrap();
    watched.idle().await;
    let lines = watched.logs.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("WARN plugin/reload: Corefile parse failed: "),
        "{lines:?}"
    );
    let successful = "portolan_config_last_reload_successful";
    assert_eq!(
        watched.rig.metrics(successful),
        [format!("{successful} 0.0")]
    );
    // What runs is back: there is nothing to reload.
    fs::write(&watched.path, FIRST).unwrap();
    watched.idle().await;
    assert_eq!(
        watched.rig.metrics(successful),
        [format!("{successful} 1.0")]
    );
    fs::remove_file(&watched.path).unwrap();
    watched.idle().await;
    assert_eq!(
        watched.logs.take(),
        [""; 0],
        "a file that is missing is no news"
    );
}

#[tokio::test(start_paused = true)]
async fn the_next_configuration_takes_the_watch_over() {
    let mut watched = watched().await;
    fs::write(&watched.path, SECOND).unwrap();
    let Control::Reload(told) = watched.rig.control.recv().await.unwrap();
    // What the server does on a reload, while the old watch waits for the outcome.
    let mut next = watched.rig.sibling();
    next.setup("reload 2s").unwrap();
    next.hooks.serving.pop().unwrap()().await;
    watched.rig.hooks.shutdown.pop().unwrap()().await;
    told.send(Ok(())).unwrap();
    watched.idle().await;
    fs::write(&watched.path, FIRST).unwrap();
    watched.outcome(Ok(())).await;
    // Without `reload` in the configuration after that, nobody watches any more.
    next.hooks.shutdown.pop().unwrap()().await;
    fs::write(&watched.path, SECOND).unwrap();
    watched.idle().await;
}

#[tokio::test]
async fn events_of_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Corefile");
    for version in ["one", "two"] {
        fs::create_dir(directory.path().join(version)).unwrap();
        fs::write(directory.path().join(version).join("Corefile"), version).unwrap();
    }
    let link = |version: &str| {
        let link = directory.path().join("..tmp");
        std::os::unix::fs::symlink(version, &link).unwrap();
        fs::rename(link, directory.path().join("..data")).unwrap();
    };
    link("one");
    std::os::unix::fs::symlink("..data/Corefile", &path).unwrap();
    let mut events = Events::of(&path);
    link("two");
    // A guard against hanging, no measurement.
    let changed = tokio::time::timeout(Duration::from_secs(30), events.changed());
    changed
        .await
        .expect("the exchange of the directory is told");
    assert_eq!(fs::read_to_string(&path).unwrap(), "two");
}

#[test]
fn periods() {
    let second = Duration::from_secs(1);
    for _ in 0..1000 {
        let period = period(30 * second, 15 * second);
        assert!(period >= 22 * second && period <= 38 * second, "{period:?}");
    }
    assert_eq!(period(2 * second, Duration::ZERO), 2 * second);
}

#[test]
fn without_a_file_there_is_nothing_to_watch() {
    let mut rig = Rig::new();
    rig.setup("reload 10s 0s").unwrap();
    assert!(rig.hooks.serving.is_empty());
}

#[test]
fn configuration_errors() {
    for (text, error) in [
        ("reload 1s", "interval value must be greater or equal to 2s"),
        (
            "reload 10s 10ms",
            "jitter value must be greater or equal to 1s",
        ),
        ("reload x", "time: invalid duration \"x\""),
        (
            "reload 10s 1s 1s",
            "Wrong argument count or unexpected line ending after '1s'",
        ),
    ] {
        assert_eq!(
            setup_error(text),
            format!("plugin/reload: Corefile:1 - Error during parsing: {error}")
        );
    }
}
