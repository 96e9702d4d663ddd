//! Behaviour tests, a module per theme.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod corefiles;
mod deploy;
mod documents;
mod forward;
mod kube_faults;
mod kube_source;
mod kubernetes;
mod r#loop;
mod manifests;
mod pod_view;
mod process;
mod real_cluster;
mod reload;
mod scrape;
mod server;
mod stock;
