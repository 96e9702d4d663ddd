//! Behaviour tests, a module per theme.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod cache;
mod corefiles;
mod deploy;
mod documents;
mod explain;
mod forward;
mod headless;
mod kube_config;
mod kube_faults;
mod kube_imports;
mod kube_source;
mod kube_start;
mod kubernetes;
mod r#loop;
mod manifests;
mod pod_view;
mod process;
mod real_cluster;
mod reload;
mod scenarios;
mod scrape;
mod server;
mod snapshot;
mod stock;
mod transfer;
