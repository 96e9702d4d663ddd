//! Whose address a client has: the pods by their addresses.

use super::super::object::Key;
use super::table::Table;
use super::{Index, SHARDS, octets};
use std::net::IpAddr;
use std::sync::Arc;

/// The pods of every address.
pub(super) struct Clients(Table<Arc<Holder>>);

/// An address, and the pods that have it; the flag says whether a pod is on its node's network.
struct Holder {
    ip: IpAddr,
    pods: Box<[(Key, bool)]>,
}

impl Index {
    /// What `take` makes of the namespace that a client of this address is in.
    ///
    /// `None` where that is not certain: no pod has the address, more than one has it (one of them
    /// is about to go), or it is a node's.
    #[inline]
    pub fn client<R>(&self, ip: IpAddr, take: impl FnOnce(&str) -> R) -> Option<R> {
        let table = &self.clients.0;
        let one = |holder: &Arc<Holder>| match &*holder.pods {
            [(key, false)] => Some(take(&key.namespace)),
            _ => None,
        };
        let hash = table.hash([&octets(ip), b""]);
        table.get(hash, |holder| holder.ip == ip, one).flatten()
    }
}

impl Clients {
    pub(super) fn new() -> Self {
        Self(Table::new(SHARDS))
    }

    /// Notes that a pod whose address was `before` has `after` now.
    pub(super) fn set(
        &self,
        key: &Key,
        before: Option<IpAddr>,
        after: Option<IpAddr>,
        host_network: bool,
    ) {
        if let Some(ip) = before.filter(|_| before != after) {
            self.change(ip, key, None);
        }
        if let Some(ip) = after {
            self.change(ip, key, Some(host_network));
        }
    }

    fn change(&self, ip: IpAddr, key: &Key, host_network: Option<bool>) {
        let hash = self.0.hash([&octets(ip), b""]);
        let is = |holder: &Arc<Holder>| holder.ip == ip;
        let known = self.0.get(hash, is, Arc::clone);
        let known = known.iter().flat_map(|holder| holder.pods.iter());
        let mut pods: Vec<_> = known.filter(|(pod, _)| pod != key).cloned().collect();
        pods.extend(host_network.map(|host_network| (key.clone(), host_network)));
        let pods = pods.into_boxed_slice();
        let new = (!pods.is_empty()).then(|| Arc::new(Holder { ip, pods }));
        self.0.set(hash, is, new);
    }

    /// Whether this pod of this address is on its node's network.
    pub(super) fn is_on_host(&self, key: &Key, ip: IpAddr) -> bool {
        let hash = self.0.hash([&octets(ip), b""]);
        let flag = |holder: &Arc<Holder>| {
            let mut pods = holder.pods.iter();
            pods.any(|(pod, host_network)| pod == key && *host_network)
        };
        self.0.get(hash, |holder| holder.ip == ip, flag) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::super::object::{Kind, Object, Pod, Sink};
    use super::super::Naming;
    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn pod(ip: &str, host_network: bool) -> Object {
        Object::Pod(Pod {
            ip: Some(ip.parse().unwrap()),
            deleted: false,
            host_network,
        })
    }

    #[test]
    fn only_certain_clients_are_known() {
        let index = Index::new(&[Kind::Pod], Naming::default());
        let client = |ip: &str| index.client(ip.parse().unwrap(), str::to_owned);
        index.set(key("red", "a"), pod("10.0.0.1", false));
        index.set(key("red", "b"), pod("fd00::1", false));
        index.set(key("red", "node"), pod("192.0.2.1", true));
        assert_eq!(client("10.0.0.1").as_deref(), Some("red"));
        assert_eq!(client("fd00::1").as_deref(), Some("red"));
        assert_eq!(client("192.0.2.1"), None);
        assert_eq!(client("10.0.0.2"), None);
        // The address is given again while the first pod is on its way out.
        index.set(key("green", "c"), pod("10.0.0.1", false));
        assert_eq!(client("10.0.0.1"), None);
        index.delete(Kind::Pod, &key("red", "a"));
        assert_eq!(client("10.0.0.1").as_deref(), Some("green"));
        // A pod with another address leaves the old one.
        index.set(key("green", "c"), pod("10.0.0.3", false));
        assert_eq!(client("10.0.0.1"), None);
        assert_eq!(client("10.0.0.3").as_deref(), Some("green"));
        // A list without it is the end of a pod.
        index.list_start(Kind::Pod);
        index.set(key("red", "node"), pod("192.0.2.1", true));
        index.list_end(Kind::Pod);
        assert_eq!(client("10.0.0.3"), None);
        let mut exported = Vec::new();
        index.export(Kind::Pod, &mut |key, object| exported.push((key, object)));
        assert_eq!(exported, [(key("red", "node"), pod("192.0.2.1", true))]);
    }
}
