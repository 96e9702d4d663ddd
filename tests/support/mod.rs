//! What the tests share: clients, servers, peers.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, missing_docs)]

pub mod client;
pub mod process;
pub mod proxy;
pub mod server;
