//! The files that `import` reads: those of the disk, or of a map in memory; and its patterns.

use crate::limits;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// What the parser needs of a file system. All paths are absolute and without `.` and `..`.
pub trait Files {
    /// The directory that relative names start from.
    fn current_dir(&self) -> PathBuf;

    /// The text of a file; octets that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// Those of the file system; a directory is [`io::ErrorKind::IsADirectory`].
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The names in a directory, in any order; none if it cannot be read.
    fn list(&self, dir: &Path) -> Vec<String>;

    /// Whether there is something at `path`.
    fn exists(&self, path: &Path) -> bool;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn current_dir(&self) -> PathBuf {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut octets = Vec::new();
        let bound = limits::COREFILE_SIZE as u64 + 1;
        File::open(path)?.take(bound).read_to_end(&mut octets)?;
        if octets.len() > limits::COREFILE_SIZE {
            let most = limits::COREFILE_SIZE >> 20;
            return Err(io::Error::other(format!("longer than {most} MiB")));
        }
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }

    fn list(&self, dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }
}

/// Files in memory by absolute path; the current directory is the root.
#[derive(Clone, Debug, Default)]
pub struct Memory(pub BTreeMap<PathBuf, String>);

impl Files for Memory {
    fn current_dir(&self) -> PathBuf {
        PathBuf::from("/")
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        match self.0.get(path) {
            Some(text) => Ok(text.clone()),
            None if self.exists(path) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, dir: &Path) -> Vec<String> {
        let below = self.0.keys().filter_map(|path| path.strip_prefix(dir).ok());
        let names = below.filter_map(|path| path.iter().next()?.to_str());
        let names: BTreeSet<&str> = names.collect();
        names.into_iter().map(ToOwned::to_owned).collect()
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.keys().any(|file| file.starts_with(path))
    }
}

/// `path` from `base`, with `.` and `..` resolved by their text.
pub(super) fn absolute(base: &Path, path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// Whether a text has wildcards.
pub(super) fn is_pattern(text: &OsStr) -> bool {
    text.as_encoded_bytes()
        .iter()
        .any(|octet| b"*?".contains(octet))
}

/// What an absolute pattern stands for: the paths in lexical order, and the directories that
/// were listed for it. A wildcard matches within one component, a leading dot too.
pub(super) fn glob(files: &dyn Files, pattern: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut found = vec![PathBuf::new()];
    let mut listed = Vec::new();
    for component in pattern.components() {
        let part = component.as_os_str();
        if !is_pattern(part) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let part = part.to_string_lossy();
        let dirs = std::mem::take(&mut found);
        for dir in &dirs {
            let mut names = files.list(dir);
            names.retain(|name| matches(&part, name));
            names.sort_unstable();
            found.extend(names.iter().map(|name| dir.join(name)));
        }
        listed.extend(dirs);
    }
    found.retain(|path| files.exists(path));
    (found, listed)
}

/// Whether `name` matches a pattern of `*` (any text) and `?` (any one character).
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // What to go back to when the text behind the last star does not fit.
    let mut retry = None;
    loop {
        let before_name = name.clone();
        match (pattern.next(), name.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                name = before_name;
                retry = Some((pattern.clone(), name.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(want), Some(have)) if want == have => {}
            _ => {
                let Some((after_star, from)) = &mut retry else {
                    return false;
                };
                // The star takes one more character.
                if from.next().is_none() {
                    return false;
                }
                (pattern, name) = (after_star.clone(), from.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*.override", "log.override", true),
            ("*.override", ".override", true),
            ("*.override", "log.server", false),
            ("*.override", "log.override.bak", false),
            ("a*b", "ab", true),
            ("a*b", "acbcb", true),
            ("a*b", "acbc", false),
            ("?", "é", true),
            ("?", "", false),
            ("a?*", "a", false),
            ("a?*", "abc", true),
            ("*?", "", false),
            ("*", "..data", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn paths_by_text() {
        let base = Path::new("/etc/coredns");
        for (path, expected) in [
            ("custom/x", "/etc/coredns/custom/x"),
            ("./../x", "/etc/x"),
            ("../../../x", "/x"),
            ("/a/./b", "/a/b"),
        ] {
            assert_eq!(absolute(base, Path::new(path)), Path::new(expected));
        }
    }
}
