#![allow(clippy::unwrap_used)]

use super::config::Stanza;
use super::notify::{self, Lost, QUIET, TRIES};
use super::{is_older, stanza_of, unsettled};
use crate::dns::{Header, Name, OwnedQuery, Rcode, RecordType, Records, Reply, Zone};
use crate::plugin::transfer::{Data, Record, Snapshot, Source, Transferable};
use crate::plugin::{Chain, Client, Context, Outcome, OwnedContext, Plugin, Step, Transport};
use crate::plugins::testing::{Rig, ask, directives, setup_error};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// A zone of so many A records, all of which hold its serial.
struct Fake {
    zones: Vec<Zone>,
    serial: AtomicU32,
    count: u32,
    changes: watch::Sender<u64>,
    /// Changes that happen while records are written: one for each time.
    restless: Mutex<u32>,
}

impl Fake {
    fn new(zone: &str, count: u32) -> Arc<Self> {
        Arc::new(Self {
            zones: vec![Zone::from_text(zone).unwrap()],
            serial: AtomicU32::new(7),
            count,
            changes: watch::Sender::new(0),
            restless: Mutex::new(0),
        })
    }

    fn change(&self) {
        self.serial.fetch_add(1, Relaxed);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Transferable for Fake {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn serial(&self) -> Option<u32> {
        Some(self.serial.load(Relaxed)).filter(|&serial| serial > 0)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn soa(&self, _: &Zone, serial: u32, out: &mut Snapshot) {
        let rdata = [&b"\0\0"[..], &serial.to_be_bytes(), &[0; 16]].concat();
        out.push(Record {
            owner: &[],
            rtype: RecordType::SOA,
            ttl: 5,
            data: Data::Whole(&rdata),
        });
    }

    fn records(&self, _: &Zone, out: &mut Snapshot) {
        for number in 0..self.count {
            let mut owner = vec![8];
            owner.extend(format!("{number:08}").into_bytes());
            let data = self.serial.load(Relaxed).to_be_bytes();
            out.push(Record {
                owner: &owner,
                rtype: RecordType::A,
                ttl: 5,
                data: Data::Whole(&data),
            });
        }
        let mut restless = self.restless.lock().unwrap();
        if *restless > 0 {
            *restless -= 1;
            self.change();
        }
    }
}

fn stanzas(text: &str) -> Vec<Stanza> {
    let zones = [Zone::from_text("cluster.local").unwrap()];
    let all = directives(text);
    let stanzas = all.iter().map(|d| Stanza::read(d, &zones).unwrap());
    stanzas.collect()
}

#[test]
fn options() {
    let [one] = &stanzas(
        "transfer {
            to 192.0.2.7 192.0.2.8:5353
            to [2001:db8::7]:54 2001:db8::8 192.0.2.7
            source 192.0.2.1
            source 2001:db8::1
        }",
    )[..] else {
        panic!();
    };
    let all: Vec<_> = one.secondaries.iter().map(ToString::to_string).collect();
    assert_eq!(
        all,
        [
            "192.0.2.7:53",
            "192.0.2.8:5353",
            "[2001:db8::7]:54",
            "[2001:db8::8]:53"
        ]
    );
    assert_eq!(one.zones[0].text(), "cluster.local.");
    let from: Vec<_> = one
        .secondaries
        .iter()
        .map(|&to| one.source_for(to))
        .collect();
    let (v4, v6) = (one.sources.first().copied(), one.sources.last().copied());
    assert_eq!(from, [v4, v4, v6, v6]);
    for (ip, allowed) in [
        ("192.0.2.7", true),
        ("192.0.2.8", true),
        ("192.0.2.1", false),
        ("2001:db8::8", true),
        ("::ffff:192.0.2.7", false),
    ] {
        assert_eq!(one.allows(ip.parse().unwrap()), allowed, "{ip}");
    }
    assert!(stanzas("transfer {\nto 192.0.2.7 *\n}")[0].allows("10.0.0.1".parse().unwrap()));
}

#[test]
fn setup_errors() {
    let place = "plugin/transfer: Corefile";
    for (text, error) in [
        (
            "transfer",
            format!("{place}:1 - Error during parsing: 'to' is required"),
        ),
        (
            "transfer {\nto\n}",
            format!(
                "{place}:2 - Error during parsing: Wrong argument count or unexpected line ending after 'to'"
            ),
        ),
        (
            "transfer {\nto secondary.example\n}",
            format!(
                "{place}:2 - Error during parsing: must specify an IP address: `secondary.example'"
            ),
        ),
        (
            "transfer {\nto 10.0.0.0/8\n}",
            format!("{place}:2 - Error during parsing: must specify an IP address: `10.0.0.0/8'"),
        ),
        (
            "transfer {\nto *\nsource eth0\n}",
            format!("{place}:3 - Error during parsing: must specify an IP address: `eth0'"),
        ),
        (
            "transfer {\nto *\nfrom *\n}",
            format!("{place}:3 - Error during parsing: unknown property \"from\""),
        ),
    ] {
        assert_eq!(setup_error(text), error, "{text}");
    }
    let many: String = (0..65).map(|n| format!(" 192.0.2.{n}")).collect();
    let error = setup_error(&format!("transfer {{\nto{many}\n}}"));
    assert!(error.ends_with("more than 64 addresses"), "{error}");
}

#[test]
fn the_longest_zone_counts_and_then_the_first() {
    let all = stanzas(
        "transfer local {
            to 192.0.2.1
        }
        transfer cluster.local {
            to 192.0.2.2
        }
        transfer cluster.local {
            to 192.0.2.3
        }",
    );
    for (name, to) in [
        ("cluster.local.", Some("192.0.2.2:53")),
        ("svc.cluster.local.", Some("192.0.2.2:53")),
        ("other.local.", Some("192.0.2.1:53")),
        ("example.", None),
    ] {
        let stanza = stanza_of(&all, &Name::from_text(name).unwrap());
        let found = stanza.map(|stanza| stanza.secondaries[0].to_string());
        assert_eq!(found.as_deref(), to, "{name}");
    }
}

/// RFC 1982 §3.2; what is not defined there is older.
#[test]
fn serials_wrap_around() {
    for (a, b, older) in [
        (1, 2, true),
        (2, 2, false),
        (3, 2, false),
        (u32::MAX, 0, true),
        (0, u32::MAX, false),
        (0, 0x7fff_ffff, true),
        (0, 0x8000_0000, true),
        (0x8000_0000, 0, true),
        (0, 0x8000_0001, false),
    ] {
        assert_eq!(is_older(a, b), older, "{a} {b}");
    }
}

#[test]
fn a_serial_is_final_when_its_second_is_over() {
    let at = |millis| Duration::from_millis(millis);
    assert_eq!(unsettled(100, at(100_000)), Some(at(1_000)));
    assert_eq!(unsettled(100, at(100_300)), Some(at(700)));
    assert_eq!(unsettled(100, at(101_000)), None);
    // A clock that was set back is not waited for.
    assert_eq!(unsettled(100, at(99_999)), None);
}

#[test]
fn a_picture_is_taken_again_if_the_zone_changes_meanwhile() {
    for (changes, serial, of) in [(0, 7, 7), (1, 8, 8), (2, 9, 9), (3, 9, 9), (9, 9, 9)] {
        let fake = Fake::new("example.", 3);
        *fake.restless.lock().unwrap() = changes;
        let snapshot = Snapshot::take(&*fake, &fake.zones[0]).unwrap();
        assert_eq!(snapshot.serial(), serial, "{changes}");
        assert_eq!(snapshot.len(), 4);
        for record in snapshot.records().skip(1) {
            assert_eq!(record.data, Data::Whole(&u32::to_be_bytes(of)), "{changes}");
        }
    }
}

#[test]
fn names_that_are_too_long_are_left_out() {
    let fake = Fake::new("example.", 0);
    let mut snapshot = Snapshot::of_soa(&*fake, &fake.zones[0], 1);
    // The zone takes nine octets.
    let label = [&[63][..], &[b'x'; 63]].concat();
    let owner = |last: usize| [&label.repeat(3)[..], &[last as u8], &vec![b'y'; last]].concat();
    let mut push = |owner: &[u8], data: Data<'_>| {
        snapshot.push(Record {
            owner,
            rtype: RecordType::SRV,
            ttl: 5,
            data,
        })
    };
    assert!(push(&owner(53), Data::Whole(b"")));
    assert!(!push(&owner(54), Data::Whole(b"")));
    let target = |last| [&[0; 6][..], &owner(last)].concat();
    assert!(push(b"", Data::InZone(&target(53))));
    assert!(!push(b"", Data::InZone(&target(54))));
    assert_eq!(snapshot.len(), 3);
}

/// Knows nothing.
struct Nothing;

impl Plugin for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn query(&self, _: &mut Context<'_>, _: &mut Reply) -> Step {
        Step::Done(Outcome::failed("nobody answers"))
    }
}

fn chain_of(fake: &Arc<Fake>) -> Arc<Chain> {
    let mut rig = Rig::new();
    rig.setup("transfer {\nto 192.0.2.7\n}").unwrap();
    let source: Arc<dyn Transferable> = fake.clone();
    rig.provided.provide(Arc::new(Source(source)));
    rig.chain(Nothing)
}

async fn transfer(chain: &Arc<Chain>, packet: Vec<u8>) -> Reply {
    let cx = OwnedContext {
        trace: None,
        query: OwnedQuery::new(packet).unwrap(),
        client: Client {
            addr: "192.0.2.7:4000".parse().unwrap(),
            local: "192.0.2.1:53".parse().unwrap(),
            transport: Transport::Tcp,
        },
        received: Instant::now(),
        chain: Arc::clone(chain),
        position: 0,
        depth: 0,
    };
    let (outcome, mut reply) = Arc::clone(chain).ask(0, cx.clone()).await;
    assert_eq!(outcome, Outcome::Written);
    reply.finish(&cx.view().query, crate::dns::MAX_MESSAGE);
    reply
}

/// Type and rdata of the records in the answer section.
fn answers(message: &[u8]) -> Vec<(RecordType, Vec<u8>)> {
    let records = Records::new(message).unwrap().map(Result::unwrap);
    let answers = records.filter(|record| record.rtype != RecordType::OPT);
    answers
        .map(|record| (record.rtype, message[record.rdata].to_vec()))
        .collect()
}

#[tokio::test]
async fn what_changes_later_is_not_in_the_stream() {
    let fake = Fake::new("example.", 10_000);
    let chain = chain_of(&fake);
    // Options that come back with every message must not make one too long.
    for padding in [0, 3_000] {
        let mut packet = ask("example.", RecordType::AXFR).edns(1232, true).packet();
        let at = packet.len() - 2;
        if padding > 0 {
            packet[at..].copy_from_slice(&(padding as u16 + 4).to_be_bytes());
            packet.extend([0, 12]);
            packet.extend((padding as u16).to_be_bytes());
            packet.extend(vec![0; padding]);
        }
        let serial = fake.serial().unwrap().to_be_bytes();
        let mut reply = transfer(&chain, packet).await;
        fake.change();
        let mut records = answers(reply.message());
        let mut more = reply.take_more().unwrap();
        let mut messages = 1;
        while more.next(&mut reply) {
            let message = reply.message();
            assert!(message.len() <= 63_100, "{}", message.len());
            let header = Header::read(message).unwrap();
            assert!(header.has(Header::QR | Header::AA) && !header.has(Header::TC));
            assert_eq!(header.id, 21342);
            records.extend(answers(message));
            messages += 1;
        }
        // 10,000 records of 25 octets.
        assert!((4..7).contains(&messages), "{messages}");
        assert!(!more.next(&mut reply), "the end stays the end");
        assert_eq!(records.len(), 10_002);
        assert_eq!(records[0].0, RecordType::SOA);
        assert_eq!(records[0], records[10_001]);
        for (rtype, rdata) in &records[1..10_001] {
            assert_eq!((*rtype, &rdata[..]), (RecordType::A, &serial[..]));
        }
    }
}

#[tokio::test]
async fn a_zone_that_is_not_complete_is_not_sent() {
    let fake = Fake::new("example.", 3);
    fake.serial.store(0, Relaxed);
    let chain = chain_of(&fake);
    let asked = ask("example.", RecordType::AXFR).from("192.0.2.7:4000", Transport::Tcp);
    let answer = asked.wait(&chain).await;
    let text = "transfer of example. refused: the zone is not complete yet";
    assert_eq!(answer.outcome, Outcome::failed(text));
}

#[tokio::test]
async fn a_query_that_is_too_long_is_an_error() {
    let chain = chain_of(&Fake::new("example.", 3));
    let mut packet = ask("example.", RecordType::AXFR).packet();
    packet.resize(5_000, 0);
    let cx = OwnedContext {
        trace: None,
        query: OwnedQuery::new(packet).unwrap(),
        client: Client {
            addr: "192.0.2.7:4000".parse().unwrap(),
            local: "192.0.2.1:53".parse().unwrap(),
            transport: Transport::Tcp,
        },
        received: Instant::now(),
        chain: Arc::clone(&chain),
        position: 0,
        depth: 0,
    };
    let (outcome, reply) = chain.ask(0, cx).await;
    assert_eq!(outcome.rcode(&reply), Some(Rcode::FORMERR));
}

#[test]
fn who_and_how_may_transfer() {
    let chain = chain_of(&Fake::new("example.", 3));
    let refused = |ask: crate::plugins::testing::Ask| {
        let answer = ask.of(&chain);
        match answer.outcome {
            Outcome::Written => Header::read(&answer.message).unwrap().rcode() == Rcode::REFUSED,
            Outcome::Unwritten { rcode, .. } => rcode == Rcode::REFUSED,
            Outcome::Dropped => false,
        }
    };
    for qtype in [RecordType::AXFR, RecordType::IXFR] {
        let by = |client, transport| refused(ask("example.", qtype).from(client, transport));
        assert!(by("192.0.2.7:4000", Transport::Udp));
        assert!(by("192.0.2.8:4000", Transport::Tcp));
        // These carry one message for a query.
        assert!(by("192.0.2.7:4000", Transport::Https));
    }
    // Not a transfer, and not a zone that anybody has.
    for (name, qtype) in [
        ("example.", RecordType::A),
        ("sub.example.", RecordType::AXFR),
    ] {
        let asked = ask(name, qtype).from("192.0.2.7:4000", Transport::Tcp);
        let outcome = asked.of(&chain).outcome;
        assert_eq!(outcome, Outcome::failed("nobody answers"), "{name}");
    }
}

/// A secondary that answers message `n` (from 0) with what `script` makes of it.
async fn secondary(
    script: impl Fn(usize, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        for number in 0.. {
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            log.lock().unwrap().push(buffer[..len].to_vec());
            for reply in script(number, buffer[..len].to_vec()) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    (addr, seen)
}

/// The reply to a NOTIFY with this response code.
fn reply_to(mut message: Vec<u8>, rcode: Rcode) -> Vec<u8> {
    message[2] |= 0x80;
    message[3] = rcode.0 as u8;
    message
}

async fn tell(addr: SocketAddr) -> (Result<Rcode, Lost>, Duration) {
    let fake = Fake::new("example.", 0);
    let start = tokio::time::Instant::now();
    let told = notify::notify(&*fake, &fake.zones[0], 7, addr, None).await;
    (told, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_lost_notify_is_sent_again() {
    let (addr, seen) = secondary(|number, message| match number {
        // Lost; and then a reply that is none: another id, no response, another opcode or zone.
        0 => vec![],
        1 => {
            let good = reply_to(message.clone(), Rcode::NOERROR);
            let (mut id, mut opcode, mut zone) = (good.clone(), good.clone(), good);
            id[0] ^= 1;
            opcode[2] = 0x80;
            zone[13] ^= 1;
            vec![id, opcode, zone, message, vec![1, 2, 3]]
        }
        _ => vec![reply_to(message, Rcode::NOERROR)],
    })
    .await;
    let (told, took) = tell(addr).await;
    assert_eq!(told.unwrap(), Rcode::NOERROR);
    assert_eq!(took.as_secs(), (TRIES[0] + TRIES[1]).as_secs());
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0], seen[2]);
    let header = Header::read(&seen[0]).unwrap();
    assert_eq!(header.bits, 4 << 11 | Header::AA);
    assert_eq!(header.counts, [1, 1, 0, 0]);
    assert_eq!(seen[0][12..25], *b"\x07example\0\0\x06\0\x01");
    let (rtype, rdata) = &answers(&seen[0])[0];
    assert_eq!((*rtype, &rdata[2..6]), (RecordType::SOA, &[0, 0, 0, 7][..]));
}

#[tokio::test(start_paused = true)]
async fn three_tries_and_no_more() {
    let (addr, seen) = secondary(|_, _| vec![]).await;
    let (told, took) = tell(addr).await;
    assert!(matches!(told, Err(Lost::Silence)));
    assert_eq!(took.as_secs(), TRIES.iter().sum::<Duration>().as_secs());
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_tries() {
    let (addr, seen) = secondary(|_, message| vec![reply_to(message, Rcode::REFUSED)]).await;
    assert_eq!(tell(addr).await.0.unwrap(), Rcode::REFUSED);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_an_error_after_three_tries() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    drop(socket);
    let (told, took) = tell(addr).await;
    assert!(matches!(told, Err(Lost::Io(_))), "{told:?}");
    assert_eq!(took.as_secs(), TRIES.iter().sum::<Duration>().as_secs());
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_second_are_one_notify() {
    let (addr, seen) = secondary(|_, message| vec![reply_to(message, Rcode::NOERROR)]).await;
    let fake = Fake::new("example.", 0);
    let registry = crate::metrics::Registry::new(1);
    let tasks = notify::Tasks::default();
    let source: Arc<dyn Transferable> = fake.clone();
    let stanzas = stanzas(&format!("transfer example {{\nto {addr}\n}}"));
    tasks.start(
        &stanzas,
        &[Arc::new(Source(source))],
        &notify::Told::new(&registry),
    );
    let count = || seen.lock().unwrap().len();
    tokio::time::sleep(10 * QUIET).await;
    assert_eq!(count(), 1, "the start is told");
    for _ in 0..500 {
        fake.change();
        tokio::time::sleep(QUIET / 1_000).await;
    }
    tokio::time::sleep(10 * QUIET).await;
    assert_eq!(count(), 2);
    // The last of the changes is what was told.
    let serial = {
        let seen = seen.lock().unwrap();
        answers(&seen[1])[0].1[2..6].to_vec()
    };
    assert_eq!(serial, 507u32.to_be_bytes());
    // Not every change of a source is one of the zone.
    fake.changes.send_modify(|changes| *changes += 1);
    tokio::time::sleep(10 * QUIET).await;
    assert_eq!(count(), 2, "the serial is known");
    tasks.stop();
    fake.change();
    tokio::time::sleep(10 * QUIET).await;
    assert_eq!(count(), 2, "nothing is sent after the end");
}

#[tokio::test(start_paused = true)]
async fn who_refused_is_told_again_at_any_change() {
    let (addr, seen) = secondary(|number, message| {
        let rcode = [Rcode::REFUSED, Rcode::NOERROR][number.min(1)];
        vec![reply_to(message, rcode)]
    })
    .await;
    let fake = Fake::new("example.", 0);
    let source: Arc<dyn Transferable> = fake.clone();
    let told = notify::Told::new(&crate::metrics::Registry::new(1));
    let stanzas = stanzas(&format!("transfer example {{\nto {addr}\n}}"));
    let tasks = notify::Tasks::default();
    tasks.start(&stanzas, &[Arc::new(Source(source))], &told);
    for count in [1, 2, 2] {
        tokio::time::sleep(10 * QUIET).await;
        assert_eq!(seen.lock().unwrap().len(), count);
        fake.changes.send_modify(|changes| *changes += 1);
    }
    tasks.stop();
}
