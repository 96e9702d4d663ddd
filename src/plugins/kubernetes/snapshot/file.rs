//! Replacing a file so that there is the old one or the new one at every moment.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that is being written, beside the one it is to replace. Dropped without
/// [`Pending::commit`], it is gone.
pub(super) struct Pending {
    /// Where the content goes. Only the owner can read it.
    pub(super) file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Pending {
    /// Creates the file in the folder of `path`: a rename within a folder is atomic.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut name = prefix(path);
        // Two processes may share the folder, and in containers both have the same id.
        name.push(format!("{:016x}.tmp", rand::random::<u64>()));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        Ok(Self {
            file,
            temporary,
            path: path.to_owned(),
        })
    }

    /// Puts the file in its place, once its content is on the disk.
    pub(super) fn commit(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        // The name is as lasting as the content only when its folder is written too.
        File::open(folder(&self.path))?.sync_all()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After the rename there is none.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// The folder that a file lies in.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Removes what processes that crashed while they wrote left behind: files that were not written to
/// for `age`.
pub(super) fn clean(path: &Path, age: Duration) {
    let prefix = prefix(path);
    let entries = fs::read_dir(folder(path)).into_iter().flatten();
    for entry in entries.map_while(Result::ok) {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let ours = name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(b".tmp");
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let old = written.is_ok_and(|at| {
            let since = SystemTime::now().duration_since(at);
            since.is_ok_and(|since| since >= age)
        });
        if ours && old {
            // If it cannot be removed, it only takes room.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What names of temporary files begin with.
fn prefix(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    prefix
}
