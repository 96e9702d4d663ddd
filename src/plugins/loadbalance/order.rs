//! The order of the records of a reply (LB-1, LB-2, LB-4).
//!
//! In each section: aliases, then whatever is neither alias, address nor MX, both in their order,
//! then addresses and MX, shuffled. Nearly every reply has its records in these groups already, and
//! addresses that can change places octet by octet; then nothing is allocated.

use super::random::Random;
use crate::dns::{Normalised, Record, RecordType, Reply, Section};
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

/// Puts the records of every section in order; addresses in networks of `prefer` come first, in
/// the order of the networks.
pub(super) fn shuffle(reply: &mut Reply, prefer: &[IpNet], random: &mut Random) {
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
            if reply.counts()[section as usize] < 2 {
                continue;
            }
            if !shuffle_in_place(reply, section, prefer, random, &mut scratch) {
                rewrite(reply, prefer, random);
                return;
            }
        }
    });
}

/// Shuffles the addresses of a section where they stand. False if that is not enough.
fn shuffle_in_place(
    reply: &mut Reply,
    section: Section,
    prefer: &[IpNet],
    random: &mut Random,
    scratch: &mut Scratch,
) -> bool {
    let Scratch { run, octets } = scratch;
    run.clear();
    let mut last = Group::Alias;
    for record in reply.records() {
        if record.section < section {
            continue;
        }
        if record.section > section {
            break;
        }
        let group = Group::of(record.rtype);
        if group < last || (group == Group::Exchange && last == group) {
            return false;
        }
        last = group;
        if group == Group::Address {
            run.push(record);
        }
    }
    let ([first, _, ..], Some(end)) = (run.as_slice(), run.last()) else {
        return true;
    };
    let range = first.start..end.rdata.end;
    if !can_move(reply, run, &range) {
        return false;
    }
    arrange(run, reply.message(), prefer, random);
    octets.clear();
    for record in run.iter() {
        octets.extend_from_slice(&reply.message()[record.start..record.rdata.end]);
    }
    reply.message_mut()[range].copy_from_slice(octets);
    true
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

/// Shuffles addresses, and brings those that are preferred to the front.
fn arrange(run: &mut [Record], message: &[u8], prefer: &[IpNet], random: &mut Random) {
    for at in 0..run.len() {
        let other = at + random.below(run.len() - at);
        run.swap(at, other);
    }
    if prefer.is_empty() {
        return;
    }
    let rank = |record: &Record| {
        let address = address(&message[record.rdata.clone()]);
        let inside = |net: &IpNet| address.is_some_and(|address| net.contains(&address));
        prefer.iter().position(inside).unwrap_or(prefer.len())
    };
    run.sort_by_key(rank);
}

fn address(rdata: &[u8]) -> Option<IpAddr> {
    match rdata.len() {
        4 => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Writes all records again in their order. A reply whose rdata is malformed stays as it is.
fn rewrite(reply: &mut Reply, prefer: &[IpNet], random: &mut Random) {
    let mut records: Vec<Record> = reply.records().collect();
    records.sort_by_key(|record| (record.section, Group::of(record.rtype)));
    let groups = records
        .chunk_by_mut(|a, b| a.section == b.section && Group::of(a.rtype) == Group::of(b.rtype));
    for group in groups {
        match Group::of(group[0].rtype) {
            Group::Address => arrange(group, reply.message(), prefer, random),
            Group::Exchange => arrange(group, reply.message(), &[], random),
            Group::Alias | Group::Other => {}
        }
    }
    if let Ok(records) = Normalised::of_records(reply, records) {
        records.replace(reply);
    }
}
