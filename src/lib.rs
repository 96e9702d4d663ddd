//! Portolan: a DNS server for Kubernetes clusters, in the place of CoreDNS.
//!
//! The way of a query: [`net`] receives packets, [`server`] finds the server block by the longest
//! zone, the block's [`plugin`] chain answers, and [`dns`] writes the reply. [`plugins`] holds one
//! folder for each directive of the [`corefile`].

pub mod cli;
pub mod corefile;
pub mod dns;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod plugin;
pub mod plugins;
pub mod run;
pub mod server;
pub mod upstream;
