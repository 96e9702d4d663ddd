//! An object as octets.
//!
//! Numbers are LEB128, texts and lists begin with their length; what may be missing is its length
//! plus one, or 0. A field that is added goes behind the others, with a new [`super::format::VERSION`].

use super::super::object::{Endpoint, EndpointSlice, Key, Kind, Object, Pod, Port, Service};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kinds in the order in which they are written, each with its mark.
pub(super) const KINDS: [(Kind, u8); 4] = [
    (Kind::Namespace, 1),
    (Kind::Service, 2),
    (Kind::EndpointSlice, 3),
    (Kind::Pod, 4),
];

/// Appends an object.
pub(super) fn encode(key: &Key, object: &Object, out: &mut Vec<u8>) {
    text(&key.namespace, out);
    text(&key.name, out);
    match object {
        Object::Namespace => {}
        Object::Service(service) => {
            out.push(service.headless.into());
            list(&service.cluster_ips, out, |&ip, out| address(ip, out));
            optional(service.external_name.as_deref(), out);
            list(&service.external_ips, out, |ip, out| text(ip, out));
            list(&service.ports, out, port);
        }
        Object::EndpointSlice(slice) => {
            text(&slice.service, out);
            list(&slice.endpoints, out, |endpoint, out| {
                address(endpoint.ip, out);
                optional(endpoint.hostname.as_deref(), out);
                optional(endpoint.target.as_deref(), out);
                optional(endpoint.zone.as_deref(), out);
            });
            list(&slice.ports, out, port);
            optional(slice.cluster.as_deref(), out);
            number(slice.triggered.map_or(0, |at| at.saturating_add(1)), out);
        }
        Object::Pod(pod) => {
            out.push(pod.deleted.into());
            out.push(pod.host_network.into());
            list(pod.ip.as_slice(), out, |&ip, out| address(ip, out));
        }
    }
}

/// The object of this kind that fills `record` exactly.
pub(super) fn decode(kind: Kind, record: &[u8]) -> Option<(Key, Object)> {
    let mut rest = Rest(record);
    let key = Key {
        namespace: rest.text()?.into(),
        name: rest.text()?.into(),
    };
    let object = match kind {
        Kind::Namespace => Object::Namespace,
        Kind::Service => Object::Service(Service {
            headless: rest.flag()?,
            cluster_ips: rest.list(Rest::address)?,
            external_name: rest.optional()?,
            external_ips: rest.list(Rest::text)?,
            ports: rest.list(Rest::port)?,
        }),
        Kind::EndpointSlice => Object::EndpointSlice(EndpointSlice {
            service: rest.text()?.into(),
            endpoints: rest.list(|rest| {
                Some(Endpoint {
                    ip: rest.address()?,
                    hostname: rest.optional()?,
                    target: rest.optional()?,
                    zone: rest.optional()?,
                })
            })?,
            ports: rest.list(Rest::port)?,
            cluster: rest.optional()?,
            triggered: rest.number()?.checked_sub(1),
        }),
        Kind::Pod => {
            let deleted = rest.flag()?;
            let host_network = rest.flag()?;
            let ips = rest.list(Rest::address)?;
            let ip = match ips.as_slice() {
                [] => None,
                [ip] => Some(*ip),
                _ => return None,
            };
            Object::Pod(Pod {
                ip,
                deleted,
                host_network,
                ..Pod::default()
            })
        }
    };
    rest.0.is_empty().then_some((key, object))
}

/// Appends a number.
pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(text: &str, out: &mut Vec<u8>) {
    number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn optional(value: Option<&str>, out: &mut Vec<u8>) {
    match value {
        None => out.push(0),
        Some(value) => {
            number(value.len() as u64 + 1, out);
            out.extend_from_slice(value.as_bytes());
        }
    }
}

fn address(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
}

fn port(port: &Port, out: &mut Vec<u8>) {
    text(&port.name, out);
    text(&port.protocol, out);
    number(port.port.into(), out);
}

fn list<T>(items: &[T], out: &mut Vec<u8>, each: impl Fn(&T, &mut Vec<u8>)) {
    number(items.len() as u64, out);
    for item in items {
        each(item, out);
    }
}

/// What is left of a record.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N as u64)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [octet] = self.array()?;
            let bits = u64::from(octet & 0x7f);
            // The tenth octet has room for one bit.
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if octet < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn string(&mut self, len: u64) -> Option<Box<str>> {
        std::str::from_utf8(self.take(len)?).ok().map(Box::from)
    }

    fn text(&mut self) -> Option<Box<str>> {
        let len = self.number()?;
        self.string(len)
    }

    fn optional(&mut self) -> Option<Option<Box<str>>> {
        match self.number()?.checked_sub(1) {
            None => Some(None),
            Some(len) => self.string(len).map(Some),
        }
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.array()? {
            [4] => Some(Ipv4Addr::from(self.array::<4>()?).into()),
            [6] => Some(Ipv6Addr::from(self.array::<16>()?).into()),
            _ => None,
        }
    }

    fn port(&mut self) -> Option<Port> {
        Some(Port {
            name: self.text()?,
            protocol: self.text()?,
            port: self.number()?.try_into().ok()?,
        })
    }

    fn list<T>(&mut self, each: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        // Each item is an octet at least: no list is longer than what is left.
        if count > self.0.len() as u64 {
            return None;
        }
        (0..count).map(|_| each(self)).collect()
    }
}
