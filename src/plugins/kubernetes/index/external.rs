//! What is visible from outside of the cluster: services by their external addresses, and when that
//! last changed.

use super::super::object::Key;
use super::table::Table;
use super::{Index, Service, octets};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Services by their external addresses.
pub(super) struct Externals {
    /// Address → the services that have it, sorted; another address may have the same hash.
    addresses: Table<(IpAddr, Arc<Key>)>,
    serial: AtomicU64,
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
        self.addresses.edit(hash, |rows| {
            rows.retain(|(of, known)| *of != ip || **known != *key);
            if on {
                let at = rows.partition_point(|(_, known)| **known < *key);
                rows.insert(at, (ip, Arc::new(key.clone())));
            }
        });
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
        let found: Option<()> = table.find(hash, |(of, key)| {
            if *of == ip {
                f(key);
            }
            None
        });
        debug_assert!(found.is_none());
    }

    /// Takes note of a service that is about to change.
    pub(super) fn note_external(
        &self,
        key: &Key,
        before: Option<&Service>,
        after: Option<&Service>,
    ) {
        if !is_changed(before, after) {
            return;
        }
        let (before, after) = (addresses(before), addresses(after));
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
fn is_changed(before: Option<&Service>, after: Option<&Service>) -> bool {
    let seen = |service: Option<&Service>| {
        let seen = service.filter(|service| !service.external_ips.is_empty());
        seen.map(|service| (service.external_ips.clone(), Arc::clone(&service.ports)))
    };
    seen(before) != seen(after)
}

fn addresses(service: Option<&Service>) -> BTreeSet<IpAddr> {
    let texts = service
        .into_iter()
        .flat_map(|service| &service.external_ips);
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

    use super::super::super::object::{self, Kind, Object, Port, Sink};
    use super::super::Naming;
    use super::super::build::Common;
    use super::*;

    fn service(external_ips: &[&str], port: u16) -> object::Service {
        object::Service {
            external_ips: external_ips.iter().map(|&text| text.into()).collect(),
            ports: vec![Port {
                port,
                ..Port::default()
            }],
            ..object::Service::default()
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
        let service =
            |ips: &[&str], port| Service::pack(service(ips, port), &mut Common::default());
        let (inner, outer) = (service(&[], 80), service(&["192.0.2.1"], 80));
        let is_changed = |before: &Service, after: &Service| is_changed(Some(before), Some(after));
        assert!(!is_changed(&inner, &service(&[], 81)));
        assert!(!is_changed(&outer, &outer));
        assert!(is_changed(&inner, &outer));
        assert!(is_changed(&outer, &inner));
        assert!(is_changed(&outer, &service(&["192.0.2.1"], 81)));
        assert!(is_changed(&outer, &service(&["192.0.2.2"], 80)));
    }
}
