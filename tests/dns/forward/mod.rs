//! `forward` against scripted upstreams.

mod attempts;
mod believe;
mod choice;
mod config;
mod encrypted;
mod failure;
mod names;
mod overload;
mod pool;
mod relay;

use crate::support::message::{a, query, reply};
use crate::support::upstream::Upstream;
use portolan::dns::{Header, Rcode, RecordType};

/// An address.
pub const ONE: [u8; 4] = [192, 0, 2, 1];

pub fn example() -> Vec<u8> {
    query(0x1234, "WWW.example.org", RecordType::A)
}

pub async fn good() -> Upstream {
    Upstream::answering(|seen| reply(&seen.packet, Header::RA, &[&a(300, ONE)])).await
}

pub async fn with_rcode(rcode: Rcode) -> Upstream {
    Upstream::answering(move |seen| reply(&seen.packet, rcode.0, &[])).await
}

/// What a client that sent `packet` should get when the upstream answers so.
pub fn expected(packet: &[u8], bits: u16, records: &[&[u8]]) -> Vec<u8> {
    reply(packet, bits, records)
}
