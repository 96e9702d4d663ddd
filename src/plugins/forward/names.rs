//! Host names among the `TO` arguments: resolved once, when the configuration is built (FW-3).

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// How long the start waits for the addresses of one name.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses of a host name, asked of `resolvers`, or of the system's name servers if there
/// are none.
///
/// # Errors
/// Why there are no addresses.
pub(super) fn resolve(host: &str, resolvers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
    // A thread of its own: who builds a configuration may be a task of a runtime, which must not
    // be blocked from within.
    std::thread::scope(|scope| {
        let resolving = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(async {
                let found = timeout(PATIENCE, lookup(host, resolvers)).await;
                found.unwrap_or_else(|_| Err("no answer in time".into()))
            })
        });
        resolving
            .join()
            .unwrap_or_else(|_| Err("the resolver failed".into()))
    })
}

async fn lookup(host: &str, resolvers: &[SocketAddr]) -> Result<Vec<IpAddr>, String> {
    let builder = if resolvers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| error.to_string())?
    } else {
        let servers = resolvers.iter().map(|&server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let found = resolver
        .lookup_ip(host)
        .await
        .map_err(|error| error.to_string())?;
    Ok(found.iter().collect())
}
