//! What an upstream's message says, as far as *forward* wants to know.

use crate::dns::{Header, Rcode, RecordType, Records};

/// The response code of a well formed message, with the eight bits that EDNS adds (RFC 6891 §6.1.3).
pub(super) fn rcode(message: &[u8]) -> Rcode {
    let header = Header::read(message).unwrap_or_default();
    let records = Records::new(message).into_iter().flatten().flatten();
    let mut options = records.filter(|record| record.rtype == RecordType::OPT);
    let upper = options.next().map_or(0, |opt| (opt.ttl >> 24) as u16);
    Rcode(upper << 4 | header.rcode().0)
}

/// Whether TC is set.
pub(super) fn is_truncated(message: &[u8]) -> bool {
    Header::read(message).is_ok_and(|header| header.has(Header::TC))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dns::{OwnedQuery, RecordType, Reply, Zone};
    use crate::upstream::protocol::{Verdict, judge, truncated};
    use proptest::prelude::*;

    fn is_well_formed(message: &[u8]) -> bool {
        Records::new(message).is_ok_and(|mut records| records.all(|record| record.is_ok()))
    }

    proptest! {
        #[test]
        fn whatever_is_believed_can_be_given_to_the_client(
            bits in any::<u16>(),
            counts in proptest::array::uniform3(0u16..4),
            records in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let name = Zone::from_text("www.example.org").unwrap();
            let class = crate::dns::Class::IN;
            let query = OwnedQuery::ask(name.wire(), RecordType::A, class, true);
            let view = query.view();
            let header = Header { id: 7, bits, counts: [1, counts[0], counts[1], counts[2]] };
            let mut message = header.to_wire().to_vec();
            message.extend_from_slice(view.question());
            message.extend(records);
            prop_assume!(judge(7, view.question(), &message) == Verdict::Reply);
            let mut reply = Reply::new();
            let short = truncated(&message);
            prop_assert!(is_well_formed(&short));
            for message in [&message[..], &short] {
                let adopted = reply.adopt(&view, message);
                prop_assert_eq!(adopted.is_ok(), is_well_formed(message));
                prop_assert!(reply.finish(&view, 512).len() <= 512);
            }
        }
    }
}
