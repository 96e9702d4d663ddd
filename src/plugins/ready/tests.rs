#![allow(clippy::unwrap_used)]

use crate::dns::Reply;
use crate::plugin::{Context, Plugin, Step};
use crate::plugins::testing::{Logs, Rig, answers, setup_error};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// A plugin that is ready when it is told.
struct Switch(&'static str, Arc<AtomicBool>);

impl Plugin for Switch {
    fn name(&self) -> &'static str {
        self.0
    }

    fn query(&self, _: &mut Context<'_>, _: &mut Reply) -> Step {
        Step::Next
    }

    fn ready(&self) -> Option<bool> {
        Some(self.1.load(SeqCst))
    }
}

/// The rig of a block with two plugins `kubernetes` and one `etcd`, and their switches.
fn rig(config: &str) -> (Rig, [Arc<AtomicBool>; 3]) {
    let mut rig = Rig::new();
    rig.setup(config).unwrap();
    let switches: [Arc<AtomicBool>; 3] = Default::default();
    for (name, switch) in ["kubernetes", "kubernetes", "etcd"]
        .into_iter()
        .zip(&switches)
    {
        rig.plugins.push(Arc::new(Switch(name, Arc::clone(switch))));
    }
    (rig, switches)
}

fn ask(rig: &Rig) -> (u16, String) {
    let response = rig.get("");
    (response.status, response.body)
}

#[test]
fn until_every_plugin_was_ready_once() {
    let (mut rig, [first, second, third]) = rig("ready");
    assert_eq!(rig.endpoints[0].listen, ":8181");
    assert_eq!(rig.endpoints[0].path, "/ready");
    assert_eq!(ask(&rig), (503, "Starting".into()));
    let chain = rig.chain(answers());
    let logs = Logs::start();
    assert_eq!(ask(&rig), (503, "etcd,kubernetes".into()));
    assert_eq!(
        logs.take(),
        ["INFO plugin/ready: Plugins not ready: \"etcd,kubernetes\""]
    );
    first.store(true, SeqCst);
    third.store(true, SeqCst);
    assert_eq!(ask(&rig), (503, "kubernetes".into()));
    logs.take();
    second.store(true, SeqCst);
    // Every plugin is, but no socket is open.
    assert_eq!(ask(&rig), (503, "Starting".into()));
    rig.process.listening.store(true, SeqCst);
    assert_eq!(ask(&rig), (200, "OK".into()));
    for switch in [first, second, third] {
        switch.store(false, SeqCst);
    }
    assert_eq!(ask(&rig), (200, "OK".into()));
    assert_eq!(logs.take(), [""; 0]);
    drop(chain);
    assert_eq!(ask(&rig), (503, "Starting".into()));
}

#[test]
fn continuously() {
    let (mut rig, [first, second, third]) = rig("ready :1 {\nmonitor continuously\n}");
    rig.process.listening.store(true, SeqCst);
    let _chain = rig.chain(answers());
    for switch in [&first, &second, &third] {
        switch.store(true, SeqCst);
    }
    assert_eq!(ask(&rig), (200, "OK".into()));
    third.store(false, SeqCst);
    assert_eq!(ask(&rig), (503, "etcd".into()));
}

#[test]
fn configuration_errors() {
    for (text, error) in [
        (
            "ready 8181",
            "1 - Error during parsing: address 8181: missing port in address",
        ),
        (
            "ready\nready",
            "2 - Error during parsing: this plugin can only be used once per Server Block",
        ),
        (
            "ready {\nmonitor often\n}",
            "2 - Error during parsing: monitor type 'often' not supported",
        ),
        (
            "ready {\nmonitor\n}",
            "2 - Error during parsing: Wrong argument count or unexpected line ending after 'monitor'",
        ),
        (
            "ready {\nfoo\n}",
            "2 - Error during parsing: unknown property 'foo'",
        ),
    ] {
        assert_eq!(setup_error(text), format!("plugin/ready: Corefile:{error}"));
    }
}
