//! What belongs to the process, whatever the configuration.

use super::shared::Shared;
use crate::metrics::Registry;
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot};

/// The surroundings of every configuration.
pub struct Process {
    /// The metrics registry.
    pub metrics: Registry,
    /// State that outlives a configuration.
    pub shared: Shared,
    /// Where background work runs.
    pub runtime: tokio::runtime::Handle,
    /// UDP workers: CPUs of the cgroup quota.
    pub workers: usize,
    /// The Corefile, if it is a file.
    pub corefile: Option<PathBuf>,
    /// Where requests to the server itself go; it takes one at a time.
    pub control: mpsc::Sender<Control>,
}

/// A request to the server itself.
#[derive(Debug)]
pub enum Control {
    /// Read the Corefile again, and swap the new configuration in. The outcome is told when it is
    /// known; on an error (its text is given) the old configuration serves on.
    Reload(oneshot::Sender<Result<(), String>>),
}

impl Process {
    /// A process with `workers` UDP workers whose background work runs on `runtime`, and where its
    /// control requests arrive.
    pub fn new(runtime: tokio::runtime::Handle, workers: usize) -> (Self, mpsc::Receiver<Control>) {
        let (control, requests) = mpsc::channel(4);
        let process = Self {
            metrics: Registry::new(workers),
            shared: Shared::default(),
            runtime,
            workers,
            corefile: None,
            control,
        };
        (process, requests)
    }
}
