//! Questions over UDP and what matters of the replies, for clients that check them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Type A.
pub const A: u16 = 1;
/// Type SRV.
pub const SRV: u16 = 33;

/// How long a reply is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
const HEADER: usize = 12;

/// What a reply says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub id: u16,
    /// The response code.
    pub code: u8,
    /// Records of the answer section.
    pub answers: u16,
    /// Of its A records, in ascending order.
    pub addresses: Vec<Ipv4Addr>,
}

/// A query with EDNS (1232 octets). Labels must not be longer than 63 octets.
pub fn query(id: u16, name: &str, qtype: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut out = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend(qtype.to_be_bytes());
    out.extend([0, 1]);
    out.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    out
}

/// Reads a reply; `None` if it is none, or broken.
pub fn parse(reply: &[u8]) -> Option<Reply> {
    let word = |at: usize| Some(u16::from_be_bytes([*reply.get(at)?, *reply.get(at + 1)?]));
    let (questions, answers) = (word(4)?, word(6)?);
    if reply.get(2)? & 0x80 == 0 {
        return None;
    }
    let mut at = HEADER;
    for _ in 0..questions {
        at = skip_name(reply, at)? + 4;
    }
    let mut addresses = Vec::with_capacity(answers.into());
    for _ in 0..answers {
        at = skip_name(reply, at)?;
        let (rtype, len) = (word(at)?, usize::from(word(at + 8)?));
        let rdata = reply.get(at + 10..at + 10 + len)?;
        if rtype == A {
            addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(rdata).ok()?));
        }
        at += 10 + len;
    }
    addresses.sort_unstable();
    Some(Reply {
        id: word(0)?,
        code: reply.get(3)? & 15,
        answers,
        addresses,
    })
}

fn skip_name(reply: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *reply.get(at)? {
            0 => return Some(at + 1),
            len if len >= 0xc0 => return Some(at + 2),
            len => at += usize::from(len) + 1,
        }
    }
}

/// A client that asks one question at a time.
pub struct Client {
    socket: UdpSocket,
    id: u16,
}

impl Client {
    /// A client of a server.
    pub fn to(server: SocketAddr) -> Result<Self, String> {
        let connect = || -> std::io::Result<UdpSocket> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let socket = connect().map_err(|error| error.to_string())?;
        Ok(Self { socket, id: 0 })
    }

    /// Asks for addresses.
    pub fn ask(&mut self, name: &str) -> Result<Reply, String> {
        self.ask_type(name, A)
    }

    /// Asks, and waits for the reply.
    pub fn ask_type(&mut self, name: &str, qtype: u16) -> Result<Reply, String> {
        self.id = self.id.wrapping_add(1);
        let mut buffer = [0; 2048];
        let error = |error: std::io::Error| format!("{name}: {error}");
        self.socket
            .send(&query(self.id, name, qtype))
            .map_err(error)?;
        loop {
            let len = self.socket.recv(&mut buffer).map_err(error)?;
            match parse(buffer.get(..len).unwrap_or_default()) {
                Some(reply) if reply.id == self.id => return Ok(reply),
                Some(_) => {}
                None => return Err(format!("{name}: a broken reply")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_replies() {
        let mut message = query(0x0102, "a.bc.", A);
        assert_eq!(
            &message[12..22],
            b"\x01a\x02bc\0\0\x01\0\x01"[..].get(..10).unwrap()
        );
        message.truncate(12 + 6 + 4);
        assert_eq!(parse(&message), None, "a query");
        message[2] = 0x85;
        message[3] = 0x80;
        message[7] = 2;
        message[11] = 0;
        for last in [9, 7] {
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 0, 0, last]);
        }
        let reply = parse(&message).unwrap();
        assert_eq!((reply.id, reply.code, reply.answers), (0x0102, 0, 2));
        assert_eq!(
            reply.addresses,
            [[10, 0, 0, 7], [10, 0, 0, 9]].map(Ipv4Addr::from)
        );
        for len in 0..message.len() {
            assert_eq!(parse(&message[..len]), None, "{len}");
        }
    }
}
