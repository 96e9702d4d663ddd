//! What a name asks for: its labels left of the zone, read from the right.

use crate::dns::Name;
use crate::plugins::kubernetes::parse::{Part, ServiceName};

/// What a name in a zone is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject<'n> {
    /// The zone itself.
    Zone,
    /// `APEX.ZONE`, and what lies on the way there.
    Apex,
    /// `ns1.APEX.ZONE`.
    NameServer,
    /// `NS.ZONE`.
    Namespace(&'n [u8]),
    /// Something of a service.
    Service(ServiceName<'n>),
    /// Anything else.
    Unknown,
    /// A name with more labels than any of a service: that of an address, if any.
    Long,
}

impl<'n> Subject<'n> {
    /// Reads `name`, which has `left` labels left of the zone.
    pub(super) fn read(name: &'n Name, left: usize, apex: &Name) -> Self {
        if left == 0 {
            return Self::Zone;
        }
        if let Some(below) = left.checked_sub(apex.label_count()) {
            let labels = name.labels().take(left).skip(below);
            if labels.eq(apex.labels()) {
                return match below {
                    0 => Self::Apex,
                    1 if name.label(0) == b"ns1" => Self::NameServer,
                    _ => Self::Unknown,
                };
            }
        }
        // On the way to an apex of several labels (RFC 8020).
        if let Some(above) = apex.label_count().checked_sub(left)
            && name.labels().take(left).eq(apex.labels().skip(above))
        {
            return Self::Apex;
        }
        let bare = |at: usize| {
            let label = name.label(at);
            label.strip_prefix(b"_").unwrap_or(label)
        };
        let part = match left {
            1 => return Self::Namespace(name.label(0)),
            2 => Part::Whole,
            3 => Part::Endpoint(bare(0)),
            4 if bare(0).is_empty() && bare(1).is_empty() => Part::Whole,
            4 => Part::Port {
                port: bare(0),
                protocol: bare(1),
            },
            _ => return Self::Long,
        };
        Self::Service(ServiceName {
            namespace: name.label(left - 1),
            name: name.label(left - 2),
            part,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_below_the_zone() {
        let read = |text: &str, apex: &str| {
            let name = Name::from_text(text).unwrap();
            let apex = Name::from_text(apex).unwrap();
            format!("{:?}", Subject::read(&name, name.label_count() - 2, &apex))
        };
        for (name, apex, subject) in [
            ("example.org", "dns", "Zone"),
            ("dns.example.org", "dns", "Apex"),
            ("ns1.dns.example.org", "dns", "NameServer"),
            ("ns2.dns.example.org", "dns", "Unknown"),
            ("a.ns1.dns.example.org", "dns", "Unknown"),
            ("b.c.example.org", "b.c", "Apex"),
            ("ns1.b.c.example.org", "b.c", "NameServer"),
            ("a.b.c.d.e.example.org", "dns", "Long"),
        ] {
            assert_eq!(read(name, apex), subject, "{name}");
        }
        assert_eq!(read("c.example.org", "b.c"), "Apex");
        assert!(read("b.example.org", "b.c").starts_with("Namespace("));
        assert!(read("web.red.example.org", "dns").contains("part: Whole"));
        assert!(read("_x.web.red.example.org", "dns").contains("part: Endpoint([120])"));
        assert!(read("_._.web.red.example.org", "dns").contains("part: Whole"));
        assert!(read("_x._y.web.red.example.org", "dns").contains("part: Port"));
    }
}
