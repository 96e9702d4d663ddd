//! A zone as messages, one after the other (RFC 5936 §2.2).

use super::Metrics;
use crate::dns::{Class, Header, MAX_MESSAGE, More, OwnedQuery, Owner, RecordType, Reply, Section};
use crate::limits::{TRANSFER_QUERY, TRANSFERS};
use crate::plugin::transfer::{Data, Record, Snapshot};
use std::net::IpAddr;

/// Octets of records after which a message is complete (TR-2).
const MESSAGE: usize = 63_000;

// What follows the records (an OPT record with options of the query, whose length is taken off, and
// an extended error) always fits.
const _: () = assert!(MESSAGE + 1024 < MAX_MESSAGE && TRANSFER_QUERY < MESSAGE / 2);

/// The right to run a transfer; given back when it is dropped.
pub(super) struct Permit(Metrics);

impl Permit {
    /// `None` while as many transfers run as may.
    pub(super) fn take(metrics: &Metrics) -> Option<Self> {
        if metrics.running.add(1) >= TRANSFERS as i64 {
            metrics.running.add(-1);
            metrics.rejected.inc();
            return None;
        }
        Some(Self(metrics.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.add(-1);
    }
}

/// A transfer under way.
pub(super) struct Stream {
    snapshot: Snapshot,
    query: OwnedQuery,
    client: IpAddr,
    /// Where the next record starts.
    at: usize,
    progress: Progress,
    permit: Permit,
}

#[derive(PartialEq, Eq)]
enum Progress {
    Records,
    /// The closing SOA record is written.
    Written,
    /// And the client has taken it.
    Taken,
}

impl Stream {
    pub(super) fn new(
        snapshot: Snapshot,
        query: OwnedQuery,
        client: IpAddr,
        permit: Permit,
    ) -> Self {
        Self {
            snapshot,
            query,
            client,
            at: 0,
            progress: Progress::Records,
            permit,
        }
    }

    /// Writes as many records as a message holds into `reply`, which was started.
    pub(super) fn write(&mut self, reply: &mut Reply) {
        reply.set_flag(Header::AA, true);
        // Options that come back in the OPT record need room.
        let most = MESSAGE - self.query.view().packet().len();
        while let Some((record, next)) = self.snapshot.record(self.at) {
            if !write(&record, self.snapshot.zone().wire().len(), most, reply) {
                return;
            }
            self.at = next;
        }
        if let Some((soa, _)) = self.snapshot.record(0)
            && write(&soa, self.snapshot.zone().wire().len(), most, reply)
        {
            self.progress = Progress::Written;
        }
    }
}

impl More for Stream {
    fn next(&mut self, reply: &mut Reply) -> bool {
        if self.progress != Progress::Records {
            self.progress = Progress::Taken;
            return false;
        }
        let query = self.query.clone();
        let query = query.view();
        reply.start(&query);
        self.write(reply);
        reply.finish(&query, MAX_MESSAGE);
        true
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let metrics = &self.permit.0;
        let (zone, serial) = (self.snapshot.zone(), self.snapshot.serial());
        let client = self.client;
        if self.progress == Progress::Taken {
            metrics.full.inc();
            tracing::info!(
                target: "plugin/transfer",
                "Outgoing transfer of {} records of zone \"{zone}\" to {client} for {serial} SOA serial",
                self.snapshot.len() + 1
            );
        } else {
            metrics.broken.inc();
            tracing::warn!(
                target: "plugin/transfer",
                "Outgoing transfer of zone \"{zone}\" to {client} for {serial} SOA serial ended before the client had all of it"
            );
        }
    }
}

/// Writes a short picture whole, flags included.
pub(super) fn write_all(snapshot: &Snapshot, reply: &mut Reply) {
    reply.set_flag(Header::AA, true);
    let apex = snapshot.zone().wire().len();
    for record in snapshot.records() {
        write(&record, apex, MESSAGE, reply);
    }
}

/// Writes a record whose owner is in the zone that the question names; false if the message would
/// get longer than `most` octets.
fn write(record: &Record<'_>, apex: usize, most: usize, reply: &mut Reply) -> bool {
    let (rdata, tail) = match record.data {
        Data::Whole(rdata) => (rdata, 0),
        Data::InZone(rdata) => (rdata, apex),
    };
    if reply.len() + record.owner.len() + 12 + rdata.len() + tail > most {
        return false;
    }
    // The labels, and a pointer to the question: at most 255 octets and those two.
    let mut owner = [0; 257];
    let (labels, rest) = owner.split_at_mut(record.owner.len());
    labels.copy_from_slice(record.owner);
    rest[..2].copy_from_slice(&[0xc0, 0x0c]);
    let owner = match record.owner {
        [] => Owner::Query,
        labels => Owner::Wire(&owner[..labels.len() + 2]),
    };
    let kind: (RecordType, Class) = (record.rtype, Class::IN);
    reply.push_with(Section::Answer, owner, kind, record.ttl, |out| {
        out.octets(rdata);
        if tail > 0 {
            out.question_suffix_in_full(0);
        }
    })
}
