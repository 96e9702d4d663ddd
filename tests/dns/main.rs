//! Behaviour tests, a module per theme.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod pod_view;
mod real_cluster;
mod reload;
mod server;
