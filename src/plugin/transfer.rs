//! What can be transferred to other servers: zones whose records are known one by one.
//!
//! A plugin that has such zones provides a [`Source`] to the others of its block
//! ([`super::Provided`]); the plugin *transfer* finds it there.

use crate::dns::name::MAX_NAME;
use crate::dns::{RecordType, Zone};
use std::sync::Arc;
use tokio::sync::watch;

/// How often a picture is taken again because the zone changed meanwhile.
const TRIES: usize = 3;

/// Zones that can be transferred.
///
/// What [`Self::serial`] says must never be newer than what [`Self::records`] writes afterwards:
/// secondaries that have the serial are told of no change before it.
pub trait Transferable: Send + Sync + 'static {
    /// The zones.
    fn zones(&self) -> &[Zone];
    /// The serial of their SOA records; `None` while the zones are not complete.
    fn serial(&self) -> Option<u32>;
    /// Wakes when anything in the zones has changed; the value is different then.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Writes the SOA record of one of [`Self::zones`], with this serial.
    fn soa(&self, zone: &Zone, serial: u32, out: &mut Snapshot);
    /// Writes every other record of one of [`Self::zones`]: NS, glue, data.
    fn records(&self, zone: &Zone, out: &mut Snapshot);
}

/// A handle for [`super::Provided`].
#[derive(Clone)]
pub struct Source(pub Arc<dyn Transferable>);

/// The rdata of a record that is to be transferred, names in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'d> {
    /// As it is.
    Whole(&'d [u8]),
    /// It ends in a name of the zone, whose apex is to be appended.
    InZone(&'d [u8]),
}

/// A record of a [`Snapshot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'s> {
    /// The labels of its owner below the apex, in wire form without a root label.
    pub owner: &'s [u8],
    /// Its type.
    pub rtype: RecordType,
    /// Its TTL in seconds.
    pub ttl: u32,
    /// Its rdata.
    pub data: Data<'s>,
}

/// The records of a zone at one moment, packed one behind the other.
#[derive(Clone, Debug)]
pub struct Snapshot {
    zone: Zone,
    serial: u32,
    packed: Vec<u8>,
    count: usize,
}

impl Snapshot {
    /// The SOA record alone.
    pub fn of_soa(source: &dyn Transferable, zone: &Zone, serial: u32) -> Self {
        let mut snapshot = Self {
            zone: zone.clone(),
            serial,
            packed: Vec::new(),
            count: 0,
        };
        source.soa(zone, serial, &mut snapshot);
        snapshot
    }

    /// Takes a picture of one of the source's zones; `None` while it is not complete.
    ///
    /// If the zone changes while that is done, it is done again, three times at most: then the
    /// picture may hold some of what is newer than its serial, which secondaries get again with the
    /// next one. It never lacks what the serial stands for.
    pub fn take(source: &dyn Transferable, zone: &Zone) -> Option<Self> {
        let changes = source.changes();
        let mut tries = 1;
        loop {
            let before = *changes.borrow();
            let serial = source.serial()?;
            let mut snapshot = Self::of_soa(source, zone, serial);
            source.records(zone, &mut snapshot);
            if *changes.borrow() == before || tries == TRIES {
                // It may live for minutes, with a client that is slow.
                snapshot.packed.shrink_to_fit();
                return Some(snapshot);
            }
            tries += 1;
        }
    }

    /// Appends a record. One that no message could carry (a name that is too long together with the
    /// zone's) is left out, and false given.
    pub fn push(&mut self, record: Record<'_>) -> bool {
        let apex = self.zone.wire().len();
        let (rdata, in_zone) = match record.data {
            Data::Whole(rdata) => (rdata, false),
            Data::InZone(rdata) => (rdata, true),
        };
        // At most the fixed part of an SRV record stands before a name of the zone.
        let fits = record.owner.len() + apex <= MAX_NAME
            && rdata.len() <= 4 * MAX_NAME
            && (!in_zone || rdata.len() + apex <= MAX_NAME + 6);
        if !fits {
            return false;
        }
        self.packed.push(record.owner.len() as u8);
        self.packed.extend_from_slice(record.owner);
        self.packed.extend_from_slice(&record.rtype.0.to_be_bytes());
        self.packed.extend_from_slice(&record.ttl.to_be_bytes());
        let len = rdata.len() as u16 | if in_zone { IN_ZONE } else { 0 };
        self.packed.extend_from_slice(&len.to_be_bytes());
        self.packed.extend_from_slice(rdata);
        self.count += 1;
        true
    }

    /// The zone.
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The serial of its SOA record.
    pub const fn serial(&self) -> u32 {
        self.serial
    }

    /// How many records there are, the SOA record counted once.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no record.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The record at a place: zero for the first one (the SOA record), then where the one before it
    /// ended, which is given with each. `None` at the end.
    pub fn record(&self, at: usize) -> Option<(Record<'_>, usize)> {
        let (&owner_len, rest) = self.packed.get(at..)?.split_first()?;
        let (owner, rest) = rest.split_at_checked(owner_len.into())?;
        let (fixed, rest) = rest.split_first_chunk::<8>()?;
        let len = u16::from_be_bytes([fixed[6], fixed[7]]);
        let (rdata, rest) = rest.split_at_checked(usize::from(len & !IN_ZONE))?;
        let record = Record {
            owner,
            rtype: RecordType(u16::from_be_bytes([fixed[0], fixed[1]])),
            ttl: u32::from_be_bytes([fixed[2], fixed[3], fixed[4], fixed[5]]),
            data: if len & IN_ZONE == 0 {
                Data::Whole(rdata)
            } else {
                Data::InZone(rdata)
            },
        };
        Some((record, self.packed.len() - rest.len()))
    }

    /// The records, the SOA record first.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (record, next) = self.record(at)?;
            at = next;
            Some(record)
        })
    }
}

/// Set in the length of rdata that ends in the zone's apex; no rdata is that long.
const IN_ZONE: u16 = 0x8000;
