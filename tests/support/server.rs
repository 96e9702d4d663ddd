//! A server in the test's own process.

use portolan::corefile;
use portolan::plugin::{PluginEntry, Process};
use portolan::server::{Configuration, Server};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A running server and its process.
pub struct TestServer {
    pub process: Arc<Process>,
    pub server: Server,
    table: &'static [PluginEntry],
}

impl TestServer {
    /// Starts the server of this Corefile. Keys with port 0 get a free one.
    pub async fn start(table: &'static [PluginEntry], text: &str) -> Self {
        let (process, _) = Process::new(tokio::runtime::Handle::current(), 2);
        let process = Arc::new(process);
        let configuration = configure(table, &process, text);
        let server = Server::start(Arc::clone(&process), configuration)
            .await
            .unwrap();
        Self {
            process,
            server,
            table,
        }
    }

    /// Swaps another Corefile in.
    pub async fn reload(&mut self, text: &str) {
        let configuration = configure(self.table, &self.process, text);
        self.server.reload(configuration).await.unwrap();
    }

    /// The first listening address, on loopback.
    pub fn addr(&self) -> SocketAddr {
        let addr = self.server.addresses().next().unwrap();
        if addr.ip().is_unspecified() {
            return SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), addr.port());
        }
        addr
    }

    /// All metrics in the classic text format.
    pub fn metrics(&self) -> String {
        use portolan::metrics::{Format, exposition};
        exposition(&self.process.metrics, Format::Classic)
    }

    /// The value of a series as `/metrics` shows it (`name{labels}`), `None` if it is not there.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }
}

/// Builds a configuration; its errors fail the test.
pub fn configure(
    table: &'static [PluginEntry],
    process: &Arc<Process>,
    text: &str,
) -> Configuration {
    let mut corefile = corefile::parse("Corefile", text, &|_| None).unwrap();
    portolan::plugins::legacy::modernise(&mut corefile);
    match Configuration::build(&corefile, table, process, 53) {
        Ok(configuration) => configuration,
        Err(errors) => panic!("{errors:?}"),
    }
}
