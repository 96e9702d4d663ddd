//! What a Corefile says to *kubernetes*: the rules KC-1 to KC-8 of the inventory.

use portolan::corefile;
use portolan::plugin::Process;
use portolan::plugins::{TABLE, legacy};
use portolan::server::Configuration;
use std::path::Path;
use std::sync::Arc;

/// What is wrong with a Corefile, whose name is `Corefile`; nothing is asked of anybody.
fn errors(text: &str) -> Vec<String> {
    let (mut process, _) = Process::new(tokio::runtime::Handle::current(), 1);
    process.check_only = true;
    let mut corefile = match corefile::parse("Corefile", text, &|_| None) {
        Ok(corefile) => corefile,
        Err(error) => return vec![error.to_string()],
    };
    legacy::modernise(&mut corefile);
    match Configuration::build(&corefile, TABLE, &Arc::new(process), 53) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// A directive on line 2, its first option on line 3.
fn directive(zones: &str, options: &str) -> String {
    format!(".:1053 {{\n kubernetes {zones} {{\n {options}\n }}\n}}\n")
}

#[tokio::test]
async fn options_that_are_wrong_are_told_with_their_line() {
    let parsing = |line: u32, text: &str| {
        format!("plugin/kubernetes: Corefile:{line} - Error during parsing: {text}")
    };
    let count =
        |word: &str| format!("Wrong argument count or unexpected line ending after '{word}'");
    let cluster = "cluster.local";
    for (zones, options, line, text) in [
        // KC-2.
        (
            "in-addr.arpa 10.0.0.0/8",
            "",
            2,
            "non-reverse zone name must be used".into(),
        ),
        // KC-4.
        (
            cluster,
            "ignore services",
            3,
            "unable to parse ignore value: 'services'".into(),
        ),
        // KC-5: what was removed and means nothing that could be kept.
        (
            cluster,
            "transfer to *",
            3,
            "unknown property 'transfer'".into(),
        ),
        (cluster, "nonsense", 3, "unknown property 'nonsense'".into()),
        // KC-6.
        (
            cluster,
            "labels a in b",
            3,
            "unable to parse label selector value: 'a in b': ".into(),
        ),
        (
            cluster,
            "namespace_labels a in b",
            3,
            "unable to parse namespace_label selector value: 'a in b': ".into(),
        ),
        (cluster, "labels", 3, count("labels")),
        // KC-8.
        (
            cluster,
            "apiserver_qps -1",
            3,
            "must not be negative: -1".into(),
        ),
        (cluster, "apiserver_burst", 3, count("apiserver_burst")),
        // The rest of section 4.1.
        (cluster, "tls a b", 3, count("b")),
        (cluster, "kubeconfig a b c", 3, count("kubeconfig")),
        (cluster, "endpoint", 3, count("endpoint")),
        (cluster, "namespaces", 3, count("namespaces")),
        (
            cluster,
            "pods some",
            3,
            "wrong value for pods: some,  must be one of: disabled, verified, insecure".into(),
        ),
        (cluster, "pods", 3, count("pods")),
        (cluster, "endpoint_pod_names on", 3, count("on")),
        (cluster, "noendpoints on", 3, count("on")),
        (
            cluster,
            "ttl 3601",
            3,
            "ttl must be in range [0, 3600]: 3601".into(),
        ),
        (
            cluster,
            "ttl -1",
            3,
            "ttl must be in range [0, 3600]: -1".into(),
        ),
        (cluster, "ttl", 3, count("ttl")),
        (
            cluster,
            "namespaces a\n namespace_labels b=c",
            2,
            "namespaces and namespace_labels cannot both be set".into(),
        ),
        (
            cluster,
            "zonal\n noendpoints",
            2,
            "zonal and noendpoints cannot both be set".into(),
        ),
        (
            cluster,
            "multicluster clusterset.local",
            3,
            "is not authoritative for the multicluster zone clusterset.local.".into(),
        ),
    ] {
        let found = errors(&directive(zones, options));
        let expected = parsing(line, &text);
        assert_eq!(found.len(), 1, "{options}: {found:?}");
        // Why a selector is none is said in our own words.
        let cut = if text.ends_with(": ") {
            expected.len()
        } else {
            found[0].len()
        };
        assert_eq!(found[0][..cut.min(found[0].len())], expected, "{options}");
    }
}

#[tokio::test]
async fn options_that_are_right() {
    for options in [
        // KC-4: taken, and nothing done.
        "ignore",
        "ignore empty_service",
        // KC-3.
        "multicluster",
        // KC-5: read as what took their place (docs/differences.md).
        "upstream",
        "resyncperiod 5m",
        // KC-6.
        "labels environment in (production, qa),application=nginx",
        "namespace_labels environment notin (qa), !old",
        // KC-7: in this order, too.
        "kubeconfig file context\n endpoint http://127.0.0.1:1",
        "endpoint http://127.0.0.1:1 http://127.0.0.1:2\n tls a b c",
        // KC-8: read, without effect.
        "apiserver_qps 5.5\n apiserver_burst 10\n apiserver_max_inflight 0",
        "namespaces a b\n namespaces c",
        "startup_timeout 0s",
        "ttl 0",
        "fallthrough",
    ] {
        let found = errors(&directive("cluster.local", options));
        assert_eq!(found, [""; 0], "{options}");
    }
}

/// KC-1.
#[tokio::test]
async fn a_server_block_has_one_cluster() {
    let twice = ".:1053 {\n kubernetes a.local\n kubernetes b.local\n}\n";
    let wrong = "plugin/kubernetes: Corefile:3 - Error during parsing: \
        this plugin can only be used once per Server Block";
    assert_eq!(errors(twice), [wrong]);
    let blocks = "a.local:1053 {\n kubernetes\n}\nb.local:1053 {\n kubernetes\n}\n";
    assert_eq!(errors(blocks), [""; 0]);
}

/// KC-2: the block's zones, unless the directive has some; KC-7: where the objects come from.
#[test]
fn zones_and_where_the_objects_come_from() {
    use portolan::dns::Zone;
    use portolan::plugins::kubernetes::config::Config;
    use portolan::plugins::kubernetes::source::Origin;
    let read = |line: &str, options: &str| {
        let text = format!(". {{\n kubernetes {line} {{\n {options}\n }}\n}}");
        let corefile = corefile::parse("Corefile", &text, &|_| None).unwrap();
        let directive = &corefile.blocks[0].directives[0];
        let block = ["b.local", "a.local"].map(|zone| Zone::from_text(zone).unwrap());
        Config::read(directive, &block, Path::new("/etc")).unwrap()
    };
    let zones = |config: &Config| -> Vec<String> {
        let zones = config.answers.zones.iter();
        zones.map(ToString::to_string).collect()
    };
    let config = read("", "");
    assert_eq!(zones(&config), ["b.local.", "a.local."]);
    assert_eq!(config.answers.primary.to_string(), "b.local.");
    assert!(matches!(config.settings.origin, Origin::InCluster));
    let config = read("in-addr.arpa c.local d.local", "");
    assert_eq!(zones(&config), ["in-addr.arpa.", "c.local.", "d.local."]);
    assert_eq!(config.answers.primary.to_string(), "c.local.");
    for options in [
        "kubeconfig file context\n endpoint http://127.0.0.1:1",
        "endpoint http://127.0.0.1:1\n kubeconfig file context",
    ] {
        let Origin::Kubeconfig { file, context } = read("", options).settings.origin else {
            panic!("{options}");
        };
        assert_eq!(file, Path::new("/etc/file"));
        assert_eq!(context.as_deref(), Some("context"));
    }
    let options = "tls a b c\n endpoint http://127.0.0.1:1 http://127.0.0.1:2";
    let Origin::Endpoint { url, tls } = read("", options).settings.origin else {
        panic!("{options}");
    };
    assert_eq!(url, "http://127.0.0.1:1");
    assert_eq!(tls.unwrap().ca, Path::new("/etc/c"));
}
