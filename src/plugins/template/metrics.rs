//! How often templates matched, and failed.

use super::go::Data;
use crate::dns::{Class, RecordType, Zone};
use crate::metrics::{Cells, Labels, Shard};
use crate::plugin::Process;
use std::sync::Arc;

/// The classes with a name; the others have an empty label, as in CoreDNS.
const CLASSES: [Class; 5] = [Class::IN, Class::CH, Class::HS, Class::NONE, Class::ANY];
/// The highest type that has a name.
const LAST_TYPE: u16 = RecordType::CAA.0;

/// The counters of a server block.
pub(super) struct Metrics {
    process: Arc<Process>,
    server: String,
    /// For each zone, a cell for each class and type.
    matches: Vec<(Zone, Arc<Cells>)>,
    /// The types with a name, in ascending order.
    types: Vec<RecordType>,
}

impl Metrics {
    pub(super) fn new<'z>(
        process: &Arc<Process>,
        server: &str,
        zones: impl Iterator<Item = &'z Zone>,
    ) -> Self {
        let types = (1..=LAST_TYPE).map(RecordType);
        let types: Vec<_> = types.filter(|rtype| rtype.mnemonic().is_some()).collect();
        let mut matches: Vec<(Zone, Arc<Cells>)> = Vec::new();
        for zone in zones {
            if matches.iter().any(|(known, _)| known == zone) {
                continue;
            }
            let cells = process.metrics.row(
                "coredns_template_matches_total",
                "Counter of template regex matches.",
                vec![
                    ("server", server.to_owned()),
                    ("zone", zone.text().to_owned()),
                ],
                || label_sets(server, zone.text(), &types),
            );
            matches.push((zone.clone(), cells));
        }
        Self {
            process: Arc::clone(process),
            server: server.to_owned(),
            matches,
            types,
        }
    }

    /// Counts a match.
    pub(super) fn matched(&self, shard: Shard, zone: &Zone, class: Class, rtype: RecordType) {
        let Some((_, cells)) = self.matches.iter().find(|(known, _)| known == zone) else {
            return;
        };
        let class = CLASSES.iter().position(|known| *known == class);
        let class = class.unwrap_or(CLASSES.len());
        let rtype = self.types.binary_search(&rtype).unwrap_or(self.types.len());
        cells.add(shard, class * (self.types.len() + 1) + rtype, 1);
    }

    /// Counts a template that could not be rendered.
    pub(super) fn template_failed(&self, data: &Data<'_>, section: &str, template: &str) {
        self.failed(
            "coredns_template_template_failures_total",
            "Counter of go template failures.",
            data,
            (section, template),
        );
    }

    /// Counts a template that gave no record.
    pub(super) fn record_failed(&self, data: &Data<'_>, section: &str, template: &str) {
        self.failed(
            "coredns_template_rr_failures_total",
            "Counter of mis-templated RRs.",
            data,
            (section, template),
        );
    }

    fn failed(
        &self,
        name: &'static str,
        help: &'static str,
        data: &Data<'_>,
        (section, template): (&str, &str),
    ) {
        // Numbers of unknown types must not make a series each.
        let known = |text: &str| {
            let numbered = text.starts_with("TYPE") || text.starts_with("CLASS");
            if numbered { "" } else { text }.to_owned()
        };
        let mut labels = labels(
            &self.server,
            data.zone,
            &known(&data.class),
            &known(&data.rtype),
        );
        labels.push(("section", section.to_owned()));
        labels.push(("template", template.to_owned()));
        labels.sort();
        self.process.metrics.counter(name, help, labels).inc();
    }
}

fn labels(server: &str, zone: &str, class: &str, rtype: &str) -> Labels {
    vec![
        ("class", class.to_owned()),
        ("server", server.to_owned()),
        ("type", rtype.to_owned()),
        ("view", String::new()),
        ("zone", zone.to_owned()),
    ]
}

fn label_sets(server: &str, zone: &str, types: &[RecordType]) -> Vec<Labels> {
    let classes = CLASSES.iter().map(|class| class.mnemonic().unwrap_or(""));
    let mut out = Vec::new();
    for class in classes.chain([""]) {
        let names = types.iter().map(|rtype| rtype.mnemonic().unwrap_or(""));
        out.extend(
            names
                .chain([""])
                .map(|rtype| labels(server, zone, class, rtype)),
        );
    }
    out
}
