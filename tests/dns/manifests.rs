//! The example cluster, served by the whole chain of plugins: what is in the files is what is
//! answered, and nothing in between remembers.

use crate::support::client::{ask, question};
use crate::support::server::TestServer;
use hickory_proto::op::{Message, ResponseCode};
use portolan::dns::RecordType;
use portolan::plugins::TABLE;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a change may take to be seen: less than the TTL, so that an answer from a cache fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    folder: TempDir,
    server: TestServer,
}

impl Cluster {
    /// Serves a copy of `examples/cluster` with answers that live for a minute.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cluster");
        for file in fs::read_dir(examples).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let text = format!(
            ".:0 {{
                bind 127.0.0.1
                errors
                kubernetes cluster.local in-addr.arpa ip6.arpa {{
                    manifests {}
                    pods insecure
                    ttl 60
                }}
                cache 60
                loadbalance
            }}",
            folder.path().display()
        );
        let server = TestServer::start(TABLE, &text).await;
        Self { folder, server }
    }

    fn ask(&self, name: &str, qtype: RecordType) -> Message {
        ask(self.server.addr(), &question(name, qtype))
    }

    fn code(&self, name: &str) -> ResponseCode {
        self.ask(name, RecordType::A).metadata.response_code
    }

    /// Asks until the answer has this code.
    async fn wait_for(&self, name: &str, code: ResponseCode) {
        let end = Instant::now() + PATIENCE;
        while self.code(name) != code {
            assert!(Instant::now() < end, "{name} never became {code}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_service_is_gone_at_once() {
    let cluster = Cluster::start().await;
    let name = "webserver.remote.svc.cluster.local.";
    // Twice: the second answer could come from a cache.
    for _ in 0..2 {
        assert_eq!(cluster.code(name), ResponseCode::NoError);
    }
    fs::remove_file(cluster.folder.path().join("remote.yaml")).unwrap();
    cluster.wait_for(name, ResponseCode::NXDomain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_service_is_there_at_once() {
    let cluster = Cluster::start().await;
    let name = "new.remote.svc.cluster.local.";
    for _ in 0..2 {
        assert_eq!(cluster.code(name), ResponseCode::NXDomain);
    }
    let service = "
apiVersion: v1
kind: Service
metadata: {name: new, namespace: remote}
spec: {clusterIP: 10.96.20.99, clusterIPs: [10.96.20.99], ports: [{port: 80}]}
";
    fs::write(cluster.folder.path().join("new.yaml"), service).unwrap();
    cluster.wait_for(name, ResponseCode::NoError).await;
    let answers = cluster.ask(name, RecordType::A).answers;
    assert_eq!(answers.len(), 1);
    assert!(
        answers[0].to_string().ends_with(" 10.96.20.99"),
        "{}",
        answers[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_non_terminal_is_nodata() {
    let cluster = Cluster::start().await;
    let reply = cluster.ask("_tcp.webserver.default.svc.cluster.local.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert_eq!((reply.answers.len(), reply.authorities.len()), (0, 1));
    let below = cluster.ask(
        "_http._tcp.webserver.default.svc.cluster.local.",
        RecordType::SRV,
    );
    assert_eq!(below.answers.len(), 1);
    let unknown = "_gopher._tcp.webserver.default.svc.cluster.local.";
    assert_eq!(cluster.code(unknown), ResponseCode::NXDomain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_stand_in_for_endpoint_slices_that_are_missing() {
    let cluster = Cluster::start().await;
    let reply = cluster.ask("worker.apps.svc.cluster.local.", RecordType::A);
    let mut addresses: Vec<_> = reply
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    addresses.sort();
    assert_eq!(addresses, ["10.244.1.31", "10.244.2.31"]);
    // With a slice, the slice alone counts: db-2 has a pod's address there and is not ready.
    let reply = cluster.ask("db.default.svc.cluster.local.", RecordType::A);
    assert_eq!(reply.answers.len(), 2);
}
