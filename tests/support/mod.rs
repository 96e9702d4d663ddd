//! What tests share: a Kubernetes API server in the process, and a sink that remembers.
#![allow(dead_code, missing_docs)]

pub mod kube;
pub mod sink;
