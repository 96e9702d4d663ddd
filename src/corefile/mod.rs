//! The Corefile: text to a tree of server blocks, directives, arguments and option lines.
//!
//! Knows no plugin. Every token keeps its file and line, so that every error can say
//! `FILE:LINE - Error during parsing: …`.

pub mod keys;
mod tree;
pub mod value;

pub use tree::{Directive, Error, ErrorKind, Line, ServerBlock, Token};

/// A parsed Corefile.
pub struct Corefile {
    /// Its server blocks.
    pub blocks: Vec<ServerBlock>,
}
