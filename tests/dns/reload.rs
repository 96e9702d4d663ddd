//! Reload under load: the Corefile changes under a real load generator, and no query is lost.

use crate::support::process::{Portolan, free_port, have};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn corefile([port, outside]: [u16; 2], ttl: u32, round: u32) -> String {
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cluster");
    format!(
        "# round {round}
.:{port} {{
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa {{
        manifests {manifests}
        pods insecure
        ttl {ttl}
    }}
    prometheus 127.0.0.1:0
    forward . 127.0.0.1:{outside}
    cache 30
    loadbalance
}}
.:{outside} {{
    bind 127.0.0.1
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"
    )
}

#[test]
fn twenty_reloads_under_load_lose_no_query() {
    if !have(&["dnsperf"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("Corefile");
    let ports = [free_port(), free_port()];
    fs::write(&conf, corefile(ports, 30, 0)).unwrap();
    let mut server = Portolan::start(&[], &conf, &[]);
    server.wait_for("Portolan-");
    let questions = folder.path().join("questions");
    fs::write(
        &questions,
        "webserver.default.svc.cluster.local A\nwebserver.default.svc.cluster.local AAAA\n\
         nosuch.default.svc.cluster.local A\ndb.default.svc.cluster.local A\n\
         1.0.96.10.in-addr.arpa PTR\nwww.example.org A\n",
    )
    .unwrap();
    // 8 s at most, 5,000 queries a second at most: loopback only, ends by itself.
    let load = Command::new("dnsperf")
        .args([
            "-s",
            "127.0.0.1",
            "-p",
            &ports[0].to_string(),
            "-d",
            questions.to_str().unwrap(),
        ])
        .args(["-l", "8", "-Q", "5000", "-c", "8", "-t", "2"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let count = |server: &Portolan, text: &str| {
        server
            .printed()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    };
    let (mut good, mut bad) = (0, 0);
    for round in 1..=20 {
        let broken = round % 2 == 0;
        let text = corefile(ports, 5 + round, round);
        let text = if broken {
            text.replace("errors", "no_such_directive")
        } else {
            text
        };
        fs::write(&conf, text).unwrap();
        server.signal("USR1");
        if broken {
            bad += 1
        } else {
            good += 1
        }
        let end = Instant::now() + Duration::from_secs(10);
        while count(&server, "Reloading complete") < good
            || count(&server, "Unknown directive 'no_such_directive'") < bad
        {
            assert!(Instant::now() < end, "{:#?}", server.printed());
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    let report = load.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    let line = |name: &str| {
        let line = report.lines().find(|line| line.contains(name));
        line.unwrap_or_else(|| panic!("no {name} in {report}"))
            .to_owned()
    };
    println!(
        "{}\n{}\n{}",
        line("Queries sent:"),
        line("Queries lost:"),
        line("Response codes:")
    );
    assert!(line("Queries lost:").contains(" 0 ("), "{report}");
    let codes = line("Response codes:");
    assert!(
        codes.contains("NOERROR") && codes.contains("NXDOMAIN"),
        "{codes}"
    );
    assert!(
        !codes.contains("SERVFAIL") && !codes.contains("REFUSED"),
        "{codes}"
    );
    assert_eq!((good, bad), (10, 10));
}
