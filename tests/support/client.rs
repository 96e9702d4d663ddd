//! A DNS client for tests: questions by hand, replies read by an independent codec.

use hickory_proto::op::Message;
use hickory_proto::serialize::binary::BinDecodable;
use portolan::dns::{Class, Name, RecordType};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};

/// How long a reply may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A query with RD set, in the case that `name` is written in.
pub fn query(id: u16, name: &str, qtype: RecordType, qclass: Class) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut wire = Vec::new();
    if name != "." {
        portolan::dns::name::write_labels(name, &mut wire).unwrap();
    }
    wire.push(0);
    assert!(Name::read(&wire, 0).is_ok(), "{name}");
    packet.extend_from_slice(&wire);
    packet.extend_from_slice(&qtype.0.to_be_bytes());
    packet.extend_from_slice(&qclass.0.to_be_bytes());
    packet
}

/// A question of class IN.
pub fn question(name: &str, qtype: RecordType) -> Vec<u8> {
    query(rand::random(), name, qtype, Class::IN)
}

/// Adds an OPT record.
pub fn with_opt(mut packet: Vec<u8>, size: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    packet[11] += 1;
    packet.extend_from_slice(&[0, 0, 41]);
    packet.extend_from_slice(&size.to_be_bytes());
    packet.extend_from_slice(&ttl.to_be_bytes());
    packet.extend_from_slice(&(options.len() as u16).to_be_bytes());
    packet.extend_from_slice(options);
    packet
}

/// Sends a packet over UDP and gives the reply's octets; `None` if none comes within `wait`.
pub fn exchange_udp(server: SocketAddr, packet: &[u8], wait: Duration) -> Option<Vec<u8>> {
    exchange_udp_from(loopback(server), server, packet, wait)
}

/// As [`exchange_udp`], from one of this machine's addresses.
pub fn exchange_udp_from(
    client: &str,
    server: SocketAddr,
    packet: &[u8],
    wait: Duration,
) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((client, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(wait)).unwrap();
    socket.send(packet).unwrap();
    let mut buffer = vec![0; 65_535];
    let len = blocking(|| socket.recv(&mut buffer)).ok()?;
    buffer.truncate(len);
    Some(buffer)
}

/// Waits so that the tasks of the test's runtime, upstreams for one, go on meanwhile.
fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Asks over UDP.
///
/// # Panics
/// If no reply comes, or it is to another query.
pub fn ask(server: SocketAddr, packet: &[u8]) -> Message {
    ask_from(loopback(server), server, packet)
}

fn loopback(server: SocketAddr) -> &'static str {
    if server.is_ipv4() { "127.0.0.1" } else { "::1" }
}

/// Asks over UDP, from one of this machine's addresses.
///
/// # Panics
/// As [`ask`].
pub fn ask_from(client: &str, server: SocketAddr, packet: &[u8]) -> Message {
    let reply = exchange_udp_from(client, server, packet, PATIENCE).expect("a reply over UDP");
    assert_eq!(reply[..2], packet[..2], "the id is echoed");
    Message::from_bytes(&reply).unwrap()
}

/// A TCP connection to a server.
pub struct Tcp(pub TcpStream);

impl Tcp {
    pub fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, packet: &[u8]) {
        let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(packet);
        self.0.write_all(&framed).unwrap();
    }

    pub fn receive(&mut self) -> Message {
        let mut len = [0; 2];
        blocking(|| self.0.read_exact(&mut len)).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
        blocking(|| self.0.read_exact(&mut reply)).unwrap();
        Message::from_bytes(&reply).unwrap()
    }

    pub fn ask(&mut self, packet: &[u8]) -> Message {
        self.send(packet);
        self.receive()
    }
}

/// A reply in lines: header, then each section's records, in the order of the message.
pub fn show(message: &Message) -> String {
    let meta = &message.metadata;
    let mut flags = Vec::new();
    for (on, name) in [
        (meta.authoritative, "aa"),
        (meta.truncation, "tc"),
        (meta.recursion_desired, "rd"),
        (meta.recursion_available, "ra"),
        (meta.authentic_data, "ad"),
        (meta.checking_disabled, "cd"),
    ] {
        if on {
            flags.push(name);
        }
    }
    let mut out = format!("{:?} {}\n", meta.response_code, flags.join(" "));
    for (mark, records) in [
        ("", &message.answers),
        ("authority: ", &message.authorities),
        ("additional: ", &message.additionals),
    ] {
        for record in records {
            out.push_str(&format!("{mark}{record}\n"));
        }
    }
    out
}
