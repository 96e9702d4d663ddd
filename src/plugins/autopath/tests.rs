#![allow(clippy::unwrap_used)]

use super::config::Source;
use super::search::Lists;
use super::{Autopath, Inner};
use crate::corefile::Directive;
use crate::dns::{Header, Name, Owner, Rcode, RecordType, Reply, Section, Zone};
use crate::plugin::{Chain, Context, Outcome, Plugin, Step, Transport};
use crate::plugins::kubernetes::Provided;
use crate::plugins::kubernetes::config::{Answers, Pods};
use crate::plugins::kubernetes::index::{Index, Naming};
use crate::plugins::kubernetes::object::{Key, Kind, Object, Pod, Port, Service, Sink};
use crate::plugins::testing::{Ask, Logs, Rig, ask, directives, setup_error};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

const CLIENT: &str = "10.0.0.1:4242";
const KINDS: [Kind; 3] = [Kind::Namespace, Kind::Service, Kind::Pod];

/// A cluster with namespaces `red` and `blue`, these services, and a pod of `red` that asks.
fn cluster(services: &[(&str, &str, &[&str])]) -> Arc<Provided> {
    let index = Index::new(&KINDS, Naming::default());
    let key = |namespace: &str, name: &str| Key {
        namespace: namespace.into(),
        name: name.into(),
    };
    KINDS.iter().for_each(|&kind| index.list_start(kind));
    for namespace in ["red", "blue"] {
        index.set(key("", namespace), Object::Namespace);
    }
    for (namespace, name, ips) in services {
        let ips = ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap());
        let service = Service {
            cluster_ips: ips.collect(),
            ports: vec![Port::default()],
            ..Service::default()
        };
        index.set(key(namespace, name), Object::Service(service));
    }
    let pod = Pod {
        ip: Some("10.0.0.1".parse().unwrap()),
        ..Pod::default()
    };
    index.set(key("red", "client"), Object::Pod(pod));
    KINDS.iter().for_each(|&kind| index.list_end(kind));
    let zone = Zone::from_text("cluster.local").unwrap();
    Arc::new(Provided {
        index: Arc::new(index),
        imports: None,
        answers: Answers {
            zones: vec![zone.clone()],
            primary: zone,
            ttl: 5,
            pods: Pods::Verified,
            namespaces: Vec::new(),
            labelled_namespaces: false,
            noendpoints: false,
            ignore_empty_service: false,
            multicluster: Vec::new(),
            zonal: false,
            fallthrough: Default::default(),
            local: Arc::from([]),
        },
    })
}

fn zones(texts: &[&str]) -> Vec<Zone> {
    let zones = texts.iter().map(|text| Zone::from_text(text).unwrap());
    zones.collect()
}

/// What a name outside of the cluster is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outside {
    /// An address of either family, if it has one.
    Has {
        v4: bool,
        v6: bool,
    },
    /// Failures.
    ServFail,
    Unwritten,
    Dropped,
}

/// Everything behind the plugin: the cluster, and what is outside; what is in neither is NXDOMAIN.
struct World {
    cluster: Arc<Provided>,
    outside: BTreeMap<String, Outside>,
    /// Whether answers wait.
    waits: bool,
}

impl World {
    fn answer(&self, name: &Name, qtype: RecordType, reply: &mut Reply) -> Outcome {
        let has = |v4: bool, v6: bool, reply: &mut Reply| {
            let v6_address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            match qtype {
                RecordType::A if v4 => {
                    reply.push(Section::Answer, Owner::Query, qtype, 60, &[192, 0, 2, 1])
                }
                RecordType::AAAA if v6 => {
                    reply.push(Section::Answer, Owner::Query, qtype, 60, &v6_address)
                }
                _ => false,
            };
        };
        if let Some(zone) = self.cluster.zone_of(name) {
            reply.set_flag(Header::AA, true);
            if self.cluster.exists(name, zone) {
                let service = name.label_count() == 5;
                has(service, service && name.label(0) != b"four", reply);
            } else {
                reply.set_rcode(Rcode::NXDOMAIN);
            }
            return Outcome::Written;
        }
        match self.outside.get(&name.to_string()) {
            Some(Outside::Has { v4, v6 }) => has(*v4, *v6, reply),
            Some(Outside::ServFail) => reply.set_rcode(Rcode::SERVFAIL),
            Some(Outside::Unwritten) => return Outcome::failed("broken"),
            Some(Outside::Dropped) => return Outcome::Dropped,
            None => reply.set_rcode(Rcode::NXDOMAIN),
        }
        Outcome::Written
    }
}

impl Plugin for World {
    fn name(&self) -> &'static str {
        "world"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let outcome = self.answer(cx.query.name(), cx.query.qtype(), reply);
        if !self.waits {
            return Step::Done(outcome);
        }
        let owned = cx.to_owned();
        let mut later = Reply::new();
        later.start(&owned.query.view());
        let outcome = self.answer(cx.query.name(), cx.query.qtype(), &mut later);
        Step::Wait(Box::pin(async move {
            tokio::task::yield_now().await;
            (outcome, later)
        }))
    }
}

fn chain(lists: Lists, world: World) -> (Rig, Arc<Chain>) {
    let mut rig = Rig::new();
    let completed = rig.process.metrics.counter(
        "coredns_autopath_success_total",
        "",
        vec![("server", "dns://:53".to_owned())],
    );
    rig.plugins.push(Arc::new(Autopath(Arc::new(Inner {
        zones: vec![Zone::root()],
        lists,
        completed,
    }))));
    let chain = rig.chain(world);
    (rig, chain)
}

fn pods(cluster: &Arc<Provided>, own: &[&str]) -> Lists {
    Lists::Pods {
        cluster: OnceLock::from(Arc::clone(cluster)),
        own: zones(own),
    }
}

fn from_pod(name: &str, qtype: RecordType) -> Ask {
    ask(name, qtype).from(CLIENT, Transport::Udp)
}

fn outside(entries: &[(&str, Outside)]) -> BTreeMap<String, Outside> {
    let entries = entries
        .iter()
        .map(|(name, what)| ((*name).to_owned(), *what));
    entries.collect()
}

const BOTH: Outside = Outside::Has { v4: true, v6: true };

#[tokio::test]
async fn the_search_path_of_the_server_follows_that_of_the_pod() {
    for waits in [false, true] {
        let cluster = cluster(&[("blue", "web", &["10.96.0.1"])]);
        let world = World {
            cluster: Arc::clone(&cluster),
            outside: outside(&[
                ("host.b.example.", BOTH),
                (
                    "both.a.example.",
                    Outside::Has {
                        v4: true,
                        v6: false,
                    },
                ),
                ("both.b.example.", BOTH),
                ("both.", BOTH),
                ("fails.a.example.", Outside::ServFail),
                ("fails.", BOTH),
                ("broken.b.example.", Outside::Unwritten),
                ("broken.", BOTH),
                ("dropped.a.example.", Outside::Dropped),
                ("dropped.", BOTH),
            ]),
            waits,
        };
        let lists = pods(&cluster, &["a.example", "b.example", "svc.cluster.local"]);
        let (rig, chain) = chain(lists, world);
        let search = "red.svc.cluster.local.";
        for (base, qtype, lines) in [
            (
                "Host",
                RecordType::A,
                &[
                    "NOERROR",
                    "AN Host.red.svc.cluster.local. 60 IN CNAME Host.b.example.",
                    "AN Host.b.example. 60 IN A 192.0.2.1",
                ][..],
            ),
            (
                "both",
                RecordType::A,
                &[
                    "NOERROR",
                    "AN both.red.svc.cluster.local. 60 IN CNAME both.a.example.",
                    "AN both.a.example. 60 IN A 192.0.2.1",
                ],
            ),
            // The same name, though another one has such a record.
            ("both", RecordType::AAAA, &["NOERROR"]),
            ("fails", RecordType::A, &["NXDOMAIN aa"]),
            ("broken", RecordType::AAAA, &["NXDOMAIN aa"]),
            ("dropped", RecordType::A, &["NXDOMAIN aa"]),
            ("nosuch", RecordType::A, &["NXDOMAIN aa"]),
            (
                "web.blue",
                RecordType::A,
                &[
                    "NOERROR aa",
                    "AN web.blue.red.svc.cluster.local. 60 IN CNAME web.blue.svc.cluster.local.",
                    "AN web.blue.svc.cluster.local. 60 IN A 192.0.2.1",
                ],
            ),
        ] {
            let answer = from_pod(&format!("{base}.{search}"), qtype)
                .wait(&chain)
                .await;
            assert_eq!(answer.lines(), lines, "{base} {qtype} {waits}");
        }
        let name = format!("host.{search}");
        assert_eq!(
            ask(&name, RecordType::A).wait(&chain).await.lines(),
            ["NXDOMAIN aa"]
        );
        let counted = rig.metrics("coredns_autopath_success_total{");
        assert_eq!(
            counted,
            ["coredns_autopath_success_total{server=\"dns://:53\"} 4"]
        );
    }
}

#[tokio::test]
async fn a_list_for_everybody() {
    for waits in [false, true] {
        let cluster = cluster(&[("blue", "web", &["10.96.0.1"])]);
        let world = World {
            cluster: Arc::clone(&cluster),
            outside: outside(&[
                ("a.one.example.", BOTH),
                ("b.two.example.", BOTH),
                ("c.", BOTH),
                ("one.example.", BOTH),
            ]),
            waits,
        };
        let lists = Lists::Domains {
            list: zones(&["one.example", "two.example", "svc.cluster.local"]),
            cluster: OnceLock::from(cluster),
        };
        let (_rig, chain) = chain(lists, world);
        for (name, target) in [
            ("a.one.example.", None),
            ("one.example.", None),
            ("b.two.example.", None),
            ("b.one.example.", Some("b.two.example.")),
            ("c.one.example.", Some("c.")),
            ("web.blue.one.example.", Some("web.blue.svc.cluster.local.")),
        ] {
            let answer = ask(name, RecordType::A).wait(&chain).await.decoded();
            assert_eq!(answer.queries[0].name().to_string(), name);
            let owners: Vec<_> = answer.answers.iter().map(|r| r.name.to_string()).collect();
            let expected: Vec<_> = [name].into_iter().chain(target).collect();
            assert_eq!(owners, expected, "{waits}");
        }
        let nothing = ask("d.one.example.", RecordType::A).wait(&chain).await;
        assert_eq!(nothing.lines(), ["NXDOMAIN"]);
    }
}

#[tokio::test]
async fn the_servers_own_questions_are_not_completed() {
    let cluster = cluster(&[]);
    let world = World {
        cluster: Arc::clone(&cluster),
        outside: outside(&[("host.", BOTH)]),
        waits: false,
    };
    let (_rig, chain) = chain(pods(&cluster, &[]), world);
    let packet = from_pod("host.red.svc.cluster.local.", RecordType::A).packet();
    for (depth, rcode) in [(0, Rcode::NOERROR), (1, Rcode::NXDOMAIN)] {
        let cx = crate::plugin::OwnedContext {
            query: crate::dns::OwnedQuery::new(packet.clone()).unwrap(),
            client: crate::plugin::Client {
                addr: CLIENT.parse().unwrap(),
                local: "10.96.0.10:53".parse().unwrap(),
                transport: Transport::Udp,
            },
            received: std::time::Instant::now(),
            chain: Arc::clone(&chain),
            position: 0,
            depth,
            trace: None,
        };
        let (outcome, reply) = Arc::clone(&chain).ask(0, cx).await;
        assert_eq!((outcome, reply.rcode()), (Outcome::Written, rcode));
    }
}

#[test]
fn nothing_is_completed_before_everything_is_known() {
    let index = Index::new(&KINDS, Naming::default());
    let pod = Pod {
        ip: Some("10.0.0.1".parse().unwrap()),
        ..Pod::default()
    };
    let key = Key {
        namespace: "red".into(),
        name: "client".into(),
    };
    index.set(key, Object::Pod(pod));
    let answers = cluster(&[]).answers.clone();
    let cluster = Arc::new(Provided {
        index: Arc::new(index),
        imports: None,
        answers,
    });
    let world = World {
        cluster: Arc::clone(&cluster),
        outside: outside(&[("host.", BOTH)]),
        waits: false,
    };
    let (_rig, chain) = chain(pods(&cluster, &[]), world);
    let asked = from_pod("host.red.svc.cluster.local.", RecordType::A);
    assert_eq!(asked.of(&chain).lines(), ["NXDOMAIN aa"]);
    for kind in KINDS {
        cluster.index.list_start(kind);
        if kind == Kind::Pod {
            let key = Key {
                namespace: "red".into(),
                name: "client".into(),
            };
            cluster.index.set(
                key,
                Object::Pod(Pod {
                    ip: Some("10.0.0.1".parse().unwrap()),
                    ..Pod::default()
                }),
            );
        }
        cluster.index.list_end(kind);
    }
    assert_eq!(asked.of(&chain).lines().len(), 3);
}

/// The name that a client would find by searching on its own, by what exists.
fn expected(world: &World, base: &str, own: &[&str]) -> Option<String> {
    let inner = [
        "red.svc.cluster.local.",
        "svc.cluster.local.",
        "cluster.local.",
    ];
    let domains = inner.iter().chain(own).chain(&[""]);
    for domain in domains {
        let text = format!("{base}.{domain}");
        let name = Name::from_text(&text).unwrap();
        match world.cluster.zone_of(&name) {
            Some(zone) if world.cluster.exists(&name, zone) => return Some(text),
            Some(_) => {}
            None => match world.outside.get(&text) {
                Some(Outside::Has { .. }) => return Some(text),
                Some(_) => return None,
                None => {}
            },
        }
    }
    None
}

fn outside_entry() -> impl Strategy<Value = Outside> {
    prop_oneof![
        4 => (any::<bool>(), any::<bool>()).prop_map(|(v4, v6)| Outside::Has { v4, v6 }),
        1 => Just(Outside::ServFail),
        1 => Just(Outside::Unwritten),
    ]
}

proptest! {
    /// Whatever exists, with whichever types, at once or later: both families are answered from the
    /// first name of the search path that exists.
    #[test]
    fn both_families_find_the_same_name(
        services in prop::collection::btree_set((0..2usize, 0..3usize), 0..4),
        entries in prop::collection::btree_map((0..5usize, 0..3usize), outside_entry(), 0..6),
        base in 0..5usize,
        waits: bool,
    ) {
        const BASES: [&str; 5] = ["web", "four.blue", "web.blue", "blue", "four.red.svc"];
        const OWN: [&str; 2] = ["a.example.", "b.example."];
        let services: BTreeSet<_> = services.into_iter().collect();
        let services: Vec<_> = services.iter().map(|&(namespace, name)| {
            let ips: &[&str] = &["10.96.0.1"];
            (["red", "blue"][namespace], ["web", "four", "other"][name], ips)
        }).collect();
        let cluster = cluster(&services);
        let outside = entries.into_iter().map(|((base, domain), entry)| {
            let domain = OWN.get(domain).copied().unwrap_or("");
            (format!("{}.{domain}", BASES[base]), entry)
        });
        let world = World { cluster: Arc::clone(&cluster), outside: outside.collect(), waits };
        let base = BASES[base];
        let expected = expected(&world, base, &OWN);
        let (_rig, chain) = chain(pods(&cluster, &OWN), world);
        let name = format!("{base}.red.svc.cluster.local.");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for qtype in [RecordType::A, RecordType::AAAA] {
            let answer = runtime.block_on(from_pod(&name, qtype).wait(&chain));
            let message = answer.decoded();
            prop_assert_eq!(message.queries[0].name().to_string(), &*name);
            let rcode = if expected.is_some() { 0 } else { 3 };
            prop_assert_eq!(Header::read(&answer.message).unwrap().rcode(), Rcode(rcode));
            if let Some(record) = message.answers.last() {
                prop_assert_eq!(Some(record.name.to_string()), expected.clone());
            }
        }
    }
}

#[test]
fn arguments() {
    for (text, error) in [
        ("autopath", "no resolv-conf specified"),
        (
            "autopath /nonexistent/resolv.conf",
            "failed to parse \"/nonexistent/resolv.conf\": ",
        ),
        ("autopath @kubernetes {\nx\n}", "unknown property 'x'"),
        (
            "autopath @cache\ncache",
            "cache does not implement the AutoPather interface",
        ),
        (
            "autopath @kubernetes\nautopath @kubernetes",
            "this plugin can only be used once per Server Block",
        ),
        ("autopath a..b @kubernetes", "a..b"),
    ] {
        let found = setup_error(text);
        assert!(found.starts_with("plugin/autopath: Corefile:"), "{found}");
        assert!(found.contains(error), "{found}");
    }
    let logs = Logs::start();
    Rig::new().setup("autopath @erratic").unwrap();
    let lines = logs.take().join("\n");
    assert!(
        lines.contains("erratic is not in this server block"),
        "{lines}"
    );
}

#[test]
fn files_are_found_beside_the_corefile() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("resolv.conf"),
        "search a.example b.example\n",
    )
    .unwrap();
    let directive: Directive = directives("autopath c.example resolv.conf").remove(0);
    let read = |check_only| {
        let config = super::Config::read(&directive, &[], folder.path(), check_only).unwrap();
        assert_eq!(config.zones, zones(&["c.example"]));
        config.source
    };
    assert_eq!(
        read(false),
        Source::Domains(zones(&["a.example", "b.example"]))
    );
    // What is only checked may run elsewhere.
    assert_eq!(read(true), Source::Domains(Vec::new()));
}
