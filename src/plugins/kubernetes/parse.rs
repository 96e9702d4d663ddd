//! What a name asks for: its labels left of the zone, read from the right (spec 4.5).

use crate::dns::Name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What names a zone has besides those of every cluster zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// Endpoints have their cluster in their names: `HOST.CLUSTER.SERVICE…` (`multicluster`).
    pub clusters: bool,
    /// Endpoints can be asked for by topology zone: `TOPOZONE.pin._zone.SERVICE…` (`zonal`).
    pub zonal: bool,
}

/// What a name below a cluster zone is about. Labels are in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'n> {
    /// The zone itself.
    Apex,
    /// `svc.ZONE`, `pod.ZONE`.
    Branch,
    /// `NS.svc.ZONE`.
    Namespace(&'n [u8]),
    /// `NS.pod.ZONE`.
    PodNamespace(&'n [u8]),
    /// Something of a service.
    Service(ServiceName<'n>),
    /// `LABEL.NS.pod.ZONE`, whatever stands left of it.
    Pod {
        /// The namespace.
        namespace: &'n [u8],
        /// The address with dashes.
        label: &'n [u8],
    },
    /// `ns.dns.ZONE`.
    NameServer,
    /// `dns-version.ZONE`.
    Version,
    /// Anything else.
    Unknown,
}

/// A service, one of its endpoints, or one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceName<'n> {
    /// The namespace.
    pub namespace: &'n [u8],
    /// The name.
    pub name: &'n [u8],
    /// What stands left of it.
    pub part: Part<'n>,
}

/// What of a service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'n> {
    /// All of it.
    Whole,
    /// `HOST.SERVICE…`
    Endpoint(&'n [u8]),
    /// `_PORT._PROTOCOL.SERVICE…`, underscores removed. What is empty then matches anything; one
    /// of the two is not.
    Port {
        /// The port's name.
        port: &'n [u8],
        /// The protocol.
        protocol: &'n [u8],
    },
    /// `HOST.CLUSTER.SERVICE…`
    Imported {
        /// The host name.
        host: &'n [u8],
        /// The cluster.
        cluster: &'n [u8],
    },
    /// `TOPOZONE.pin._zone.SERVICE…`, `TOPOZONE.prefer._zone.SERVICE…`
    Zone {
        /// The topology zone: labels in wire form, without an end.
        zone: &'n [u8],
        /// Whether all endpoints are meant where none is in the zone.
        prefer: bool,
    },
    /// What lies on the way to such a name: `_zone.SERVICE…`, `pin._zone.SERVICE…`.
    ZoneBranch,
}

impl<'n> Subject<'n> {
    /// Reads `name`, which is in a zone of `zone_labels` labels that has no names of its own.
    pub fn read(name: &'n Name, zone_labels: usize) -> Self {
        Self::read_as(name, zone_labels, Dialect::default())
    }

    /// Reads `name`, which is in a zone of `zone_labels` labels.
    pub fn read_as(name: &'n Name, zone_labels: usize, dialect: Dialect) -> Self {
        let left = name.label_count().saturating_sub(zone_labels);
        // Label `at` counted from the zone leftwards.
        let label = |at: usize| name.label(left - at);
        match left {
            0 => return Self::Apex,
            1 if label(1) == b"dns-version" => return Self::Version,
            2 if label(1) == b"dns" && label(2) == b"ns" => return Self::NameServer,
            _ => {}
        }
        match (label(1), left) {
            (b"svc" | b"pod", 1) => Self::Branch,
            (b"svc", 2) => Self::Namespace(label(2)),
            (b"pod", 2) => Self::PodNamespace(label(2)),
            (b"svc", 3..) => {
                let part = match left {
                    3 => Part::Whole,
                    _ if dialect.zonal && label(4) == b"_zone" => match Part::zonal(name, left) {
                        Some(part) => part,
                        None => return Self::Unknown,
                    },
                    4 => Part::Endpoint(label(4)),
                    5 => match (label(5), label(4)) {
                        (host, cluster)
                            if dialect.clusters && !is_marked(host) && !is_marked(cluster) =>
                        {
                            Part::Imported { host, cluster }
                        }
                        (port, protocol) => match (bare(port), bare(protocol)) {
                            (b"", b"") => Part::Whole,
                            (port, protocol) => Part::Port { port, protocol },
                        },
                    },
                    _ => return Self::Unknown,
                };
                Self::Service(ServiceName {
                    namespace: label(2),
                    name: label(3),
                    part,
                })
            }
            (b"pod", 3..=5) => Self::Pod {
                namespace: label(2),
                label: label(3),
            },
            _ => Self::Unknown,
        }
    }
}

impl<'n> Part<'n> {
    /// What stands left of `_zone.SERVICE…`; `name` has `left` labels left of its zone.
    fn zonal(name: &'n Name, left: usize) -> Option<Self> {
        let prefer = match (left, name.label(left.saturating_sub(5))) {
            (4, _) => return Some(Self::ZoneBranch),
            (_, b"pin") => false,
            (_, b"prefer") => true,
            _ => return None,
        };
        let zone = name.wire().get(..name.label_offset(left - 5))?;
        Some(match zone {
            [] => Self::ZoneBranch,
            zone => Self::Zone { zone, prefer },
        })
    }
}

/// The parts of a name as metadata has them, whatever they lead to; empty where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'n> {
    /// `svc` or `pod`, if anything is left of it.
    pub kind: &'n [u8],
    /// The namespace.
    pub namespace: &'n [u8],
    /// The service, or a pod's address with dashes.
    pub service: &'n [u8],
    /// The endpoint's host name.
    pub endpoint: &'n [u8],
    /// The endpoint's cluster.
    pub cluster: &'n [u8],
    /// The port's name.
    pub port: &'n [u8],
    /// The protocol.
    pub protocol: &'n [u8],
    /// Labels of the topology zone in wire form, without an end.
    zone: &'n [u8],
}

impl<'n> Words<'n> {
    /// Reads `name`, which is in a zone of `zone_labels` labels; `None` if it is no name of a
    /// cluster.
    pub fn read(name: &'n Name, zone_labels: usize, dialect: Dialect) -> Option<Self> {
        let left = name.label_count().saturating_sub(zone_labels);
        let label = |at: usize| match at <= left {
            true => name.label(left - at),
            false => &[],
        };
        let mut words = Self::default();
        match (left, label(1)) {
            (0, _) | (1, b"svc" | b"pod") => return Some(words),
            (_, kind @ (b"svc" | b"pod")) => words.kind = kind,
            _ => return None,
        }
        (words.namespace, words.service) = (label(2), label(3));
        if dialect.zonal && words.kind == b"svc" && label(4) == b"_zone" {
            if let Part::Zone { zone, .. } = Part::zonal(name, left)? {
                words.zone = zone;
            }
            return Some(words);
        }
        match left {
            0..=3 => {}
            4 => words.endpoint = label(4),
            5 if dialect.clusters && !is_marked(label(5)) && !is_marked(label(4)) => {
                (words.endpoint, words.cluster) = (label(5), label(4));
            }
            5 => (words.port, words.protocol) = (bare(label(5)), bare(label(4))),
            _ => return None,
        }
        Some(words)
    }

    /// The labels of the topology zone.
    pub fn zones(&self) -> impl Iterator<Item = &'n [u8]> {
        let mut rest = self.zone;
        std::iter::from_fn(move || {
            let (&length, behind) = rest.split_first()?;
            let (label, behind) = behind.split_at_checked(usize::from(length))?;
            rest = behind;
            Some(label)
        })
    }
}

/// Whether labels in wire form, without an end, are a text with dots.
pub fn labels_are(mut labels: &[u8], text: &str) -> bool {
    for part in text.as_bytes().split(|&octet| octet == b'.') {
        let Some((&length, rest)) = labels.split_first() else {
            return false;
        };
        let label = rest.split_at_checked(usize::from(length));
        match label.filter(|(label, _)| label.eq_ignore_ascii_case(part)) {
            Some((_, rest)) => labels = rest,
            None => return false,
        }
    }
    labels.is_empty()
}

fn is_marked(label: &[u8]) -> bool {
    label.first() == Some(&b'_')
}

/// A label without one leading underscore.
fn bare(label: &[u8]) -> &[u8] {
    label.strip_prefix(b"_").unwrap_or(label)
}

/// The address that a pod's label stands for: three single dashes make an IPv4 address, anything
/// else must be an IPv6 address with dashes for colons (KD-2).
pub fn pod_address(label: &[u8]) -> Option<IpAddr> {
    let mut text = [0u8; 45];
    let text = text.get_mut(..label.len())?;
    text.copy_from_slice(label);
    let dashes = label.iter().filter(|&&octet| octet == b'-').count();
    let v4 = dashes == 3 && !label.windows(2).any(|pair| pair == b"--");
    for octet in text.iter_mut().filter(|octet| **octet == b'-') {
        *octet = if v4 { b'.' } else { b':' };
    }
    let text = std::str::from_utf8(text).ok()?;
    if v4 {
        text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    }
}

/// The address of a whole reverse name: four octets below `in-addr.arpa.`, or 32 nibbles below
/// `ip6.arpa.` (RFC 1035 §3.5, RFC 3596 §2.5).
pub fn reverse_address(name: &Name) -> Option<IpAddr> {
    let labels = name.label_count();
    if labels == 6 && name.suffix(4) == b"\x07in-addr\x04arpa\0" {
        let mut octets = [0; 4];
        for (at, octet) in octets.iter_mut().rev().enumerate() {
            let label = name.label(at);
            let decimal = label.iter().all(u8::is_ascii_digit);
            if !decimal || label.len() > 1 && label[0] == b'0' {
                return None;
            }
            *octet = std::str::from_utf8(label).ok()?.parse().ok()?;
        }
        return Some(Ipv4Addr::from(octets).into());
    }
    if labels == 34 && name.suffix(32) == b"\x03ip6\x04arpa\0" {
        let mut address = 0u128;
        for at in (0..32).rev() {
            let [digit] = name.label(at) else { return None };
            address = address << 4 | u128::from((*digit as char).to_digit(16)?);
        }
        return Some(Ipv6Addr::from(address).into());
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_dialects() {
        let read = |name: &str, clusters, zonal| {
            let name = Name::from_text(&format!("{name}.web.default.svc.cluster.local")).unwrap();
            match Subject::read_as(&name, 2, Dialect { clusters, zonal }) {
                Subject::Service(service) => format!("{:?}", service.part),
                other => format!("{other:?}"),
            }
        };
        let port = |port: &[u8], protocol: &[u8]| format!("{:?}", Part::Port { port, protocol });
        let imported = format!(
            "{:?}",
            Part::Imported {
                host: b"a",
                cluster: b"b"
            }
        );
        assert_eq!(read("a.b", true, true), imported);
        for name in ["_a._b", "_a.b", "a._b"] {
            assert_eq!(read(name, true, false), port(b"a", b"b"), "{name}");
        }
        assert_eq!(read("a.b", false, true), port(b"a", b"b"));
        let zone = |zone: &[u8], prefer| format!("{:?}", Part::Zone { zone, prefer });
        assert_eq!(read("eu.pin._zone", false, true), zone(b"\x02eu", false));
        assert_eq!(
            read("eu.one.prefer._zone", false, true),
            zone(b"\x02eu\x03one", true)
        );
        for name in ["_zone", "pin._zone", "prefer._zone"] {
            assert_eq!(read(name, false, true), "ZoneBranch", "{name}");
        }
        for name in ["http._zone", "eu.other._zone", "pin.other._zone"] {
            assert_eq!(read(name, false, true), "Unknown", "{name}");
        }
        assert_eq!(read("eu.pin._zone", false, false), "Unknown");
        assert_eq!(read("pin._zone", false, false), port(b"pin", b"zone"));
    }

    #[test]
    fn labels_and_texts() {
        for (labels, text, same) in [
            (&b"\x02eu"[..], "eu", true),
            (b"\x02eu", "EU", true),
            (b"\x02eu\x031.b", "eu.1.b", false),
            (b"\x02eu\x011", "eu.1", true),
            (b"\x02eu\x011", "eu", false),
            (b"\x02eu", "eu.1", false),
            (b"\x05eu", "eu", false),
            (b"", "", false),
        ] {
            assert_eq!(labels_are(labels, text), same, "{labels:?} {text}");
        }
    }

    #[test]
    fn addresses_of_pods() {
        let ip = |label: &str| pod_address(label.as_bytes()).map(|ip| ip.to_string());
        assert_eq!(ip("10-244-2-5").as_deref(), Some("10.244.2.5"));
        assert_eq!(ip("fd00-10--5").as_deref(), Some("fd00:10::5"));
        for label in ["999-1-1-1", "1-2-3", "web", "", &"1-".repeat(40)] {
            assert_eq!(ip(label), None, "{label}");
        }
    }

    #[test]
    fn addresses_of_reverse_names() {
        let ip =
            |name: &str| reverse_address(&Name::from_text(name).unwrap()).map(|ip| ip.to_string());
        assert_eq!(ip("5.2.244.10.in-addr.arpa").as_deref(), Some("10.244.2.5"));
        let nibbles = "5.".to_owned() + &"0.".repeat(23) + "0.1.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(ip(&nibbles).as_deref(), Some("fd00:10::5"));
        for name in [
            "2.244.10.in-addr.arpa",
            "1.5.2.244.10.in-addr.arpa",
            "256.1.1.1.in-addr.arpa",
            "x.1.1.1.in-addr.arpa",
            "+1.1.1.1.in-addr.arpa",
            "01.1.1.1.in-addr.arpa",
        ] {
            assert_eq!(ip(name), None, "{name}");
        }
    }
}
