//! The results for other programs: every round, not only the one in the middle.

use super::report::{At, Row, Section};
use super::sample::Sample;
use serde_json::{Map, Value, json};

/// The file.
pub fn write(head: &[(&str, String)], sections: &[Section]) -> String {
    let machine: Map<_, _> = head
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())))
        .collect();
    let sections: Vec<Value> = sections.iter().map(section).collect();
    let all = json!({ "machine": machine, "sections": sections });
    format!("{all:#}\n")
}

fn section(section: &Section) -> Value {
    json!({
        "name": section.name,
        "about": section.about,
        "notes": section.notes,
        "servers": section.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    json!({
        "name": row.server,
        "data": row.data,
        "median": row.shown().map(sample),
        "rounds": row.samples.iter().map(sample).collect::<Vec<_>>(),
        "latency": row.latency.iter().map(latency).collect::<Vec<_>>(),
    })
}

fn sample(sample: &Sample) -> Value {
    json!({
        "queries": sample.queries,
        "lost": sample.lost,
        "noerror_per_cent": sample.codes.noerror,
        "nxdomain_per_cent": sample.codes.nxdomain,
        "queries_per_second": sample.rate,
        "user_us": sample.user,
        "system_us": sample.system,
        "cpu_seconds_per_second": sample.busy,
        "peak_kib": sample.peak_kib,
    })
}

fn latency(at: &At) -> Value {
    json!({
        "load": at.share,
        "wanted_per_second": at.wanted,
        "sent_per_second": at.latency.rate,
        "lost": at.latency.lost,
        "p50_us": at.latency.p50,
        "p99_us": at.latency.p99,
        "p999_us": at.latency.p999,
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::section;
    use super::*;

    #[test]
    fn every_round_is_there() {
        let text = write(&[("cpu", "2".into())], &[section()]);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["machine"]["cpu"], "2");
        let server = &read["sections"][0]["servers"][0];
        assert_eq!(server["median"]["queries_per_second"], 210e3);
        assert_eq!(server["rounds"].as_array().unwrap().len(), 3);
        assert_eq!(server["latency"][0]["p99_us"], 80.0);
        assert!(read["sections"][0]["servers"][2]["median"].is_null());
    }
}
