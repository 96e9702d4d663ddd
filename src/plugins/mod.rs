//! The directives, one folder each, and the one table of their order.
//!
//! A new plugin is a folder here and a line in [`TABLE`].

pub mod bind;
pub mod bufsize;
pub mod cache;
pub mod chaos;
pub mod common;
pub mod debug;
pub mod errors;
pub mod forward;
pub mod health;
pub mod hosts;
pub mod kubernetes;
pub mod legacy;
pub mod loadbalance;
pub mod log;
pub mod r#loop;
pub mod metadata;
pub mod prometheus;
mod random;
pub mod ready;
pub mod reload;
pub mod template;
pub mod transfer;
pub mod whoami;

#[cfg(test)]
pub(crate) mod testing;

use crate::plugin::PluginEntry;

/// Every directive, in the order in which queries pass the plugins: that of CoreDNS 1.14.7
/// (SC-1 of the behaviour inventory). It is the only place that says it.
pub const TABLE: &[PluginEntry] = &[
    entry(
        "metadata",
        "labels of queries that plugins tell each other",
        metadata::setup,
    ),
    entry(
        "reload",
        "reloads the Corefile when it changes",
        reload::setup,
    ),
    entry(
        "bufsize",
        "caps the UDP payload size that clients offer",
        bufsize::setup,
    ),
    entry("bind", "listens on some addresses only", bind::setup),
    entry("debug", "logs debug lines", debug::setup),
    entry(
        "ready",
        "HTTP endpoint that says when every plugin is ready",
        ready::setup,
    ),
    entry(
        "health",
        "HTTP endpoint that says that the process lives",
        health::setup,
    ),
    entry(
        "prometheus",
        "metrics in Prometheus's text formats",
        prometheus::setup,
    ),
    entry("errors", "logs errors", errors::setup),
    entry("log", "logs queries", log::setup),
    entry(
        "chaos",
        "answers CH TXT questions about the server",
        chaos::setup,
    ),
    entry(
        "loadbalance",
        "changes the order of addresses in answers",
        loadbalance::setup,
    ),
    entry("cache", "caches answers from elsewhere", cache::setup),
    entry("template", "answers made from templates", template::setup),
    entry(
        "transfer",
        "hands whole zones to other servers, and tells them of changes",
        transfer::setup,
    ),
    entry(
        "hosts",
        "answers from a file in the style of /etc/hosts",
        hosts::setup,
    ),
    entry(
        "kubernetes",
        "answers for services and pods of the cluster",
        kubernetes::setup,
    ),
    entry(
        "loop",
        "finds queries that come back to the server",
        r#loop::setup,
    ),
    entry("forward", "asks upstream servers", forward::setup),
    entry("whoami", "tells clients their address", whoami::setup),
];

const fn entry(
    name: &'static str,
    summary: &'static str,
    setup: fn(&mut crate::plugin::Setup<'_>) -> Result<(), crate::corefile::Error>,
) -> PluginEntry {
    PluginEntry {
        name,
        summary,
        setup,
    }
}
