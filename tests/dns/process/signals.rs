//! Start and end: signals, lameduck, the pidfile, an API server that is not there.

use super::*;
use crate::support::http::status;
use crate::support::process::free_port;
use hickory_proto::op::ResponseCode;

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

/// Case 6 of the inventory; KS-1.
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
