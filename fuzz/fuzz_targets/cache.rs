//! Octets of an upstream's message, taken into the cache, and served from there to clients with other
//! flags, limits, spelling, at other times; with what must hold of every reply.
//!
//! Six octets say how the second question differs; then follow header bits, counts and records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan::corefile::Error;
use portolan::dns::{Header, OwnedQuery, Query, RecordType, Records, Reply};
use portolan::metrics::Shard;
use portolan::plugin::{
    Client, Context, Outcome, Plugin, PluginEntry, Process, Setup, Step, Transport,
};
use portolan::plugins::cache;
use portolan::server::answer::{Answered, Received, answer};
use portolan::server::{Configuration, Routes};
use portolan::upstream::sanitize::{self, Checked};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// No record that leaves the cache has a higher TTL.
const MAX_TTL: u32 = 300;
const COREFILE: &str = "
.:0 {
    bind 127.0.0.1
    cache 300 {
        success 1024
        denial 1024
        prefetch 2 1h 50%
        serve_stale 1h immediate
        servfail 7s
    }
    fuzzed
}";

const fn entry(name: &'static str, setup: fn(&mut Setup<'_>) -> Result<(), Error>) -> PluginEntry {
    PluginEntry {
        name,
        summary: "",
        setup,
    }
}

static TABLE: [PluginEntry; 3] = [
    entry("bind", portolan::plugins::bind::setup),
    entry("cache", cache::setup),
    entry("fuzzed", |setup| {
        setup.add(Upstream);
        Ok(())
    }),
];

/// What the upstream sends now: header bits, counts, and what stands behind the question.
static MESSAGE: Mutex<(u16, [u8; 3], Vec<u8>)> = Mutex::new((0, [0; 3], Vec::new()));
/// How often it was asked.
static ASKED: AtomicUsize = AtomicUsize::new(0);

struct Upstream;

impl Plugin for Upstream {
    fn name(&self) -> &'static str {
        "fuzzed"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        ASKED.fetch_add(1, Relaxed);
        let (bits, counts, records) = &*MESSAGE.lock().unwrap();
        let [answer, authority, additional] = counts.map(|count| u16::from(count % 24));
        let counts = [1, answer, authority, additional];
        let header = Header {
            id: 7,
            bits: bits | Header::QR,
            counts,
        };
        let mut message = header.to_wire().to_vec();
        message.extend_from_slice(cx.query.question());
        message.extend_from_slice(records);
        // As `forward` does.
        let message = match sanitize::check(&message) {
            Checked::Malformed => return Step::Done(Outcome::failed("cut")),
            Checked::Clean => message,
            Checked::Cleaned { message, .. } => message,
        };
        Step::Done(match reply.adopt(&cx.query, &message) {
            Ok(()) => Outcome::Written,
            Err(error) => Outcome::failed(error.to_string()),
        })
    }
}

struct Rig {
    routes: Arc<Routes>,
    runtime: tokio::runtime::Runtime,
    start: Instant,
}

fn rig() -> &'static Mutex<Rig> {
    static RIG: OnceLock<Mutex<Rig>> = OnceLock::new();
    RIG.get_or_init(|| {
        // Driven by hand: what is refreshed in the background is the same every time.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (process, _requests) = Process::new(runtime.handle().clone(), 1);
        let corefile = portolan::corefile::parse("Corefile", COREFILE, &|_| None).unwrap();
        let built = runtime
            .block_on(async { Configuration::build(&corefile, &TABLE, &Arc::new(process), 53) });
        let Ok(configuration) = built else {
            panic!("the Corefile is good")
        };
        let routes = Arc::clone(configuration.listeners.values().next().unwrap());
        // For the life of the fuzzer: chains and background work stay alive.
        std::mem::forget(configuration.chains);
        std::mem::forget(configuration.listeners);
        Mutex::new(Rig {
            routes,
            runtime,
            start: Instant::now(),
        })
    })
}

/// A question: spelling, DO, CD and AD, EDNS payload size, transport.
struct Ask {
    number: u32,
    upper: bool,
    flags: u8,
    edns: Option<u16>,
    tcp: bool,
}

impl Ask {
    fn packet(&self) -> Vec<u8> {
        let number = format!("{:08x}", self.number);
        let mut name = vec![8];
        name.extend(
            if self.upper {
                number.to_ascii_uppercase()
            } else {
                number
            }
            .bytes(),
        );
        name.extend(if self.upper {
            *b"\x03SUB\x04TEST\0"
        } else {
            *b"\x03sub\x04test\0"
        });
        let mut bits = Header::RD;
        bits |= if self.flags & 1 != 0 { Header::CD } else { 0 };
        bits |= if self.flags & 2 != 0 { Header::AD } else { 0 };
        let counts = [1, 0, 0, u16::from(self.edns.is_some())];
        let mut packet = Header {
            id: 0x4711,
            bits,
            counts,
        }
        .to_wire()
        .to_vec();
        packet.extend(name);
        let qtype = [
            RecordType::A,
            RecordType::CNAME,
            RecordType::TXT,
            RecordType::DS,
        ];
        packet.extend(qtype[usize::from(self.flags >> 4 & 3)].0.to_be_bytes());
        packet.extend([0, 1]);
        if let Some(size) = self.edns {
            packet.extend([0, 0, 41]);
            packet.extend(size.to_be_bytes());
            packet.extend([0, 0, if self.flags & 4 != 0 { 0x80 } else { 0 }, 0, 0, 0]);
        }
        packet
    }
}

impl Rig {
    /// Asks at `at`; the largest TTL of the reply, if there is one.
    fn ask(&self, ask: &Ask, at: Instant) -> Option<u32> {
        let packet = ask.packet();
        let client = Client {
            addr: "10.244.2.5:4242".parse().unwrap(),
            local: "127.0.0.1:53".parse().unwrap(),
            transport: if ask.tcp {
                Transport::Tcp
            } else {
                Transport::Udp
            },
        };
        let received = Received {
            packet: &packet,
            client,
            at,
            shard: Shard::SHARED,
        };
        let mut reply = Reply::new();
        let entered = self.runtime.enter();
        let answered = answer(&self.routes, received, &mut reply);
        drop(entered);
        if !matches!(answered, Answered::Reply) {
            return None;
        }
        let query = OwnedQuery::new(packet.clone()).unwrap();
        let limit = if ask.tcp {
            65_535
        } else {
            query.view().udp_limit()
        };
        let ttl = check(&packet, reply.message(), limit);
        // What was asked in the background is stored now.
        self.runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
        Some(ttl)
    }
}

/// What holds of every reply; gives its largest TTL.
fn check(packet: &[u8], message: &[u8], limit: usize) -> u32 {
    let query = Query::read(packet).unwrap();
    let header = Header::read(message).unwrap();
    assert!(header.has(Header::QR));
    assert_eq!(message[..2], packet[..2], "the id is echoed");
    let question = query.question();
    assert_eq!(
        &message[12..12 + question.len()],
        question,
        "the question is echoed"
    );
    assert!(
        message.len() <= limit,
        "{} octets for a limit of {limit}",
        message.len()
    );
    let mut records = Records::new(message).unwrap();
    let walked: Vec<_> = records.by_ref().map(|record| record.unwrap()).collect();
    assert_eq!(
        records.offset(),
        message.len(),
        "nothing follows the last record"
    );
    let options = walked
        .iter()
        .filter(|record| record.rtype == RecordType::OPT);
    assert_eq!(
        options.count(),
        usize::from(query.edns().is_some()),
        "OPT as the client's"
    );
    let records = walked
        .iter()
        .filter(|record| record.rtype != RecordType::OPT);
    let ttl = records.map(|record| record.ttl).max().unwrap_or(0);
    assert!(ttl <= MAX_TTL, "a TTL of {ttl}");
    ttl
}

fuzz_target!(|data: &[u8]| {
    let [flags, size, how, high, low, other, bits @ ..] = data else {
        return;
    };
    let Some(([bits_high, bits_low, a, b, c], records)) = bits.split_first_chunk::<5>() else {
        return;
    };
    let rig = rig().lock().unwrap();
    // A name of its own for every input: none finds what another left.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let message = (
        u16::from_be_bytes([*bits_high, *bits_low]),
        [*a, *b, *c],
        records.to_vec(),
    );
    *MESSAGE.lock().unwrap() = message;

    let edns = |on: bool| on.then_some(512 + u16::from(*size) * 16);
    let first = Ask {
        number,
        upper: how & 1 != 0,
        flags: *flags,
        edns: edns(how & 2 != 0),
        tcp: true,
    };
    let stored = rig.ask(&first, rig.start);
    let second = Ask {
        number,
        upper: how & 4 != 0,
        // The same type, so that there is something to find.
        flags: (flags & 0xf0)
            | (if how & 8 != 0 {
                other & 0xf
            } else {
                flags & 0xf
            }),
        edns: edns(how & 16 != 0),
        tcp: how & 32 != 0,
    };
    let mut before = stored;
    let age = u64::from(u16::from_be_bytes([*high, *low]));
    for part in 1..=3 {
        let at = rig.start + Duration::from_millis(age * 64 * part);
        let asked = ASKED.load(Relaxed);
        let ttl = rig.ask(&second, at);
        let (Some(now), Some(then)) = (ttl, before) else {
            return;
        };
        let key = |ask: &Ask| (ask.flags & 1, ask.edns.is_some() && ask.flags & 4 != 0);
        // Answered from memory and from nothing newer.
        if asked == ASKED.load(Relaxed) && key(&first) == key(&second) {
            assert!(now <= then, "{now} s left of {then} s");
        }
        before = ttl.max(stored);
    }
});
