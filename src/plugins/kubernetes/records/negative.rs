//! Negative answers (RFC 2308): the zone's SOA in the authority section.

use super::Source;
use crate::dns::{Header, Rcode, Reply, Section};

impl Source<'_> {
    /// NODATA, NXDOMAIN, or SERVFAIL while nothing is known yet: with the SOA record of the zone
    /// that starts at label `zone_at` of the question.
    pub(in super::super) fn negative(&self, rcode: Rcode, zone_at: usize, reply: &mut Reply) {
        reply.set_rcode(rcode);
        reply.set_flag(Header::AA, true);
        self.push_soa(Section::Authority, zone_at, reply);
    }
}
