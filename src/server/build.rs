//! From a Corefile to a configuration that can run.

use super::Routes;
use crate::corefile::keys::{self, Key};
use crate::corefile::{Corefile, Directive, Error, ServerBlock, Token};
use crate::dns::Zone;
use crate::metrics::QueryMetrics;
use crate::plugin::admin::Endpoint;
use crate::plugin::chain::Resolve;
use crate::plugin::{Block, Chain, Hooks, PluginEntry, Process, Provided, Setup};
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

/// A chain, and the zones that it answers for on some listening address.
pub(super) type Served = (Arc<Chain>, Vec<Zone>);

/// A server block while it is built.
struct Draft<'c> {
    keys: &'c [Token],
    block: Block,
    directives: &'c [Directive],
    loaded: Vec<&'static str>,
    plugins: Vec<Arc<dyn crate::plugin::Plugin>>,
    chain: Arc<OnceLock<Weak<Chain>>>,
    provided: Arc<Provided>,
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
        let fingerprint = corefile.fingerprint();
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
                    provided: &draft.provided,
                    loaded: &draft.loaded,
                    fingerprint: &fingerprint,
                };
                if let Err(error) = (entry.setup)(&mut setup) {
                    errors.push(error.in_plugin(entry.name));
                }
                draft.block.server = server_label(&draft.block);
            }
        }
        errors.extend(overlap(&drafts).err());
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut by_listener: BTreeMap<ListenKey, Vec<Served>> = BTreeMap::new();
        let mut chains = Vec::new();
        for mut draft in drafts {
            draft.block.server = server_label(&draft.block);
            let served = listen_keys(&draft.block);
            let chain = Arc::new(Chain::new(draft.block, draft.plugins));
            // Set once, here.
            let _ = draft.chain.set(Arc::downgrade(&chain));
            for (key, zones) in served {
                let chains = by_listener.entry(key).or_default();
                chains.push((Arc::clone(&chain), zones));
            }
            chains.push(chain);
        }
        let panics = process.metrics.counter(
            "coredns_panics_total",
            "A metrics that counts the number of panics.",
            vec![],
        );
        let listeners = by_listener.into_iter().map(|(key, chains)| {
            let refused =
                QueryMetrics::new(&process.metrics, &chains[0].0.block().server, "dropped", "");
            let routes = Arc::new(Routes::new(&chains, refused, panics.clone()));
            for (chain, _) in &chains {
                // The first counts: a block that is served on several addresses asks itself by the
                // first of them. What it is asked about differs only where other blocks do.
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
    block: &'c ServerBlock,
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
        let mut directives = block.directives.iter();
        directives.any(|directive| directive.name.text == entry.name)
    };
    let loaded = table.iter().filter(is_loaded);
    let mut draft = Draft {
        keys: &block.keys,
        block: read_keys(&block.keys, default_port)?,
        directives: &block.directives,
        loaded: loaded.map(|entry| entry.name).collect(),
        plugins: Vec::new(),
        chain: Arc::default(),
        provided: Arc::default(),
    };
    // Labels of metrics need it during setup; `bind` comes early in the table and changes it.
    draft.block.server = server_label(&draft.block);
    Ok(draft)
}

fn read_keys(tokens: &[Token], default_port: u16) -> Result<Block, Error> {
    let mut block = Block::default();
    for token in tokens {
        let key = Key::parse(token, default_port)?;
        if key.scheme != "dns" {
            return Err(token.error(format!("{}:// servers are not supported yet", key.scheme)));
        }
        for zone in &key.zones {
            if !block.zones.contains(zone) {
                block.zones.push(zone.clone());
            }
        }
        block.keys.push(key);
    }
    if let Some(first) = block.keys.first() {
        (block.scheme, block.port) = (first.scheme, first.port);
    }
    Ok(block)
}

/// The addresses to listen on; `None` for every address.
fn addresses(block: &Block) -> Vec<Option<IpAddr>> {
    match block.bind.as_slice() {
        [] => vec![None],
        some => some.iter().copied().map(Some).collect(),
    }
}

fn overlap(drafts: &[Draft<'_>]) -> Result<(), Error> {
    let mut entries = Vec::new();
    for draft in drafts {
        for (token, key) in draft.keys.iter().zip(&draft.block.keys) {
            for zone in &key.zones {
                for address in addresses(&draft.block) {
                    let served = keys::Served {
                        scheme: key.scheme,
                        zone,
                        port: key.port,
                        address,
                    };
                    entries.push((token, served, false));
                }
            }
        }
    }
    keys::check(entries)
}

/// The `server` label of metrics: `dns://:53`, `dns://127.0.0.1:53` (PR-5).
fn server_label(block: &Block) -> String {
    match block.bind.first() {
        Some(ip) => format!("{}://{}", block.scheme, SocketAddr::new(*ip, block.port)),
        None => format!("{}://:{}", block.scheme, block.port),
    }
}

/// Where the block is listened for, and its zones there.
fn listen_keys(block: &Block) -> BTreeMap<ListenKey, Vec<Zone>> {
    let mut served: BTreeMap<ListenKey, Vec<Zone>> = BTreeMap::new();
    for key in &block.keys {
        for address in addresses(block) {
            let ip = address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            let listen = ListenKey {
                scheme: key.scheme,
                addr: SocketAddr::new(ip, key.port),
            };
            served
                .entry(listen)
                .or_default()
                .extend(key.zones.iter().cloned());
        }
    }
    served
}
