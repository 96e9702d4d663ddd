//! The Corefile: text to a tree of server blocks, directives, arguments and option lines.
//!
//! Knows no plugin. Every token keeps its file and line, so that every error can say
//! `FILE:LINE - Error during parsing: …`.

mod tree;
pub mod value;

pub use tree::{Directive, Error, ErrorKind, Line, ServerBlock, Token};

/// A Corefile that was read (placeholder until the parser is there).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corefile {
    text: String,
}

/// Reads and parses a Corefile.
///
/// # Errors
/// Why it cannot be read or parsed.
pub fn load(path: &std::path::Path) -> Result<Corefile, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::internal(error.to_string()))?;
    if text.matches('{').count() != text.matches('}').count() {
        return Err(Error::internal("Unexpected EOF"));
    }
    Ok(Corefile { text })
}

impl Corefile {
    /// What tells one configuration from another: SHA-512 in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA512, self.text.as_bytes());
        digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }
}
