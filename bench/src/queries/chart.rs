//! The results as bars, in SVG.

use super::report::{Row, Section};
use std::fmt::Write;

/// Widths in pixels: of the names, of the longest bar, of the whole.
const NAMES: u32 = 110;
const BARS: u32 = 520;
const WIDTH: u32 = 760;
/// Heights in pixels: of a bar with its gap, of a heading.
const LINE: u32 = 18;
const HEADING: u32 = 34;
/// Colours: user time, system time, latency.
const USER: &str = "#2563eb";
const SYSTEM: &str = "#93c5fd";
const LATENCY: &str = "#d97706";
/// The load whose p99 is shown: the same rate for all servers.
const COMMON: &str = "60 % of the slowest";

/// A bar: its name, its parts with their colours, and what stands behind it.
struct Bar {
    name: String,
    parts: Vec<(f64, &'static str)>,
    label: String,
}

/// The chart: CPU time of every section, and p99 where it was measured.
pub fn write(sections: &[Section]) -> String {
    let mut groups = Vec::new();
    for section in sections {
        let bars: Vec<Bar> = section.rows.iter().filter_map(cpu).collect();
        groups.push((format!("{}: CPU µs for a query", section.name), bars));
    }
    for section in sections {
        let bars: Vec<Bar> = section.rows.iter().filter_map(p99).collect();
        let title = format!("{}: p99 µs at {COMMON}'s saturation", section.name);
        groups.push((title, bars));
    }
    groups.retain(|(_, bars)| !bars.is_empty());
    draw(&groups)
}

fn cpu(row: &Row) -> Option<Bar> {
    let sample = row.shown()?;
    Some(Bar {
        name: row.server.clone(),
        parts: vec![(sample.user, USER), (sample.system, SYSTEM)],
        label: format!("{:.2} ({:.0} queries/s)", sample.total(), sample.rate),
    })
}

fn p99(row: &Row) -> Option<Bar> {
    let at = row.latency.iter().find(|at| at.share == COMMON)?;
    Some(Bar {
        name: row.server.clone(),
        parts: vec![(at.latency.p99, LATENCY)],
        label: format!("{:.0}", at.latency.p99),
    })
}

// Writing into a string cannot fail.

fn draw(groups: &[(String, Vec<Bar>)]) -> String {
    let lines: usize = groups.iter().map(|(_, bars)| bars.len()).sum();
    let height = HEADING * (groups.len() as u32 + 1) + LINE * lines as u32;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let mut y = 8;
    for (at, (name, colour)) in [("user", USER), ("system", SYSTEM), ("p99", LATENCY)]
        .iter()
        .enumerate()
    {
        let x = NAMES + 80 * at as u32;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            x + 16,
            y + 11
        );
    }
    y = HEADING;
    for (title, bars) in groups {
        let _ = writeln!(
            out,
            "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>",
            y + HEADING - 14,
            escape(title)
        );
        y += HEADING - 6;
        let longest = bars.iter().map(Bar::value).fold(0.0, f64::max);
        for bar in bars {
            bar.draw(&mut out, y, longest);
            y += LINE;
        }
        y += 6;
    }
    out.push_str("</svg>\n");
    out
}

impl Bar {
    fn value(&self) -> f64 {
        self.parts.iter().map(|(value, _)| value).sum()
    }

    fn draw(&self, out: &mut String, y: u32, longest: f64) {
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            NAMES - 6,
            y + 12,
            escape(&self.name)
        );
        let scale = f64::from(BARS - 80) / longest.max(f64::MIN_POSITIVE);
        let mut x = f64::from(NAMES);
        for (value, colour) in &self.parts {
            let width = value * scale;
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                LINE - 3
            );
            x += width;
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\">{}</text>",
            x + 5.0,
            y + 12,
            escape(&self.label)
        );
    }
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::section;
    use super::*;

    #[test]
    fn a_bar_for_every_server_that_answered() {
        let mut section = section();
        section.name = "a & b".into();
        section.rows[0].latency[0].share = COMMON.into();
        let svg = write(&[section]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &amp; b: CPU µs for a query"));
        // The background, three colours explained, two bars of two parts, one of p99.
        assert_eq!(svg.matches("<rect ").count(), 1 + 3 + 4 + 1);
        // The longest bar: 13 of 16 µs user time.
        assert!(svg.contains(&format!("width=\"{:.1}\"", 440.0 * 13.0 / 16.0)));
        assert!(svg.contains("4.00 (210000 queries/s)"));
    }
}
