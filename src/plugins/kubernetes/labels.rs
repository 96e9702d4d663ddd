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
    #![allow(clippy::unwrap_used)]
    use super::super::parse::Dialect;
    use super::*;
    use crate::dns::{Name, RecordType};
    use crate::plugin::Transport;
    use crate::plugins::testing::{Logs, Rig, answers, ask};
    use std::time::{Duration, Instant};

    const FORMAT: &str = "{/kubernetes/kind} {/kubernetes/namespace} {/kubernetes/service} \
         {/kubernetes/endpoint} {/kubernetes/port-name} {/kubernetes/protocol} \
         {/kubernetes/cluster} {/kubernetes/zone} {/kubernetes/parse-error} \
         {/kubernetes/client-namespace} {/kubernetes/client-pod-name} \
         {/kubernetes/client-label/app} {/kubernetes/other} {/forward/upstream}";

    /// What `log` says of queries (name, client) with these directives before `kubernetes`.
    fn logged(before: &str, options: &str, queries: &[(&str, &str)]) -> Vec<String> {
        let manifests = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/dns/kubernetes/cluster.yaml"
        );
        let mut rig = Rig::new();
        rig.setup(&format!(
            "{before}
            log . \"{FORMAT}\"
            kubernetes cluster.local clusterset.local in-addr.arpa {{
                manifests {manifests}
                multicluster clusterset.local
                zonal
                {options}
            }}"
        ))
        .unwrap();
        let chain = rig.chain(answers());
        let ready = || {
            chain
                .plugins()
                .iter()
                .all(|plugin| plugin.ready() != Some(false))
        };
        let end = Instant::now() + Duration::from_secs(20);
        while !ready() {
            assert!(Instant::now() < end, "never listed");
            std::thread::sleep(Duration::from_millis(5));
        }
        let logs = Logs::start();
        for (name, client) in queries {
            ask(name, RecordType::A)
                .from(client, Transport::Udp)
                .of(&chain);
        }
        let lines = logs.take();
        lines
            .iter()
            .map(|line| line.replace("INFO query: ", ""))
            .collect()
    }

    const WEB_A: &str = "10.244.1.5:999";
    const NOBODY: &str = "192.0.2.99:999";

    /// spec 4.12.
    #[test]
    fn log_shows_the_labels_of_a_query() {
        let queries = [
            ("Web.Default.svc.cluster.local", NOBODY),
            ("_http._tcp.web.default.svc.cluster.local", NOBODY),
            ("db-0.east.db.default.svc.clusterset.local", NOBODY),
            ("eu-1.b.pin._zone.spread.other.svc.cluster.local", NOBODY),
            ("10-244-1-5.default.pod.cluster.local", WEB_A),
            ("cluster.local", NOBODY),
            ("www.cluster.local", NOBODY),
            ("1.1.244.10.in-addr.arpa", NOBODY),
            ("www.example.com", WEB_A),
        ];
        assert_eq!(
            logged("metadata", "pods verified", &queries),
            [
                "svc default web    -  - - - - - -",
                "svc default web  http tcp -  - - - - - -",
                "svc default db db-0   east - - - - - - -",
                "svc other spread    - eu-1.b - - - - - -",
                "pod default 10-244-1-5    -  - default web-a shop - -",
                "      -  - - - - - -",
                "- - - - - - - - invalid query name - - - - -",
                "- - - - - - - - invalid query name - - - - -",
                "- - - - - - - - - default web-a shop - -",
            ]
        );
    }

    #[test]
    fn there_are_no_labels_without_metadata_and_none_of_clients_without_verified_pods() {
        let queries = [("web.default.svc.cluster.local", WEB_A)];
        let none = ["- - - - - - - - - - - - - -"];
        assert_eq!(logged("debug", "pods verified", &queries), none);
        assert_eq!(
            logged("metadata example.com", "pods verified", &queries),
            none
        );
        let unknown = ["svc default web    -  - - - - - -"];
        assert_eq!(logged("metadata", "pods insecure", &queries), unknown);
    }

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
