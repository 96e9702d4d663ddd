#![doc = include_str!("README.md")]

mod addresses;
mod coalesce;
mod config;
mod names;
mod peer;
mod policy;
mod private;
mod relay;
mod stanza;
mod stub;

use crate::corefile::Error;
use crate::plugin::Setup;
use crate::upstream::marker::Origin;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Builds the plugin from its occurrences in a server block: one element of the chain for each, in
/// file order (FW-1).
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    // A relative path is meant from where the Corefile is.
    let corefile = setup.process.corefile.as_deref();
    let directory = corefile.and_then(Path::parent).unwrap_or(Path::new(""));
    let directory = directory.to_owned();
    let origin = Origin::of_block(&setup.block.server, &setup.block.zones);
    let behind_cache = setup.loaded.contains(&"cache");
    for directive in setup.directives {
        let config = config::parse(directive, &directory)?;
        for to in config.to.iter().map(|to| to.address) {
            if is_ourselves(to, &setup.block.bind, setup.block.port) {
                tracing::warn!(
                    target: "plugin/forward",
                    "{}:{} - upstream {to} is an address of this server itself: what is forwarded comes back",
                    directive.name.file,
                    directive.name.line
                );
            }
        }
        let private = private::Private::new(&config, setup);
        let stanza = stanza::Stanza::new(config, setup.process, behind_cache, origin);
        setup
            .plugins
            .push(Arc::new(relay::Forward::new(stanza, private)));
    }
    // FW-24: an upstream may know more classes than IN.
    setup.block.any_class = true;
    Ok(())
}

/// Whether `to` is a loopback address and port that the server block listens on.
fn is_ourselves(to: SocketAddr, bind: &[IpAddr], port: u16) -> bool {
    let listens = |ip: &IpAddr| ip.is_unspecified() || *ip == to.ip();
    to.ip().is_loopback() && to.port() == port && (bind.is_empty() || bind.iter().any(listens))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn our_own_addresses() {
        for (to, bind, expected) in [
            ("127.0.0.1:53", &[][..], true),
            ("[::1]:53", &[], true),
            ("127.0.0.53:53", &[], true),
            ("127.0.0.1:5353", &[], false),
            ("10.0.0.1:53", &[], false),
            ("127.0.0.1:53", &["10.0.0.1"], false),
            ("127.0.0.1:53", &["10.0.0.1", "127.0.0.1"], true),
            ("127.0.0.1:53", &["0.0.0.0"], true),
        ] {
            let bind: Vec<IpAddr> = bind.iter().map(|ip| ip.parse().unwrap()).collect();
            let found = is_ourselves(to.parse().unwrap(), &bind, 53);
            assert_eq!(found, expected, "{to} {bind:?}");
        }
    }
}
