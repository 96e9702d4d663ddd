//! The hosts file: read again when its time or its size changes.

use super::Settings;
use super::table::Table;
use crate::dns::Zone;
use crate::plugin::Process;
use arc_swap::ArcSwap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, MissedTickBehavior};

/// The file, and where what it says goes.
pub(super) struct HostsFile {
    path: PathBuf,
    zones: Vec<Zone>,
    reverse: bool,
    table: Arc<ArcSwap<Table>>,
    /// Time and size of what was read last.
    read: Option<(SystemTime, u64)>,
    /// Entries of the Corefile, which the metric counts as well.
    inline: usize,
    process: Arc<Process>,
    /// The time of the file in seconds, as the bits of an `f64`.
    timestamp: Arc<AtomicU64>,
}

impl HostsFile {
    pub(super) fn new(
        settings: &Settings,
        inline: usize,
        table: Arc<ArcSwap<Table>>,
        process: Arc<Process>,
    ) -> Self {
        Self {
            path: settings.path.clone(),
            zones: settings.zones.clone(),
            reverse: settings.reverse,
            table,
            read: None,
            inline,
            process,
            timestamp: Arc::default(),
        }
    }

    /// Reads the file if it is another than the one read last. What cannot be read is left as it
    /// was: editors and ConfigMaps take files away for a moment.
    pub(super) fn read(&mut self) {
        let Ok(meta) = fs::metadata(&self.path) else {
            return;
        };
        let Ok(time) = meta.modified() else {
            return;
        };
        if self.read == Some((time, meta.len())) {
            return;
        }
        let Ok(text) = fs::read(&self.path) else {
            return;
        };
        let text = String::from_utf8_lossy(&text);
        let table = Table::parse(&text, &self.zones, self.reverse);
        let entries = table.len();
        tracing::debug!(target: "plugin/hosts", "Parsed hosts file into {entries} entries");
        self.table.store(Arc::new(table));
        self.read = Some((time, meta.len()));
        self.show(entries, time);
    }

    /// Reads the file every `interval`, until it is dropped.
    pub(super) async fn follow(mut self, interval: Duration) {
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let read = tokio::task::spawn_blocking(move || {
                self.read();
                self
            });
            match read.await {
                Ok(file) => self = file,
                // The runtime is shutting down.
                Err(_) => return,
            }
        }
    }

    fn show(&self, entries: usize, time: SystemTime) {
        let registry = &self.process.metrics;
        let path = self.path.display().to_string();
        let gauge = registry.gauge(
            "coredns_hosts_entries",
            "The combined number of entries in hosts and Corefile.",
            vec![("hostsfile", path)],
        );
        gauge.set((entries + self.inline) as i64);
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = self
            .timestamp
            .swap(seconds.as_secs_f64().to_bits(), Relaxed);
        if before == 0 {
            let timestamp = Arc::clone(&self.timestamp);
            registry.read_gauge(
                "coredns_hosts_reload_timestamp_seconds",
                "The timestamp of the last reload of hosts file.",
                Vec::new(),
                move || Some(f64::from_bits(timestamp.load(Relaxed))),
            );
        }
    }
}
