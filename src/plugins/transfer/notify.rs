//! NOTIFY: telling secondaries that a zone has changed (RFC 1996).
//!
//! A task for each zone and secondary, however many changes there are: it looks whether something
//! has changed since it last told its secondary, and so it never has more than one message to send.

use super::config::Stanza;
use super::{settle, stanza_of};
use crate::dns::name::MAX_NAME;
use crate::dns::{Class, Header, Name, Opcode, Rcode, RecordType, Zone};
use crate::metrics::{Counter, Registry};
use crate::plugin::transfer::{Data, Snapshot, Source, Transferable};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Changes within this time are one NOTIFY; also how often a zone that is not complete is looked at.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// How long each try waits for the reply.
pub(super) const TRIES: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// The tasks of a configuration.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

/// What became of NOTIFY messages.
#[derive(Clone)]
pub(super) struct Told {
    accepted: Counter,
    refused: Counter,
    lost: Counter,
}

impl Tasks {
    /// Starts a task for each zone and each secondary of its stanza.
    pub(super) fn start(&self, stanzas: &[Stanza], sources: &[Arc<Source>], told: &Told) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = vec![false; stanzas.len()];
        for source in sources {
            for zone in source.0.zones() {
                let Ok((name, _)) = Name::read(zone.wire(), 0) else {
                    continue;
                };
                let Some(stanza) = stanza_of(stanzas, &name) else {
                    continue;
                };
                if let Some(at) = stanzas.iter().position(|other| std::ptr::eq(other, stanza)) {
                    used[at] = true;
                }
                for &addr in &stanza.secondaries {
                    let secondary = Secondary {
                        addr,
                        from: stanza.source_for(addr),
                        zone: zone.clone(),
                        source: Arc::clone(&source.0),
                        told: told.clone(),
                    };
                    tasks.push(tokio::spawn(secondary.run()).abort_handle());
                }
            }
        }
        for (stanza, used) in stanzas.iter().zip(used) {
            if !used {
                tracing::warn!(
                    target: "plugin/transfer",
                    "no plugin of the server block has a zone of {:?} that can be transferred",
                    stanza.zones
                );
            }
        }
    }

    /// Ends them.
    pub(super) fn stop(&self) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(..).for_each(|task| task.abort());
    }
}

/// A server that is told of the changes of a zone.
struct Secondary {
    addr: SocketAddr,
    from: Option<IpAddr>,
    zone: Zone,
    source: Arc<dyn Transferable>,
    told: Told,
}

impl Secondary {
    async fn run(self) {
        let mut changes = self.source.changes();
        let mut listening = true;
        // The serial that was accepted last: not every change of a source is one of its zones.
        let mut known = None;
        loop {
            settle(&*self.source).await;
            changes.borrow_and_update();
            let Some(serial) = self.source.serial() else {
                sleep(QUIET).await;
                continue;
            };
            if known != Some(serial) {
                let result = notify(&*self.source, &self.zone, serial, self.addr, self.from).await;
                listening = self.conclude(result, serial, listening);
                known = listening.then_some(serial);
            }
            if changes.changed().await.is_err() {
                return;
            }
            sleep(QUIET).await;
        }
    }

    /// Counts and logs; says whether the secondary listens. Only the first failure of a row is a
    /// warning.
    fn conclude(&self, result: Result<Rcode, Lost>, serial: u32, listened: bool) -> bool {
        let Self { addr, zone, .. } = self;
        let why = match result {
            Ok(Rcode::NOERROR) => {
                self.told.accepted.inc();
                if listened {
                    tracing::debug!(target: "plugin/transfer", "Sent notify for zone \"{zone}\" to {addr} for {serial} SOA serial");
                } else {
                    tracing::info!(target: "plugin/transfer", "notify for zone \"{zone}\" is accepted by {addr} again");
                }
                return true;
            }
            Ok(rcode) => {
                self.told.refused.inc();
                format!("rcode was {rcode}")
            }
            Err(lost) => {
                self.told.lost.inc();
                lost.to_string()
            }
        };
        if listened {
            tracing::warn!(target: "plugin/transfer", "notify for zone \"{zone}\" was not accepted by {addr}: {why}");
        } else {
            tracing::debug!(target: "plugin/transfer", "notify for zone \"{zone}\" was not accepted by {addr}: {why}");
        }
        false
    }
}

/// Why a secondary could not be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No try was answered.
    #[error("no reply to {} tries", TRIES.len())]
    Silence,
}

/// Tells a secondary, up to three times, and gives the response code of its reply.
///
/// # Errors
/// [`Lost`] if there was none, or nothing could be sent.
pub(super) async fn notify(
    source: &dyn Transferable,
    zone: &Zone,
    serial: u32,
    to: SocketAddr,
    from: Option<IpAddr>,
) -> Result<Rcode, Lost> {
    let message = message(rand::random(), &Snapshot::of_soa(source, zone, serial));
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((from.unwrap_or(any), 0)).await?;
    // Only the secondary's datagrams arrive then.
    socket.connect(to).await?;
    let mut buffer = [0; 1232];
    let mut error = None;
    for wait in TRIES {
        let end = Instant::now() + wait;
        // That nobody listens is known from the last try at times, and may be over.
        error = socket.send(&message).await.err();
        while let Ok(received) = timeout_at(end, socket.recv(&mut buffer)).await {
            match received {
                Ok(len) => {
                    if let Some(rcode) = answers(&message, &buffer[..len]) {
                        return Ok(rcode);
                    }
                }
                Err(failed) => {
                    error = Some(failed);
                    sleep_until(end).await;
                }
            }
        }
    }
    Err(error.map_or(Lost::Silence, Lost::Io))
}

/// The message: the question for the zone's SOA, and the record for secondaries that look at it.
fn message(id: u16, soa: &Snapshot) -> Vec<u8> {
    let records = soa.records();
    let header = Header {
        id,
        bits: Opcode::NOTIFY.0 << 11 | Header::AA,
        counts: [1, soa.len() as u16, 0, 0],
    };
    let mut out = Vec::with_capacity(4 * MAX_NAME);
    out.extend_from_slice(&header.to_wire());
    out.extend_from_slice(soa.zone().wire());
    out.extend_from_slice(&RecordType::SOA.0.to_be_bytes());
    out.extend_from_slice(&Class::IN.0.to_be_bytes());
    for record in records {
        let (rdata, tail) = match record.data {
            Data::Whole(rdata) => (rdata, &[][..]),
            Data::InZone(rdata) => (rdata, soa.zone().wire()),
        };
        out.extend_from_slice(record.owner);
        out.extend_from_slice(&[0xc0, 0x0c]);
        out.extend_from_slice(&record.rtype.0.to_be_bytes());
        out.extend_from_slice(&Class::IN.0.to_be_bytes());
        out.extend_from_slice(&record.ttl.to_be_bytes());
        out.extend_from_slice(&((rdata.len() + tail.len()) as u16).to_be_bytes());
        out.extend_from_slice(rdata);
        out.extend_from_slice(tail);
    }
    out
}

/// The response code of `reply`, if it is one to `sent`.
fn answers(sent: &[u8], reply: &[u8]) -> Option<Rcode> {
    let (asked, header) = (Header::read(sent).ok()?, Header::read(reply).ok()?);
    let own = header.id == asked.id
        && header.has(Header::QR)
        && header.opcode() == Opcode::NOTIFY
        && question(reply, header).is_none_or(|name| question(sent, asked) == Some(name));
    own.then(|| header.rcode())
}

/// The name in the question, if there is one: not every server repeats it.
fn question(message: &[u8], header: Header) -> Option<Name> {
    if header.counts[0] == 0 {
        return None;
    }
    let name = Name::read(message, crate::dns::header::HEADER_LEN);
    // What is no name is not the zone's either.
    Some(name.map_or_else(|_| Name::root(), |(name, _)| name))
}

impl Told {
    pub(super) fn new(registry: &Registry) -> Self {
        let result = |result: &str| {
            registry.counter(
                "portolan_transfer_notifies_total",
                "Secondaries told of a change, and what they said to it.",
                vec![("result", result.to_owned())],
            )
        };
        Self {
            accepted: result("accepted"),
            refused: result("refused"),
            lost: result("lost"),
        }
    }
}
