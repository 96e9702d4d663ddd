//! Behaviour tests, a module per theme.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod deploy;
mod documents;
mod pod_view;
mod real_cluster;
mod reload;
mod server;
