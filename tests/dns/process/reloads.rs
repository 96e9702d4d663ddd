//! Another Corefile while the server runs.

use super::*;
use crate::support::http::{get, status};
use crate::support::process::free_port;
use std::io::Write;
use std::net::TcpListener;

#[test]
fn standard_input_is_read_once() {
    let port = free_port();
    let mut command = Command::new(BINARY);
    command.args(["-conf", "stdin"]).stdin(Stdio::piped());
    let mut server = Portolan::spawn(&mut command);
    let mut input = server.child.stdin.take().unwrap();
    input
        .write_all(fixed(port, "192.0.2.1", "").as_bytes())
        .unwrap();
    drop(input);
    server.wait_for("Portolan-");
    assert_eq!(address(port), "192.0.2.1");
    server.signal("USR1");
    server.wait_for("Reloading complete");
    assert_eq!(address(port), "192.0.2.1");
}

#[test]
fn usr1_reloads_without_the_plugin() {
    let [port, other] = [free_port(), free_port()];
    let conf = Conf::new(&fixed(port, "192.0.2.1", ""));
    let mut server = conf.start();
    // Other listening addresses and other answers.
    conf.write(&(fixed(port, "192.0.2.2", "") + &fixed(other, "192.0.2.3", "")));
    server.signal("USR1");
    server.wait_for("[INFO] Reloading complete");
    assert_eq!(
        (address(port), address(other)),
        ("192.0.2.2".into(), "192.0.2.3".into())
    );
    // One less.
    conf.write(&fixed(other, "192.0.2.4", ""));
    server.signal("USR1");
    server.until("two reloads", |server| {
        server.count("Reloading complete") == 2
    });
    assert_eq!(address(other), "192.0.2.4");
    server.until("the port is given up", |_| silent(port));
    // A mistake, and a file that was emptied, change nothing.
    let mistake =
        conf.path.display().to_string() + ":2 - Error during parsing: Unknown directive 'nope'";
    for (text, error) in [
        (". {\n    nope\n}\n", &*mistake),
        ("", "has no server block"),
    ] {
        conf.write(text);
        server.signal("USR1");
        server.wait_for(error);
        assert_eq!(address(other), "192.0.2.4");
    }
    assert_eq!(server.count("Reloading complete"), 2);
    // The zones and the version are printed at the start only.
    assert_eq!(server.count("Portolan-"), 1);
    assert_eq!(server.count(&format!(".:{other} on")), 0);
}

#[test]
fn a_reload_that_finds_an_address_taken_leaves_nothing_open() {
    let [port, taken, health, other] = [(); 4].map(|()| free_port());
    let at = |health| format!("health 127.0.0.1:{health}");
    let conf = Conf::new(&fixed(port, "192.0.2.1", &at(health)));
    let mut server = conf.start();
    let _taken = TcpListener::bind(local(taken)).unwrap();
    // The endpoint's address could be had, the second block's not; then the other way around.
    let second = fixed(taken, "192.0.2.3", "");
    for text in [
        fixed(port, "192.0.2.2", &at(other)) + &second,
        fixed(port, "192.0.2.2", &at(other)) + &fixed(other, "192.0.2.3", &at(taken)),
    ] {
        conf.write(&text);
        let before = server.count("Address already in use");
        server.signal("USR1");
        server.until("the error", |server| {
            server.count("Address already in use") > before
        });
        assert_eq!(address(port), "192.0.2.1");
        assert_eq!(status(health, "/health"), Some((200, "OK".into())));
        server.until("the new endpoint is closed", |_| {
            TcpStream::connect(local(other)).is_err()
        });
    }
    // The same address again, once it is free.
    drop(_taken);
    conf.write(&(fixed(port, "192.0.2.2", &at(other)) + &second));
    server.signal("USR1");
    server.wait_for("Reloading complete");
    assert_eq!(
        (address(port), address(taken)),
        ("192.0.2.2".into(), "192.0.2.3".into())
    );
    assert_eq!(status(other, "/health"), Some((200, "OK".into())));
    server.until("the old endpoint is closed", |_| {
        TcpStream::connect(local(health)).is_err()
    });
}

/// A volume as the kubelet makes it of a ConfigMap: `Corefile` → `..data/Corefile`, and `..data` is
/// exchanged.
struct ConfigMap {
    folder: TempDir,
    round: std::cell::Cell<u32>,
}

impl ConfigMap {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self {
            folder,
            round: 0.into(),
        };
        this.write(text);
        std::os::unix::fs::symlink("..data/Corefile", this.path()).unwrap();
        this
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("Corefile")
    }

    fn write(&self, text: &str) {
        let round = self.round.replace(self.round.get() + 1);
        let data = format!("..round{round}");
        fs::create_dir(self.folder.path().join(&data)).unwrap();
        fs::write(self.folder.path().join(&data).join("Corefile"), text).unwrap();
        let new = self.folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(&data, &new).unwrap();
        fs::rename(new, self.folder.path().join("..data")).unwrap();
        if let Some(old) = round.checked_sub(1) {
            fs::remove_dir_all(self.folder.path().join(format!("..round{old}"))).unwrap();
        }
    }
}

fn metric(port: u16, series: &str) -> Option<f64> {
    let body = get(port, "/metrics", "*/*").unwrap().body;
    let line = body
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn a_config_map_is_exchanged() {
    let [port, metrics] = [free_port(), free_port()];
    let more = format!("prometheus 127.0.0.1:{metrics}\n    reload 2s 0s");
    let map = ConfigMap::new(&fixed(port, "192.0.2.1", &more));
    let mut server = Portolan::start(&[], &map.path(), &[]);
    server.wait_for("Portolan-");
    assert_eq!(address(port), "192.0.2.1");
    let body = get(metrics, "/metrics", "*/*").unwrap().body;
    assert!(!body.contains("coredns_reload_version_info{"), "{body}");
    let (failed, good) = (
        "coredns_reload_failed_total",
        "portolan_config_last_reload_successful",
    );
    assert_eq!(metric(metrics, good), Some(1.0));

    map.write(&fixed(port, "192.0.2.2", &more));
    server.until("the new answer", |_| address(port) == "192.0.2.2");
    let hashes = |server: &Portolan| {
        let lines = server.printed();
        let hashes = lines.iter().filter_map(|line| line.split_once("SHA512 = "));
        hashes.map(|(_, hash)| hash.to_owned()).collect::<Vec<_>>()
    };
    server.until("its hash", |server| hashes(server).len() == 2);
    let shown = format!(
        "coredns_reload_version_info{{hash=\"sha512\",value=\"{}\"}}",
        hashes(&server)[1]
    );
    server.until("its metric", |_| metric(metrics, &shown) == Some(1.0));

    // It builds, but not whole: told and counted; what ran runs.
    map.write(&fixed(port, "192.0.2.3", &format!("{more}\n    nonsense")));
    server.wait_for("[ERROR] plugin/reload: Corefile changed but reload failed: ");
    assert_eq!(metric(metrics, good), Some(0.0));
    assert!(metric(metrics, failed).unwrap() >= 1.0);
    assert_eq!(address(port), "192.0.2.2");
    // It is none.
    map.write("example {\n");
    server.wait_for("[WARNING] plugin/reload: Corefile parse failed: ");
    assert_eq!(address(port), "192.0.2.2");
    assert_eq!(metric(metrics, good), Some(0.0));

    map.write(&fixed(port, "192.0.2.4", &more));
    server.until("the repaired one", |_| address(port) == "192.0.2.4");
    server.until("the metric", |_| metric(metrics, good) == Some(1.0));
    // Without the plugin nobody looks any more, but for the signal.
    let more = format!("prometheus 127.0.0.1:{metrics}");
    map.write(&fixed(port, "192.0.2.5", &more));
    server.until("the last one", |_| address(port) == "192.0.2.5");
    map.write(&fixed(port, "192.0.2.6", &more));
    server.signal("USR1");
    server.until("the signal's", |_| address(port) == "192.0.2.6");
}

#[test]
fn endpoints_and_caches_survive_a_reload() {
    let [port, outside, health, ready, metrics] = [(); 5].map(|()| free_port());
    let corefile = |address: &str, round: u32| {
        let more = format!(
            "health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}"
        );
        let answers = fixed(outside, address, "");
        format!(
            "# round {round}
.:{port} {{
    bind 127.0.0.1
    {more}
    forward . 127.0.0.1:{outside}
    cache 300
}}
{answers}"
        )
    };
    let conf = Conf::new(&corefile("192.0.2.1", 0));
    let mut server = conf.start();
    assert_eq!(address(port), "192.0.2.1");
    let asked = |path: &'static str,
                 at: u16,
                 stop: &std::sync::Arc<std::sync::atomic::AtomicBool>| {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let said = get(at, path, "*/*").unwrap_or_else(|error| panic!("{path}: {error}"));
                assert_eq!(said.status, 200, "{path}: {}", said.body);
                count += 1;
            }
            count
        })
    };
    let stop = std::sync::Arc::default();
    let polls = [
        ("/health", health),
        ("/ready", ready),
        ("/metrics", metrics),
    ]
    .map(|(path, at)| asked(path, at, &stop));
    for round in 1..=10 {
        // The upstream says something else by now; the cache does not ask it.
        conf.write(&corefile("192.0.2.2", round as u32));
        server.signal("USR1");
        server.until("a reload", |server| {
            server.count("Reloading complete") == round
        });
        assert_eq!(address(port), "192.0.2.1");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for poll in polls {
        assert!(poll.join().unwrap() > 0);
    }
    assert_eq!(address(outside), "192.0.2.2");
    let hits = format!(
        "coredns_cache_hits_total{{server=\"dns://127.0.0.1:{port}\",type=\"success\",zones=\".\",view=\"\"}}"
    );
    assert_eq!(metric(metrics, &hits), Some(10.0));
}
