//! A client that asks one question at a time, over UDP and TCP, and what it makes of the replies.

use super::questions::Question;
use hickory_proto::op::Message;
use portolan::dns::{Header, Name, RecordType, Records, Section};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);
/// How often a question is asked that is not answered.
const TRIES: u32 = 3;

/// What is compared of a reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub rcode: String,
    pub truncated: bool,
    /// Name, type and rdata of every answer.
    pub answers: BTreeSet<String>,
    /// Targets of aliases in the answer.
    pub targets: BTreeSet<String>,
    /// Names in the answer that have records.
    pub owners: BTreeSet<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rcode)?;
        for answer in self.answers.iter().take(6) {
            let short: String = answer.chars().take(100).collect();
            write!(f, " | {short}")?;
        }
        match self.answers.len() {
            0..=6 => Ok(()),
            more => write!(f, " | … {more} in all"),
        }
    }
}

pub struct Client {
    to: SocketAddr,
    udp: UdpSocket,
    tcp: Option<TcpStream>,
    id: u16,
}

impl Client {
    pub fn to(to: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        udp.connect(to)?;
        udp.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            to,
            udp,
            tcp: None,
            id: 0,
        })
    }

    /// Asks; an error only if there is no reply however often it is asked.
    pub fn ask(&mut self, question: &Question) -> Result<Answer, String> {
        let mut last = String::new();
        for _ in 0..TRIES {
            self.id = self.id.wrapping_add(1);
            let packet = packet(question, self.id)?;
            let reply = match question.tcp {
                true => self.ask_tcp(&packet),
                false => self.ask_udp(&packet),
            };
            match reply
                .map_err(|error| error.to_string())
                .and_then(|reply| read(&reply))
            {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    self.tcp = None;
                    last = error;
                }
            }
        }
        Err(format!("{} does not answer {question}: {last}", self.to))
    }

    fn ask_udp(&mut self, packet: &[u8]) -> io::Result<Vec<u8>> {
        self.udp.send(packet)?;
        let mut buffer = vec![0; 65_535];
        loop {
            let len = self.udp.recv(&mut buffer)?;
            if buffer[..2] == packet[..2] {
                buffer.truncate(len);
                return Ok(buffer);
            }
        }
    }

    fn ask_tcp(&mut self, packet: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = match self.tcp.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.to)?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(packet);
        stream.write_all(&framed)?;
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut reply = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut reply)?;
        self.tcp = Some(stream);
        Ok(reply)
    }
}

fn packet(question: &Question, id: u16) -> Result<Vec<u8>, String> {
    let bits = Header::RD;
    let counts = [1, 0, 0, u16::from(question.edns.is_some())];
    let mut packet = Header { id, bits, counts }.to_wire().to_vec();
    // As it is spelled.
    Name::from_text(&question.name).map_err(|error| format!("{}: {error}", question.name))?;
    for label in question.name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend(question.rtype.0.to_be_bytes());
    packet.extend([0, 1]);
    if let Some(size) = question.edns {
        packet.extend([0, 0, 41]);
        packet.extend(size.to_be_bytes());
        packet.extend([0, 0, if question.dnssec { 0x80 } else { 0 }, 0, 0, 0]);
    }
    Ok(packet)
}

fn read(reply: &[u8]) -> Result<Answer, String> {
    let message = Message::from_vec(reply).map_err(|error| format!("a broken reply: {error}"))?;
    let records = Records::new(reply).map_err(|error| error.to_string())?;
    let mut answer = Answer {
        rcode: format!("{:?}", message.metadata.response_code).to_uppercase(),
        truncated: Header::read(reply).is_ok_and(|header| header.has(Header::TC)),
        ..Answer::default()
    };
    let mut decoded = message.answers.iter();
    for record in records {
        let record = record.map_err(|error| error.to_string())?;
        match record.section {
            Section::Answer => {}
            _ => break,
        }
        let Some(seen) = decoded.next() else {
            return Err("two ways of reading the reply differ".into());
        };
        let owner = seen.name.to_string().to_ascii_lowercase();
        let rdata = reply.get(record.rdata.clone()).unwrap_or_default();
        let text = match record.rtype {
            // Signatures change; what they cover does not.
            RecordType(46) => {
                let covered = rdata.first_chunk::<2>().copied().unwrap_or_default();
                RecordType(u16::from_be_bytes(covered)).to_string()
            }
            RecordType::TXT | RecordType(257) => seen.data.to_string(),
            // Names in rdata in any case.
            RecordType(rtype) if rtype < 48 || rtype == 64 || rtype == 65 => {
                seen.data.to_string().to_ascii_lowercase()
            }
            _ => format!("{rdata:02x?}"),
        };
        if record.rtype == RecordType::CNAME {
            answer.targets.insert(text.clone());
        }
        answer
            .answers
            .insert(format!("{owner} {} {text}", record.rtype));
        answer.owners.insert(owner);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared() {
        let question = Question {
            name: "Www.Example.".into(),
            rtype: RecordType::A,
            edns: Some(1232),
            dnssec: true,
            tcp: false,
        };
        let mut message = packet(&question, 7).unwrap();
        assert!(message.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]));
        message.truncate(message.len() - 11);
        message[2] |= 0x82;
        message[7] = 2;
        message[11] = 0;
        message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01X\xc0\x10");
        message.extend(b"\xc0\x0c\0\x2e\0\x01\0\0\0\x3c\0\x15\0\x05\x0d\x02");
        message.extend([0; 17]);
        let answer = read(&message).unwrap();
        assert!(answer.truncated);
        let answers: Vec<_> = answer.answers.iter().map(String::as_str).collect();
        assert_eq!(
            answers,
            ["www.example. CNAME x.example.", "www.example. RRSIG CNAME"]
        );
        assert!(answer.targets.contains("x.example."));
        assert!(read(&message[..20]).is_err());
    }
}
