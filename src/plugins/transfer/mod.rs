#![doc = include_str!("README.md")]

mod config;
mod notify;
mod stream;
#[cfg(test)]
mod tests;

use crate::corefile::Error;
use crate::dns::{
    ExtendedError, Name, Opcode, Query, Rcode, RecordType, Records, Reply, Section, Zone,
};
use crate::limits::TRANSFER_QUERY;
use crate::metrics::{Counter, Gauge, Registry};
use crate::plugin::transfer::{Snapshot, Source, Transferable};
use crate::plugin::{Context, Hooks, Outcome, Plugin, Provided, Setup, Step, Transport};
use config::Stanza;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stream::{Permit, Stream};

/// Builds the plugin from its occurrences in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let stanzas: Result<Vec<_>, _> = setup
        .directives
        .iter()
        .map(|directive| Stanza::read(directive, &setup.block.zones))
        .collect();
    let stanzas: Arc<[Stanza]> = stanzas?.into();
    let tasks = notify::Tasks::default();
    let (own, told) = (tasks.clone(), notify::Told::new(&setup.process.metrics));
    let (known, provided) = (Arc::clone(&stanzas), Arc::clone(setup.provided));
    setup.hooks.serving.push(Hooks::hook(move || async move {
        // By now every plugin of the block has provided what it has.
        own.start(&known, &provided.all(), &told);
    }));
    let hook = Hooks::hook(move || async move { tasks.stop() });
    setup.hooks.shutdown.push(hook);
    setup.add(Transfer {
        stanzas,
        provided: Arc::clone(setup.provided),
        metrics: Metrics::new(&setup.process.metrics),
    });
    Ok(())
}

/// Hands zones to other servers.
struct Transfer {
    stanzas: Arc<[Stanza]>,
    provided: Arc<Provided>,
    metrics: Metrics,
}

/// What becomes of transfers.
#[derive(Clone)]
struct Metrics {
    running: Gauge,
    rejected: Counter,
    full: Counter,
    unchanged: Counter,
    broken: Counter,
}

impl Plugin for Transfer {
    fn name(&self) -> &'static str {
        "transfer"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let transfer = matches!(cx.query.qtype(), RecordType::AXFR | RecordType::IXFR);
        if !transfer || cx.query.header().opcode() != Opcode::QUERY {
            return Step::Next;
        }
        self.asked(cx, reply)
    }
}

impl Transfer {
    #[cold]
    fn asked(&self, cx: &Context<'_>, reply: &mut Reply) -> Step {
        if !matches!(cx.client.transport, Transport::Tcp | Transport::Tls) {
            // Only these carry a stream of messages.
            return unwritten(Rcode::REFUSED);
        }
        let name = cx.query.name();
        let Some(stanza) = stanza_of(&self.stanzas, name) else {
            return Step::Next;
        };
        if !stanza.allows(cx.client.addr.ip()) {
            return refuse(
                reply,
                ExtendedError::PROHIBITED,
                "transfers go to listed addresses only",
            );
        }
        if cx.query.packet().len() > TRANSFER_QUERY {
            return unwritten(Rcode::FORMERR);
        }
        let known = match cx.query.qtype() {
            RecordType::IXFR => match serial_of(&cx.query) {
                Some(serial) => Some(serial),
                None => return unwritten(Rcode::SERVFAIL),
            },
            _ => None,
        };
        let Some((source, zone)) = find(&self.provided.all(), name) else {
            return Step::Next;
        };
        reply.set_cluster_data();
        let Some(serial) = source.serial() else {
            let why = "the zone is not complete yet";
            reply.add_extended_error(ExtendedError::new(ExtendedError::NOT_READY, why));
            return Step::Done(Outcome::failed(format!(
                "transfer of {zone} refused: {why}"
            )));
        };
        if known.is_some_and(|known| !is_older(known, serial)) {
            let soa = Snapshot::of_soa(&*source, &zone, serial);
            stream::write_all(&soa, reply);
            self.metrics.unchanged.inc();
            tracing::info!(
                target: "plugin/transfer",
                "Outgoing noop, incremental transfer for up to date zone \"{zone}\" to {} for {serial} SOA serial",
                cx.client.addr.ip()
            );
            return Step::Done(Outcome::Written);
        }
        let Some(permit) = Permit::take(&self.metrics) else {
            return refuse(
                reply,
                ExtendedError::OTHER,
                "too many transfers are running",
            );
        };
        let cx = cx.to_owned();
        Step::Wait(Box::pin(async move {
            settle(&*source).await;
            let taken = tokio::task::spawn_blocking(move || Snapshot::take(&*source, &zone)).await;
            let view = cx.view();
            let mut reply = Reply::new();
            reply.start(&view.query);
            // The zone was complete before, and stays so; else the blocking thread is gone.
            let Ok(Some(snapshot)) = taken else {
                return (Outcome::failed("transfer: no picture of the zone"), reply);
            };
            reply.set_cluster_data();
            let query = cx.query.clone();
            let mut stream = Stream::new(snapshot, query, cx.client.addr.ip(), permit);
            stream.write(&mut reply);
            reply.set_more(Box::new(stream));
            (Outcome::Written, reply)
        }))
    }
}

fn unwritten(rcode: Rcode) -> Step {
    let error = None;
    Step::Done(Outcome::Unwritten { rcode, error })
}

fn refuse(reply: &mut Reply, code: u16, why: &'static str) -> Step {
    reply.set_rcode(Rcode::REFUSED);
    reply.add_extended_error(ExtendedError::new(code, why));
    Step::Done(Outcome::Written)
}

/// The stanza for a name: that of the longest zone, and of several the first.
fn stanza_of<'s>(stanzas: &'s [Stanza], name: &Name) -> Option<&'s Stanza> {
    let matching = stanzas.iter().rev().filter_map(|stanza| {
        let zone = Zone::longest(&stanza.zones, name)?;
        Some((zone.label_count(), stanza))
    });
    matching
        .max_by_key(|(labels, _)| *labels)
        .map(|(_, stanza)| stanza)
}

/// The source of the zone of this name.
fn find(sources: &[Arc<Source>], name: &Name) -> Option<(Arc<dyn Transferable>, Zone)> {
    sources.iter().find_map(|source| {
        let mut zones = source.0.zones().iter();
        let zone = zones.find(|zone| zone.wire() == name.wire())?;
        Some((Arc::clone(&source.0), zone.clone()))
    })
}

/// The serial that the client of an IXFR has (RFC 1995 §3): of the SOA record that is alone in the
/// authority section.
fn serial_of(query: &Query<'_>) -> Option<u32> {
    let packet = query.packet();
    let mut authority = Records::new(packet)
        .ok()?
        .map_while(Result::ok)
        .filter(|record| record.section == Section::Authority);
    let soa = authority.next().filter(|_| authority.next().is_none())?;
    if soa.rtype != RecordType::SOA {
        return None;
    }
    let (_, at) = Name::read(packet, soa.rdata.start).ok()?;
    let (_, at) = Name::read(packet, at).ok()?;
    // Five numbers follow the two names.
    if at + 20 != soa.rdata.end {
        return None;
    }
    let octets = packet.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*octets))
}

/// Whether serial `a` is older than `b` (RFC 1982 §3.2). Where that is not defined it is: the client
/// then gets the zone.
const fn is_older(a: u32, b: u32) -> bool {
    let ahead = b.wrapping_sub(a);
    ahead != 0 && ahead <= 1 << 31
}

/// Waits until the second of the source's serial is over, so that no further change can have the
/// same serial: what secondaries have under a serial is all that it ever stands for. After three
/// rounds of changes it does not wait any longer.
async fn settle(source: &dyn Transferable) {
    for _ in 0..3 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let serial = source.serial();
        let Some(left) = serial.and_then(|serial| unsettled(serial, now.unwrap_or_default()))
        else {
            return;
        };
        tokio::time::sleep(left).await;
    }
}

/// How long the second that `serial` names still lasts, `None` if it does not run.
fn unsettled(serial: u32, now: Duration) -> Option<Duration> {
    let is_now = now.as_secs() as u32 == serial;
    is_now.then(|| Duration::from_secs(1) - Duration::from_nanos(now.subsec_nanos().into()))
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let ended = |result: &str| {
            registry.counter(
                "portolan_transfers_total",
                "Answers to zone transfers: whole zones, zones that the client has already, and transfers that the client did not take to the end.",
                vec![("result", result.to_owned())],
            )
        };
        Self {
            running: registry.gauge(
                "portolan_transfer_running",
                "Zone transfers under way.",
                vec![],
            ),
            rejected: registry.counter(
                "portolan_transfer_rejected_total",
                "Zone transfers refused because too many were running.",
                vec![],
            ),
            full: ended("full"),
            unchanged: ended("unchanged"),
            broken: ended("broken"),
        }
    }
}
