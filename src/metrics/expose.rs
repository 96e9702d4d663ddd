//! The text formats: OpenMetrics by prometheus-client, and the classic format made from it.

use super::Registry;
use super::registry::{Family, Kind, Labels, Value};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::PoisonError;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that an `Accept` header asks for: OpenMetrics where it is named.
    pub fn from_accept(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// The `Content-Type` of the format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics in text.
pub fn exposition(registry: &Registry, format: Format) -> String {
    let mut root = prometheus_client::registry::Registry::default();
    root.register_collector(Box::new(Snapshot(collect(registry))));
    let mut text = String::new();
    // Writing to a String fails only where an encoder does, and none of ours does.
    let _ = prometheus_client::encoding::text::encode(&mut text, &root);
    match format {
        Format::OpenMetrics => text,
        Format::Classic => classic(&text),
    }
}

/// OpenMetrics text to classic text: counters carry `_total` in their comments as well, the help
/// texts lose the full stop that OpenMetrics wants, and there is no `# EOF`.
fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut held = None;
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(help) = line.strip_prefix("# HELP ") {
            held = help.split_once(' ');
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let total = if kind.ends_with(" counter") {
                "_total"
            } else {
                ""
            };
            if let Some((name, help)) = held.take() {
                let help = help.strip_suffix('.').unwrap_or(help);
                out.push_str(&format!("# HELP {name}{total} {help}\n"));
            }
            if let Some((name, kind)) = kind.split_once(' ') {
                out.push_str(&format!("# TYPE {name}{total} {kind}\n"));
            }
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[derive(Debug)]
struct Snapshot(Vec<FamilySamples>);

/// The samples of a family at the time of the scrape.
#[derive(Debug)]
struct FamilySamples {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Labels, Sample)>,
}

#[derive(Debug)]
enum Sample {
    Integer(u64),
    Float(f64),
    Histogram(Vec<(f64, u64)>, f64),
}

fn collect(registry: &Registry) -> Vec<FamilySamples> {
    let families = registry
        .families
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let families = families.iter().map(|(name, family)| FamilySamples {
        name,
        help: family.help,
        kind: family.kind,
        samples: samples(family),
    });
    families
        .filter(|family| !family.samples.is_empty())
        .collect()
}

fn samples(family: &Family) -> Vec<(Labels, Sample)> {
    let mut out = Vec::new();
    for (labels, value) in &family.series {
        match value {
            Value::Counter(counter) => out.push((labels.clone(), Sample::Integer(counter.get()))),
            Value::Gauge(gauge) => out.push((labels.clone(), Sample::Float(gauge.get() as f64))),
            Value::Read(read) => {
                if let Some(value) = read() {
                    out.push((labels.clone(), Sample::Float(value)));
                }
            }
            Value::Row(cells, sets) => {
                for (index, labels) in sets.iter().enumerate() {
                    let sum = cells.sum(index);
                    if sum > 0 {
                        out.push((labels.clone(), Sample::Integer(sum)));
                    }
                }
            }
            // With labels, as Prometheus's own libraries do: shown from the first observation on.
            Value::Histogram(histogram) if histogram.count() == 0 && !labels.is_empty() => {}
            Value::Histogram(histogram) => {
                let bounds = histogram
                    .buckets
                    .iter()
                    .map(|&upper| upper as f64 / histogram.scale);
                let bounds = bounds.chain([f64::INFINITY]).zip(histogram.counts());
                let sample = Sample::Histogram(bounds.collect(), histogram.sum());
                out.push((labels.clone(), sample));
            }
        }
    }
    out
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for FamilySamples {
            name,
            help,
            kind,
            samples,
        } in &self.0
        {
            let base = name.strip_suffix("_total").unwrap_or(name);
            let metric_type = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(base, help, None, metric_type)?;
            // The encoder writes an empty label set as `{}`; a series without labels stands alone.
            if let [(labels, sample)] = samples.as_slice()
                && labels.is_empty()
            {
                Encoded(sample, *kind).encode(family)?;
                continue;
            }
            for (labels, sample) in samples {
                Encoded(sample, *kind).encode(family.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

struct Encoded<'s>(&'s Sample, Kind);

impl EncodeMetric for Encoded<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        use prometheus_client::encoding::NoLabelSet;
        match (self.0, self.1) {
            (Sample::Histogram(buckets, sum), _) => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
            (Sample::Integer(value), Kind::Counter) => {
                encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (Sample::Float(value), Kind::Counter) => {
                encoder.encode_counter::<NoLabelSet, _, u64>(value, None)
            }
            (Sample::Integer(value), _) => encoder.encode_gauge(value),
            (Sample::Float(value), _) => encoder.encode_gauge(value),
        }
    }

    fn metric_type(&self) -> MetricType {
        match self.1 {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Shard, TIME_BUCKETS};

    #[test]
    fn both_formats() {
        let registry = Registry::new(2);
        let counter = registry.counter("a_total", "As", vec![("b", "x\"y".into())]);
        counter.add(Shard::worker(1), 2);
        counter.add(Shard::SHARED, 1);
        counter.add(Shard::NOWHERE, 100);
        registry.gauge("g", "Gs", vec![]).set(-4);
        let histogram = registry.histogram("h_seconds", "Hs", vec![], &TIME_BUCKETS, 1e9);
        histogram.observe(Shard::worker(0), 250_000);
        histogram.observe(Shard::worker(7), 9_000_000_000);
        insta::assert_snapshot!("classic", exposition(&registry, Format::Classic));
        insta::assert_snapshot!("openmetrics", exposition(&registry, Format::OpenMetrics));
    }
}
