//! Building a server block: what a directive's setup function is given, and what it leaves.

use super::admin::Endpoint;
use super::{Chain, Plugin, Process, Provided};
use crate::corefile::keys::Key;
use crate::corefile::{Directive, Error};
use crate::dns::Zone;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};

/// A server block as its plugins see it.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Its keys, in file order.
    pub keys: Vec<Key>,
    /// The zones of all keys, in their order, each once.
    pub zones: Vec<Zone>,
    /// The scheme of its first key: `dns`, `tls`, `https`, `quic`, `grpc`.
    pub scheme: &'static str,
    /// The port of its first key.
    pub port: u16,
    /// The addresses to listen on (`bind`); empty for every address.
    pub bind: Vec<IpAddr>,
    /// The `server` label of metrics: `dns://:53`, `dns://127.0.0.1:53`.
    pub server: String,
    /// Whether queries of classes other than IN may enter the chain (a `chaos` or `forward` is in it).
    pub any_class: bool,
    /// `metadata`: the zones whose queries have labels; none without the directive.
    pub metadata: Vec<Zone>,
    /// `debug`: debug lines are logged.
    pub debug: bool,
    /// `errors { stacktrace }`: the log line of a panic shows the stack.
    pub stacktrace: bool,
}

/// A future that a setup function asks to be run at some time of the configuration's life.
pub type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What is to happen during the life of a configuration, in the order of the directives.
#[derive(Default)]
pub struct Hooks {
    /// Before sockets open (first start) or the configuration is swapped in (reload); they run one
    /// after another and delay the start.
    pub start: Vec<Hook>,
    /// Once queries are served.
    pub serving: Vec<Hook>,
    /// When the configuration goes: on reload, and on shutdown while queries are still answered.
    pub shutdown: Vec<Hook>,
    /// At the end of the process only, after all of `shutdown` (lameduck).
    pub final_shutdown: Vec<Hook>,
}

impl Hooks {
    /// Boxes a hook.
    pub fn hook<F>(make: impl FnOnce() -> F + Send + 'static) -> Hook
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Box::new(move || Box::pin(make()))
    }
}

/// What a directive's setup function works on: all its occurrences in one server block.
pub struct Setup<'a> {
    /// Every occurrence of the directive in the block, in file order; at least one.
    pub directives: &'a [Directive],
    /// The block. `bind`, `debug` and the like change it; they stand early in the table.
    pub block: &'a mut Block,
    /// The process.
    pub process: &'a Arc<Process>,
    /// The block's hooks.
    pub hooks: &'a mut Hooks,
    /// The block's HTTP endpoints.
    pub endpoints: &'a mut Vec<Endpoint>,
    /// The block's plugins so far, in table order.
    pub plugins: &'a mut Vec<Arc<dyn Plugin>>,
    /// The block's chain, set when it is complete: for what looks at the other plugins later.
    pub chain: &'a Arc<OnceLock<Weak<Chain>>>,
    /// What the block's plugins give each other.
    pub provided: &'a Arc<Provided>,
    /// Names of all directives of the block, in table order.
    pub loaded: &'a [&'static str],
    /// The fingerprint of the Corefile that is being built, as the directives stand in it.
    pub fingerprint: &'a str,
}

impl Setup<'_> {
    /// The only occurrence.
    ///
    /// # Errors
    /// At the second occurrence: `this plugin can only be used once per Server Block`.
    pub fn only_one(&self) -> Result<&Directive, Error> {
        match self.directives {
            [one] => Ok(one),
            [_, second, ..] => {
                Err(second.error("this plugin can only be used once per Server Block"))
            }
            // The builder calls no setup function without an occurrence.
            [] => Err(Error::internal("a directive without an occurrence")),
        }
    }

    /// Appends a plugin to the chain.
    pub fn add(&mut self, plugin: impl Plugin) {
        self.plugins.push(Arc::new(plugin));
    }
}

/// One line of the table of directives.
pub struct PluginEntry {
    /// The name in the Corefile.
    pub name: &'static str,
    /// One line for `-plugins` and the docs.
    pub summary: &'static str,
    /// Called once for each server block that the directive is in.
    pub setup: fn(&mut Setup<'_>) -> Result<(), Error>,
}
