//! The stub resolver of systemd-resolved: an address of the node's loopback interface, at which
//! nobody answers inside of a pod. Or worse: this server itself does.

use super::addresses;
use crate::corefile::Token;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// Where systemd-resolved keeps the servers that it asks itself.
pub(super) const REAL_SERVERS: &str = "/run/systemd/resolve/resolv.conf";

/// Its stub, and its proxy (`resolved.conf(5)`, `DNSStubListener`).
const STUBS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)),
];

fn is_stub(server: SocketAddr) -> bool {
    STUBS.contains(&server.ip()) && server.port() == addresses::PORT
}

/// The servers that the file `path` names, with those of the file `real` in the place of stubs,
/// where it can be read. Says in the log what it does.
pub(super) fn replaced(path: &Path, servers: Vec<SocketAddr>, real: &Path) -> Vec<SocketAddr> {
    let Some(stub) = servers.iter().copied().find(|&server| is_stub(server)) else {
        return servers;
    };
    let (stub, path) = (stub.ip(), path.display());
    let content = std::fs::read_to_string(real).unwrap_or_default();
    let mut found = addresses::nameservers(&content);
    found.retain(|&server| !is_stub(server));
    let real = real.display();
    if found.is_empty() {
        tracing::warn!(
            target: "plugin/forward",
            "{path} names {stub}, the stub resolver of systemd-resolved, which answers outside of a pod only, \
             and {real} names no servers to ask in its place: have the kubelet give pods the real servers \
             (resolvConf: {real}), or name them in the Corefile"
        );
        return servers;
    }
    tracing::warn!(
        target: "plugin/forward",
        "{path} names {stub}, the stub resolver of systemd-resolved: the servers of {real} are asked in its place"
    );
    let others = servers.into_iter().filter(|&server| !is_stub(server));
    found.into_iter().chain(others).collect()
}

/// Says in the log that a server which the Corefile itself names is a stub. It is asked as told.
pub(super) fn warn_of(token: &Token, server: SocketAddr) {
    if is_stub(server) {
        tracing::warn!(
            target: "plugin/forward",
            "{}:{} - {token} is the stub resolver of systemd-resolved, which answers outside of a pod only: \
             {REAL_SERVERS} names the servers that it asks",
            token.file,
            token.line
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::plugins::testing::Logs;

    #[test]
    fn the_servers_behind_the_stub_are_asked() {
        let logs = Logs::start();
        let folder = tempfile::tempdir().unwrap();
        let (conf, real) = (
            folder.path().join("etc.conf"),
            folder.path().join("run.conf"),
        );
        let replace = |servers: &[&str]| -> Vec<String> {
            let servers = servers.iter().map(|s| addresses::address(s).unwrap());
            let found = replaced(&conf, servers.collect(), &real);
            found.iter().map(|server| server.ip().to_string()).collect()
        };
        let log = |what: &str| {
            let (conf, real) = (conf.display(), real.display());
            let known = format!("{conf} names 127.0.0.53, the stub resolver of systemd-resolved");
            match what {
                "used" => format!(
                    "WARN plugin/forward: {known}: the servers of {real} are asked in its place"
                ),
                _ => format!(
                    "WARN plugin/forward: {known}, which answers outside of a pod only, and {real} names no \
                     servers to ask in its place: have the kubelet give pods the real servers \
                     (resolvConf: {real}), or name them in the Corefile"
                ),
            }
        };
        assert_eq!(replace(&["10.0.0.2"]), ["10.0.0.2"]);
        assert_eq!(
            replace(&["127.0.0.53:5353"]),
            ["127.0.0.53"],
            "another program"
        );
        assert_eq!(logs.take(), [""; 0]);
        assert_eq!(replace(&["127.0.0.53"]), ["127.0.0.53"]);
        assert_eq!(logs.take(), [log("not used")]);
        std::fs::write(&real, "nameserver 127.0.0.53\nsearch a\n").unwrap();
        assert_eq!(replace(&["127.0.0.53"]), ["127.0.0.53"]);
        assert_eq!(logs.take(), [log("not used")]);
        std::fs::write(&real, "nameserver 10.0.0.2\nnameserver 10.0.0.3\n").unwrap();
        let both = ["127.0.0.53", "127.0.0.54", "10.9.9.9"];
        assert_eq!(replace(&both), ["10.0.0.2", "10.0.0.3", "10.9.9.9"]);
        assert_eq!(logs.take(), [log("used")]);
    }

    #[test]
    fn a_stub_in_the_corefile_is_asked_and_warned_of() {
        let logs = Logs::start();
        let token = |text: &str| Token {
            text: text.into(),
            file: "Corefile".into(),
            line: 7,
        };
        for (text, warned) in [
            ("127.0.0.54", true),
            ("127.0.0.1", false),
            ("8.8.8.8", false),
        ] {
            let found = addresses::upstreams(&token("forward"), &[token(text)], Path::new(""), &[]);
            assert_eq!(found.unwrap(), [addresses::address(text).unwrap()]);
            let lines = logs.take();
            assert_eq!(lines.len(), usize::from(warned), "{text}: {lines:?}");
            let start = "WARN plugin/forward: Corefile:7 - 127.0.0.54 is the stub resolver";
            assert!(
                lines.iter().all(|line| line.starts_with(start)),
                "{lines:?}"
            );
        }
    }
}
