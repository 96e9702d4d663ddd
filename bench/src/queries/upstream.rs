//! The upstream: an authoritative server for every outside name, at the price of an echo.

use portolan::dns::{Header, Owner, Query, RecordType, Reply, Section};
use portolan::net::{Batch, UdpSocket};
use std::time::Duration;

/// The address of every name.
const ADDRESS: [u8; 4] = [192, 0, 2, 1];
const TTL: u32 = 300;

/// Serves 127.0.0.1 at this port until the process is ended.
pub fn serve(port: Option<&str>) -> Result<(), String> {
    let port = port.and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or("--upstream wants a port")?;
    answer_all(&bind(port)?)
}

/// Serves in a thread of this process; gives the port.
pub fn start() -> Result<u16, String> {
    let socket = bind(0)?;
    let port = socket.local().port();
    std::thread::spawn(move || answer_all(&socket));
    Ok(port)
}

fn bind(port: u16) -> Result<UdpSocket, String> {
    UdpSocket::bind(([127, 0, 0, 1], port).into(), Duration::from_secs(60))
        .map_err(|error| format!("127.0.0.1:{port}: {error}"))
}

fn answer_all(socket: &UdpSocket) -> ! {
    let mut batch = Batch::new(32);
    let mut reply = Reply::with_full_capacity();
    loop {
        let Ok(count) = batch.receive(socket) else {
            continue;
        };
        for slot in 0..count {
            let Some(peer) = batch.peer(slot) else {
                continue;
            };
            if answer(batch.packet(slot), &mut reply) {
                let _ = batch.reply(socket, &peer, reply.message());
            }
        }
        let _ = batch.flush(socket);
    }
}

/// Whether there is a reply.
fn answer(packet: &[u8], reply: &mut Reply) -> bool {
    let Ok(query) = Query::read(packet) else {
        return false;
    };
    reply.start(&query);
    reply.set_flag(Header::AA, true);
    if query.qtype() == RecordType::A {
        reply.push(Section::Answer, Owner::Query, RecordType::A, TTL, &ADDRESS);
    }
    reply.finish(&query, query.udp_limit());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_an_address() {
        let query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x02h7\x03net\0\0\x01\0\x01";
        let mut reply = Reply::with_full_capacity();
        assert!(answer(query, &mut reply));
        let message = reply.message();
        assert_eq!(message[..8], [0, 7, 0x85, 0, 0, 1, 0, 1]);
        assert!(message.ends_with(&ADDRESS));
        assert!(!answer(b"short", &mut reply));
    }
}
