//! Messages for tests, made octet by octet.

use portolan::dns::{Header, Name, RecordType};

/// A query for `name` (letter case kept) with RD and this id.
pub fn query(id: u16, name: &str, qtype: RecordType) -> Vec<u8> {
    let header = Header {
        id,
        bits: Header::RD,
        counts: [1, 0, 0, 0],
    };
    let mut packet = header.to_wire().to_vec();
    portolan::dns::name::write_labels(name, &mut packet).unwrap();
    packet.push(0);
    packet.extend(qtype.0.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

/// The same with an OPT record: payload size, DO, options.
pub fn with_opt(mut packet: Vec<u8>, size: u16, dnssec_ok: bool, options: &[u8]) -> Vec<u8> {
    packet[11] += 1;
    packet.extend([0, 0, 41]);
    packet.extend(size.to_be_bytes());
    packet.extend([0, 0, u8::from(dnssec_ok) << 7, 0]);
    packet.extend((options.len() as u16).to_be_bytes());
    packet.extend(options);
    packet
}

/// The reply to `query`: these flag bits and response code besides QR, and `records` (wire form) in
/// the answer section.
pub fn reply(query: &[u8], bits: u16, records: &[&[u8]]) -> Vec<u8> {
    let asked = Header::read(query).unwrap();
    let header = Header {
        id: asked.id,
        bits: Header::QR | (asked.bits & Header::RD) | bits,
        counts: [1, records.len() as u16, 0, 0],
    };
    let mut packet = header.to_wire().to_vec();
    packet.extend(question(query));
    packet.extend(records.concat());
    packet
}

/// An A record whose owner is the name asked for.
pub fn a(ttl: u32, address: [u8; 4]) -> Vec<u8> {
    let mut record = vec![0xc0, 12, 0, 1, 0, 1];
    record.extend(ttl.to_be_bytes());
    record.extend([0, 4]);
    record.extend(address);
    record
}

/// The question of a message.
pub fn question(message: &[u8]) -> &[u8] {
    let (_, end) = Name::read(message, 12).unwrap();
    &message[12..end + 4]
}
