//! The cluster that is asked about: the same for every server, as manifests and as a zone file.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Where the data lies.
pub struct Data {
    /// A folder of manifests, for Portolan.
    pub manifests: PathBuf,
}

/// Services `s0`, `s1`, … spread over ten namespaces `ns0` … `ns9`.
pub fn service(index: u32) -> (String, String, [u8; 4]) {
    let [_, high, middle, low] = index.to_be_bytes();
    let ip = [10, 96u8.wrapping_add(high), middle, low];
    (format!("s{index}"), format!("ns{}", index % 10), ip)
}

/// Writes the data into `folder`.
pub fn write(folder: &Path, services: u32) -> Result<Data, String> {
    let mut yaml = String::new();
    let mut zone = String::from(
        "$ORIGIN cluster.local.\n$TTL 30\n@ SOA ns.dns hostmaster 1 7200 1800 86400 30\n@ NS ns.dns\n",
    );
    for index in 0..services {
        let (name, namespace, [a, b, c, d]) = service(index);
        // Writing into a string cannot fail.
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{clusterIP: {a}.{b}.{c}.{d}, ports: [{{name: http, port: 80, protocol: TCP}}]}}\n"
        );
        let _ = writeln!(zone, "{name}.{namespace}.svc A {a}.{b}.{c}.{d}");
        let _ = writeln!(
            zone,
            "_http._tcp.{name}.{namespace}.svc SRV 0 100 80 {name}.{namespace}.svc"
        );
    }
    let data = Data {
        manifests: folder.join("cluster"),
    };
    let write =
        |path: &Path, text: &str| std::fs::write(path, text).map_err(|error| error.to_string());
    std::fs::create_dir_all(&data.manifests).map_err(|error| error.to_string())?;
    write(&data.manifests.join("services.yaml"), &yaml)?;
    write(&folder.join("cluster.local.zone"), &zone)?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_addresses_of_their_own() {
        assert_eq!(service(258), ("s258".into(), "ns8".into(), [10, 96, 1, 2]));
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 20).unwrap();
        let zone = std::fs::read_to_string(folder.path().join("cluster.local.zone")).unwrap();
        assert!(zone.contains("s19.ns9.svc A 10.96.0.19\n"));
    }
}
