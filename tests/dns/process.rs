//! What an operator sees of the process: command line, output, exit status, signals, reloads.

use crate::support::client::{ask, exchange_udp, question};
use crate::support::http::{get, status};
use crate::support::process::{BINARY, Portolan, free_port};
use hickory_proto::op::ResponseCode;
use portolan::dns::RecordType;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Exit status, standard output, standard error of a command that ends.
fn outcome(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A folder with a Corefile.
struct Conf {
    folder: TempDir,
    path: PathBuf,
}

impl Conf {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Corefile");
        fs::write(&path, text).unwrap();
        Self { folder, path }
    }

    fn write(&self, text: &str) {
        // At once, as a ConfigMap is exchanged: never half a file.
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    fn shown(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn start(&self) -> Portolan {
        let mut server = Portolan::start(&[], &self.path, &[]);
        server.wait_for("Portolan-");
        server
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A server block that answers every A question with `address`.
fn fixed(port: u16, address: &str, more: &str) -> String {
    format!(
        ".:{port} {{
    bind 127.0.0.1
    template IN A . {{
        answer \"{{{{ .Name }}}} 60 IN A {address}\"
    }}
    {more}
}}
"
    )
}

fn address(port: u16) -> String {
    let reply = ask(local(port), &question("www.example.", RecordType::A));
    let answers = reply.answers.iter().map(|record| record.data.to_string());
    answers.collect::<Vec<_>>().join(" ")
}

fn silent(port: u16) -> bool {
    let packet = question("www.example.", RecordType::A);
    exchange_udp(local(port), &packet, Duration::from_millis(300)).is_none()
        && TcpStream::connect(local(port)).is_err()
}

#[test]
fn flags_that_only_tell() {
    for dash in ["-", "--"] {
        let (code, out, err) = outcome(&[&format!("{dash}version")]);
        assert_eq!((code, err.as_str()), (0, ""));
        let lines: Vec<_> = out.lines().collect();
        let version = format!("Portolan-{}", env!("CARGO_PKG_VERSION"));
        assert_eq!((lines.len(), lines[0]), (2, &*version), "{out}");
        assert!(lines[1].starts_with("linux/"), "{out}");
    }
    let (code, out, _) = outcome(&["-plugins"]);
    assert_eq!(code, 0);
    let names: Vec<_> = out.lines().filter_map(|l| l.split(' ').next()).collect();
    let place = |name| names.iter().position(|n| *n == name).unwrap();
    assert!(place("errors") < place("cache") && place("cache") < place("kubernetes"));
    assert!(place("kubernetes") < place("forward"));
    let (code, out, _) = outcome(&["-help"]);
    assert_eq!(code, 0);
    assert!(out.contains("-dns.port, -p PORT") && out.contains("-pidfile FILE"));
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let text = format!("{BINARY} -plugins | true; echo ${{PIPESTATUS[0]}}");
    let output = Command::new("bash").args(["-c", &text]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn command_lines_that_make_no_sense() {
    let (code, out, err) = outcome(&["-nope"]);
    assert_eq!((code, out.as_str()), (2, ""));
    let first = "flag provided but not defined: -nope\n";
    assert!(err.starts_with(first) && err.contains("Usage:"), "{err}");
    let (code, _, err) = outcome(&["-quiet", "Corefile", "more"]);
    assert_eq!(code, 1);
    assert_eq!(err, "extra command line arguments: [Corefile more]\n");
    let (code, _, err) = outcome(&["-conf", "/no/such/Corefile"]);
    assert_eq!(code, 1);
    assert_eq!(
        err,
        "loading Caddyfile via flag: open /no/such/Corefile: No such file or directory (os error 2)\n"
    );
}

#[test]
fn check_tells_what_would_run_and_touches_nothing() {
    let [dns, http] = [free_port(), free_port()];
    // What `-check` must not need is taken.
    let _taken = [dns, http].map(|port| TcpListener::bind(local(port)).unwrap());
    let conf = Conf::new(&format!(
        "b.example:{dns} a.example:{dns} {{
    bind 127.0.0.1
    health 127.0.0.1:{http}
    prometheus 127.0.0.1:{http}
    whoami
    log
    cache 30
}}
"
    ));
    let (code, out, err) = outcome(&["-check", "-conf", conf.shown()]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let wanted = format!(
        "a.example.:{dns} on 127.0.0.1
b.example.:{dns} on 127.0.0.1
dns://127.0.0.1:{dns} b.example. a.example.: prometheus → log → cache → whoami
{}: ok
",
        conf.shown()
    );
    assert_eq!(out, wanted);
}

#[test]
fn check_tells_every_error_with_its_place() {
    let conf = Conf::new(
        ".:1053 {
    nonsense
}
a.example:1053 {
    cache -1
    whoami x
}
",
    );
    let (code, out, err) = outcome(&["-conf", conf.shown(), "-check"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let path = conf.shown();
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines.len(), 3, "{err}");
    assert_eq!(
        lines[0],
        format!("{path}:2 - Error during parsing: Unknown directive 'nonsense'")
    );
    for (line, place) in [
        (
            lines[1],
            format!("plugin/cache: {path}:5 - Error during parsing: "),
        ),
        (
            lines[2],
            format!("plugin/whoami: {path}:6 - Error during parsing: "),
        ),
    ] {
        assert!(line.starts_with(&place), "{line}");
    }
    let conf = Conf::new(". {\n  whoami\n");
    let (code, _, err) = outcome(&["-conf", conf.shown(), "-check"]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("{}:", conf.shown())), "{err}");
    assert!(
        err.contains("Syntax error") || err.contains("Error during parsing"),
        "{err}"
    );
}

#[test]
fn what_cannot_start_ends_with_1() {
    let port = free_port();
    let _taken = TcpListener::bind(local(port)).unwrap();
    for (text, wanted) in [
        (
            fixed(port, "192.0.2.1", ""),
            format!("listen dns://127.0.0.1:{port}: Address already in use (os error 98)"),
        ),
        (
            fixed(
                free_port(),
                "192.0.2.1",
                &format!("health 127.0.0.1:{port}"),
            ),
            format!("listen tcp 127.0.0.1:{port}: Address already in use (os error 98)"),
        ),
        (
            "example.org {\n    whoami\n}\nexample.org {\n    whoami\n}\n".into(),
            "cannot serve dns://example.org.:53 - it is already defined".into(),
        ),
        (
            ". {\n    forwarder . 192.0.2.1\n}\n".into(),
            "Corefile:2 - Error during parsing: Unknown directive 'forwarder'".into(),
        ),
    ] {
        let conf = Conf::new(&text);
        let (code, out, err) = outcome(&["-conf", conf.shown()]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.trim_end().ends_with(&wanted), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn the_order_of_the_first_lines() {
    let [one, two] = [free_port(), free_port()];
    let conf = Conf::new(&format!(
        "z.example:{two} a.example:{two} {{
    bind 127.0.0.1
    whoami
    reload
}}
.:{one} {{
    whoami
}}
"
    ));
    let mut server = conf.start();
    server.wait_for("linux/");
    let lines = server.printed();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    let mut zones = [
        format!(".:{one}"),
        format!("a.example.:{two} on 127.0.0.1"),
        format!("z.example.:{two} on 127.0.0.1"),
    ];
    zones.sort();
    assert_eq!(lines[..3], zones);
    let hash = "[INFO] plugin/reload: Running configuration SHA512 = ";
    assert_eq!(
        lines[3].strip_prefix(hash).map(str::len),
        Some(128),
        "{lines:#?}"
    );
    assert!(lines[4].starts_with("Portolan-"), "{lines:#?}");
    assert!(lines[5].starts_with("linux/"), "{lines:#?}");
}

#[test]
fn quiet_and_pidfile() {
    let port = free_port();
    let conf = Conf::new(&fixed(port, "192.0.2.1", ""));
    let pidfile = conf.folder.path().join("pid");
    let flags = ["-quiet", "-pidfile", pidfile.to_str().unwrap()];
    let mut server = Portolan::start(&[], &conf.path, &flags);
    server.until("a pidfile", |_| pidfile.exists());
    assert_eq!(address(port), "192.0.2.1");
    let pid = format!("{}\n", server.child.id());
    server.until("its content", |_| {
        fs::read_to_string(&pidfile).unwrap() == pid
    });
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(!pidfile.exists());
    let printed = server.printed();
    let line = "[INFO] SIGTERM: Shutting down servers then terminating";
    assert_eq!(printed, [line]);
    // One that cannot be written is an error, but not the end.
    let mut server = Portolan::start(&[], &conf.path, &["-pidfile", "/no/such/folder/pid"]);
    server.wait_for("[ERROR] Could not write pidfile /no/such/folder/pid");
    assert_eq!(address(port), "192.0.2.1");
}

#[test]
fn the_corefile_of_the_working_directory_or_none() {
    let port = free_port();
    let own = fixed(port, "192.0.2.7", "");
    let start = |text: Option<&str>, more: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            fs::write(folder.path().join("Corefile"), text).unwrap();
        }
        let mut command = Command::new(BINARY);
        command
            .args(more)
            .current_dir(folder.path())
            .stdin(Stdio::null());
        let mut server = Portolan::spawn(&mut command);
        server.wait_for("Portolan-");
        (folder, server)
    };
    let (_folder, server) = start(Some(&own), &[]);
    assert_eq!(address(port), "192.0.2.7");
    drop(server);
    // No file, or nothing in it: whoami and log, on the port of the flag.
    for text in [None, Some("# only a comment\n\n")] {
        let port = free_port();
        let (_folder, mut server) = start(text, &["-dns.port", &port.to_string()]);
        assert_eq!(server.printed()[0], format!(".:{port}"));
        let reply = ask(local(port), &question("anything.example.", RecordType::A));
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(reply.additionals.len(), 2, "address and port: whoami");
        server.wait_for("\"A IN anything.example. udp");
    }
}

#[test]
fn the_port_flag_is_for_keys_without_one() {
    let [given, flag] = [free_port(), free_port()];
    let block = |key: &str, address| fixed(0, address, "").replacen(".:0", key, 1);
    let text = block("a.example", "192.0.2.1") + &block(&format!("b.example:{given}"), "192.0.2.2");
    let conf = Conf::new(&text);
    let mut server = Portolan::start(&[], &conf.path, &["-p", &flag.to_string()]);
    server.wait_for("Portolan-");
    for (port, name, wanted) in [
        (flag, "www.a.example.", "192.0.2.1"),
        (given, "www.b.example.", "192.0.2.2"),
    ] {
        let reply = ask(local(port), &question(name, RecordType::A));
        assert_eq!(reply.answers[0].data.to_string(), wanted);
    }
}

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
fn term_with_lameduck() {
    let [port, health, ready, metrics] = [(); 4].map(|()| free_port());
    let more = format!(
        "health 127.0.0.1:{health} {{
        lameduck 3s
    }}
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}"
    );
    let conf = Conf::new(&fixed(port, "192.0.2.1", &more));
    let mut server = conf.start();
    let fine = Some((200, "OK".to_owned()));
    assert_eq!(
        (status(health, "/health"), status(ready, "/ready")),
        (fine.clone(), fine.clone())
    );
    server.signal("TERM");
    server.wait_for("[INFO] plugin/health: Going into lameduck mode for 3s");
    server.until("/ready is closed", |_| {
        TcpStream::connect(local(ready)).is_err()
    });
    // Still the lame duck: else the process has ended, and nothing of this is there.
    assert_eq!(status(health, "/health"), fine);
    assert_eq!(status(metrics, "/metrics").map(|said| said.0), Some(200));
    assert_eq!(address(port), "192.0.2.1");
    assert_eq!(server.ended(), Some(0));
    assert!(silent(port) && status(health, "/health").is_none());
    let printed = server.printed();
    let place = |text| printed.iter().position(|line| line.contains(text)).unwrap();
    assert!(
        place("[INFO] SIGTERM: Shutting down servers then terminating") < place("lameduck"),
        "{printed:#?}"
    );
}

#[test]
fn the_other_signals() {
    let port = free_port();
    let health = free_port();
    let more = format!("health 127.0.0.1:{health} {{\n        lameduck 60s\n    }}");
    let plain = Conf::new(&fixed(port, "192.0.2.1", ""));
    let slow = Conf::new(&fixed(port, "192.0.2.1", &more));

    let mut server = plain.start();
    for name in ["HUP", "USR2", "HUP"] {
        server.signal(name);
        assert_eq!(address(port), "192.0.2.1");
    }
    server.wait_for("SIGUSR2");
    server.signal("INT");
    assert_eq!(server.ended(), Some(0));
    server.wait_for("[INFO] SIGINT: Shutting down");

    // The second one does not wait for what the first one has begun.
    let mut server = slow.start();
    server.signal("INT");
    server.wait_for("lameduck mode");
    server.signal("INT");
    assert_eq!(server.ended(), Some(2));

    let mut server = slow.start();
    server.signal("QUIT");
    assert_eq!(server.ended(), Some(0));
    assert_eq!(server.count("lameduck"), 0);
    server.wait_for("[INFO] SIGQUIT: Quitting process immediately");
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

#[test]
fn an_api_server_that_is_not_there() {
    let [port, api, health, ready] = [(); 4].map(|()| free_port());
    let corefile = |patience: &str| {
        format!(
            ".:{port} {{
    bind 127.0.0.1
    health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    kubernetes cluster.local {{
        endpoint http://127.0.0.1:{api}
        startup_timeout {patience}
    }}
}}
"
        )
    };
    let waiting = Some((503, "kubernetes".to_owned()));
    // While it is waited for, probes are answered and queries are not; the end is at once.
    let conf = Conf::new(&corefile("600s"));
    let mut server = Portolan::start(&[], &conf.path, &[]);
    server.until("/ready", |_| status(ready, "/ready") == waiting);
    assert_eq!(status(health, "/health"), Some((200, "OK".into())));
    assert!(silent(port));
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    // When it was waited for long enough, the server says so and starts.
    let conf = Conf::new(&corefile("500ms"));
    let mut server = Portolan::start(&[], &conf.path, &[]);
    server.wait_for("Portolan-");
    assert_eq!(
        server.count("[WARNING] plugin/kubernetes: starting server with unsynced Kubernetes API"),
        1
    );
    let reply = ask(
        local(port),
        &question("web.default.svc.cluster.local.", RecordType::A),
    );
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(status(ready, "/ready"), waiting);
    server.wait_for("[INFO] plugin/ready: Plugins not ready: \"kubernetes\"");
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
