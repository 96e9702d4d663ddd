//! The server: which block answers a query, and the life of listeners and configurations.
//!
//! ```text
//!  udp::run   one thread a worker and address ─┐
//!                                              ├─▶ answer::answer ─▶ Routes ─▶ plugin::Chain
//!  tcp::serve one task a connection ───────────┘
//! ```
//!
//! [`build`] makes a [`Configuration`] of a Corefile; [`Server`] runs one, and swaps it for the
//! next without losing a query.

pub mod admin;
pub mod answer;
pub mod build;
pub mod explain;
pub mod lifecycle;
pub mod panics;
mod routes;
mod tcp;
mod udp;

pub use build::{Configuration, ListenKey};
pub use lifecycle::Server;
pub use routes::Routes;
