//! A view over a received query, and the rules by which it is accepted.

use super::edns;
use super::header::{HEADER_LEN, Header};
use super::{Class, Edns, Name, Opcode, Rcode, RecordType, Records, Section, WireError};
use smallvec::SmallVec;

/// A query as received: the packet with its question and OPT record located.
///
/// Holds no copy of the packet but the lower-cased name. What was checked once on reading stays
/// true: exactly one question, and every record lies within the packet.
#[derive(Clone, Debug)]
pub struct Query<'p> {
    packet: &'p [u8],
    header: Header,
    name: Name,
    qtype: RecordType,
    qclass: Class,
    question_end: usize,
    edns: Option<Edns>,
}

/// What becomes of a packet that is not accepted as a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// No reply: too short, or a response.
    Drop,
    /// A reply of only a header with this response code.
    Reply(Rcode),
}

impl From<WireError> for Reject {
    fn from(_: WireError) -> Self {
        Self::Reply(Rcode::FORMERR)
    }
}

impl<'p> Query<'p> {
    /// Reads a packet by the rules of acceptance: QUERY or NOTIFY, one question, at most one
    /// record in answer and authority, two in additional.
    ///
    /// # Errors
    /// What to do with the packet instead of answering it.
    #[inline]
    pub fn read(packet: &'p [u8]) -> Result<Self, Reject> {
        let mut query = Self::unread(packet);
        query.read_here()?;
        Ok(query)
    }

    /// A query that [`Self::read_here`] is still to read. (With the name in it, it is long to copy:
    /// this is for reading it where it is to stay.)
    #[inline]
    pub(crate) const fn unread(packet: &'p [u8]) -> Self {
        Self {
            packet,
            header: Header {
                id: 0,
                bits: 0,
                counts: [0; 4],
            },
            name: Name::root(),
            qtype: RecordType(0),
            qclass: Class(0),
            question_end: 0,
            edns: None,
        }
    }

    /// As [`Self::read`], once. After an error it is no query.
    ///
    /// # Errors
    /// As [`Self::read`].
    #[inline]
    pub(crate) fn read_here(&mut self) -> Result<(), Reject> {
        let packet = self.packet;
        let header = Header::read(packet).map_err(|_| Reject::Drop)?;
        if header.has(Header::QR) {
            return Err(Reject::Drop);
        }
        if !matches!(header.opcode(), Opcode::QUERY | Opcode::NOTIFY) {
            return Err(Reject::Reply(Rcode::NOTIMP));
        }
        let [questions, answers, authorities, additionals] = header.counts;
        if questions != 1 || answers > 1 || authorities > 1 || additionals > 2 {
            return Err(Reject::Reply(Rcode::FORMERR));
        }
        self.header = header;
        let end = self.name.read_here(packet, HEADER_LEN)?;
        // A pointer could only lead into the header, which the reply does not repeat.
        if end - HEADER_LEN != self.name.wire().len() {
            return Err(WireError::BadPointer.into());
        }
        let fixed = packet
            .get(end..)
            .and_then(|rest| rest.first_chunk::<4>())
            .ok_or(WireError::UnexpectedEnd)?;
        self.qtype = RecordType(u16::from_be_bytes([fixed[0], fixed[1]]));
        self.qclass = Class(u16::from_be_bytes([fixed[2], fixed[3]]));
        self.question_end = end + 4;
        if answers + authorities + additionals > 0 {
            self.read_records()?;
        }
        Ok(())
    }

    fn read_records(&mut self) -> Result<(), WireError> {
        let [_, answers, authorities, additionals] = self.header.counts;
        let counts = [answers, authorities, additionals];
        for record in Records::at(self.packet, self.question_end, counts) {
            let record = record?;
            if record.rtype != RecordType::OPT || record.section != Section::Additional {
                Name::read(self.packet, record.start)?;
                continue;
            }
            edns::check_options(&self.packet[record.rdata.clone()])?;
            self.edns = Some(Edns {
                offset: record.start,
                udp_size: record.class,
                version: (record.ttl >> 16) as u8,
                dnssec_ok: record.ttl & 0x8000 != 0,
                options: record.rdata,
            });
        }
        Ok(())
    }

    /// The packet as received.
    #[inline]
    pub const fn packet(&self) -> &'p [u8] {
        self.packet
    }

    /// The header as received.
    #[inline]
    pub const fn header(&self) -> Header {
        self.header
    }

    /// The name asked for, in lower case.
    #[inline]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The type asked for.
    #[inline]
    pub const fn qtype(&self) -> RecordType {
        self.qtype
    }

    /// The class asked for.
    #[inline]
    pub const fn qclass(&self) -> Class {
        self.qclass
    }

    /// The question as received: name in the client's case, type, class.
    #[inline]
    pub fn question(&self) -> &'p [u8] {
        &self.packet[HEADER_LEN..self.question_end]
    }

    /// The name in wire form in the client's own case.
    #[inline]
    pub fn name_as_typed(&self) -> &'p [u8] {
        &self.packet[HEADER_LEN..self.question_end - 4]
    }

    /// The OPT record, if the client sent one.
    #[inline]
    pub const fn edns(&self) -> Option<&Edns> {
        self.edns.as_ref()
    }

    /// The data of the EDNS options, empty where there is no OPT record.
    #[inline]
    pub fn edns_options(&self) -> &'p [u8] {
        match &self.edns {
            Some(edns) => &self.packet[edns.options.clone()],
            None => &[],
        }
    }

    /// The DO bit.
    #[inline]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.dnssec_ok)
    }

    /// Lowers the UDP payload size that the client offers to `limit`; nothing without an OPT.
    pub fn cap_udp_size(&mut self, limit: u16) {
        if let Some(edns) = &mut self.edns {
            edns.udp_size = edns.udp_size.min(limit);
        }
    }

    /// The largest UDP reply: the advertised size, at least 512 octets (RFC 6891 §6.2.3).
    #[inline]
    pub fn udp_limit(&self) -> usize {
        self.edns
            .as_ref()
            .map_or(512, |edns| usize::from(edns.udp_size.max(512)))
    }

    /// The same query for another name (wire form): `packet` holds it. `None` where that is no name.
    pub fn renamed<'n>(
        &self,
        name: &[u8],
        packet: &'n mut SmallVec<[u8; PACKET]>,
    ) -> Option<Query<'n>> {
        packet.clear();
        write_question(self, name, (self.qtype, self.qclass), packet);
        let mut query = Query::read(packet).ok()?;
        if let Some(edns) = &self.edns {
            query.cap_udp_size(edns.udp_size);
        }
        Some(query)
    }

    /// A copy that can wait: for queries that are answered later.
    pub fn to_owned(&self) -> OwnedQuery {
        OwnedQuery {
            packet: self.packet.into(),
            udp_size: self.edns.as_ref().map(|edns| edns.udp_size),
        }
    }
}

/// Octets of the queries that are written on the stack.
pub const PACKET: usize = 512;

/// Writes the message of `query` with another question: same flags and OPT record.
fn write_question(
    query: &Query<'_>,
    name: &[u8],
    (qtype, qclass): (RecordType, Class),
    packet: &mut SmallVec<[u8; PACKET]>,
) {
    let old = query.packet();
    packet.extend_from_slice(&old[..HEADER_LEN]);
    packet[4..HEADER_LEN].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(name);
    packet.extend_from_slice(&qtype.0.to_be_bytes());
    packet.extend_from_slice(&qclass.0.to_be_bytes());
    if let Some(edns) = query.edns() {
        packet.extend_from_slice(&old[edns.offset..edns.options.end]);
        packet[11] = 1;
    }
}

/// A query that owns its packet.
#[derive(Clone, Debug)]
pub struct OwnedQuery {
    packet: Box<[u8]>,
    udp_size: Option<u16>,
}

impl OwnedQuery {
    /// Takes a packet that [`Query::read`] accepts.
    ///
    /// # Errors
    /// What [`Query::read`] says of it.
    pub fn new(packet: impl Into<Box<[u8]>>) -> Result<Self, Reject> {
        let packet = packet.into();
        let udp_size = Query::read(&packet)?.edns().map(|edns| edns.udp_size);
        Ok(Self { packet, udp_size })
    }

    /// A question made by the server itself: one question, RD as given, no OPT.
    pub fn ask(name: &[u8], qtype: RecordType, qclass: Class, recurse: bool) -> Self {
        let header = Header {
            id: 0,
            bits: if recurse { Header::RD } else { 0 },
            counts: [1, 0, 0, 0],
        };
        let mut packet = header.to_wire().to_vec();
        packet.extend_from_slice(name);
        packet.extend_from_slice(&qtype.0.to_be_bytes());
        packet.extend_from_slice(&qclass.0.to_be_bytes());
        Self {
            packet: packet.into(),
            udp_size: None,
        }
    }

    /// The same message with another question (same flags and OPT record): what the server asks
    /// itself on behalf of a client.
    pub fn with_question(query: &Query<'_>, name: &[u8], qtype: RecordType, qclass: Class) -> Self {
        let mut packet = SmallVec::new();
        write_question(query, name, (qtype, qclass), &mut packet);
        Self {
            packet: packet.into_boxed_slice(),
            udp_size: query.edns().map(|edns| edns.udp_size),
        }
    }

    /// The view over it. A packet that was made from no query at all is the root name's.
    pub fn view(&self) -> Query<'_> {
        // The packet was read before, or was made by the functions above: it is accepted again.
        let mut query = Query::read(&self.packet).unwrap_or_else(|_| Query {
            packet: &[0; HEADER_LEN + 5],
            header: Header::default(),
            name: Name::root(),
            qtype: RecordType(0),
            qclass: Class(0),
            question_end: HEADER_LEN + 5,
            edns: None,
        });
        if let Some(size) = self.udp_size {
            query.cap_udp_size(size);
        }
        query
    }
}
