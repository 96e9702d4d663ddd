//! Making a reply ready to send: header, OPT record, truncation.

use super::Reply;
use crate::dns::header::HEADER_LEN;
use crate::dns::{Header, MAX_MESSAGE, Query, Rcode, RecordType, Records, edns};

/// Options of the query that come back in the reply as they were sent.
const ECHOED: [u16; 5] = [
    edns::option::NSID,
    edns::option::EXPIRE,
    edns::option::COOKIE,
    edns::option::KEEPALIVE,
    edns::option::PADDING,
];

impl Reply {
    /// Makes the message ready to send and gives it: header, OPT if the client sent one, and no
    /// longer than `limit` octets (TC set if anything had to go). Call once.
    #[inline]
    pub fn finish(&mut self, query: &Query<'_>, limit: usize) -> &[u8] {
        if self.sealed {
            return &self.buf;
        }
        self.sealed = true;
        let limit = limit.min(MAX_MESSAGE);
        let opt_len = if query.edns().is_some() {
            self.opt_len(query)
        } else {
            0
        };
        if self.buf.len() + opt_len > limit {
            self.truncate(limit.saturating_sub(opt_len));
        }
        if let Some(edns) = query.edns() {
            let (size, dnssec_ok) = (edns.udp_size, edns.dnssec_ok);
            self.write_opt(query, size, dnssec_ok);
        }
        let asked = query.header();
        let copied = asked.bits & (Header::RD | Header::CD | 0x7800);
        let header = Header {
            id: asked.id,
            bits: Header::QR | copied | self.flags | (self.rcode.0 & 0xf),
            counts: [
                1,
                self.counts[0],
                self.counts[1],
                self.counts[2] + u16::from(query.edns().is_some()),
            ],
        };
        self.buf[..HEADER_LEN].copy_from_slice(&header.to_wire());
        &self.buf
    }

    /// Cuts the message after the last record that fits into `limit` octets.
    fn truncate(&mut self, limit: usize) {
        let mut kept = [0u16; 3];
        let mut end = self.records_at;
        for record in Records::at(&self.buf, self.records_at, self.counts).map_while(Result::ok) {
            if record.rdata.end > limit {
                break;
            }
            end = record.rdata.end;
            kept[record.section as usize] += 1;
        }
        self.buf.truncate(end);
        self.counts = kept;
        self.flags |= Header::TC;
    }

    fn echoed<'q>(&self, query: &Query<'q>) -> impl Iterator<Item = (u16, &'q [u8])> {
        edns::options(query.edns_options()).filter(|(code, _)| {
            ECHOED.contains(code) && !edns::options(&self.upstream_options).any(|(c, _)| c == *code)
        })
    }

    fn opt_len(&self, query: &Query<'_>) -> usize {
        let echoed: usize = self.echoed(query).map(|(_, data)| data.len() + 4).sum();
        let errors: usize = self.extended_errors.iter().map(|e| e.text.len() + 6).sum();
        11 + echoed + errors + self.upstream_options.len()
    }

    fn write_opt(&mut self, query: &Query<'_>, udp_size: u16, dnssec_ok: bool) {
        let start = self.buf.len();
        self.buf.push(0);
        self.buf.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
        self.buf.extend_from_slice(&udp_size.to_be_bytes());
        let flags = if dnssec_ok { 0x80 } else { 0 };
        self.buf
            .extend_from_slice(&[(self.rcode.0 >> 4) as u8, 0, flags, 0, 0, 0]);
        self.buf.extend_from_slice(&self.upstream_options);
        for error in &self.extended_errors {
            self.buf
                .extend_from_slice(&edns::option::EXTENDED_ERROR.to_be_bytes());
            self.buf
                .extend_from_slice(&(error.text.len() as u16 + 2).to_be_bytes());
            self.buf.extend_from_slice(&error.code.to_be_bytes());
            self.buf.extend_from_slice(error.text.as_bytes());
        }
        for (code, data) in edns::options(query.edns_options()) {
            let known = edns::options(&self.upstream_options).any(|(c, _)| c == code);
            if ECHOED.contains(&code) && !known {
                self.buf.extend_from_slice(&code.to_be_bytes());
                self.buf
                    .extend_from_slice(&(data.len() as u16).to_be_bytes());
                self.buf.extend_from_slice(data);
            }
        }
        let len = (self.buf.len() - start - 11) as u16;
        self.buf[start + 9..start + 11].copy_from_slice(&len.to_be_bytes());
    }

    /// The reply to a packet that was not accepted: its header alone, with this response code.
    pub fn reject(&mut self, packet: &[u8], rcode: Rcode) -> &[u8] {
        let asked = Header::read(packet).unwrap_or_default();
        let opcode = if rcode == Rcode::NOTIMP {
            asked.bits & 0x7800
        } else {
            0
        };
        let header = Header {
            id: asked.id,
            bits: Header::QR | opcode | asked.bits & (Header::RD | Header::CD) | rcode.0,
            counts: [0; 4],
        };
        self.buf.clear();
        self.buf.extend_from_slice(&header.to_wire());
        &self.buf
    }
}
