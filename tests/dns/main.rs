//! Tests of the server from outside, a module for each theme.
#![allow(clippy::unwrap_used)]

mod kube_source;

#[path = "../support/mod.rs"]
mod support;
