//! What the tests share: clients, servers, scripted peers, blocks built without a server.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, missing_docs)]

pub mod block;
pub mod client;
pub mod encrypted;
pub mod http;
pub mod kube;
pub mod message;
pub mod process;
pub mod proxy;

pub mod server;
pub mod sink;
pub mod upstream;
