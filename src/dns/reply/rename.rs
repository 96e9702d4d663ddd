//! A reply to one name becomes the reply to another one.

use super::Reply;
use crate::dns::header::{HEADER_LEN, Header};
use crate::dns::normalise::Writer;
use crate::dns::{Class, Query, RecordType, Records, Section, Spelled, WireError};

impl Reply {
    /// Makes this the reply to `query`, which asked for another name than was answered: the
    /// question is that of `query`, and a CNAME record leads from there to the first owner in the
    /// answer section that is another name, with the TTL of its record. Without such an owner there
    /// is no CNAME record. Everything else stays.
    ///
    /// # Errors
    /// [`WireError`] where the rdata of a known type is malformed; the reply is empty then.
    pub fn rename(&mut self, query: &Query<'_>) -> Result<(), WireError> {
        let mut old = std::mem::take(&mut self.spare);
        old.clear();
        old.extend_from_slice(&self.buf);
        let records = Records::at(&old, self.records_at, self.counts);
        let mut buf = std::mem::take(&mut self.buf);
        buf.clear();
        buf.extend_from_slice(&[0; HEADER_LEN]);
        buf.extend_from_slice(query.question());
        self.records_at = buf.len();
        self.counts = [0; 3];
        let mut writer = Writer::new(&old, buf);
        let written = self.rewrite(query, &old, records, &mut writer);
        self.buf = writer.into_out();
        self.spare = old;
        match written {
            Err(WireError::MessageTooLong) => {
                self.flags |= Header::TC;
                Ok(())
            }
            Err(error) => {
                self.clear_records();
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn rewrite(
        &mut self,
        query: &Query<'_>,
        old: &[u8],
        records: Records<'_>,
        writer: &mut Writer<'_>,
    ) -> Result<(), WireError> {
        let asked = Spelled::read(query.packet(), HEADER_LEN)?.0;
        for record in records.clone() {
            let record = record?;
            if record.section != Section::Answer {
                break;
            }
            let owner = Spelled::read(old, record.start)?.0;
            if !owner.wire().eq_ignore_ascii_case(asked.wire()) {
                let cname = (RecordType::CNAME, Class::IN);
                writer.alias(&asked, cname, record.ttl, &owner);
                self.counts[Section::Answer as usize] += 1;
                break;
            }
        }
        for record in records {
            let record = record?;
            writer.record(&record)?;
            self.counts[record.section as usize] += 1;
        }
        Ok(())
    }
}
