//! What is stored, under which key, for how long, and what a hit looks like.

use super::*;

const WWW: &str = "www.example.org. 300 A 192.0.2.1";
const SOA: &str = "example.org. 600 SOA ns.example.org.";

fn truncated() -> Script {
    Script {
        flags: Header::TC,
        ..answer(&[WWW])
    }
}

fn sections(rcode: u16, answer: &[&'static str], authority: &[&'static str]) -> Script {
    Script {
        rcode,
        records: [answer.to_vec(), authority.to_vec(), vec![]],
        ..Script::default()
    }
}

/// CA-6 to CA-9, CA-16, CA-17: the seconds for which a reply is kept; 0 is not at all.
#[tokio::test]
async fn admission() {
    let alias = "www.example.org. 300 CNAME edge.example.net.";
    let cases: Vec<(&str, &str, Script, u32)> = vec![
        ("an address", "cache", answer(&[WWW]), 300),
        (
            "aliases to an address",
            "cache",
            answer(&[alias, "edge.example.net. 20 A 192.0.2.1"]),
            20,
        ),
        (
            "aliases in any order",
            "cache",
            answer(&["edge.example.net. 20 A 192.0.2.1", alias]),
            20,
        ),
        (
            "an address of another name",
            "cache",
            answer(&[alias, "other.example.net. 20 A 192.0.2.1"]),
            0,
        ),
        ("an alias that leads nowhere", "cache", answer(&[alias]), 0),
        (
            "an alias in a circle",
            "cache",
            answer(&["www.example.org. 300 CNAME www.example.org."]),
            0,
        ),
        (
            "two canonical names",
            "cache",
            answer(&[
                alias,
                "www.example.org. 300 CNAME x.example.net.",
                "x.example.net. 9 A 192.0.2.1",
            ]),
            0,
        ),
        (
            "an alias and an SOA",
            "cache",
            sections(0, &[alias], &[SOA]),
            300,
        ),
        ("NODATA", "cache", denial(0, SOA), 600),
        ("NXDOMAIN", "cache", denial(3, SOA), 600),
        (
            "NXDOMAIN behind an alias",
            "cache",
            sections(3, &[alias], &[SOA]),
            300,
        ),
        ("NXDOMAIN without SOA", "cache", rcode(3), 0),
        (
            "NXDOMAIN, the SOA's minimum below its TTL",
            "cache",
            denial(3, "example.org. 600 SOA ns. 60"),
            60,
        ),
        (
            "NODATA, the SOA's minimum below its TTL",
            "cache",
            denial(0, "example.org. 600 SOA ns. 60"),
            60,
        ),
        (
            "the SOA's minimum above its TTL",
            "cache",
            denial(3, "example.org. 60 SOA ns. 600"),
            60,
        ),
        (
            "the SOA's minimum above the maximum",
            "cache 30",
            denial(3, "example.org. 600 SOA ns. 600"),
            30,
        ),
        (
            "the SOA's minimum below the least TTL",
            "cache\ndenial 1000 300 20",
            denial(3, "example.org. 600 SOA ns. 0"),
            20,
        ),
        (
            "the SOA's minimum of zero, allowed",
            "cache\ndenial 1000 300 0",
            denial(3, "example.org. 600 SOA ns. 0"),
            0,
        ),
        (
            "an alias and the SOA's minimum",
            "cache",
            sections(0, &[alias], &["example.net. 600 SOA ns. 60"]),
            60,
        ),
        (
            "an SOA beside an answer",
            "cache",
            sections(0, &[WWW], &["example.org. 600 SOA ns. 60"]),
            300,
        ),
        ("nothing at all", "cache", rcode(0), 5),
        (
            "a referral",
            "cache",
            sections(0, &[], &["example.org. 600 NS ns.example.org."]),
            5,
        ),
        ("SERVFAIL", "cache", rcode(2), 5),
        ("SERVFAIL, longer", "cache\nservfail 30s", rcode(2), 30),
        ("SERVFAIL, not at all", "cache\nservfail 0", rcode(2), 0),
        ("NOTIMP", "cache", rcode(4), 5),
        ("REFUSED", "cache", rcode(5), 0),
        ("FORMERR", "cache", rcode(1), 0),
        ("a truncated reply", "cache", truncated(), 0),
        (
            "nothing written",
            "cache",
            Script {
                unwritten: true,
                ..Script::default()
            },
            0,
        ),
        (
            "the cluster",
            "cache",
            Script {
                cluster: true,
                ..answer(&[WWW])
            },
            0,
        ),
        (
            "another plugin",
            "cache",
            Script {
                local: true,
                ..answer(&[WWW])
            },
            300,
        ),
        (
            "a TTL of zero",
            "cache",
            answer(&["www.example.org. 0 A 192.0.2.1"]),
            5,
        ),
        (
            "a TTL of zero, allowed",
            "cache\nsuccess 1000 300 0",
            answer(&["www.example.org. 0 A 192.0.2.1"]),
            0,
        ),
        (
            "a negative TTL of zero, allowed",
            "cache\ndenial 1000 300 0",
            denial(3, "example.org. 0 SOA ns."),
            0,
        ),
        ("more than the maximum", "cache 30", answer(&[WWW]), 30),
        ("denial above the maximum", "cache 30", denial(3, SOA), 30),
        (
            "denial above its own maximum",
            "cache\ndenial 1000 60",
            denial(3, SOA),
            60,
        ),
        (
            "a week",
            "cache",
            answer(&["www.example.org. 604800 A 192.0.2.1"]),
            3600,
        ),
        (
            "a week of denial",
            "cache",
            denial(3, "example.org. 604800 SOA ns."),
            1800,
        ),
        (
            "the maximum wins over the least",
            "cache 3",
            answer(&["www.example.org. 1 A 192.0.2.1"]),
            3,
        ),
        (
            "success disabled",
            "cache\ndisable success example.org",
            answer(&[WWW]),
            0,
        ),
        (
            "success disabled elsewhere",
            "cache\ndisable success example.net",
            answer(&[WWW]),
            300,
        ),
        (
            "denial disabled",
            "cache\ndisable denial",
            denial(3, SOA),
            0,
        ),
        (
            "success, denial disabled",
            "cache\ndisable denial",
            answer(&[WWW]),
            300,
        ),
        ("outside the zones", "cache example.net", answer(&[WWW]), 0),
        (
            "within the zones",
            "cache 30 example.net example.org",
            answer(&[WWW]),
            30,
        ),
    ];
    for (what, text, script, kept) in cases {
        let world = World::new(text, vec![script]);
        let question = ask("www.example.org.");
        let first = world.ask(0.0, question).await;
        if kept == 0 {
            world.ask(0.0, question).await;
            assert_eq!(world.asked(), 2, "{what}");
            continue;
        }
        let last = world.ask(f64::from(kept) - 0.01, question).await;
        assert_eq!((last.rcode, world.asked()), (first.rcode, 1), "{what}");
        world.ask(f64::from(kept), question).await;
        assert_eq!(world.asked(), 2, "{what}");
    }
}

#[tokio::test]
async fn transfers_and_notifies_pass() {
    let world = World::new("cache", vec![answer(&[WWW])]);
    for (qtype, bits) in [
        (RecordType::AXFR, 0),
        (RecordType::IXFR, 0),
        (RecordType::A, 4 << 11),
    ] {
        let before = world.asked();
        let question = Ask {
            qtype,
            bits,
            ..ask("www.example.org.")
        };
        world.ask(0.0, question).await;
        world.ask(0.0, question).await;
        assert_eq!(world.asked(), before + 2, "{qtype}");
    }
}

/// CA-4: DO and CD tell entries apart, AD and RD do not; type and class do.
#[tokio::test]
async fn keys() {
    let world = World::new("cache", vec![answer(&[WWW])]);
    let base = ask("www.example.org.");
    let cases = [
        (base, 1),
        (Ask { bits: 0, ..base }, 1),
        (
            Ask {
                bits: Header::AD,
                ..base
            },
            1,
        ),
        (ask("WWW.example.ORG."), 1),
        (
            Ask {
                dnssec: true,
                ..base
            },
            2,
        ),
        (
            Ask {
                bits: Header::CD,
                ..base
            },
            3,
        ),
        (
            Ask {
                bits: Header::CD,
                dnssec: true,
                ..base
            },
            4,
        ),
        (ask("ww.wexample.org."), 5),
        (base, 5),
    ];
    for (at, (question, asked)) in cases.into_iter().enumerate() {
        world.ask(0.0, question).await;
        // The fifth name's answer does not match, so that it is asked each time.
        assert_eq!(world.asked(), asked, "{at}");
    }
}

/// Design §5.2: each record keeps its own TTL, bounded, and all count down.
#[tokio::test]
async fn every_record_counts_its_own_ttl_down() {
    let script = Script {
        records: [
            vec![
                "www.example.org. 9000 CNAME e.example.net.",
                "e.example.net. 20 A 192.0.2.1",
            ],
            vec!["example.net. 2 NS ns.example.net."],
            vec!["ns.example.net. 100 A 192.0.2.2"],
        ],
        ..answer(&[])
    };
    for (text, ttls) in [
        ("cache", [[3600, 20, 5, 100], [3597, 17, 2, 97]]),
        ("cache 30", [[30, 20, 5, 30], [27, 17, 2, 27]]),
        (
            "cache\nsuccess 1000 50 15",
            [[50, 20, 15, 50], [47, 17, 12, 47]],
        ),
        ("cache\nkeepttl", [[3600, 20, 5, 100], [3600, 20, 5, 100]]),
    ] {
        let world = World::new(text, vec![script.clone()]);
        let question = ask("www.example.org.");
        assert_eq!(world.ask(0.0, question).await.ttls(), ttls[0], "{text}");
        assert_eq!(world.ask(3.9, question).await.ttls(), ttls[1], "{text}");
        assert_eq!(world.asked(), 1);
    }
}

/// CA-11, but the cluster's and uncacheable records are only lowered.
#[tokio::test]
async fn ttls_of_what_is_not_stored() {
    let cluster = Script {
        cluster: true,
        ..answer(&[
            "www.example.org. 0 A 192.0.2.1",
            "www.example.org. 60 A 192.0.2.2",
        ])
    };
    let world = World::new("cache 30", vec![cluster]);
    assert_eq!(
        world.ask(0.0, ask("www.example.org.")).await.ttls(),
        [0, 30]
    );
    let cluster = Script {
        cluster: true,
        ..denial(3, "example.org. 60 SOA ns.")
    };
    let world = World::new("cache\ndenial 1000 7", vec![cluster]);
    assert_eq!(world.ask(0.0, ask("www.example.org.")).await.ttls(), [7]);
    let world = World::new(
        "cache 30",
        vec![sections(5, &[], &["example.org. 60 SOA ns."])],
    );
    assert_eq!(world.ask(0.0, ask("www.example.org.")).await.ttls(), [30]);
    let world = World::new(
        "cache 30\ndisable success",
        vec![answer(&["www.example.org. 1 A 192.0.2.1"])],
    );
    assert_eq!(world.ask(0.0, ask("www.example.org.")).await.ttls(), [5]);
}

/// Every client finds its own spelling, the first as well as the later ones.
#[tokio::test]
async fn owners_are_spelled_as_the_client_does() {
    let world = World::new(
        "cache",
        vec![answer(&[
            "www.example.org. 300 CNAME Edge.example.org.",
            "Edge.example.org. 300 A 192.0.2.1",
        ])],
    );
    for name in ["WWW.Example.ORG.", "www.EXAMPLE.org."] {
        let got = world.ask(0.0, ask(name)).await;
        let suffix = &name[4..];
        assert_eq!(
            got.texts(),
            [
                format!("{name} 300 IN CNAME Edge.{suffix}"),
                format!("Edge.{suffix} 300 IN A 192.0.2.1")
            ]
        );
    }
    assert_eq!(world.asked(), 1);
}

/// CA-13 with design §5.2: AA stays away from an upstream's data; AD is for those who ask.
#[tokio::test]
async fn flags() {
    let all = Header::AA | Header::RA | Header::AD;
    let script = |local| Script {
        flags: all,
        local,
        ..answer(&[WWW])
    };
    for (local, hit) in [(false, Header::RA), (true, Header::AA | Header::RA)] {
        let world = World::new("cache", vec![script(local)]);
        let question = ask("www.example.org.");
        assert_eq!(
            world.ask(0.0, question).await.flags,
            Header::AA | Header::RA
        );
        assert_eq!(world.ask(1.0, question).await.flags, hit);
        let wants = Ask {
            bits: Header::AD,
            ..question
        };
        assert_eq!(world.ask(1.0, wants).await.flags, hit | Header::AD);
        let dnssec = Ask {
            dnssec: true,
            ..question
        };
        assert_eq!(world.ask(1.0, dnssec).await.flags, all);
        assert_eq!(world.ask(1.0, dnssec).await.flags, hit | Header::AD);
    }
}

/// AD is stored as the upstream gave it, whoever asked first.
#[tokio::test]
async fn ad_is_stored_for_clients_that_want_it() {
    let world = World::new(
        "cache",
        vec![Script {
            flags: Header::AD,
            ..answer(&[WWW])
        }],
    );
    let question = ask("www.example.org.");
    assert_eq!(world.ask(0.0, question).await.flags, 0);
    let wants = Ask {
        bits: Header::AD,
        ..question
    };
    assert_eq!(world.ask(0.0, wants).await.flags, Header::AD);
    assert_eq!(world.asked(), 1);
}

/// Extended errors pass and are stored; other options of the upstream are not (CA-27).
#[tokio::test]
async fn extended_errors_are_kept() {
    let script = Script {
        options: b"\0\x03\0\x02id\0\x0f\0\x04\0\x16hm",
        ..rcode(2)
    };
    let world = World::new("cache", vec![script]);
    let question = ask("www.example.org.");
    assert_eq!(world.ask(0.0, question).await.errors, [22]);
    assert_eq!(world.ask(1.0, question).await.errors, [22, 13]);
    assert_eq!(world.asked(), 1);
}

/// CA-15.
#[tokio::test]
async fn precedence() {
    let question = ask("www.example.org.");
    // A denial hides what is in the other store; when it ends, that is there again.
    let world = World::new(
        "cache\nprefetch 1 1m 90%",
        vec![answer(&[WWW]), denial(3, "example.org. 10 SOA ns.")],
    );
    assert_eq!(world.ask(0.0, question).await.rcode, 0);
    assert_eq!(world.ask(100.0, question).await.rcode, 0);
    world.settle().await;
    assert_eq!(world.ask(101.0, question).await.rcode, 3);
    assert_eq!(world.asked(), 2);
    assert_eq!(world.metric("coredns_cache_hits_total denial"), 1.0);
    // A SERVFAIL hides nothing.
    let world = World::new("cache\nprefetch 1 1m 90%", vec![answer(&[WWW]), rcode(2)]);
    world.ask(0.0, question).await;
    world.ask(100.0, question).await;
    world.settle().await;
    assert_eq!(world.asked(), 2);
    assert_eq!(world.metric("coredns_cache_entries denial"), 1.0);
    assert_eq!(world.ask(101.0, question).await.rcode, 0);
    // A positive reply ends a denial.
    let world = World::new(
        "cache\nprefetch 1 1m 90%",
        vec![denial(3, SOA), answer(&[WWW])],
    );
    assert_eq!(world.ask(0.0, question).await.rcode, 3);
    assert_eq!(world.ask(100.0, question).await.rcode, 3);
    world.settle().await;
    assert_eq!(world.ask(101.0, question).await.rcode, 0);
    assert_eq!(world.metric("coredns_cache_entries denial"), 0.0);
}

#[tokio::test]
async fn metrics() {
    let world = World::new("cache", vec![answer(&[WWW]), denial(3, SOA)]);
    for at in [0.0, 1.0, 2.0] {
        world.ask(at, ask("www.example.org.")).await;
    }
    for at in [0.0, 1.0] {
        world.ask(at, ask("nosuch.example.org.")).await;
    }
    for (name, value) in [
        ("coredns_cache_requests_total", 5.0),
        ("coredns_cache_misses_total", 2.0),
        ("coredns_cache_hits_total success", 2.0),
        ("coredns_cache_hits_total denial", 1.0),
        ("coredns_cache_entries success", 1.0),
        ("coredns_cache_entries denial", 1.0),
        ("coredns_cache_prefetch_total", 0.0),
        ("coredns_cache_drops_total", 0.0),
        ("coredns_cache_served_stale_total", 0.0),
        ("coredns_cache_evictions_total success", 0.0),
        ("coredns_cache_evictions_total denial", 0.0),
    ] {
        assert_eq!(world.metric(name), value, "{name}");
    }
}

#[tokio::test]
async fn large_replies_are_passed_on() {
    let text = "www.example.org. 300 TXT 0123456789012345678901234567890123456789012345678901234567890123456789";
    let world = World::new("cache", vec![answer(&[text, text, text])]);
    let question = Ask {
        qtype: RecordType::TXT,
        ..ask("www.example.org.")
    };
    assert_eq!(world.ask(0.0, question).await.records.len(), 3);
    assert_eq!(world.ask(0.0, question).await.records.len(), 3);
    assert_eq!(world.asked(), 2);
    assert_eq!(world.metric("portolan_cache_oversize_total"), 2.0);
}

/// RFC 2308 §5, also for the first client: the SOA alone is lowered to its minimum.
#[tokio::test]
async fn a_denial_has_the_soa_minimum() {
    let world = World::new(
        "cache",
        vec![sections(
            3,
            &["www.example.org. 300 CNAME gone.example.org."],
            &["example.org. 600 SOA ns. 60"],
        )],
    );
    for (at, ttls) in [(0.0, [300, 60]), (10.0, [290, 50])] {
        assert_eq!(world.ask(at, ask("www.example.org.")).await.ttls(), ttls);
    }
}

/// The entries survive a reload, unless it asks for another store, or forbids what is stored.
#[tokio::test]
async fn reload_keeps_the_entries() {
    let cases = [
        ("cache 30", 0),
        ("cache 31", 0),
        ("cache 300", 0),
        ("cache 29", 1),
        (
            "cache 30\nsuccess 10000 30 20\nprefetch 10\nserve_stale\nservfail 1s",
            0,
        ),
        ("cache 30\nsuccess 10000 20", 1),
        ("cache 30\nsuccess 20000", 1),
        ("cache 30\nmemory 64Mi", 1),
        ("cache 30\ndisable success example.org", 1),
        ("cache 30\ndisable success example.net\ndisable denial", 0),
        ("cache 30 example.org", 1),
    ];
    for (text, asked) in cases {
        let old = World::new("cache 30", vec![answer(&[WWW])]);
        old.ask(0.0, ask("www.example.org.")).await;
        let mut new = World::within(Arc::clone(&old.process), text, vec![answer(&[WWW])]);
        new.base = old.base;
        new.ask(1.0, ask("www.example.org.")).await;
        assert_eq!(new.asked(), asked, "{text}");
    }
}
