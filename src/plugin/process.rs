//! What belongs to the process, whatever the configuration.

use super::shared::Shared;
use crate::metrics::{Registry, Shard};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use tokio::sync::{mpsc, oneshot};

/// Listening addresses whose workers have metrics cells of their own.
const SHARDS_PER_WORKER: usize = 4;

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
    /// Whether configurations are only checked and never run (`-check`): what needs the cluster
    /// around it (credentials, a resolv.conf) is not looked for then.
    pub check_only: bool,
    /// Where requests to the server itself go; it takes one at a time.
    pub control: mpsc::Sender<Control>,
    /// Whether the server has opened its sockets: before, nothing is ready.
    pub listening: AtomicBool,
    shards_claimed: AtomicUsize,
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
            metrics: Registry::new(SHARDS_PER_WORKER * workers),
            shared: Shared::default(),
            runtime,
            workers,
            corefile: None,
            check_only: false,
            control,
            listening: AtomicBool::new(false),
            shards_claimed: AtomicUsize::new(0),
        };
        (process, requests)
    }

    /// The folder that relative paths of the Corefile start from: its own.
    pub fn base_dir(&self) -> PathBuf {
        let parent = self.corefile.as_deref().and_then(std::path::Path::parent);
        parent.map(PathBuf::from).unwrap_or_default()
    }

    /// Metrics cells for one more UDP worker thread: its own as long as there are some, then those
    /// that any thread may write. (They are not given back: a thread may still write to them.)
    pub fn claim_shard(&self) -> Shard {
        let index = self.shards_claimed.fetch_add(1, Relaxed);
        if index < SHARDS_PER_WORKER * self.workers {
            Shard::worker(index as u16)
        } else {
            Shard::SHARED
        }
    }
}
