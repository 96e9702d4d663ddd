//! Sockets: batched UDP and what else needs a system call that the standard library lacks.
//!
//! The only module with `unsafe` code.

pub mod interfaces;
