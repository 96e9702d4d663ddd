//! Errors that are counted, and told in one line at the end of a period.

use crate::plugins::common::go_duration;
use regex::Regex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::runtime::Handle;

/// At which level lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warning,
    Info,
    Debug,
}

impl Level {
    pub(super) fn from_text(text: &str) -> Option<Self> {
        match text {
            "error" => Some(Self::Error),
            "warning" => Some(Self::Warning),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            _ => None,
        }
    }

    pub(super) fn log(self, line: fmt::Arguments<'_>) {
        match self {
            Self::Error => tracing::error!(target: "plugin/errors", "{line}"),
            Self::Warning => tracing::warn!(target: "plugin/errors", "{line}"),
            Self::Info => tracing::info!(target: "plugin/errors", "{line}"),
            Self::Debug => tracing::debug!(target: "plugin/errors", "{line}"),
        }
    }
}

/// One `consolidate` option.
///
/// A period starts with its first error and ends with the summary; `pending` is not zero exactly
/// while one runs.
#[derive(Debug)]
pub(super) struct Pattern {
    expression: Regex,
    period: Duration,
    level: Level,
    show_first: bool,
    runtime: Handle,
    pending: AtomicU64,
    stopped: AtomicBool,
}

impl Pattern {
    pub(super) const fn new(
        expression: Regex,
        period: Duration,
        level: Level,
        show_first: bool,
        runtime: Handle,
    ) -> Self {
        Self {
            expression,
            period,
            level,
            show_first,
            runtime,
            pending: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn matches(&self, error: &str) -> bool {
        self.expression.is_match(error)
    }

    /// Counts an error. False once stopped: it is not counted then.
    pub(super) fn count(self: &Arc<Self>, line: fmt::Arguments<'_>) -> bool {
        if self.stopped.load(SeqCst) {
            return false;
        }
        if self.pending.fetch_add(1, SeqCst) == 0 {
            if self.show_first {
                self.level.log(line);
            }
            let pattern = Arc::clone(self);
            self.runtime.spawn(async move {
                tokio::time::sleep(pattern.period).await;
                pattern.summarize();
            });
        }
        // The stop may have come between the check and the count, and missed this one.
        if self.stopped.load(SeqCst) {
            self.summarize();
        }
        true
    }

    /// Tells what is pending, and lets later errors have lines of their own.
    pub(super) fn stop(&self) {
        self.stopped.store(true, SeqCst);
        self.summarize();
    }

    fn summarize(&self) {
        let count = self.pending.swap(0, SeqCst);
        if count > u64::from(self.show_first) {
            self.level.log(format_args!(
                "{count} errors like '{}' occurred in last {}",
                self.expression,
                go_duration(self.period)
            ));
        }
    }
}
