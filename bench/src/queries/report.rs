//! The results, and their tables in Markdown.

use super::peers::Contender;
use super::sample::{Latency, Sample, median};
use std::fmt::Write;

/// Below this share of the rate that was wanted, the client did not keep up.
const KEPT_UP: f64 = 0.98;

/// What the server reads that answers nothing.
pub const ECHO: &str = "none";

/// What was measured of one kind.
pub struct Section {
    pub name: String,
    pub about: String,
    /// Lines below the table.
    pub notes: Vec<String>,
    /// Ratios are to the first row.
    pub rows: Vec<Row>,
}

/// A server's results.
pub struct Row {
    pub server: String,
    /// What it reads the cluster from.
    pub data: String,
    pub samples: Vec<Sample>,
    pub latency: Vec<At>,
}

/// Latency at a load.
pub struct At {
    /// Which share of the saturation.
    pub share: String,
    /// Queries a second that should have been sent.
    pub wanted: f64,
    pub latency: Latency,
}

impl Row {
    /// A server without results yet.
    pub fn new(contender: &Contender) -> Self {
        Self {
            server: contender.name.clone(),
            data: contender.data.into(),
            samples: Vec::new(),
            latency: Vec::new(),
        }
    }

    /// The round that is shown, unless nothing was answered.
    pub fn shown(&self) -> Option<&Sample> {
        median(&self.samples).filter(|sample| sample.queries > 0)
    }
}

impl At {
    /// Whether the client sent what it should.
    pub fn kept_up(&self) -> bool {
        self.latency.rate >= self.wanted * KEPT_UP
    }
}

// Writing into a string cannot fail.

/// All tables.
pub fn text(head: &[(&str, String)], sections: &[Section]) -> String {
    let mut out = String::new();
    for (name, value) in head {
        let _ = writeln!(out, "{name}: {value}");
    }
    for section in sections {
        let _ = writeln!(out, "\n### {}\n\n{}\n", section.name, section.about);
        throughput(&mut out, section);
        if section.rows.iter().any(|row| !row.latency.is_empty()) {
            latency(&mut out, section);
        }
        for note in section.notes.iter().chain(&unlike(section)) {
            let _ = writeln!(out, "\n{note}");
        }
    }
    out
}

fn throughput(out: &mut String, section: &Section) {
    let first = section.rows.first();
    let first_name = first.map_or("", |row| &row.server);
    let _ = writeln!(
        out,
        "| server | data | queries/s | busy | lost | user µs | system µs | total µs (least – most) | \
         CPU ÷ {first_name} | {first_name}'s rate ÷ its | peak MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|---|"
    );
    let first = first.and_then(Row::shown);
    for row in &section.rows {
        let Some(sample) = row.shown() else {
            let _ = writeln!(out, "| {} | {} | no answers |", row.server, row.data);
            continue;
        };
        let totals = || row.samples.iter().map(Sample::total);
        let _ = writeln!(
            out,
            "| {} | {} | {:.0} | {:.0} % | {} | {:.2} | {:.2} | {:.2} ({:.2} – {:.2}) | {:.2} | {:.2} | {:.1} |",
            row.server,
            row.data,
            sample.rate,
            sample.busy * 100.0,
            sample.lost,
            sample.user,
            sample.system,
            sample.total(),
            totals().fold(f64::INFINITY, f64::min),
            totals().fold(0.0, f64::max),
            first.map_or(1.0, |first| sample.total() / first.total()),
            first.map_or(1.0, |first| first.rate / sample.rate),
            sample.peak_kib as f64 / 1024.0,
        );
    }
}

/// Servers that did not answer as the first one did: what they cost is no comparison.
fn unlike(section: &Section) -> Vec<String> {
    let first = section.rows.first().and_then(Row::shown);
    let rows = section.rows.iter().filter(|row| row.data != ECHO);
    let answers = rows.filter_map(|row| Some((row, row.shown()?.codes)));
    answers
        .filter(|(_, codes)| first.is_some_and(|first| !codes.alike(&first.codes)))
        .map(|(row, codes)| {
            format!(
                "{} answers otherwise: NOERROR {:.0} %, NXDOMAIN {:.0} %, others {:.0} %.",
                row.server, codes.noerror, codes.nxdomain, codes.other
            )
        })
        .collect()
}

fn latency(out: &mut String, section: &Section) {
    out.push_str(
        "\n| server | load | queries/s | lost | p50 µs | p99 µs | p99.9 µs |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut late = false;
    for row in &section.rows {
        for at in &row.latency {
            let Latency {
                rate,
                lost,
                p50,
                p99,
                p999,
            } = at.latency;
            late |= !at.kept_up();
            let mark = if at.kept_up() { "" } else { " *" };
            let _ = writeln!(
                out,
                "| {} | {} | {rate:.0}{mark} | {lost} | {p50:.0} | {p99:.0} | {p999:.0} |",
                row.server, at.share
            );
        }
    }
    if late {
        out.push_str("\n\\* The client could not send as many as the load asks for.\n");
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::sample::Codes;
    use super::*;

    /// Two servers, one with latencies.
    pub fn section() -> Section {
        let sample = |rate, user| Sample {
            queries: 1000,
            lost: 0,
            codes: Codes {
                noerror: if user > 10.0 { 70.0 } else { 100.0 },
                nxdomain: if user > 10.0 { 30.0 } else { 0.0 },
                other: 0.0,
            },
            rate,
            user,
            system: 3.0,
            busy: 1.0,
            peak_kib: 2048,
        };
        let row = |server: &str, samples| Row {
            server: server.into(),
            data: "manifests".into(),
            samples,
            latency: Vec::new(),
        };
        let mut fast = row(
            "portolan",
            vec![sample(200e3, 0.5), sample(210e3, 1.0), sample(1e3, 2.0)],
        );
        fast.latency.push(At {
            share: "60 %".into(),
            wanted: 1000.0,
            latency: Latency {
                rate: 900.0,
                lost: 1,
                p50: 30.0,
                p99: 80.0,
                p999: 99.0,
            },
        });
        Section {
            name: "service-a".into(),
            about: "A <of> a service".into(),
            notes: vec!["A note.".into()],
            rows: vec![
                fast,
                row("other", vec![sample(50e3, 13.0)]),
                row("none", Vec::new()),
            ],
        }
    }

    #[test]
    fn tables() {
        let text = text(&[("cpu", "2".into())], &[section()]);
        let expected = [
            "cpu: 2",
            "| portolan | manifests | 210000 | 100 % | 0 | 1.00 | 3.00 | 4.00 (3.50 – 5.00) | 1.00 | 1.00 | 2.0 |",
            "| other | manifests | 50000 | 100 % | 0 | 13.00 | 3.00 | 16.00 (16.00 – 16.00) | 4.00 | 4.20 | 2.0 |",
            "| none | manifests | no answers |",
            "| portolan | 60 % | 900 * | 1 | 30 | 80 | 99 |",
            "A note.",
            "other answers otherwise: NOERROR 70 %, NXDOMAIN 30 %, others 0 %.",
        ];
        for line in expected {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
