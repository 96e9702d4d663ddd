//! The order of the records of a reply (LB-1 to LB-4).
//!
//! In each section: aliases, then whatever is neither alias, address nor MX, both in their order,
//! then addresses and MX, shuffled. Nearly every reply has its records in these groups already, and
//! addresses that can change places octet by octet; then nothing is allocated.

use super::weighted::Weights;
use crate::dns::{Name, Normalised, Record, RecordType, Reply, Section};
use crate::plugins::random::Random;
use ipnet::IpNet;
use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::Range;

/// The groups, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Alias,
    Other,
    Address,
    Exchange,
}

impl Group {
    const fn of(rtype: RecordType) -> Self {
        match rtype {
            RecordType::CNAME => Self::Alias,
            RecordType::A | RecordType::AAAA => Self::Address,
            RecordType::MX => Self::Exchange,
            _ => Self::Other,
        }
    }
}

/// What a thread uses again and again. It grows to what one message needs.
#[derive(Default)]
struct Scratch {
    /// The addresses of the section at hand.
    run: Vec<Record>,
    octets: Vec<u8>,
}

/// Which address comes first.
#[derive(Clone, Copy)]
pub(super) enum Policy<'p> {
    /// Any, and the others in any order; MX records too.
    RoundRobin,
    /// Any, by weight; the others keep their places. The authority section, and sections without
    /// addresses, are left alone.
    Weighted(&'p Weights),
}

/// An order of records.
#[derive(Clone, Copy)]
pub(super) struct Order<'p> {
    pub(super) policy: Policy<'p>,
    /// Addresses in these networks come first, in the order of the networks.
    pub(super) prefer: &'p [IpNet],
}

impl Order<'_> {
    /// Puts the records of every section in this order.
    pub(super) fn apply(&self, reply: &mut Reply, random: &mut Random) {
        thread_local! {
            static SCRATCH: RefCell<Scratch> = RefCell::default();
        }
        if reply.counts().iter().all(|&count| count < 2) {
            return;
        }
        SCRATCH.with(|scratch| {
            // Nothing below calls back into this function, so the borrow never fails.
            let Ok(mut scratch) = scratch.try_borrow_mut() else {
                return;
            };
            for section in Section::ALL {
                if reply.counts()[section as usize] < 2 || !self.concerns(section) {
                    continue;
                }
                if !self.apply_in_place(reply, section, random, &mut scratch) {
                    self.rewrite(reply, random);
                    return;
                }
            }
        });
    }

    const fn is_weighted(&self) -> bool {
        matches!(self.policy, Policy::Weighted(_))
    }

    fn concerns(&self, section: Section) -> bool {
        !self.is_weighted() || section != Section::Authority
    }

    /// Orders the addresses of a section where they stand. False if that is not enough.
    fn apply_in_place(
        &self,
        reply: &mut Reply,
        section: Section,
        random: &mut Random,
        scratch: &mut Scratch,
    ) -> bool {
        let Scratch { run, octets } = scratch;
        run.clear();
        let mut last = Group::Alias;
        let (mut sorted, mut exchanges) = (true, 0);
        for record in reply.records() {
            if record.section < section {
                continue;
            }
            if record.section > section {
                break;
            }
            let group = Group::of(record.rtype);
            sorted &= group >= last;
            last = group;
            match group {
                Group::Address => run.push(record),
                Group::Exchange => exchanges += 1,
                Group::Alias | Group::Other => {}
            }
        }
        if self.is_weighted() && run.is_empty() {
            return true;
        }
        if !sorted || (exchanges > 1 && !self.is_weighted()) {
            return false;
        }
        let ([first, _, ..], Some(end)) = (run.as_slice(), run.last()) else {
            return true;
        };
        let range = first.start..end.rdata.end;
        if !can_move(reply, run, &range) {
            return false;
        }
        self.arrange(run, reply.message(), random);
        octets.clear();
        for record in run.iter() {
            octets.extend_from_slice(&reply.message()[record.start..record.rdata.end]);
        }
        reply.message_mut()[range].copy_from_slice(octets);
        true
    }

    /// Orders addresses.
    fn arrange(&self, run: &mut [Record], message: &[u8], random: &mut Random) {
        match self.policy {
            Policy::RoundRobin => shuffle(run, random),
            Policy::Weighted(weights) => choose_first(run, message, weights, random),
        }
        if self.prefer.is_empty() {
            return;
        }
        run.sort_by_key(|record| {
            let address = address(&message[record.rdata.clone()]);
            let inside = |net: &IpNet| address.is_some_and(|address| net.contains(&address));
            let rank = self.prefer.iter().position(inside);
            rank.unwrap_or(self.prefer.len())
        });
    }

    /// Writes all records again in their order. A reply whose rdata is malformed stays as it is.
    fn rewrite(&self, reply: &mut Reply, random: &mut Random) {
        let mut records: Vec<Record> = reply.records().collect();
        for section in records.chunk_by_mut(|a, b| a.section == b.section) {
            let is_address = |record: &Record| Group::of(record.rtype) == Group::Address;
            if !self.concerns(section[0].section)
                || (self.is_weighted() && !section.iter().any(is_address))
            {
                continue;
            }
            section.sort_by_key(|record| Group::of(record.rtype));
            for group in section.chunk_by_mut(|a, b| Group::of(a.rtype) == Group::of(b.rtype)) {
                match Group::of(group[0].rtype) {
                    Group::Address => self.arrange(group, reply.message(), random),
                    Group::Exchange if !self.is_weighted() => shuffle(group, random),
                    Group::Exchange | Group::Alias | Group::Other => {}
                }
            }
        }
        if let Ok(records) = Normalised::of_records(reply, records) {
            records.replace(reply);
        }
    }
}

fn shuffle(records: &mut [Record], random: &mut Random) {
    for at in 0..records.len() {
        let other = at + random.below(records.len() - at);
        records.swap(at, other);
    }
}

/// Chooses an address by weight, and lets it change places with the first.
fn choose_first(run: &mut [Record], message: &[u8], weights: &Weights, random: &mut Random) {
    let weight = |record: &Record| {
        let name = Name::read(message, record.start).map(|(name, _)| name);
        match (name, address(&message[record.rdata.clone()])) {
            (Ok(name), Some(address)) => usize::from(weights.of(&name, address)),
            _ => 1,
        }
    };
    let mut left = random.below(run.iter().map(weight).sum::<usize>().max(1));
    let chosen = run.iter().position(|record| {
        let weight = weight(record);
        let chosen = left < weight;
        left = left.saturating_sub(weight);
        chosen
    });
    if let Some(chosen) = chosen {
        run.swap(0, chosen);
    }
}

/// Whether records that stand together at `range` can change places octet by octet.
///
/// Their own names must not lead into the range; and names of other records that lead into it must
/// find the same there afterwards: all owners are spelled alike and all records are of one length,
/// or nothing stands behind them.
fn can_move(reply: &Reply, run: &[Record], range: &Range<usize>) -> bool {
    let message = reply.message();
    let Some(first) = run.first() else {
        return false;
    };
    let owner = |record: &Record| &message[record.start..record.fixed];
    let alike = run
        .iter()
        .all(|record| record.rdata.len() == first.rdata.len() && owner(record) == owner(first));
    (alike || range.end == message.len())
        && run
            .iter()
            .all(|record| leads_before(owner(record), range.start))
}

/// Whether a name in wire form ends, or points to before `limit`.
fn leads_before(mut name: &[u8], limit: usize) -> bool {
    loop {
        match *name {
            [0] => return true,
            [high @ 0xc0..=0xff, low] => {
                return (usize::from(high & 0x3f) << 8 | usize::from(low)) < limit;
            }
            [len @ 1..=63, ref rest @ ..] if rest.len() > usize::from(len) => {
                name = &rest[usize::from(len)..];
            }
            _ => return false,
        }
    }
}

fn address(rdata: &[u8]) -> Option<IpAddr> {
    match rdata.len() {
        4 => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
        _ => None,
    }
}
