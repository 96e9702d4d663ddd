//! Taking over a message that an upstream sent.

use super::Reply;
use crate::dns::{Header, Query, RecordType, Records, Section, WireError};

impl Reply {
    /// Takes over an upstream's message as the reply: response code, flags (AA, TC, RA, AD),
    /// records and EDNS options; id, question, RD and CD stay the client's.
    ///
    /// # Errors
    /// [`WireError`] where a record of `message` is cut; the reply is empty (started) then.
    pub fn adopt(&mut self, query: &Query<'_>, message: &[u8]) -> Result<(), WireError> {
        self.start(query);
        let adopted = self.adopt_records(message);
        if adopted.is_err() {
            self.start(query);
        }
        adopted
    }

    fn adopt_records(&mut self, message: &[u8]) -> Result<(), WireError> {
        let header = Header::read(message)?;
        let mut records = Records::new(message)?;
        // Pointers into the message stay right only if the records start where ours start.
        if header.counts[0] != 1 || records.offset() != self.records_at {
            return Err(WireError::BadPointer);
        }
        let mut end = records.offset();
        let mut opt = None;
        for record in records.by_ref() {
            let record = record?;
            if record.rtype == RecordType::OPT && record.section == Section::Additional {
                opt = Some(record);
                continue;
            }
            if opt.is_some() {
                // An OPT before other records: it cannot be cut out without moving them. Such
                // messages are legal but unknown in the field; the records behind it are dropped.
                self.flags |= Header::TC;
                break;
            }
            end = record.rdata.end;
            self.counts[record.section as usize] += 1;
        }
        self.buf.extend_from_slice(&message[self.records_at..end]);
        self.flags |= header.bits & (Header::AA | Header::TC | Header::RA | Header::AD);
        self.adopted = true;
        self.rcode = header.rcode();
        if let Some(opt) = opt {
            self.rcode.0 |= ((opt.ttl >> 24) as u16) << 4;
            self.upstream_options.extend_from_slice(&message[opt.rdata]);
        }
        Ok(())
    }

    /// The EDNS options that an upstream sent with the message that was adopted.
    pub fn upstream_options(&self) -> &[u8] {
        &self.upstream_options
    }

    /// Takes the upstream's EDNS options from the reply.
    pub fn clear_upstream_options(&mut self) {
        self.upstream_options.clear();
    }

    /// Puts these EDNS options in the place of the upstream's.
    pub fn set_upstream_options(&mut self, options: &[u8]) {
        self.upstream_options.clear();
        self.upstream_options.extend_from_slice(options);
    }
}
