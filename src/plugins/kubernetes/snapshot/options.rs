//! The line `snapshot PATH [INTERVAL] [ready]`.

use super::file;
use crate::corefile::{Error, Line, value};
use crate::limits::SNAPSHOT_INTERVAL;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file.
    pub path: PathBuf,
    /// The shortest time from one write to the next; a second at least.
    pub interval: Duration,
    /// Whether the plugin is ready once a snapshot was restored, without the API server.
    pub ready: bool,
}

impl Options {
    /// Reads the line. A relative path starts at `base`.
    ///
    /// # Errors
    /// Points at what is wrong.
    pub fn read(line: &Line, base: &Path) -> Result<Self, Error> {
        let (path, mut rest) = match line.some_args()? {
            [path, rest @ ..] => (path, rest),
            [] => return Err(line.name.arg_error()),
        };
        let mut options = Self {
            path: base.join(path.as_str()),
            interval: SNAPSHOT_INTERVAL,
            ready: false,
        };
        if options.path.file_name().is_none() {
            return Err(path.error(format!("snapshot {path}: a file is wanted")));
        }
        if let [front @ .., last] = rest
            && last.as_str() == "ready"
        {
            options.ready = true;
            rest = front;
        }
        match rest {
            [] => {}
            [interval] => {
                options.interval = value::duration(interval)?;
                if options.interval < Duration::from_secs(1) {
                    return Err(interval.error(format!(
                        "the interval of a snapshot must be 1s at least: {interval}"
                    )));
                }
            }
            [_, more, ..] => return Err(more.arg_error()),
        }
        Ok(options)
    }

    /// Warns where nothing can be written: it is no reason not to start.
    pub(super) fn check(&self) {
        let folder = file::folder(&self.path);
        if !folder.is_dir() {
            tracing::warn!(
                target: "plugin/kubernetes",
                "snapshot {}: there is no folder {}", self.path.display(), folder.display()
            );
        }
    }
}
