//! Looking at the Corefile again and again, and asking the server to reload.

use super::events::Events;
use crate::corefile::Error;
use crate::metrics::{Counter, Gauge, Labels, Registry};
use crate::plugin::{Control, Process};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::MissedTickBehavior;

/// From an event to looking at the file, so that what is written in several steps is complete.
const SETTLE: Duration = Duration::from_millis(200);
const VERSION_INFO: &str = "coredns_reload_version_info";
const VERSION_HELP: &str =
    "A metric with a constant '1' value labeled by hash, and value which type of hash generated.";

/// The one watch of the process.
#[derive(Debug, Default)]
pub(super) struct Reloader {
    running: Mutex<Option<Stopper>>,
    /// The hash that `reload_version_info` shows.
    shown: Mutex<Option<String>>,
}

impl Reloader {
    /// Starts a watch, in place of the one that runs.
    pub(super) fn start(
        self: Arc<Self>,
        runtime: &tokio::runtime::Handle,
        watch: Watch,
        stopper: Stopper,
    ) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = running.replace(stopper.clone()) {
            old.stop();
        }
        drop(running);
        // Here and not in the task: at the start of the process the line has its place (CF-105).
        tracing::info!(
            target: "plugin/reload",
            "Running configuration SHA512 = {}", watch.running
        );
        runtime.spawn(watch.run(self, stopper));
    }

    /// Shows `hash` in the metrics, in place of the one before.
    fn show(&self, registry: &Registry, hash: &str) {
        let labels = |hash: &str| -> Labels {
            vec![("hash", "sha512".to_owned()), ("value", hash.to_owned())]
        };
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = shown.replace(hash.to_owned()) {
            registry.remove(VERSION_INFO, &labels(&old));
        }
        registry
            .gauge(VERSION_INFO, VERSION_HELP, labels(hash))
            .set(1);
    }
}

/// Ends a watch: as soon as it is not in the middle of a reload (which is what ends most watches).
#[derive(Clone, Debug, Default)]
pub(super) struct Stopper(Arc<Notify>);

impl Stopper {
    pub(super) fn stop(&self) {
        self.0.notify_one();
    }
}

/// What is watched.
pub(super) struct Watch {
    pub(super) path: PathBuf,
    pub(super) period: Duration,
    /// The fingerprint of the Corefile that runs.
    pub(super) running: String,
    pub(super) process: Arc<Process>,
}

/// What was found when looking at the file last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Running,
    /// This was wrong. It is tried again, and told again once it is something else.
    Failed(String),
}

impl Watch {
    async fn run(mut self, reloader: Arc<Reloader>, stopper: Stopper) {
        let metrics = Metrics::new(&self.process.metrics);
        metrics.successful.set(1);
        let mut events = Events::of(&self.path);
        let start = tokio::time::Instant::now() + self.period;
        let mut ticks = tokio::time::interval_at(start, self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut state = State::Running;
        loop {
            tokio::select! {
                biased;
                () = stopper.0.notified() => return,
                _ = ticks.tick() => {}
                () = events.changed() => {
                    tokio::select! {
                        biased;
                        () = stopper.0.notified() => return,
                        () = tokio::time::sleep(SETTLE) => events.forget(),
                    }
                }
            }
            self.look(&mut state, &reloader, &metrics).await;
        }
    }

    /// Looks at the file, and reloads if it is another than the one that runs.
    async fn look(&mut self, state: &mut State, reloader: &Reloader, metrics: &Metrics) {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            // A file that cannot be read just now (a ConfigMap that is exchanged) is no news.
            std::fs::metadata(&path).ok()?;
            Some(fingerprint(&path))
        });
        let hash = match read.await {
            Ok(Some(Ok(hash))) => hash,
            Ok(Some(Err(error))) => {
                if state.fail(error.to_string()) {
                    tracing::warn!(target: "plugin/reload", "Corefile parse failed: {error}");
                }
                metrics.successful.set(0);
                return;
            }
            Ok(None) | Err(_) => return,
        };
        if hash == self.running {
            *state = State::Running;
            metrics.successful.set(1);
            return;
        }
        let outcome = self.reload().await;
        reloader.show(&self.process.metrics, &hash);
        match outcome {
            Ok(()) => {
                self.running = hash;
                *state = State::Running;
                metrics.successful.set(1);
            }
            Err(error) => {
                metrics.failed.inc();
                metrics.successful.set(0);
                if state.fail(error.clone()) {
                    tracing::error!(target: "plugin/reload", "Corefile changed but reload failed: {error}");
                }
            }
        }
    }

    async fn reload(&self) -> Result<(), String> {
        let (sender, outcome) = oneshot::channel();
        let sent = self.process.control.send(Control::Reload(sender)).await;
        sent.map_err(|_| "the server is shutting down".to_owned())?;
        outcome
            .await
            .unwrap_or_else(|_| Err("the server is shutting down".to_owned()))
    }
}

/// The fingerprint that a configuration built of the file now would have.
fn fingerprint(path: &Path) -> Result<String, Error> {
    let mut corefile = crate::corefile::load(path)?;
    // As the server does: what is read as nothing, changes nothing.
    let _ = crate::plugins::legacy::modernise(&mut corefile);
    Ok(corefile.fingerprint())
}

impl State {
    /// Whether this failure is another than the last one.
    fn fail(&mut self, error: String) -> bool {
        let failed = Self::Failed(error);
        std::mem::replace(self, failed.clone()) != failed
    }
}

struct Metrics {
    failed: Counter,
    successful: Gauge,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        Self {
            failed: registry.counter(
                "coredns_reload_failed_total",
                "Counter of the number of failed reload attempts.",
                Vec::new(),
            ),
            successful: registry.gauge(
                "portolan_config_last_reload_successful",
                "Whether the Corefile, when it was looked at last, was the one that runs.",
                Vec::new(),
            ),
        }
    }
}
