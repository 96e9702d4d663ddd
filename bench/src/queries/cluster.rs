//! The cluster that is asked about: the same for every server, as manifests and as zone files.

use std::fmt::Write as _;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Namespaces over which the services are spread.
pub const NAMESPACES: u32 = 10;
/// Pods that are asked for by name.
pub const PODS: u32 = 256;
/// Objects of one manifest file.
const PER_FILE: u32 = 1_000;
/// What both zone files begin with.
const HEAD: &str = "$TTL 30\n@ SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30\n\
                    @ NS ns.dns.cluster.local.\n";

/// Where the data lies.
pub struct Data {
    /// A folder of manifests, for Portolan.
    pub manifests: PathBuf,
    /// The zone `cluster.local`.
    pub zone: PathBuf,
    /// The zone `10.in-addr.arpa`.
    pub reverse: PathBuf,
}

/// Services `s0`, `s1`, … in namespaces `ns0` … `ns9`, with addresses from 10.100.0.0 on.
pub fn service(index: u32) -> (String, String, Ipv4Addr) {
    let first = u32::from(Ipv4Addr::new(10, 100, 0, 0));
    let ip = Ipv4Addr::from(first + index);
    (format!("s{index}"), namespace(index), ip)
}

/// The namespace of a service.
pub fn namespace(index: u32) -> String {
    format!("ns{}", index % NAMESPACES)
}

/// Name without zone and address of a pod.
pub fn pod(index: u32) -> (String, Ipv4Addr) {
    let ip = Ipv4Addr::new(10, 244, (index / 16) as u8, (index % 16) as u8 + 2);
    let [a, b, c, d] = ip.octets();
    (format!("{a}-{b}-{c}-{d}.{}.pod", namespace(index)), ip)
}

/// Writes the data into `folder`.
pub fn write(folder: &Path, services: u32) -> Result<Data, String> {
    let data = Data {
        manifests: folder.join("cluster"),
        zone: folder.join("cluster.local.zone"),
        reverse: folder.join("10.in-addr.arpa.zone"),
    };
    let written = write_manifests(&data.manifests, services)
        .and_then(|()| std::fs::write(&data.zone, zone(services)))
        .and_then(|()| std::fs::write(&data.reverse, reverse(services)));
    written.map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(data)
}

/// The namespace's or the service's object, as JSON (which is YAML).
pub fn object(kind: &str, index: u32) -> String {
    let (name, namespace, ip) = service(index);
    match kind {
        "Namespace" => format!(
            r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{namespace}"}}}}"#
        ),
        _ => format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}","namespace":"{namespace}"}},"spec":{{"clusterIP":"{ip}","ports":[{{"name":"http","port":80,"protocol":"TCP"}}]}}}}"#
        ),
    }
}

fn write_manifests(folder: &Path, services: u32) -> std::io::Result<()> {
    // Files of a larger cluster may lie there from before.
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    let write = |name: String, kind: &str, indices: std::ops::Range<u32>| {
        let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(name))?);
        for index in indices {
            writeln!(file, "---\n{}", object(kind, index))?;
        }
        file.flush()
    };
    write("namespaces.yaml".into(), "Namespace", 0..NAMESPACES)?;
    for file in 0..services.div_ceil(PER_FILE) {
        let indices = file * PER_FILE..services.min((file + 1) * PER_FILE);
        write(format!("services-{file}.yaml"), "Service", indices)?;
    }
    Ok(())
}

// Writing into a string cannot fail.
fn zone(services: u32) -> String {
    let mut zone = format!("$ORIGIN cluster.local.\n{HEAD}ns.dns A 127.0.0.1\n");
    for index in 0..services {
        let (name, namespace, ip) = service(index);
        let _ = writeln!(zone, "{name}.{namespace}.svc A {ip}");
        let _ = writeln!(
            zone,
            "_http._tcp.{name}.{namespace}.svc SRV 0 100 80 {name}.{namespace}.svc"
        );
    }
    for (name, ip) in (0..PODS).map(pod) {
        let _ = writeln!(zone, "{name} A {ip}");
    }
    zone
}

fn reverse(services: u32) -> String {
    let mut zone = format!("$ORIGIN 10.in-addr.arpa.\n{HEAD}");
    for index in 0..services {
        let (name, namespace, ip) = service(index);
        let [_, b, c, d] = ip.octets();
        let _ = writeln!(
            zone,
            "{d}.{c}.{b} PTR {name}.{namespace}.svc.cluster.local."
        );
    }
    zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_addresses_of_their_own() {
        let ip = Ipv4Addr::new(10, 100, 1, 2);
        assert_eq!(service(258), ("s258".into(), "ns8".into(), ip));
        assert_eq!(pod(17).0, "10-244-1-3.ns7.pod");
        let folder = tempfile::tempdir().unwrap();
        let data = write(folder.path(), 1020).unwrap();
        let zone = std::fs::read_to_string(data.zone).unwrap();
        assert!(zone.contains("s19.ns9.svc A 10.100.0.19\n"));
        assert!(zone.contains("10-244-1-3.ns7.pod A 10.244.1.3\n"));
        let reverse = std::fs::read_to_string(data.reverse).unwrap();
        assert!(reverse.contains("\n19.0.100 PTR s19.ns9.svc.cluster.local.\n"));
        let last = std::fs::read_to_string(data.manifests.join("services-1.yaml")).unwrap();
        assert_eq!(last.matches("---").count(), 20);
    }
}
