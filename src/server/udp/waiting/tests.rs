#![allow(clippy::unwrap_used)]

use super::*;
use crate::corefile;
use crate::dns::{Class, Header, Name, OwnedQuery, Owner, RecordType, Section};
use crate::plugin::{Outcome, Plugin, PluginEntry, Process, Setup, Step};
use crate::server::Configuration;
use crate::server::lifecycle::Shared;
use tokio::sync::Semaphore;

/// Opens for the queries of one test.
static GATE: Semaphore = Semaphore::const_new(0);

const TABLE: &[PluginEntry] = &[PluginEntry {
    name: "scripted",
    summary: "",
    setup: |setup: &mut Setup<'_>| {
        setup.add(Scripted);
        Ok(())
    },
}];

/// `silent` waits for ever, `gate` until the gate is open, all else is answered at once.
struct Scripted;

impl Plugin for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn query(&self, cx: &mut crate::plugin::Context<'_>, reply: &mut Reply) -> Step {
        match cx.query.name().label(0) {
            b"silent" => Step::Wait(Box::pin(std::future::pending())),
            b"gate" => {
                let cx = cx.to_owned();
                Step::Wait(Box::pin(async move {
                    drop(GATE.acquire().await);
                    let mut reply = Reply::new();
                    reply.start(&cx.view().query);
                    (Outcome::Written, reply)
                }))
            }
            _ => {
                reply.push(
                    Section::Answer,
                    Owner::Query,
                    RecordType::A,
                    5,
                    &[192, 0, 2, 1],
                );
                Step::Done(Outcome::Written)
            }
        }
    }
}

/// A worker on the thread of the test, and its client.
struct Lab {
    worker: Worker,
    waiting: Waiting,
    batch: Batch,
    client: std::net::UdpSocket,
    _background: Runtime,
    process: Arc<Process>,
}

impl Lab {
    fn new(share: usize) -> Self {
        let background = Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let process = Arc::new(Process::new(background.handle().clone(), 1).0);
        let corefile = corefile::parse("Corefile", ". {\nscripted\n}", &|_| None).unwrap();
        let built = Configuration::build(&corefile, TABLE, &process, 53).unwrap();
        let routes = built.listeners.into_values().next().unwrap();
        let look = Duration::from_secs(5);
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), look).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local()).unwrap();
        client.set_read_timeout(Some(look)).unwrap();
        let shared = Arc::new(Shared::new(&process.metrics));
        let worker = Worker {
            slot: Arc::new(Slot::new(routes, shared, socket.local())),
            socket: Arc::new(socket),
            shard: Shard::worker(0),
            runtime: background.handle().clone(),
            share,
        };
        Self {
            waiting: Waiting::new(&worker).unwrap(),
            worker,
            batch: Batch::new(UDP_BATCH),
            client,
            _background: background,
            process,
        }
    }

    fn send(&self, id: u16, name: &str) {
        let name = Name::from_text(name).unwrap();
        let query = OwnedQuery::ask(name.wire(), RecordType::A, Class::IN, true);
        let mut packet = query.view().packet().to_vec();
        packet[..2].copy_from_slice(&id.to_be_bytes());
        // With EDNS there are extended errors.
        packet[11] = 1;
        packet.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        self.client.send(&packet).unwrap();
    }

    /// Receives once, and answers as of `at`.
    fn step(&mut self, at: std::time::Instant) {
        let count = match self.waiting.count() {
            0 => self.batch.receive(&self.worker.socket),
            _ => self.waiting.receive(&mut self.batch),
        };
        let routes = self.worker.slot.routes.load_full();
        let mut reply = Reply::new();
        for slot in 0..count.unwrap() {
            let (batch, waiting) = (&mut self.batch, &mut self.waiting);
            self.worker
                .serve(batch, slot, &routes, at, &mut reply, waiting);
        }
        self.batch.flush(&self.worker.socket).unwrap();
    }

    /// One query, served.
    fn ask(&mut self, id: u16, name: &str) {
        self.send(id, name);
        self.step(std::time::Instant::now());
    }

    /// The next reply: its id, its response code, and whether `text` is in it.
    fn reply(&self, text: &str) -> (u16, u16, bool) {
        let mut buf = [0; 512];
        let len = self.client.recv(&mut buf).unwrap();
        let header = Header::read(&buf[..len]).unwrap();
        let mut windows = buf[..len].windows(text.len().max(1));
        (
            header.id,
            header.rcode().0,
            windows.any(|w| w == text.as_bytes()),
        )
    }

    fn dropped(&self) -> [f64; 2] {
        let text =
            crate::metrics::exposition(&self.process.metrics, crate::metrics::Format::Classic);
        ["number", "time"].map(|reason| {
            let series = format!("portolan_pending_dropped_total{{reason=\"{reason}\"}} ");
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(series.as_str()));
            value.unwrap().parse().unwrap()
        })
    }
}

#[test]
fn the_oldest_query_makes_room() {
    let mut lab = Lab::new(4);
    for id in 1..=6 {
        lab.ask(id, "silent.example");
    }
    lab.ask(7, "now.example");
    let text = "overloaded";
    assert_eq!(lab.reply(text), (1, 2, true));
    assert_eq!(lab.reply(text), (2, 2, true));
    assert_eq!(lab.reply(text), (7, 0, false));
    assert_eq!(lab.dropped(), [2.0, 0.0]);
    assert_eq!((COUNT.get(), DROPPED.get()), (4, 0));
    assert_eq!(lab.worker.slot.shared.pending.get(), 4);
}

#[test]
fn memory_is_bounded_under_a_flood() {
    let mut lab = Lab::new(64);
    for id in 0..20_000 {
        lab.ask(
            id,
            if id % 2 == 0 {
                "silent.example"
            } else {
                "now.example"
            },
        );
        assert!(COUNT.get() <= 64 + UDP_BATCH && lab.waiting.queue.tasks.len() <= 3 * 64);
        if id % 2 == 1 {
            while lab.reply("overloaded").0 != id {}
        }
    }
    assert!(lab.dropped()[0] > 9_900.0);
}

#[test]
fn no_query_waits_for_ever() {
    let mut lab = Lab::new(4);
    let ago = std::time::Instant::now() - PENDING_TIME;
    lab.send(1, "silent.example");
    lab.step(ago);
    lab.ask(2, "silent.example");
    lab.ask(3, "now.example");
    assert_eq!(lab.reply("no answer came in time"), (1, 2, true));
    assert_eq!(lab.reply("no answer"), (3, 0, false));
    assert_eq!(lab.dropped(), [0.0, 1.0]);
    assert_eq!(COUNT.get(), 1);
}

/// However many replies of upstreams are there at once, packets do not wait behind all of them.
#[test]
fn a_burst_of_answers_does_not_keep_the_socket_waiting() {
    const WAIT: usize = 3000;
    let mut lab = Lab::new(PENDING);
    for id in 0..WAIT {
        lab.ask(id as u16, "gate.example");
    }
    assert_eq!(COUNT.get(), WAIT);
    GATE.add_permits(Semaphore::MAX_PERMITS / 2);
    lab.ask(u16::MAX, "now.example");
    let answered = WAIT - COUNT.get();
    assert!(answered <= 2 * TURN as usize, "{answered}");
    assert!(COUNT.get() > 0, "the gate opened for all");
    let mut others = 0;
    while lab.reply("").0 != u16::MAX {
        others += 1;
    }
    assert!(others <= answered);
}

const PENDING: usize = crate::limits::PENDING_QUERIES;
