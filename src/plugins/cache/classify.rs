//! What kind of reply a reply is (RFC 2308 §2, rules CA-6 to CA-8).

use crate::dns::{Class, Header, Name, Query, Rcode, Record, RecordType, Reply, Section};

/// Aliases that are followed within one reply.
const CHAIN: usize = 32;

/// The kinds of replies, as the cache treats them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Positive; whether it has records of the type asked for at the end of its aliases.
    Success { answering: bool },
    /// A referral: name servers in the authority section, and no SOA.
    Delegation,
    /// The name or the type does not exist, and an SOA says so.
    Denial,
    /// SERVFAIL or NOTIMP.
    Failure,
    /// Not to be stored: an error, a denial without an SOA, aliases that lead nowhere, a
    /// truncated reply.
    Other,
}

/// The kind of `reply`, which answers `query`.
pub(super) fn classify(query: &Query<'_>, reply: &Reply) -> Kind {
    if reply.has_flag(Header::TC) {
        return Kind::Other;
    }
    let authority = |rtype| {
        reply
            .records()
            .any(|record| record.section == Section::Authority && record.rtype == rtype)
    };
    match reply.rcode() {
        Rcode::NOERROR if reply.counts()[0] > 0 => {
            if answers(query, reply) {
                Kind::Success { answering: true }
            } else if authority(RecordType::SOA) {
                Kind::Denial
            } else {
                Kind::Other
            }
        }
        Rcode::NOERROR | Rcode::NXDOMAIN if authority(RecordType::SOA) => Kind::Denial,
        Rcode::NOERROR if authority(RecordType::NS) => Kind::Delegation,
        Rcode::NOERROR => Kind::Success { answering: false },
        Rcode::SERVFAIL | Rcode::NOTIMP => Kind::Failure,
        _ => Kind::Other,
    }
}

/// Whether the answer section has what was asked for, at the name that the aliases lead to.
fn answers(query: &Query<'_>, reply: &Reply) -> bool {
    let message = reply.message();
    let of_class = |class| query.qclass() == Class::ANY || class == query.qclass().0;
    let answer = || {
        reply
            .records()
            .take_while(|record| record.section == Section::Answer)
            .filter(|record| of_class(record.class))
    };
    let owned = |record: &Record, owner: &Name| {
        Name::read(message, record.start).is_ok_and(|(name, _)| name == *owner)
    };
    if query.qtype() == RecordType::ANY {
        return answer().any(|record| owned(&record, query.name()));
    }
    let mut owner = query.name().clone();
    for _ in 0..CHAIN {
        let mut target: Option<Name> = None;
        for record in answer().filter(|record| record.rtype == RecordType::CNAME) {
            if !owned(&record, &owner) {
                continue;
            }
            match (Name::read(message, record.rdata.start), &target) {
                (Err(_), _) => return false,
                // An alias has one canonical name (RFC 2181 §10.1).
                (Ok((name, _)), Some(other)) if name != *other => return false,
                (Ok((name, _)), _) => target = Some(name),
            }
        }
        match target {
            Some(_) if query.qtype() == RecordType::CNAME => return true,
            Some(name) => owner = name,
            None => {
                return answer()
                    .any(|record| record.rtype == query.qtype() && owned(&record, &owner));
            }
        }
    }
    false
}
