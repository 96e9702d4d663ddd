//! What is visible from outside of the cluster: services by their external addresses, and when that
//! last changed.

use super::super::object::{Key, Service};
use super::table::Table;
use super::{Index, octets};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Services by their external addresses.
pub(super) struct Externals {
    addresses: Table<Arc<Holder>>,
    serial: AtomicU64,
}

/// An external address, and the services that have it, sorted.
struct Holder {
    ip: IpAddr,
    services: Box<[Arc<Key>]>,
}

impl Externals {
    pub(super) fn new() -> Self {
        Self {
            addresses: Table::new(64),
            serial: AtomicU64::new(now()),
        }
    }

    fn link(&self, ip: IpAddr, key: &Key, on: bool) {
        let hash = self.addresses.hash([&octets(ip), b""]);
        let is = |holder: &Arc<Holder>| holder.ip == ip;
        let known = self.addresses.get(hash, is, Arc::clone);
        let known = known.iter().flat_map(|holder| holder.services.iter());
        let mut services: Vec<_> = known.filter(|known| ***known != *key).cloned().collect();
        if on {
            services.push(Arc::new(key.clone()));
            services.sort();
        }
        let services = services.into_boxed_slice();
        let new = (!services.is_empty()).then(|| Arc::new(Holder { ip, services }));
        self.addresses.set(hash, is, new);
    }
}

impl Index {
    /// When external addresses, or ports of services that have some, last changed, in Unix seconds;
    /// before, when the index was made.
    pub fn external_serial(&self) -> u32 {
        self.externals.serial.load(Relaxed) as u32
    }

    /// Calls `f` for the services that have this external address, in the order of their names.
    #[inline]
    pub fn by_external_address(&self, ip: IpAddr, mut f: impl FnMut(&Key)) {
        let table = &self.externals.addresses;
        let hash = table.hash([&octets(ip), b""]);
        table.get(
            hash,
            |holder| holder.ip == ip,
            |holder| holder.services.iter().for_each(|key| f(key)),
        );
    }

    /// Takes note of a service that is about to become `after`.
    pub(super) fn note_external(&self, key: &Key, after: Option<&Service>) {
        let none = Service::default();
        let after = after.unwrap_or(&none);
        let (namespace, name) = (key.namespace.as_bytes(), key.name.as_bytes());
        let known = self.service(namespace, name, |entry| {
            let before = entry.service.as_deref().unwrap_or(&none);
            (addresses(before), is_changed(before, after))
        });
        let (before, changed) =
            known.unwrap_or_else(|| (BTreeSet::new(), is_changed(&none, after)));
        if !changed {
            return;
        }
        let after = addresses(after);
        for &ip in before.difference(&after) {
            self.externals.link(ip, key, false);
        }
        for &ip in after.difference(&before) {
            self.externals.link(ip, key, true);
        }
        self.externals.serial.store(now(), Relaxed);
    }
}

/// Whether that is seen from outside (KE-6).
fn is_changed(before: &Service, after: &Service) -> bool {
    let any = !before.external_ips.is_empty() || !after.external_ips.is_empty();
    any && (before.external_ips != after.external_ips || before.ports != after.ports)
}

fn addresses(service: &Service) -> BTreeSet<IpAddr> {
    let texts = service.external_ips.iter();
    texts
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .collect()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::super::object::{Kind, Object, Port, Sink};
    use super::super::Naming;
    use super::*;

    fn service(external_ips: &[&str], port: u16) -> Service {
        Service {
            external_ips: external_ips.iter().map(|&text| text.into()).collect(),
            ports: vec![Port {
                port,
                ..Port::default()
            }],
            ..Service::default()
        }
    }

    #[test]
    fn addresses_lead_to_services() {
        let index = Index::new(&[Kind::Service], Naming::default());
        let names = |ip: &str| {
            let mut names = Vec::new();
            index.by_external_address(ip.parse().unwrap(), |key| names.push(key.name.to_string()));
            names
        };
        let key = |name: &str| Key {
            namespace: "red".into(),
            name: name.into(),
        };
        let set = |name: &str, ips: &[&str]| {
            index.set(key(name), Object::Service(service(ips, 80)));
        };
        set("b", &["192.0.2.1", "lb.example.com"]);
        set("a", &["192.0.2.1", "2001:db8::1"]);
        set("none", &[]);
        assert_eq!(names("192.0.2.1"), ["a", "b"]);
        assert_eq!(names("2001:db8::1"), ["a"]);
        set("a", &["192.0.2.2"]);
        assert_eq!(names("192.0.2.1"), ["b"]);
        assert_eq!(names("192.0.2.2"), ["a"]);
        assert_eq!(names("2001:db8::1"), [""; 0]);
        index.delete(Kind::Service, &key("b"));
        assert_eq!(names("192.0.2.1"), [""; 0]);
    }

    #[test]
    fn only_what_is_seen_from_outside_is_a_change() {
        let (inner, outer) = (service(&[], 80), service(&["192.0.2.1"], 80));
        assert!(!is_changed(&inner, &service(&[], 81)));
        assert!(!is_changed(&outer, &outer));
        assert!(is_changed(&inner, &outer));
        assert!(is_changed(&outer, &inner));
        assert!(is_changed(&outer, &service(&["192.0.2.1"], 81)));
        assert!(is_changed(&outer, &service(&["192.0.2.2"], 80)));
    }
}
