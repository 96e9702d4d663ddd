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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::dns::{
        Class, ExtendedError, Header, MAX_MESSAGE, Name, OwnedQuery, Owner, Rcode, RecordType,
        Reply, Section,
    };
    use hickory_proto::op::Message;

    fn query(name: &str) -> OwnedQuery {
        let mut wire = Vec::new();
        crate::dns::name::write_labels(name, &mut wire).unwrap();
        wire.push(0);
        OwnedQuery::ask(&wire, RecordType::A, Class::IN, true)
    }

    fn wire(name: &str) -> Vec<u8> {
        Name::from_text(name).unwrap().wire().to_vec()
    }

    fn lines(reply: &mut Reply, query: &OwnedQuery) -> Vec<String> {
        let message = reply.finish(&query.view(), MAX_MESSAGE);
        let message = Message::from_vec(message).unwrap();
        let question = message.queries[0].name().to_string();
        let sections = [&message.answers, &message.authorities, &message.additionals];
        let records = sections.into_iter().flatten().map(ToString::to_string);
        [question].into_iter().chain(records).collect()
    }

    #[test]
    fn an_alias_leads_to_what_was_answered() {
        let (inner, asked) = (query("Web.example"), query("Web.example.Search.local"));
        let mut reply = Reply::new();
        reply.start(&inner.view());
        reply.set_flag(Header::AA, true);
        reply.set_cluster_data();
        reply.add_extended_error(ExtendedError::new(0, "why"));
        let target = wire("other.example");
        reply.push(
            Section::Answer,
            Owner::Query,
            RecordType::CNAME,
            60,
            &target,
        );
        let a = RecordType::A;
        reply.push(
            Section::Answer,
            Owner::Wire(&target),
            a,
            30,
            &[192, 0, 2, 1],
        );
        let ns = (RecordType::NS, Class::IN);
        reply.push_with(Section::Authority, Owner::Suffix(1), ns, 20, |out| {
            out.label(b"ns");
            out.question_suffix(1);
        });
        let srv = (RecordType::SRV, Class::IN);
        reply.push_with(Section::Additional, Owner::Query, srv, 10, |out| {
            out.octets(&[0; 6]);
            out.question_suffix_in_full(0);
        });
        reply.rename(&asked.view()).unwrap();
        assert!(reply.has_flag(Header::AA) && reply.is_cluster_data());
        assert_eq!(reply.extended_errors().len(), 1);
        assert_eq!(
            lines(&mut reply, &asked),
            [
                "Web.example.Search.local.",
                "Web.example.Search.local. 60 IN CNAME Web.example.",
                "Web.example. 60 IN CNAME other.example.",
                "other.example. 30 IN A 192.0.2.1",
                "example. 20 IN NS ns.example.",
                "Web.example. 10 IN SRV 0 0 0 Web.example.",
            ]
        );
    }

    #[test]
    fn without_a_foreign_owner_there_is_no_alias() {
        let (inner, asked) = (query("web.example"), query("web.example.local"));
        let mut reply = Reply::new();
        reply.start(&inner.view());
        reply.set_rcode(Rcode::NXDOMAIN);
        let ns = wire("ns.example");
        reply.push(Section::Authority, Owner::Suffix(1), RecordType::NS, 5, &ns);
        reply.rename(&asked.view()).unwrap();
        assert_eq!(reply.rcode(), Rcode::NXDOMAIN);
        assert_eq!(
            lines(&mut reply, &asked),
            ["web.example.local.", "example. 5 IN NS ns.example."]
        );
        // Spelled differently it is the same name.
        reply.start(&inner.view());
        let owner = wire("web.example.local");
        reply.push(
            Section::Answer,
            Owner::Wire(&owner),
            RecordType::A,
            5,
            &[1; 4],
        );
        let asked = query("WEB.example.local");
        reply.rename(&asked.view()).unwrap();
        assert_eq!(
            lines(&mut reply, &asked),
            ["WEB.example.local.", "WEB.example.local. 5 IN A 1.1.1.1"]
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_and_what_is_broken_is_told() {
        let (inner, asked) = (query("w.example"), query("w.example.search.local"));
        let mut reply = Reply::new();
        reply.start(&inner.view());
        while reply.push(Section::Answer, Owner::Query, RecordType::A, 5, &[1; 4]) {}
        reply.set_flag(Header::TC, false);
        let before = reply.counts()[0];
        reply.rename(&asked.view()).unwrap();
        assert!(reply.has_flag(Header::TC));
        assert!(reply.len() <= MAX_MESSAGE);
        assert!(reply.counts()[0] > before - 4, "{}", reply.counts()[0]);
        assert_eq!(
            lines(&mut reply, &asked).len(),
            usize::from(reply.counts()[0]) + 1
        );

        reply.start(&inner.view());
        reply.push(Section::Answer, Owner::Query, RecordType::MX, 5, &[0]);
        assert!(reply.rename(&asked.view()).is_err());
        assert_eq!(lines(&mut reply, &asked), ["w.example.search.local."]);
    }
}
