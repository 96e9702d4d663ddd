//! Classes of replies, by which lines are chosen.

use crate::corefile::{Error, Token};
use crate::dns::{Opcode, Rcode, RecordType, Reply, Section};
use crate::plugin::{Context, Outcome};
use std::time::{SystemTime, UNIX_EPOCH};

/// A set of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes(u8);

impl Classes {
    /// Records, or nothing that says there are none; or a delegation.
    const SUCCESS: Self = Self(1);
    /// The name or the type does not exist, and a SOA record says so.
    const DENIAL: Self = Self(2);
    /// Everything else.
    const ERROR: Self = Self(4);
    const ALL: Self = Self(7);

    /// Adds the class that `token` names.
    ///
    /// # Errors
    /// `invalid Class: …`.
    pub(super) fn add(&mut self, token: &Token) -> Result<(), Error> {
        let class = match token.as_str() {
            "success" => Self::SUCCESS,
            "denial" => Self::DENIAL,
            "error" => Self::ERROR,
            "all" => Self::ALL,
            other => return Err(token.error(format!("invalid Class: {other}"))),
        };
        self.0 |= class.0;
        Ok(())
    }

    /// The set, or all classes if it is empty.
    pub(super) const fn or_all(self) -> Self {
        if self.0 == 0 { Self::ALL } else { self }
    }

    /// Whether the reply's class is in the set.
    pub(super) fn has_class_of(self, cx: &Context<'_>, reply: &Reply, outcome: &Outcome) -> bool {
        self == Self::ALL || self.0 & class_of(cx, reply, outcome).0 != 0
    }
}

fn class_of(cx: &Context<'_>, reply: &Reply, outcome: &Outcome) -> Classes {
    let transfer = matches!(cx.query.qtype(), RecordType::AXFR | RecordType::IXFR);
    if *outcome != Outcome::Written || transfer || cx.query.header().opcode() == Opcode::NOTIFY {
        return Classes::ERROR;
    }
    if cx.query.dnssec_ok() && has_expired_signature(reply) {
        return Classes::ERROR;
    }
    let [answers, authorities, _] = reply.counts();
    if answers > 0 && reply.rcode() == Rcode::NOERROR {
        return Classes::SUCCESS;
    }
    let denied = authorities > 0 && {
        let mut records = reply.records();
        records.any(|r| r.section == Section::Authority && r.rtype == RecordType::SOA)
    };
    match reply.rcode() {
        Rcode::NOERROR | Rcode::NXDOMAIN if denied => Classes::DENIAL,
        Rcode::NOERROR => Classes::SUCCESS,
        _ => Classes::ERROR,
    }
}

/// Whether a signature's time is over, or has not come (RFC 4034 §3.1.5, in serial arithmetic).
fn has_expired_signature(reply: &Reply) -> bool {
    let signatures = reply.records().filter(|r| r.rtype == RecordType::RRSIG);
    let mut times = signatures.filter_map(|record| {
        let rdata = reply.message().get(record.rdata)?;
        let word = |at: usize| Some(u32::from_be_bytes(*rdata.get(at..)?.first_chunk()?));
        Some((word(8)?, word(12)?))
    });
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs() as u32)
    };
    times.any(|(expires, begins)| {
        let now = now();
        let before = |a: u32, b: u32| b.wrapping_sub(a) as i32 > 0;
        before(expires, now) || before(now, begins)
    })
}
