//! A scripted secondary that is told of changes.

use super::{receive_all, records, serial};
use crate::support::client::{PATIENCE, Tcp, question};
use crate::support::server::TestServer;
use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::RecordType as Type;
use hickory_proto::serialize::binary::BinDecodable;
use portolan::dns::{Header, RecordType};
use portolan::plugins::TABLE;
use std::fs;
use std::net::{SocketAddr, UdpSocket};

struct Secondary(UdpSocket);

impl Secondary {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 1500];
        let (len, from) = self.0.recv_from(&mut buffer).expect("a NOTIFY");
        (buffer[..len].to_vec(), from)
    }

    /// Takes a NOTIFY and accepts it.
    fn accept(&self) -> (Message, SocketAddr) {
        let (packet, from) = self.receive();
        let message = Message::from_bytes(&packet).unwrap();
        assert_eq!(message.metadata.op_code, OpCode::Notify);
        assert!(message.metadata.authoritative);
        let query = &message.queries[0];
        assert_eq!(query.name().to_string(), "cluster.local.");
        assert_eq!(query.query_type(), Type::SOA);
        let mut reply = packet;
        reply[2] |= (Header::QR >> 8) as u8;
        self.0.send_to(&reply, from).unwrap();
        (message, from)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_is_announced_and_then_transferred() {
    let secondary = Secondary::new();
    let folder = tempfile::tempdir().unwrap();
    fs::copy(super::manifest(), folder.path().join("zone.yaml")).unwrap();
    let text = format!(
        "cluster.local:0 {{
            bind 127.0.0.1
            kubernetes {{
                manifests {}
            }}
            transfer {{
                to {}
                source 127.0.0.2
            }}
        }}",
        folder.path().display(),
        secondary.0.local_addr().unwrap()
    );
    let server = TestServer::start(TABLE, &text).await;
    let (told, from) = secondary.accept();
    assert_eq!(from.ip().to_string(), "127.0.0.2");
    // Listed by its address; the port is only where NOTIFY goes.
    let take = || {
        let mut connection = Tcp::connect(server.addr());
        connection.send(&question("cluster.local.", RecordType::AXFR));
        receive_all(&mut connection)
    };
    let before = take();
    assert_eq!(serial(&told), serial(&before[0]));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: late, namespace: default}\n\
        spec: {clusterIP: 10.96.0.77, clusterIPs: [10.96.0.77]}\n";
    fs::write(folder.path().join("late.yaml"), service).unwrap();
    let (told, _) = secondary.accept();
    assert!(serial(&told) > serial(&before[0]));
    let after = take();
    assert!(serial(&after[0]) >= serial(&told));
    let late = "late.default.svc.cluster.local. 5 IN A 10.96.0.77".to_owned();
    assert!(records(&after).contains(&late));
    assert!(!records(&before).contains(&late));
    let end = std::time::Instant::now() + PATIENCE;
    let accepted = "portolan_transfer_notifies_total{result=\"accepted\"}";
    while server.metric(accepted) < Some(2.0) {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
