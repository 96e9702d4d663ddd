#![allow(clippy::unwrap_used)]

use crate::dns::{Rcode, RecordType, Reply};
use crate::plugin::{Context, Outcome, Transport};
use crate::plugins::testing::{Rig, Terminal, answers, ask, fails, setup_error};

#[test]
fn counts_a_query_and_its_reply() {
    let mut rig = Rig::new();
    rig.setup("prometheus\nerrors").unwrap();
    let chain = rig.chain(answers());
    ask("web.example", RecordType::A).of(&chain);
    ask("web.example", RecordType::A)
        .edns(1232, true)
        .of(&chain);
    let six = ask("web.example", RecordType::LOC).from("[2001:db8::1]:7", Transport::Tls);
    six.of(&chain);
    assert_eq!(
        rig.metrics("coredns_dns_requests_total"),
        [
            r#"coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="A",view="",zone="."} 2"#,
            r#"coredns_dns_requests_total{family="2",proto="tcp",server="dns://:53",type="other",view="",zone="."} 1"#,
        ]
    );
    assert_eq!(
        rig.metrics("coredns_dns_responses_total"),
        [
            r#"coredns_dns_responses_total{plugin="errors",rcode="NOERROR",server="dns://:53",view="",zone="."} 3"#
        ]
    );
    assert_eq!(
        rig.metrics("coredns_dns_do_requests_total"),
        [r#"coredns_dns_do_requests_total{server="dns://:53",view="",zone="."} 1"#]
    );
    // 29 octets of query, 11 more with OPT; 16 more for the answer.
    assert_eq!(
        rig.metrics("coredns_dns_request_size_bytes_sum"),
        [
            r#"coredns_dns_request_size_bytes_sum{proto="tcp",server="dns://:53",view="",zone="."} 29.0"#,
            r#"coredns_dns_request_size_bytes_sum{proto="udp",server="dns://:53",view="",zone="."} 69.0"#,
        ]
    );
    assert_eq!(
        rig.metrics("coredns_dns_response_size_bytes_sum"),
        [
            r#"coredns_dns_response_size_bytes_sum{proto="tcp",server="dns://:53",view="",zone="."} 45.0"#,
            r#"coredns_dns_response_size_bytes_sum{proto="udp",server="dns://:53",view="",zone="."} 90.0"#,
        ]
    );
    assert_eq!(
        rig.metrics("coredns_dns_request_duration_seconds_count"),
        [r#"coredns_dns_request_duration_seconds_count{server="dns://:53",view="",zone="."} 3"#]
    );
}

#[test]
fn replies_of_the_server_have_no_plugin() {
    let mut rig = Rig::new();
    rig.setup("prometheus").unwrap();
    let chain = rig.chain(fails("broken"));
    ask("a.example", RecordType::A).of(&chain);
    assert_eq!(
        rig.metrics("coredns_dns_responses_total"),
        [
            r#"coredns_dns_responses_total{plugin="",rcode="SERVFAIL",server="dns://:53",view="",zone="."} 1"#
        ]
    );
}

#[test]
fn a_dropped_query_counts_as_noerror() {
    let mut rig = Rig::new();
    rig.setup("prometheus").unwrap();
    let chain = rig.chain(Terminal(|_: &mut Context<'_>, _: &mut Reply| {
        Outcome::Dropped
    }));
    ask("a.example", RecordType::A).of(&chain);
    let responses = rig.metrics("coredns_dns_responses_total");
    assert!(
        responses[0].contains(r#"plugin="",rcode="NOERROR""#),
        "{responses:?}"
    );
}

#[test]
fn the_zone_is_the_longest_of_the_block() {
    let mut rig = Rig::new().zones(&["example.org", "cluster.local", "svc.cluster.local"]);
    rig.setup("prometheus").unwrap();
    let chain = rig.chain(Terminal(|_: &mut Context<'_>, reply: &mut Reply| {
        reply.set_rcode(Rcode::NXDOMAIN);
        Outcome::Written
    }));
    ask("Web.SVC.cluster.local", RecordType::PTR).of(&chain);
    let requests = rig.metrics("coredns_dns_requests_total");
    assert_eq!(requests.len(), 1);
    assert!(requests[0].contains(r#"type="PTR",view="",zone="svc.cluster.local.""#));
}

#[test]
fn counters_outlive_the_configuration() {
    let mut rig = Rig::new();
    rig.setup("prometheus\nerrors").unwrap();
    ask("a.example", RecordType::A).of(&rig.chain(answers()));
    let mut next = rig.sibling();
    next.setup("prometheus\nlog").unwrap();
    ask("a.example", RecordType::A).of(&next.chain(answers()));
    assert!(next.metrics("coredns_dns_requests_total")[0].ends_with(" 2"));
    let responses = next.metrics("coredns_dns_responses_total");
    assert!(responses[0].contains(r#"plugin="errors""#) && responses[0].ends_with(" 1"));
    assert!(responses[1].contains(r#"plugin="log""#) && responses[1].ends_with(" 1"));
}

#[tokio::test]
async fn enabled_plugins_while_the_chain_lives() {
    let mut rig = Rig::new();
    rig.setup("prometheus\nhealth\nerrors").unwrap();
    let chain = rig.chain(answers());
    // Those of `health` start a task; the one of `prometheus` comes last.
    rig.hooks.serving.pop().unwrap()().await;
    assert_eq!(
        rig.metrics("coredns_plugin_enabled"),
        ["errors", "prometheus", "terminal"].map(|name| format!(
            r#"coredns_plugin_enabled{{name="{name}",server="dns://:53",view="",zone="."}} 1.0"#
        ))
    );
    drop(chain);
    assert_eq!(rig.metrics("coredns_plugin_enabled"), [""; 0]);
}

#[test]
fn the_endpoint_speaks_both_formats() {
    let mut rig = Rig::new();
    rig.setup("prometheus :9153 {\n runtime_metrics\n}")
        .unwrap();
    assert_eq!(rig.endpoints[0].listen, ":9153");
    assert_eq!(rig.endpoints[0].path, "/metrics");
    let classic = rig.get("text/plain;version=0.0.4");
    assert_eq!(classic.status, 200);
    assert_eq!(
        classic.content_type,
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let info = classic
        .body
        .lines()
        .find(|line| line.starts_with("coredns_build_info{"));
    let info = info.unwrap();
    assert!(
        info.contains("goversion=\"rustc 1.") && info.contains(&version),
        "{info}"
    );
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        let value = classic.body.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.trim();
            value.parse::<f64>().ok()
        });
        assert!(value.is_some_and(|value| value >= 0.0), "{name}");
    }
    let open = rig.get("application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(
        open.content_type
            .starts_with("application/openmetrics-text")
    );
    assert!(open.body.ends_with("# EOF\n"));
}

#[test]
fn configuration_errors() {
    for (text, error) in [
        (
            "prometheus a b",
            "Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after 'b'",
        ),
        (
            "prometheus 9153",
            "Corefile:1 - Error during parsing: address 9153: missing port in address",
        ),
        (
            "prometheus\nprometheus",
            "Corefile:2 - Error during parsing: this plugin can only be used once per Server Block",
        ),
        (
            "prometheus {\nx\n}",
            "Corefile:2 - Error during parsing: unknown option: x",
        ),
        (
            "prometheus {\ntls web.yaml\n}",
            "Corefile:2 - Error during parsing: tls is not supported yet: metrics are plain HTTP",
        ),
    ] {
        assert_eq!(setup_error(text), format!("plugin/prometheus: {error}"));
    }
}
