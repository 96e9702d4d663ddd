//! `/metrics` of the real binary with the stock Corefile, read by an independent parser in both of
//! its formats: the names, types and labels that dashboards rely on, and what they count.

use super::stock::Stock;
use crate::support::client::{Tcp, ask, question, with_opt};
use crate::support::http::get;
use openmetrics_parser::{
    HistogramValue, OpenMetricsValue, PrometheusValue, openmetrics, prometheus,
};
use portolan::dns::{Name, RecordType};
use std::collections::{BTreeMap, BTreeSet};

/// A family as either format has it; the names of counters with their `_total`.
#[derive(Debug)]
struct Family {
    kind: &'static str,
    labels: BTreeSet<String>,
    samples: Vec<(BTreeMap<String, String>, Value)>,
}

#[derive(Debug)]
enum Value {
    Number(f64),
    Histogram(HistogramValue),
}

impl Value {
    /// The number, or how many were observed.
    fn number(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Histogram(histogram) => histogram.count.unwrap() as f64,
        }
    }
}

type Families = BTreeMap<String, Family>;

fn read_classic(text: &str) -> Families {
    let parsed = prometheus::parse_prometheus(text).unwrap_or_else(|error| panic!("{error}"));
    let mut out = Families::new();
    for family in parsed.families.into_values() {
        let labels = family.get_label_names().iter().cloned().collect();
        let (name, mut kind) = (family.family_name.clone(), "");
        let mut samples = Vec::new();
        for sample in family.into_iter_samples() {
            let set = labels_of(sample.get_labelset().unwrap().iter());
            let (of, value) = match sample.value {
                PrometheusValue::Gauge(number) => ("gauge", Value::Number(number.as_f64())),
                PrometheusValue::Counter(counter) => {
                    ("counter", Value::Number(counter.value.as_f64()))
                }
                PrometheusValue::Histogram(histogram) => ("histogram", Value::Histogram(histogram)),
                other => panic!("{name}: {other:?}"),
            };
            kind = of;
            samples.push((set, value));
        }
        out.insert(
            name,
            Family {
                kind,
                labels,
                samples,
            },
        );
    }
    out
}

fn read_openmetrics(text: &str) -> Families {
    let parsed = openmetrics::parse_openmetrics(text).unwrap_or_else(|error| panic!("{error}"));
    let mut out = Families::new();
    for family in parsed.families.into_values() {
        let labels = family.get_label_names().iter().cloned().collect();
        let (mut name, mut kind) = (family.family_name.clone(), "");
        let mut samples = Vec::new();
        for sample in family.into_iter_samples() {
            let set = labels_of(sample.get_labelset().unwrap().iter());
            let (of, value) = match sample.value {
                OpenMetricsValue::Gauge(number) => ("gauge", Value::Number(number.as_f64())),
                OpenMetricsValue::Counter(counter) => {
                    ("counter", Value::Number(counter.value.as_f64()))
                }
                OpenMetricsValue::Histogram(histogram) => {
                    ("histogram", Value::Histogram(histogram))
                }
                other => panic!("{name}: {other:?}"),
            };
            kind = of;
            samples.push((set, value));
        }
        if kind == "counter" {
            name.push_str("_total");
        }
        out.insert(
            name,
            Family {
                kind,
                labels,
                samples,
            },
        );
    }
    out
}

fn labels_of<'l>(
    pairs: impl Iterator<Item = (&'l String, &'l String)>,
) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The families of CoreDNS that this Corefile shows, their types and labels.
const FAMILIES: &[(&str, &str, &[&str])] = &[
    (
        "coredns_build_info",
        "gauge",
        &["version", "revision", "goversion"],
    ),
    ("coredns_panics_total", "counter", &[]),
    ("portolan_udp_dropped_packets_total", "counter", &["listen"]),
    (
        "coredns_dns_requests_total",
        "counter",
        &["server", "zone", "view", "proto", "family", "type"],
    ),
    (
        "coredns_dns_request_duration_seconds",
        "histogram",
        &["server", "zone", "view"],
    ),
    (
        "coredns_dns_request_size_bytes",
        "histogram",
        &["server", "zone", "view", "proto"],
    ),
    (
        "coredns_dns_do_requests_total",
        "counter",
        &["server", "zone", "view"],
    ),
    (
        "coredns_dns_response_size_bytes",
        "histogram",
        &["server", "zone", "view", "proto"],
    ),
    (
        "coredns_dns_responses_total",
        "counter",
        &["server", "zone", "view", "rcode", "plugin"],
    ),
    (
        "coredns_plugin_enabled",
        "gauge",
        &["server", "zone", "view", "name"],
    ),
    (
        "coredns_cache_entries",
        "gauge",
        &["server", "type", "zones", "view"],
    ),
    (
        "portolan_cache_bytes",
        "gauge",
        &["server", "type", "zones", "view"],
    ),
    (
        "portolan_cache_budget_bytes",
        "gauge",
        &["server", "type", "zones", "view"],
    ),
    (
        "coredns_cache_hits_total",
        "counter",
        &["server", "type", "zones", "view"],
    ),
    (
        "coredns_cache_misses_total",
        "counter",
        &["server", "zones", "view"],
    ),
    (
        "coredns_cache_requests_total",
        "counter",
        &["server", "zones", "view"],
    ),
    (
        "coredns_cache_prefetch_total",
        "counter",
        &["server", "zones", "view"],
    ),
    (
        "coredns_cache_drops_total",
        "counter",
        &["server", "zones", "view"],
    ),
    (
        "coredns_cache_served_stale_total",
        "counter",
        &["server", "zones", "view"],
    ),
    (
        "coredns_cache_evictions_total",
        "counter",
        &["server", "type", "zones", "view"],
    ),
    ("coredns_forward_healthcheck_broken_total", "counter", &[]),
    (
        "coredns_forward_max_concurrent_rejects_total",
        "counter",
        &[],
    ),
    (
        "coredns_proxy_request_duration_seconds",
        "histogram",
        &["proxy_name", "to", "rcode"],
    ),
    (
        "coredns_proxy_healthcheck_failures_total",
        "counter",
        &["proxy_name", "to"],
    ),
    (
        "coredns_proxy_conn_cache_hits_total",
        "counter",
        &["proxy_name", "to", "proto"],
    ),
    (
        "coredns_proxy_conn_cache_misses_total",
        "counter",
        &["proxy_name", "to", "proto"],
    ),
    ("coredns_health_request_duration_seconds", "histogram", &[]),
    ("coredns_health_request_failures_total", "counter", &[]),
    ("coredns_reload_failed_total", "counter", &[]),
    (
        "coredns_kubernetes_rest_client_request_duration_seconds",
        "histogram",
        &["verb", "host"],
    ),
    (
        "coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
        "histogram",
        &["verb", "host"],
    ),
    (
        "coredns_kubernetes_rest_client_requests_total",
        "counter",
        &["code", "method", "host"],
    ),
];

/// Families of CoreDNS that this test does not bring about.
const RARE: &[&str] = &["coredns_kubernetes_dns_programming_duration_seconds"];

/// What the process tells about itself (PR-9).
const PROCESS: [&str; 4] = [
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_start_time_seconds",
];

fn check_families(families: &Families) {
    for (name, kind, labels) in FAMILIES {
        let family = families.get(*name).unwrap_or_else(|| panic!("no {name}"));
        let labels: BTreeSet<_> = labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!((family.kind, &family.labels), (*kind, &labels), "{name}");
    }
    for name in PROCESS {
        assert!(families[name].samples[0].1.number() > 0.0, "{name}");
    }
    for (name, family) in families {
        let known = FAMILIES.iter().any(|(known, _, _)| known == name) || RARE.contains(&&**name);
        let ours = name.starts_with("portolan_") || name.starts_with("process_");
        assert!(known || ours, "{name} is none of CoreDNS's");
        let total = name.ends_with("_total");
        assert_eq!(total, family.kind == "counter", "{name}");
        for (labels, value) in &family.samples {
            check_value(&format!("{name}{labels:?}"), value);
        }
    }
}

fn check_value(series: &str, value: &Value) {
    let Value::Histogram(histogram) = value else {
        assert!(value.number() >= 0.0, "{series}");
        return;
    };
    let mut last = (f64::NEG_INFINITY, 0.0);
    for bucket in &histogram.buckets {
        let this = (bucket.upper_bound, bucket.count.as_f64());
        assert!(
            this.0 > last.0 && this.1 >= last.1,
            "{series}: {:?}",
            histogram.buckets
        );
        last = this;
    }
    let count = histogram.count.unwrap() as f64;
    assert_eq!(last, (f64::INFINITY, count), "{series}");
    let sum = histogram.sum.as_ref().unwrap().as_f64();
    assert!(
        sum >= 0.0 && (sum > 0.0) == (count > 0.0),
        "{series}: {sum}"
    );
}

/// No family is declared twice and no series is there twice, by the text alone.
fn check_lines(text: &str) {
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let key = match line.strip_prefix("# ") {
            Some(rest) => rest.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "),
            None => line.rsplit_once(' ').unwrap().0.to_owned(),
        };
        assert!(seen.insert(key.clone()), "twice: {key}");
    }
}

/// The sum of the samples with these labels.
fn sum(families: &Families, name: &str, wanted: &[(&str, &str)]) -> f64 {
    let samples = families[name].samples.iter().filter(|(labels, _)| {
        let mut wanted = wanted.iter();
        wanted.all(|(label, value)| labels.get(*label).is_some_and(|is| is == value))
    });
    samples.map(|(_, value)| value.number()).sum()
}

/// Probes of `loop`: HINFO questions that arrived upstream.
fn probes(stock: &Stock) -> f64 {
    let seen = stock.upstream.seen();
    let hinfo = seen.iter().filter(|seen| {
        let (_, end) = Name::read(&seen.packet, 12).unwrap();
        seen.packet[end..end + 2] == [0, 13]
    });
    hinfo.count() as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dashboards_rely_on() {
    let mut stock = Stock::start("kubeadm-1.33.Corefile").await;
    let upstream = stock.upstream.addr.to_string();
    let (addr, port) = (stock.addr(), stock.ports.metrics);
    let web = "web.default.svc.cluster.local.";
    let (a, other) = (RecordType::A, RecordType(13));
    for name in [web, web, web, "nosuch.default.svc.cluster.local."] {
        ask(addr, &question(name, a));
    }
    Tcp::connect(addr).ask(&question(web, a));
    ask(addr, &with_opt(question(web, a), 1232, 0x8000, &[]));
    ask(addr, &question(web, other));
    ask(addr, &question(web, RecordType(65)));
    // A miss and a hit; the replies without SOA are not kept.
    for name in [
        "www.example.org.",
        "www.example.org.",
        "nosuch.example.org.",
        "nosuch.example.org.",
    ] {
        ask(addr, &question(name, a));
    }
    // `loop` asks once and is answered: until then the numbers move.
    let server = format!("dns://{addr}");
    let scrape = |accept: &str| get(port, "/metrics", accept).unwrap();
    let asked = |families: &Families| sum(families, "coredns_dns_requests_total", &[]);
    let settled = |stock: &Stock| {
        let families = read_classic(&scrape("*/*").body);
        probes(stock) > 0.0
            && asked(&families) == 12.0 + probes(stock)
            && sum(&families, "coredns_health_request_duration_seconds", &[]) > 0.0
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !settled(&stock) {
        assert!(std::time::Instant::now() < end, "{}", scrape("*/*").body);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let probes = probes(&stock);

    let classic = scrape("text/plain;version=0.0.4");
    assert!(
        classic
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        classic.head
    );
    let open = scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(
        open.head
            .contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n"));
    check_lines(&classic.body);
    check_lines(open.body.trim_end_matches("# EOF\n"));
    let open = read_openmetrics(&open.body);
    let classic = read_classic(&classic.body);
    check_families(&classic);
    check_families(&open);
    assert!(
        classic.keys().eq(open.keys()),
        "{:?}\n{:?}",
        classic.keys(),
        open.keys()
    );

    for families in [&classic, &open] {
        let number = |name: &str, labels: &[(&str, &str)]| sum(families, name, labels);
        let requests = "coredns_dns_requests_total";
        let all = [
            ("server", &*server),
            ("zone", "."),
            ("view", ""),
            ("family", "1"),
        ];
        assert_eq!(number(requests, &all), 12.0 + probes);
        for (proto, qtype, wanted) in [
            ("udp", "A", 9.0),
            ("tcp", "A", 1.0),
            ("udp", "HTTPS", 1.0),
            ("udp", "other", probes + 1.0),
        ] {
            let labels = [("proto", proto), ("type", qtype)];
            assert_eq!(number(requests, &labels), wanted, "{proto} {qtype}");
        }
        for (name, udp) in [
            ("coredns_dns_request_size_bytes", 11.0),
            ("coredns_dns_response_size_bytes", 11.0),
        ] {
            assert_eq!(number(name, &[("proto", "udp")]), udp + probes, "{name}");
            assert_eq!(number(name, &[("proto", "tcp")]), 1.0, "{name}");
        }
        let of_zone = [("server", &*server), ("zone", "."), ("view", "")];
        assert_eq!(
            number("coredns_dns_request_duration_seconds", &of_zone),
            12.0 + probes
        );
        assert_eq!(number("coredns_dns_do_requests_total", &of_zone), 1.0);
        let responses = "coredns_dns_responses_total";
        for (rcode, wanted) in [("NOERROR", 9.0), ("NXDOMAIN", 3.0 + probes)] {
            let labels = [
                of_zone[0],
                of_zone[1],
                ("rcode", rcode),
                ("plugin", "errors"),
            ];
            assert_eq!(number(responses, &labels), wanted, "{rcode}");
        }
        assert_eq!(number(responses, &[]), 12.0 + probes);

        let cache = [("server", &*server), ("zones", "."), ("view", "")];
        let hits = number("coredns_cache_hits_total", &cache);
        let misses = number("coredns_cache_misses_total", &cache);
        assert_eq!(hits, 1.0);
        assert_eq!(
            number("coredns_cache_hits_total", &[("type", "success")]),
            1.0
        );
        assert_eq!(
            number("coredns_cache_requests_total", &cache),
            hits + misses
        );
        assert_eq!(number("coredns_cache_entries", &[("type", "success")]), 1.0);
        assert_eq!(number("coredns_cache_entries", &[("type", "denial")]), 0.0);

        let proxy = [("proxy_name", "forward"), ("to", &*upstream)];
        let took = "coredns_proxy_request_duration_seconds";
        assert_eq!(
            number(took, &[proxy[0], proxy[1], ("rcode", "NOERROR")]),
            1.0
        );
        assert_eq!(
            number(took, &[proxy[0], proxy[1], ("rcode", "NXDOMAIN")]),
            2.0 + probes
        );
        assert_eq!(number(took, &[]), 3.0 + probes);
        let sockets = number("coredns_proxy_conn_cache_hits_total", &proxy)
            + number(
                "coredns_proxy_conn_cache_misses_total",
                &[proxy[0], proxy[1], ("proto", "udp")],
            );
        assert_eq!(sockets, 3.0 + probes);

        assert_eq!(number("coredns_panics_total", &[]), 0.0);
        let enabled: BTreeSet<_> = families["coredns_plugin_enabled"]
            .samples
            .iter()
            .map(|(labels, value)| (labels["name"].as_str(), value.number() as u8))
            .collect();
        for name in [
            "prometheus",
            "errors",
            "loop",
            "cache",
            "loadbalance",
            "kubernetes",
            "forward",
        ] {
            assert!(enabled.contains(&(name, 1)), "{name}: {enabled:?}");
        }
    }
    // Nothing was asked for that would make them, but the names stay known.
    assert!(!classic.contains_key("coredns_reload_version_info"));
    stock.server.signal("TERM");
    stock.server.wait_for("SIGTERM");
}
