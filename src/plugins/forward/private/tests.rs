#![allow(clippy::unwrap_used)]

use super::*;
use crate::metrics::Registry;
use crate::plugins::testing::{Ask, Rig, ask, is_passed, passed};

fn apex(name: &str) -> Option<String> {
    let name = Name::from_text(name).unwrap();
    let labels = zones::private_apex(&name)?;
    let suffix = name.suffix(name.label_count() - labels);
    Some(Name::read(suffix, 0).unwrap().0.to_string())
}

#[test]
fn the_registry_of_locally_served_zones() {
    let v4 = [
        "10",
        "0",
        "127",
        "168.192",
        "254.169",
        "2.0.192",
        "100.51.198",
        "113.0.203",
        "255.255.255.255",
    ];
    let v4 = v4.map(str::to_owned).into_iter();
    let v4 = v4
        .chain((16..=31).map(|octet| format!("{octet}.172")))
        .chain((64..=127).map(|octet| format!("{octet}.100")));
    let zeros = "0.".repeat(31);
    let v6 = ["d.f", "8.e.f", "9.e.f", "a.e.f", "b.e.f", "8.b.d.0.1.0.0.2"];
    let v6 = v6.map(str::to_owned).into_iter();
    let v6 = v6.chain([
        format!("{zeros}0"),
        format!("1.{zeros}").trim_end_matches('.').into(),
    ]);
    let all = v4.map(|zone| format!("{zone}.in-addr.arpa."));
    let all = all.chain(v6.map(|zone| format!("{zone}.ip6.arpa.")));
    let all: Vec<_> = all
        .chain(["resolver.arpa.", "invalid.", "onion."].map(str::to_owned))
        .collect();
    assert_eq!(all.len(), 9 + 16 + 64 + 8 + 3);
    for zone in &all {
        assert_eq!(apex(zone).as_ref(), Some(zone));
        assert_eq!(apex(&format!("x.1.{zone}")).as_ref(), Some(zone));
        assert_eq!(apex(&zone.to_uppercase()).as_ref(), Some(zone));
        // The zones themselves, and nothing above them.
        let (_, parent) = zone.split_once('.').unwrap();
        if !parent.is_empty() {
            assert_eq!(apex(parent), None, "{parent}");
        }
    }
}

#[test]
fn names_that_public_servers_may_know() {
    for name in [
        ".",
        "arpa",
        "in-addr.arpa",
        "1.1.1.1.in-addr.arpa",
        "15.172.in-addr.arpa",
        "32.172.in-addr.arpa",
        "63.100.in-addr.arpa",
        "128.100.in-addr.arpa",
        "167.192.in-addr.arpa",
        "010.in-addr.arpa",
        "1a.in-addr.arpa",
        "1010.in-addr.arpa",
        "254.255.255.255.in-addr.arpa",
        "c.f.ip6.arpa",
        "7.e.f.ip6.arpa",
        "0.0.0.ip6.arpa",
        "fd.ip6.arpa",
        "9.b.d.0.1.0.0.2.ip6.arpa",
        "10.in-addr.example",
        "10.arpa",
        "home.arpa",
        "printer.local",
        "onion.example",
        "www.example.com",
    ] {
        assert_eq!(apex(name), None, "{name}");
    }
    assert_eq!(apex(&format!("2.{}ip6.arpa", "0.".repeat(31))), None);
}

#[test]
fn which_upstreams_are_public() {
    for (ip, expected) in [
        ("8.8.8.8", true),
        ("2001:4860:4860::8888", true),
        ("100.63.0.1", true),
        ("100.128.0.1", true),
        ("10.0.0.2", false),
        ("172.20.0.10", false),
        ("192.168.1.1", false),
        ("169.254.169.253", false),
        ("127.0.0.1", false),
        ("100.100.2.136", false),
        ("168.63.129.16", false),
        ("161.26.0.10", false),
        ("::ffff:10.0.0.2", false),
        ("::1", false),
        ("fd00:ec2::253", false),
        ("fe80::1", false),
    ] {
        assert_eq!(zones::is_public(ip.parse().unwrap()), expected, "{ip}");
    }
}

/// A question to a block of these directives; `None` if it is forwarded.
fn kept(rig: Rig, text: &str, ask: &Ask) -> Option<Vec<String>> {
    kept_and_counted(rig, text, ask).0
}

fn kept_and_counted(mut rig: Rig, text: &str, ask: &Ask) -> (Option<Vec<String>>, Vec<String>) {
    rig.setup(text).unwrap();
    let chain = rig.chain(passed());
    let answer = ask.now(&chain);
    // Forwarding waits, and what waits here is never sent.
    assert!(!answer.as_ref().is_some_and(is_passed), "{text}");
    let lines = answer.map(|answer| answer.lines());
    (lines, rig.metrics("portolan_forward_kept_total"))
}

const SOA: &str = "nobody.invalid. 1 3600 1200 604800 10800";

#[test]
fn private_zones_are_empty_zones_for_public_upstreams() {
    let text = "forward . 192.0.2.53";
    for (name, qtype, expected) in [
        (
            "5.0.0.10.In-Addr.Arpa",
            RecordType::PTR,
            vec![
                "NXDOMAIN aa".to_owned(),
                format!("NS 10.In-Addr.Arpa. 30 IN SOA 10.In-Addr.Arpa. {SOA}"),
            ],
        ),
        (
            "10.in-addr.arpa",
            RecordType::PTR,
            vec![
                "NOERROR aa".to_owned(),
                format!("NS 10.in-addr.arpa. 30 IN SOA 10.in-addr.arpa. {SOA}"),
            ],
        ),
        (
            "10.in-addr.arpa",
            RecordType::SOA,
            vec![
                "NOERROR aa".to_owned(),
                format!("AN 10.in-addr.arpa. 30 IN SOA 10.in-addr.arpa. {SOA}"),
            ],
        ),
        (
            "10.in-addr.arpa",
            RecordType::NS,
            vec![
                "NOERROR aa".to_owned(),
                "AN 10.in-addr.arpa. 30 IN NS 10.in-addr.arpa.".to_owned(),
            ],
        ),
        (
            "x.onion",
            RecordType::A,
            vec![
                "NXDOMAIN aa".to_owned(),
                format!("NS onion. 30 IN SOA onion. {SOA}"),
            ],
        ),
    ] {
        let (lines, counted) = kept_and_counted(Rig::new(), text, &ask(name, qtype));
        assert_eq!(lines, Some(expected), "{name} {qtype}");
        let [_, private] = &counted[..] else {
            panic!("{counted:?}")
        };
        assert_eq!(private, "portolan_forward_kept_total{reason=\"private\"} 1");
    }
    let parents = ask("10.in-addr.arpa", RecordType::DS);
    assert_eq!(
        kept(Rig::new(), text, &parents),
        None,
        "the parent's record"
    );
    let chaos = ask("5.0.0.10.in-addr.arpa", RecordType::TXT).class(Class(3));
    assert_eq!(kept(Rig::new(), text, &chaos), None, "another class");
}

#[test]
fn who_asked_for_private_zones_gets_them_forwarded() {
    let pointer = ask("5.0.0.10.in-addr.arpa", RecordType::PTR);
    let block = |zone: &str| Rig::new().zones(&[zone]);
    for (zone, text, expected) in [
        (".", "forward . 192.0.2.53 192.0.2.54", true),
        // One of a company, or of a cloud, may know.
        (".", "forward . 192.0.2.53 10.0.0.2", false),
        (".", "forward . 168.63.129.16", false),
        (".", "forward . 10.0.0.2 {\nprivate_zones answer\n}", true),
        (
            ".",
            "forward . 192.0.2.53 {\nprivate_zones forward\n}",
            false,
        ),
        // Somebody wrote the zone down.
        (".", "forward 10.in-addr.arpa 192.0.2.53", false),
        (".", "forward 0.0.10.in-addr.arpa 192.0.2.53", false),
        (".", "forward in-addr.arpa 192.0.2.53", false),
        ("10.in-addr.arpa", "forward . 192.0.2.53", false),
        (
            "10.in-addr.arpa",
            "forward . 192.0.2.53 {\nprivate_zones answer\n}",
            true,
        ),
    ] {
        let found = kept(block(zone), text, &pointer).is_some();
        assert_eq!(found, expected, "{zone} {text}");
    }
}

#[test]
fn leftovers_are_of_services_with_a_search_domain() {
    let zones = |texts: &[&str]| -> Vec<Zone> {
        texts
            .iter()
            .map(|text| Zone::from_text(text).unwrap())
            .collect()
    };
    let all = |cluster: &[&str], own: &[&str]| -> Vec<String> {
        let all = leftovers(&zones(cluster), &zones(own));
        all.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        all(&["cluster.local"], &["ec2.internal", "corp.example"]),
        [
            "svc.",
            "svc.cluster.local.ec2.internal.",
            "pod.cluster.local.ec2.internal.",
            "svc.cluster.local.corp.example.",
            "pod.cluster.local.corp.example.",
        ]
    );
    assert_eq!(
        all(&["prod"], &["corp.example"]),
        ["svc."],
        "could be a name"
    );
    assert_eq!(all(&[], &["corp.example"]), [""; 0], "no cluster");
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(50));
    assert_eq!(all(&["cluster.local"], &[&long]), ["svc."]);
}

#[test]
fn leftovers_are_not_forwarded() {
    let private = |leftovers, public| Private {
        zones: Treatment::Usual,
        leftovers,
        catch_all: true,
        public,
        below: super::leftovers(
            &[Zone::from_text("cluster.local").unwrap()],
            &[Zone::from_text("corp.example").unwrap()],
        )
        .into(),
        kept: [(); 2].map(|()| Registry::new(1).counter("kept_total", "", Vec::new())),
    };
    use Treatment::{Forward, Usual};
    for (name, treatment, public, expected) in [
        (
            "web.shop.svc.cluster.local.corp.example",
            Usual,
            true,
            Some(5),
        ),
        (
            "web.shop.svc.cluster.local.corp.example",
            Usual,
            false,
            Some(5),
        ),
        (
            "10-1-2-3.shop.pod.cluster.local.corp.example",
            Usual,
            false,
            Some(5),
        ),
        (
            "web.shop.svc.cluster.local.corp.example",
            Forward,
            true,
            None,
        ),
        ("svc.cluster.local.corp.example", Usual, true, None),
        ("api.cluster.local.corp.example", Usual, true, None),
        ("web.shop.svc.cluster.local.example", Usual, true, None),
        ("web.shop.svc", Usual, true, Some(1)),
        ("web.shop.svc", Usual, false, None),
        ("svc", Usual, true, None),
        ("www.corp.example", Usual, true, None),
    ] {
        let name = Name::from_text(name).unwrap();
        let found = private(treatment, public).reason(&name);
        let expected = expected.map(|labels| Reason::Leftover { labels });
        assert_eq!(found, expected, "{name} {treatment:?} {public}");
    }
}

#[test]
fn clusters_of_other_blocks_count() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Rig::new().zones(&["cluster.local"]);
    let leftover = ask("web.shop.svc", RecordType::A);
    let text = "forward . 192.0.2.53";
    assert_eq!(kept(cluster.sibling(), text, &leftover), None, "no cluster");
    let manifests = format!("kubernetes {{\nmanifests {}\n}}", folder.path().display());
    cluster.setup(&manifests).unwrap();
    let answer = kept(cluster.sibling().zones(&["."]), text, &leftover).unwrap();
    assert_eq!(answer[0], "NXDOMAIN aa");
    // What the configuration before this one knew does not count.
    let process = std::sync::Arc::clone(&cluster.process);
    drop(cluster);
    let mut after = Rig::new();
    after.process = process;
    assert_eq!(kept(after, text, &leftover), None);
}
