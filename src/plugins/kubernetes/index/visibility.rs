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
