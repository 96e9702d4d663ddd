//! Behaviour tests, a module per theme.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod server;
