//! Questions to the server and what must come back, a module for each theme.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod forward;
mod r#loop;
