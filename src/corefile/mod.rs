//! The Corefile: text to a tree of server blocks, directives, arguments and option lines.
//!
//! ```text
//! file       = { block | snippet | import }
//! block      = key { [","] key } "{" newline { directive | import } "}"
//! snippet    = "(" name ")" "{" newline … "}"
//! import     = "import" ( snippet name | file | pattern with one * and one ? ) newline
//! directive  = name { argument } [ "{" newline { option | import } "}" ] newline
//! option     = name { argument } newline
//! ```
//!
//! A token is a word or `"quoted text"`; `#` begins a comment; `{$NAME}` and `{%NAME%}` stand for
//! environment variables. A file with one server block may leave out the block's braces: its first
//! line are the keys.
//!
//! What always holds:
//! - This module knows no plugin: every name is a directive here.
//! - Every token keeps the file and line that it was read from, through snippets and imports, so
//!   that every error can say `FILE:LINE - Error during parsing: …`.
//! - Repeated directives stay separate, in the order of the file.
//! - Any text ends in a tree or an error, in bounded time and memory: nothing recurses, an import
//!   cycle is an error, and what imports add up to is bounded ([`crate::limits`]).
//! - The same text, files and variables give the same tree, and the same [`Corefile::fingerprint`].
//!
//! The rules are CF-1 … CF-93 of the behaviour inventory. [`keys`] reads what a server block's keys
//! say, [`value`] what many directives take as arguments.

mod env;
mod files;
mod fingerprint;
mod grammar;
pub mod keys;
mod lexer;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
pub mod value;

pub use files::{Disk, Files, Memory};
pub use tree::{Directive, Error, ErrorKind, Line, ServerBlock, Token};

use std::path::{Path, PathBuf};

/// A Corefile, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corefile {
    /// The server blocks in file order; none if there is nothing but comments (CF-102).
    pub blocks: Vec<ServerBlock>,
    /// What is worth a log line: an import pattern without a file, a block without a key.
    pub warnings: Vec<String>,
    /// Every file that was read, as absolute paths in lexical order; the Corefile itself is one.
    pub files: Vec<PathBuf>,
    /// Every directory that an import pattern was looked up in: a new file there can change the
    /// tree.
    pub dirs: Vec<PathBuf>,
}

/// Reads the Corefile at `path`, with the variables of the process.
///
/// # Errors
/// Without a place if the file cannot be read, else as [`parse`].
pub fn load(path: &Path) -> Result<Corefile, Error> {
    let shown = path.display();
    let text = Disk
        .read(path)
        .map_err(|error| Error::internal(format!("open {shown}: {error}")))?;
    parse(&shown.to_string(), &text, &environment)
}

/// The value of a variable of the process; what is not UTF-8 in it is replaced.
pub fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Reads `text`, which stands in the file `name`; what it imports is read from the disk.
///
/// # Errors
/// The first mistake, at its token.
pub fn parse(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Corefile, Error> {
    parse_with(name, text, env, &Disk)
}

/// As [`parse`], with imports from `files`.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    files: &dyn Files,
) -> Result<Corefile, Error> {
    let mut stream = stream::Stream::new(name, text, env, files);
    let blocks = grammar::blocks(&mut stream)?;
    Ok(Corefile {
        blocks,
        files: stream.files(),
        dirs: stream.dirs.into_iter().collect(),
        warnings: stream.warnings,
    })
}
