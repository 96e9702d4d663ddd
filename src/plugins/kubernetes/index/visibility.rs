//! What the index takes.

use super::{Endpoint, Entry, Index};
use crate::plugins::kubernetes::object::{self, Kind, Port};
use std::mem::size_of;
use std::net::IpAddr;

/// A row of a table beside its value: the hash.
const ROW: usize = size_of::<u64>();

impl Index {
    /// Octets of memory that objects of `kind` take, an estimate: what they consist of, without
    /// what the allocator adds. It walks over the index; for scrapes.
    pub fn bytes(&self, kind: Kind) -> usize {
        let mut total = 0;
        match kind {
            Kind::Namespace => self.namespaces(|name| {
                total += ROW + size_of::<Box<str>>() + name.len();
            }),
            Kind::Service => self.entries(|entry| total += service(entry)),
            Kind::EndpointSlice => self.entries(|entry| total += slices(entry)),
            // The row, and the name that the writer knows the pod by.
            Kind::Pod => {
                let pods = usize::try_from(self.count(Kind::Pod)).unwrap_or_default();
                let each = ROW + size_of::<(IpAddr, Box<str>)>() + size_of::<object::Key>() + 64;
                total = pods * each;
            }
        }
        total
    }
}

fn service(entry: &Entry) -> usize {
    let key = size_of::<object::Key>() + entry.key.namespace.len() + entry.key.name.len();
    let service = entry.service.as_ref().map_or(0, |service| {
        size_of::<object::Service>()
            + service.cluster_ips.len() * (size_of::<IpAddr>() + ROW)
            + ports(&service.ports)
    });
    ROW + size_of::<Entry>() + key + service
}

fn slices(entry: &Entry) -> usize {
    let slices = entry.slices.iter().map(|(name, slice)| {
        size_of::<object::EndpointSlice>()
            + size_of::<Box<str>>()
            + name.len()
            + slice.endpoints.len() * size_of::<object::Endpoint>()
            + ports(&slice.ports)
    });
    slices.sum::<usize>() + entry.endpoints.len() * (size_of::<Endpoint>() + 16 + ROW)
}

fn ports(ports: &[Port]) -> usize {
    let ports = ports.iter();
    ports
        .map(|port| size_of::<Port>() + port.name.len() + port.protocol.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::kubernetes::index::Naming;
    use crate::plugins::kubernetes::object::{Key, Object, Pod, Sink};

    #[test]
    fn memory_comes_and_goes_with_the_objects() {
        let kinds = [
            Kind::Namespace,
            Kind::Service,
            Kind::EndpointSlice,
            Kind::Pod,
        ];
        let index = Index::new(&kinds, Naming::default());
        let bytes = |index: &Index| kinds.map(|kind| index.bytes(kind));
        let empty = bytes(&index);
        let key = |name: &str| Key {
            namespace: "shop".into(),
            name: name.into(),
        };
        let slice = |count: u8| object::EndpointSlice {
            service: "web".into(),
            endpoints: (0..count)
                .map(|number| object::Endpoint {
                    ip: [10, 0, 0, number].into(),
                    hostname: None,
                    target: None,
                    zone: None,
                })
                .collect(),
            ..object::EndpointSlice::default()
        };
        let namespace = Key {
            namespace: "".into(),
            name: "shop".into(),
        };
        index.set(namespace, Object::Namespace);
        index.set(key("web"), Object::Service(object::Service::default()));
        index.set(key("web-1"), Object::EndpointSlice(slice(10)));
        let pod = Pod {
            ip: Some([10, 0, 0, 1].into()),
            deleted: false,
        };
        index.set(key("web-a"), Object::Pod(pod));
        let some = bytes(&index);
        assert!(
            some.iter().zip(empty).all(|(some, empty)| *some > empty),
            "{some:?}"
        );
        index.set(key("web-1"), Object::EndpointSlice(slice(200)));
        let more = bytes(&index);
        let each = (more[2] - some[2]) / 190;
        assert!((20..500).contains(&each), "{each} octets an endpoint");
        index.delete(Kind::Service, &key("web"));
        index.delete(Kind::EndpointSlice, &key("web-1"));
        index.delete(Kind::Pod, &key("web-a"));
        assert_eq!(bytes(&index)[1..], empty[1..]);
    }
}
