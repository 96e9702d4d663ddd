#![allow(clippy::unwrap_used)]

use super::{Config, External};
use crate::dns::RecordType;
use crate::plugin::Chain;
use crate::plugins::kubernetes::Provided;
use crate::plugins::kubernetes::config::{Answers, Pods};
use crate::plugins::kubernetes::index::{Index, Naming};
use crate::plugins::kubernetes::object::{
    Endpoint, EndpointSlice, Key, Kind, Object, Port, Service, Sink,
};
use crate::plugins::testing::{Rig, ask, directives, is_passed, passed, setup_error};
use std::sync::{Arc, OnceLock};

const KINDS: [Kind; 3] = [Kind::Namespace, Kind::Service, Kind::EndpointSlice];

fn key(namespace: &str, name: &str) -> Key {
    Key {
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn service(external_ips: &[&str]) -> Object {
    Object::Service(Service {
        external_ips: external_ips.iter().map(|&text| text.into()).collect(),
        headless: external_ips.is_empty(),
        ports: vec![Port::default()],
        ..Service::default()
    })
}

fn slice(service: &str, ips: &[&str]) -> Object {
    let endpoints = ips.iter().map(|ip| Endpoint {
        ip: ip.parse().unwrap(),
        hostname: None,
        target: None,
        zone: None,
    });
    Object::EndpointSlice(EndpointSlice {
        service: service.into(),
        endpoints: endpoints.collect(),
        ports: vec![Port::default()],
        ..EndpointSlice::default()
    })
}

/// A cluster of which nothing is known, on a server whose address is 10.0.0.53.
fn cluster() -> Arc<Provided> {
    let zone = crate::dns::Zone::from_text("cluster.local").unwrap();
    Arc::new(Provided {
        index: Arc::new(Index::new(&KINDS, Naming::default())),
        imports: None,
        answers: Answers {
            zones: vec![zone.clone()],
            primary: zone,
            ttl: 30,
            pods: Pods::Disabled,
            namespaces: Vec::new(),
            labelled_namespaces: false,
            noendpoints: false,
            ignore_empty_service: false,
            multicluster: Vec::new(),
            zonal: false,
            fallthrough: Default::default(),
            local: Arc::from(["10.0.0.53".parse().unwrap()]),
        },
    })
}

/// Lists these objects.
fn list(cluster: &Provided, objects: &[(Key, Object)]) {
    for kind in KINDS {
        cluster.index.list_start(kind);
        for (key, object) in objects.iter().filter(|(_, object)| object.kind() == kind) {
            cluster.index.set(key.clone(), object.clone());
        }
        cluster.index.list_end(kind);
    }
}

fn chain(text: &str, cluster: &Arc<Provided>) -> Arc<Chain> {
    let config = Arc::new(Config::read(&directives(text)[0], &[]).unwrap());
    let mut rig = Rig::new();
    rig.plugins.push(Arc::new(External {
        config,
        cluster: Arc::new(OnceLock::from(Arc::clone(cluster))),
    }));
    rig.chain(passed())
}

fn lines(name: &str, qtype: RecordType, chain: &Arc<Chain>) -> Vec<String> {
    let mut lines = ask(name, qtype).of(chain).lines();
    for line in lines.iter_mut().filter(|line| line.contains(" SOA ")) {
        let mut words: Vec<_> = line.split(' ').collect();
        words[7] = "SERIAL";
        *line = words.join(" ");
    }
    lines
}

const SOA: &str = "NS example.org. 5 IN SOA ns1.dns.example.org. hostmaster.dns.example.org. SERIAL 7200 1800 86400 5";

#[test]
fn before_the_first_lists_nothing_is_denied() {
    let cluster = cluster();
    let chain = chain("k8s_external example.org", &cluster);
    let web = || lines("web.red.example.org.", RecordType::A, &chain);
    assert_eq!(web(), ["SERVFAIL aa", SOA]);
    let known = lines("example.org.", RecordType::A, &chain);
    assert_eq!(known, ["NOERROR aa", SOA]);
    list(&cluster, &[(key("", "red"), Object::Namespace)]);
    assert_eq!(web(), ["NXDOMAIN aa", SOA]);
    let reply = ask("example.com.", RecordType::A).of(&chain);
    assert!(is_passed(&reply));
}

#[test]
fn the_name_server_is_where_the_server_is_reached() {
    let cluster = cluster();
    let plain = chain("k8s_external example.org", &cluster);
    let headless = chain("k8s_external example.org {\nheadless\n}", &cluster);
    let glue = |chain| {
        let lines = lines("example.org.", RecordType::NS, chain);
        assert_eq!(
            lines[..2],
            ["NOERROR aa", "AN example.org. 5 IN NS ns1.dns.example.org."]
        );
        let glue: Vec<_> = lines[2..]
            .iter()
            .map(|line| {
                let (owner, address) = line.split_once(" 5 IN ").unwrap();
                assert_eq!(owner, "AR ns1.dns.example.org.");
                address.to_owned()
            })
            .collect();
        glue
    };
    // Of no service: its own address.
    list(&cluster, &[]);
    assert_eq!(glue(&plain), ["A 10.0.0.53"]);
    // Of a service that is not reached from outside.
    let objects = [
        (key("", "sys"), Object::Namespace),
        (
            key("sys", "dns-1"),
            slice("dns", &["10.0.0.53", "10.0.0.54"]),
        ),
    ];
    let with = |service: Object| {
        let mut objects = objects.to_vec();
        objects.push((key("sys", "dns"), service));
        list(&cluster, &objects);
    };
    with(service(&[]));
    assert_eq!(glue(&plain), [""; 0]);
    assert_eq!(glue(&headless), ["A 10.0.0.53", "A 10.0.0.54"]);
    with(service(&["192.0.2.53", "lb.example.com", "2001:db8::53"]));
    for chain in [&plain, &headless] {
        assert_eq!(glue(chain), ["A 192.0.2.53", "AAAA 2001:db8::53"]);
    }
    let ns1 = |qtype| lines("ns1.dns.example.org.", qtype, &plain);
    assert_eq!(
        ns1(RecordType::A),
        ["NOERROR aa", "AN ns1.dns.example.org. 5 IN A 192.0.2.53"]
    );
    assert_eq!(
        ns1(RecordType::AAAA),
        [
            "NOERROR aa",
            "AN ns1.dns.example.org. 5 IN AAAA 2001:db8::53"
        ]
    );
    assert_eq!(ns1(RecordType::TXT), ["NOERROR aa", SOA]);
}

/// The serial of the zone, in seconds; that of the index is 0 before the first change.
#[test]
fn serials_follow_what_is_seen_from_outside() {
    let cluster = cluster();
    let serial = |text: &str| {
        let config = Config::read(&directives(text)[0], &[]).unwrap();
        let source = super::Source {
            config: &config,
            cluster: &cluster,
        };
        source.serial()
    };
    let made = cluster.index.external_serial();
    assert!(made > 1_700_000_000);
    assert_eq!(cluster.index.serial(), 0);
    assert_eq!(serial("k8s_external example.org"), made);
    assert_eq!(serial("k8s_external example.org {\nheadless\n}"), made);
    cluster
        .index
        .set(key("red", "web-1"), slice("web", &["10.0.0.1"]));
    assert_eq!(cluster.index.external_serial(), made);
    assert_eq!(
        serial("k8s_external example.org {\nheadless\n}"),
        cluster.index.serial()
    );
}

#[test]
fn services_that_are_seen_from_outside() {
    let cluster = cluster();
    list(
        &cluster,
        &[
            (key("", "red"), Object::Namespace),
            (key("red", "web"), service(&["192.0.2.1"])),
            (key("red", "db"), service(&[])),
            (key("red", "db-1"), slice("db", &["10.0.0.1"])),
            (key("red", "empty"), service(&[])),
            (key("blue", "hidden"), service(&["192.0.2.1"])),
        ],
    );
    let names = |headless| {
        let mut names = Vec::new();
        cluster.external_services(headless, |entry| names.push(entry.key.name.to_string()));
        names.sort();
        names
    };
    assert_eq!(names(false), ["web"]);
    assert_eq!(names(true), ["db", "web"]);
}

#[test]
fn options() {
    let read = |text: &str| Config::read(&directives(text)[0], &[]).unwrap();
    let config = read("k8s_external example.org");
    assert_eq!((config.ttl, config.headless), (5, false));
    assert_eq!(config.apex.to_string(), "dns.");
    assert!(!config.fallthrough.is_some());
    let config = read(
        "k8s_external in-addr.arpa example.org {\napex Names\nttl 3600\nheadless\nfallthrough\n}",
    );
    assert_eq!((config.ttl, config.headless), (3600, true));
    assert_eq!(config.apex.to_string(), "names.");
    assert_eq!(config.primary.text(), "example.org.");
    assert!(config.fallthrough.is_some());
    // Nothing better is there.
    let config = read("k8s_external in-addr.arpa");
    assert_eq!(config.primary.text(), "in-addr.arpa.");
}

#[test]
fn errors() {
    for (text, error) in [
        (
            "k8s_external",
            "Corefile:1 - Error during parsing: kubernetes plugin not loaded",
        ),
        (
            "k8s_external {\nttl 3601\n}",
            "Corefile:2 - Error during parsing: ttl must be in range [0, 3600]: 3601",
        ),
        (
            "k8s_external {\nttl -1\n}",
            "Corefile:2 - Error during parsing: ttl must be in range [0, 3600]: -1",
        ),
        (
            "k8s_external {\nttl x\n}",
            "Corefile:2 - Error during parsing: invalid number \"x\"",
        ),
        (
            "k8s_external {\nttl\n}",
            "Corefile:2 - Error during parsing: Wrong argument count",
        ),
        (
            "k8s_external {\napex\n}",
            "Corefile:2 - Error during parsing: Wrong argument count",
        ),
        (
            "k8s_external {\napex a..b\n}",
            "Corefile:2 - Error during parsing: a..b: bad label",
        ),
        (
            "k8s_external {\napex .\n}",
            "Corefile:2 - Error during parsing: the apex needs a name",
        ),
        (
            "k8s_external {\nheadless x\n}",
            "Corefile:2 - Error during parsing: Wrong argument count",
        ),
        (
            "k8s_external {\nx\n}",
            "Corefile:2 - Error during parsing: unknown property 'x'",
        ),
        (
            "k8s_external\nk8s_external",
            "Corefile:2 - Error during parsing: this plugin can only be used once",
        ),
    ] {
        let found = setup_error(text);
        let expected = format!("plugin/k8s_external: {error}");
        assert!(found.starts_with(&expected), "{text}: {found}");
    }
}
