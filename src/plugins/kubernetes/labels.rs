//! The labels of queries for `metadata` (spec 4.12).

use super::Kubernetes;
use super::parse::Words;
use crate::dns::Zone;
use crate::dns::name::write_label;
use crate::plugin::Context;
use std::fmt::Write;

impl Kubernetes {
    /// Writes the value of `kubernetes/LABEL`, and says whether the query has that label.
    pub(super) fn write_metadata(
        &self,
        cx: &Context<'_>,
        label: &str,
        out: &mut dyn Write,
    ) -> bool {
        if label.starts_with("client-") {
            let clients = self.cluster.clients.as_ref();
            let ip = cx.client.addr.ip();
            return clients.is_some_and(|clients| clients.write(ip, label, out));
        }
        let name = cx.query.name();
        let Some(zone) = Zone::longest(&self.answers.zones, name) else {
            return false;
        };
        let dialect = self.answers.dialect(zone);
        let words = Words::read(name, zone.label_count(), dialect);
        let written = match (label, words) {
            ("parse-error", None) => out.write_str("invalid query name"),
            (_, None) => return false,
            ("kind", Some(words)) => write_label(words.kind, out),
            ("namespace", Some(words)) => write_label(words.namespace, out),
            ("service", Some(words)) => write_label(words.service, out),
            ("endpoint", Some(words)) => write_label(words.endpoint, out),
            ("port-name", Some(words)) => write_label(words.port, out),
            ("protocol", Some(words)) => write_label(words.protocol, out),
            ("cluster", Some(words)) if dialect.clusters => write_label(words.cluster, out),
            ("zone", Some(words)) if dialect.zonal => {
                words.zones().enumerate().try_for_each(|(at, label)| {
                    if at > 0 {
                        out.write_char('.')?;
                    }
                    write_label(label, out)
                })
            }
            _ => return false,
        };
        written.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::Dialect;
    use super::*;
    use crate::dns::Name;

    #[test]
    fn words_of_names() {
        let words = |name: &str, dialect| {
            let name = Name::from_text(&format!("{name}cluster.local")).ok()?;
            let words = Words::read(&name, 2, dialect)?;
            let zone: Vec<_> = words.zones().collect();
            let fields = [
                words.kind,
                words.namespace,
                words.service,
                words.endpoint,
                words.cluster,
                words.port,
                words.protocol,
                &zone.join(&b'.'),
            ];
            Some(
                fields
                    .map(|field| String::from_utf8_lossy(field).into_owned())
                    .join(","),
            )
        };
        let plain = Dialect::default();
        let imported = Dialect {
            clusters: true,
            ..plain
        };
        let zonal = Dialect {
            zonal: true,
            ..plain
        };
        for (name, dialect, fields) in [
            ("", plain, Some(",,,,,,,")),
            ("svc.", plain, Some(",,,,,,,")),
            ("ns.svc.", plain, Some("svc,ns,,,,,,")),
            ("web.ns.svc.", plain, Some("svc,ns,web,,,,,")),
            ("h.web.ns.svc.", plain, Some("svc,ns,web,h,,,,")),
            ("_a._b.web.ns.svc.", plain, Some("svc,ns,web,,,a,b,")),
            ("_a._b.web.ns.svc.", imported, Some("svc,ns,web,,,a,b,")),
            ("a.b.web.ns.svc.", imported, Some("svc,ns,web,a,b,,,")),
            ("10-0-0-1.ns.pod.", plain, Some("pod,ns,10-0-0-1,,,,,")),
            (
                "a.b.10-0-0-1.ns.pod.",
                plain,
                Some("pod,ns,10-0-0-1,,,a,b,"),
            ),
            (
                "x.y.pin._zone.web.ns.svc.",
                zonal,
                Some("svc,ns,web,,,,,x.y"),
            ),
            ("pin._zone.web.ns.svc.", zonal, Some("svc,ns,web,,,,,")),
            ("x.pin._zone.web.ns.svc.", plain, None),
            ("x.pin._zone.web.ns.pod.", zonal, None),
            ("a.b.c.web.ns.svc.", plain, None),
            ("ns.dns.", plain, None),
            ("www.", plain, None),
        ] {
            assert_eq!(
                words(name, dialect).as_deref(),
                fields,
                "{name} {dialect:?}"
            );
        }
    }
}
