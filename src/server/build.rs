//! From a Corefile to a configuration that can run.

use super::Routes;
use super::refused::Refused;
use crate::corefile::{Corefile, Directive, Error, keys};
use crate::plugin::admin::Endpoint;
use crate::plugin::chain::Resolve;
use crate::plugin::{Block, Chain, Hooks, PluginEntry, Process, Setup};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock, Weak};

/// Where queries are listened for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenKey {
    /// The scheme of the keys: only `dns` is served so far.
    pub scheme: &'static str,
    /// The address; unspecified for every address of the host.
    pub addr: SocketAddr,
}

/// A configuration that was built whole and can be run.
pub struct Configuration {
    /// What answers on each listening address.
    pub listeners: BTreeMap<ListenKey, Arc<Routes>>,
    /// The chains, in file order.
    pub chains: Vec<Arc<Chain>>,
    /// What is to happen during its life.
    pub hooks: Hooks,
    /// Its HTTP endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A server block while it is built.
struct Draft<'c> {
    block: Block,
    directives: &'c [Directive],
    loaded: Vec<&'static str>,
    plugins: Vec<Arc<dyn crate::plugin::Plugin>>,
    chain: Arc<OnceLock<Weak<Chain>>>,
}

impl Configuration {
    /// Builds a configuration: every directive of `table`, in its order, over all server blocks
    /// (CF-44). Nothing is started and no socket is opened.
    ///
    /// # Errors
    /// Every error that was found, each with its place in the Corefile.
    pub fn build(
        corefile: &Corefile,
        table: &'static [PluginEntry],
        process: &Arc<Process>,
        default_port: u16,
    ) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let mut drafts = Vec::new();
        for block in &corefile.blocks {
            match draft(block, table, default_port) {
                Ok(draft) => drafts.push(draft),
                Err(error) => errors.push(error),
            }
        }
        let mut hooks = Hooks::default();
        let mut endpoints = Vec::new();
        for entry in table {
            for draft in &mut drafts {
                let of_entry = |directive: &&Directive| directive.name.text == entry.name;
                let directives: Vec<_> =
                    draft.directives.iter().filter(of_entry).cloned().collect();
                if directives.is_empty() {
                    continue;
                }
                let mut setup = Setup {
                    directives: &directives,
                    block: &mut draft.block,
                    process,
                    hooks: &mut hooks,
                    endpoints: &mut endpoints,
                    plugins: &mut draft.plugins,
                    chain: &draft.chain,
                    loaded: &draft.loaded,
                };
                if let Err(error) = (entry.setup)(&mut setup) {
                    errors.push(error.in_plugin(entry.name));
                }
                draft.block.server = server_label(&draft.block);
            }
        }
        let blocks: Vec<&Block> = drafts.iter().map(|draft| &draft.block).collect();
        if let Err(error) = keys::check_overlap(&blocks) {
            errors.push(error);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut by_listener: BTreeMap<ListenKey, Vec<Arc<Chain>>> = BTreeMap::new();
        let mut chains = Vec::new();
        for mut draft in drafts {
            draft.block.server = server_label(&draft.block);
            let listen = listen_keys(&draft.block);
            let chain = Arc::new(Chain::new(draft.block, draft.plugins));
            // Set once, here.
            let _ = draft.chain.set(Arc::downgrade(&chain));
            for key in listen {
                by_listener.entry(key).or_default().push(Arc::clone(&chain));
            }
            chains.push(chain);
        }
        let panics = process.metrics.counter(
            "coredns_panics_total",
            "A metrics that counts the number of panics.",
            vec![],
        );
        let listeners = by_listener.into_iter().map(|(key, chains)| {
            let refused = Refused::new(&process.metrics, &chains[0].block().server);
            let routes = Arc::new(Routes::new(&chains, refused, panics.clone()));
            for chain in &chains {
                let resolver: Arc<dyn Resolve> = routes.clone();
                chain.set_resolver(Arc::downgrade(&resolver));
            }
            (key, routes)
        });
        Ok(Self {
            listeners: listeners.collect(),
            chains,
            hooks,
            endpoints,
        })
    }
}

fn draft<'c>(
    block: &'c crate::corefile::ServerBlock,
    table: &'static [PluginEntry],
    default_port: u16,
) -> Result<Draft<'c>, Error> {
    for directive in &block.directives {
        let name = directive.name.as_str();
        if !table.iter().any(|entry| entry.name == name) {
            return Err(directive.error(format!("Unknown directive '{name}'")));
        }
    }
    let is_loaded = |entry: &&PluginEntry| {
        block
            .directives
            .iter()
            .any(|directive| directive.name.text == entry.name)
    };
    let loaded = table
        .iter()
        .filter(is_loaded)
        .map(|entry| entry.name)
        .collect();
    let mut draft = Draft {
        block: keys::block(&block.keys, default_port)?,
        directives: &block.directives,
        loaded,
        plugins: Vec::new(),
        chain: Arc::default(),
    };
    // Labels of metrics need it during setup; `bind` comes first in the table and sets it anew.
    draft.block.server = server_label(&draft.block);
    Ok(draft)
}

/// The `server` label of metrics: `dns://:53`, `dns://127.0.0.1:53` (PR-5).
pub fn server_label(block: &Block) -> String {
    match block.bind.first() {
        Some(ip) => format!("{}://{}", block.scheme, SocketAddr::new(*ip, block.port)),
        None => format!("{}://:{}", block.scheme, block.port),
    }
}

fn listen_keys(block: &Block) -> Vec<ListenKey> {
    let every = [IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let ips = if block.bind.is_empty() {
        &every[..]
    } else {
        &block.bind
    };
    let key = |ip: &IpAddr| ListenKey {
        scheme: block.scheme,
        addr: SocketAddr::new(*ip, block.port),
    };
    ips.iter().map(key).collect()
}
