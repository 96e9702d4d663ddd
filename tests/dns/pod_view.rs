//! The cluster as a pod sees it: a network namespace of its own, the resolv.conf that the kubelet
//! writes, and the clients that people use.

use crate::support::process::{Portolan, have, output, run};
use std::fs;
use std::path::Path;

const COREFILE: &str = "
.:53 {
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests cluster.yaml
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    prometheus :9153
    template ANY ANY . {
        rcode NXDOMAIN
    }
    cache 30
    loadbalance
}
";

/// A pod in namespace `apps`; `interginx` is in another one.
const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: apps}
---
apiVersion: v1
kind: Service
metadata: {name: webserver, namespace: apps}
spec: {clusterIP: 10.96.1.1, clusterIPs: [10.96.1.1], ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: webserver, namespace: remote}
spec: {clusterIP: 10.96.1.2, clusterIPs: [10.96.1.2], ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: interginx, namespace: default}
spec: {clusterIP: 10.96.1.3, clusterIPs: [10.96.1.3], ports: [{name: http, port: 80, protocol: TCP}]}
";

const RESOLV_CONF: &str = "\
search apps.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5
";

/// Two namespaces joined by a pair of interfaces; removed at the end.
struct Namespaces {
    dns: String,
    pod: String,
}

impl Namespaces {
    /// `None`, with the reason printed, where the machine does not let us.
    fn make() -> Option<Self> {
        let id = std::process::id();
        let made = Self {
            dns: format!("ptl-dns-{id}"),
            pod: format!("ptl-pod-{id}"),
        };
        let (dns, pod) = (made.dns.as_str(), made.pod.as_str());
        let steps: &[&[&str]] = &[
            &["ip", "netns", "add", dns],
            &["ip", "netns", "add", pod],
            &[
                "ip", "-n", dns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
                "netns", pod,
            ],
            &[
                "ip",
                "-n",
                dns,
                "addr",
                "add",
                "10.96.0.10/8",
                "dev",
                "eth0",
            ],
            &[
                "ip",
                "-n",
                pod,
                "addr",
                "add",
                "10.244.2.5/8",
                "dev",
                "eth0",
            ],
            &["ip", "-n", dns, "link", "set", "lo", "up"],
            &["ip", "-n", dns, "link", "set", "eth0", "up"],
            &["ip", "-n", pod, "link", "set", "lo", "up"],
            &["ip", "-n", pod, "link", "set", "eth0", "up"],
        ];
        for step in steps {
            let done = run(step);
            if !done.status.success() {
                let why = String::from_utf8_lossy(&done.stderr).into_owned();
                println!(
                    "skipped: no network namespaces here: {}: {why}",
                    step.join(" ")
                );
                return None;
            }
        }
        // What `ip netns exec` shows as /etc/resolv.conf.
        let etc = Path::new("/etc/netns").join(&made.pod);
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("resolv.conf"), RESOLV_CONF).unwrap();
        Some(made)
    }

    fn in_pod(&self, command: &[&str]) -> String {
        output(&[&["ip", "netns", "exec", &self.pod], command].concat())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        run(&["ip", "netns", "del", &self.pod]);
        run(&["ip", "netns", "del", &self.dns]);
        let _ = fs::remove_dir_all(Path::new("/etc/netns").join(&self.pod));
    }
}

#[test]
fn names_from_inside_a_pod() {
    if !have(&["ip", "dig", "busybox"]) {
        return;
    }
    let Some(namespaces) = Namespaces::make() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Corefile"), COREFILE).unwrap();
    fs::write(folder.path().join("cluster.yaml"), CLUSTER).unwrap();
    let exec = ["ip", "netns", "exec", &namespaces.dns];
    let mut server = Portolan::start(&exec, &folder.path().join("Corefile"), &[]);
    server.wait_for("Portolan-");

    let dig =
        |name: &str| namespaces.in_pod(&["dig", "+search", "+noall", "+answer", "+comments", name]);
    let nslookup = |name: &str| namespaces.in_pod(&["busybox", "nslookup", name]);
    for (name, owner, address) in [
        (
            "webserver",
            "webserver.apps.svc.cluster.local.",
            "10.96.1.1",
        ),
        (
            "webserver.remote",
            "webserver.remote.svc.cluster.local.",
            "10.96.1.2",
        ),
        (
            "interginx.default.svc.cluster.local",
            "interginx.default.svc.cluster.local.",
            "10.96.1.3",
        ),
    ] {
        let text = dig(name);
        let found = text
            .lines()
            .any(|line| line.starts_with(owner) && line.ends_with(address));
        assert!(found, "dig {name}: {text}\n{:#?}", server.printed());
        let full = owner.trim_end_matches('.');
        let text = nslookup(full);
        assert!(
            text.contains("10.96.0.10") && text.contains(address),
            "nslookup {full}: {text}"
        );
    }
    let text = dig("interginx");
    assert!(
        text.contains("NXDOMAIN") && !text.contains("10.96.1.3"),
        "{text}"
    );
    // busybox, where its nslookup knows the search list.
    let text = nslookup("webserver");
    if text.contains("10.96.1.1") {
        assert!(nslookup("webserver.remote").contains("10.96.1.2"));
    } else {
        println!("busybox nslookup here does not use the search list");
    }
    assert!(!nslookup("interginx").contains("10.96.1.3"));
    let text = namespaces.in_pod(&["dig", "+short", "10-244-2-5.apps.pod.cluster.local"]);
    assert_eq!(text.trim(), "10.244.2.5");
    let text = namespaces.in_pod(&["dig", "+short", "+tcp", "-x", "10.96.1.3"]);
    assert_eq!(text.trim(), "interginx.default.svc.cluster.local.");
}
