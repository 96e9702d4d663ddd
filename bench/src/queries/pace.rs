//! Latency: a client that sends at a steady rate whatever the server does, in a process of its own.
//!
//! dnsperf knows only the mean, and waits for replies when many are missing.

use super::latency::Histogram;
use super::process::Server;
use super::sample::Latency;
use portolan::dns::{Class, Name, OwnedQuery, RecordType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long what is answered does not count: caches fill, the server's memory grows.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long the last replies may take.
const REST: Duration = Duration::from_secs(1);
/// Queries sent in one go when the client is a little late.
const BURST: u32 = 16;
/// When it is later than this, what it has missed is left out: sent all at once, it would measure
/// the client's absence. The rate shows how much was left out.
const BACKLOG: f64 = 0.001;
/// How exactly the kernel's timers wake the client, in nanoseconds.
const TIMER_SLACK: u64 = 1_000;

/// How the client waits for replies and for its next query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It keeps its CPU: most exact.
    Spin,
    /// It leaves its CPU to the upstream meanwhile.
    Sleep,
}

impl Waiting {
    /// As the client's argument.
    const fn word(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Sleep => "sleep",
        }
    }
}

/// Measures a server at so many queries a second.
pub fn measure(
    server: &Server<'_>,
    questions: &Path,
    (rate, seconds): (f64, u32),
    cpus: &str,
    waiting: Waiting,
) -> Result<Latency, String> {
    let itself = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("taskset")
        .args(["-c", cpus])
        .arg(itself)
        .args(["--pace", &server.contender.port.to_string()])
        .args([format!("{rate:.0}"), seconds.to_string()])
        .arg(questions)
        .arg(waiting.word())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("no latency: {text}{errors}")
    })
}

fn read(line: &str) -> Option<Latency> {
    let mut numbers = line.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next()?.ok();
    Some(Latency {
        rate: next()?,
        lost: next()? as u64,
        p50: next()?,
        p99: next()?,
        p999: next()?,
    })
}

/// The client: port, rate, seconds, file of questions, how it waits. Prints rate, lost, p50, p99, p99.9.
pub fn run(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let mut next = || {
        args.next()
            .ok_or("--pace PORT RATE SECONDS FILE spin|sleep")
    };
    let number = |text: String| {
        text.parse::<f64>()
            .map_err(|_| format!("no number: {text}"))
    };
    let port = number(next()?)? as u16;
    let rate = number(next()?)?.max(1.0);
    let seconds = number(next()?)?;
    let file = next()?;
    let waiting = match next()? == Waiting::Sleep.word() {
        true => Waiting::Sleep,
        false => Waiting::Spin,
    };
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let length = WARM_UP + Duration::from_secs_f64(seconds);
    // A file of millions of questions is read as far as it is asked.
    let enough = (rate * length.as_secs_f64()) as usize + 1;
    let questions: Vec<_> = text.lines().take(enough).filter_map(question).collect();
    if questions.is_empty() {
        return Err(format!("{file}: no questions"));
    }
    let paced =
        pace(port, (rate, length), &questions, waiting).map_err(|error| error.to_string())?;
    let Latency {
        rate,
        lost,
        p50,
        p99,
        p999,
    } = paced;
    println!("{rate:.0} {lost} {p50:.2} {p99:.2} {p999:.2}");
    Ok(())
}

/// The query of a line in dnsperf's form.
fn question(line: &str) -> Option<Box<[u8]>> {
    let (name, rtype) = line.split_once(' ')?;
    let rtype = match rtype {
        "A" => RecordType::A,
        "AAAA" => RecordType::AAAA,
        "SRV" => RecordType::SRV,
        "PTR" => RecordType::PTR,
        _ => return None,
    };
    let name = Name::from_text(name).ok()?;
    let query = OwnedQuery::ask(name.wire(), rtype, Class::IN, true);
    Some(query.view().packet().into())
}

/// What is under way, by the id of the query.
struct Flight {
    sent: Box<[Option<Instant>]>,
    latencies: Histogram,
    counted_from: Instant,
    /// Queries that count.
    counted: u64,
}

fn pace(
    port: u16,
    (rate, length): (f64, Duration),
    questions: &[Box<[u8]>],
    waiting: Waiting,
) -> std::io::Result<Latency> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    socket.set_nonblocking(true)?;
    // Without it the client only wakes later.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(TIMER_SLACK));
    let start = Instant::now();
    let mut flight = Flight {
        sent: vec![None; 1 << 16].into(),
        latencies: Histogram::new(),
        counted_from: start + WARM_UP,
        counted: 0,
    };
    let mut packet = Vec::with_capacity(512);
    // Queries sent or left out: query `n` is due `n / rate` seconds after the start.
    let mut sent = 0_u64;
    let mut asked = questions.iter().cycle();
    while start.elapsed() < length {
        let due = (start.elapsed().as_secs_f64() * rate) as u64;
        let backlog = (rate * BACKLOG) as u64 + u64::from(BURST);
        sent = sent.max(due.saturating_sub(backlog));
        for _ in 0..BURST {
            if sent >= due {
                break;
            }
            let id = sent as u16;
            packet.clear();
            packet.extend_from_slice(asked.next().map_or(&[], |question| question));
            packet[..2].copy_from_slice(&id.to_be_bytes());
            let now = Instant::now();
            // A full buffer is a query that is lost.
            let _ = socket.send(&packet);
            flight.sent[usize::from(id)] = Some(now);
            flight.counted += u64::from(now >= flight.counted_from);
            sent += 1;
        }
        if flight.receive(&socket) == 0 && waiting == Waiting::Sleep && sent >= due {
            let next = start + Duration::from_secs_f64((sent + 1) as f64 / rate);
            wait(&socket, next.saturating_duration_since(Instant::now()));
        }
    }
    let counted_for = flight.counted_from.elapsed().as_secs_f64();
    let end = Instant::now() + REST;
    while flight.latencies.count() < flight.counted && Instant::now() < end {
        if flight.receive(&socket) == 0 {
            wait(&socket, Duration::from_millis(1));
        }
    }
    Ok(Latency {
        rate: flight.counted as f64 / counted_for,
        lost: flight.counted.saturating_sub(flight.latencies.count()),
        p50: flight.latencies.quantile(0.5),
        p99: flight.latencies.quantile(0.99),
        p999: flight.latencies.quantile(0.999),
    })
}

/// Waits for a reply, but no longer than this.
fn wait(socket: &UdpSocket, time: Duration) {
    // Nothing is missed by waking early.
    let time = Timespec::try_from(time).unwrap_or_default();
    let mut sockets = [PollFd::new(socket, PollFlags::IN)];
    let _ = poll(&mut sockets, Some(&time));
}

impl Flight {
    /// Takes the replies that are there; gives how many.
    fn receive(&mut self, socket: &UdpSocket) -> u32 {
        let mut reply = [0; 4096];
        for count in 0..64 {
            let Ok(2..) = socket.recv(&mut reply) else {
                return count;
            };
            let now = Instant::now();
            let id = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
            if let Some(sent) = self.sent[id]
                .take()
                .filter(|&sent| sent >= self.counted_from)
            {
                self.latencies.add((now - sent).as_nanos() as u64);
            }
        }
        64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_as_dnsperf_has_them() {
        let packet = question("s0.ns0.svc.cluster.local SRV").unwrap();
        assert_eq!(packet[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert!(packet.ends_with(b"\x05local\0\0\x21\0\x01"));
        assert!(question("x NOPE").is_none());
    }

    #[test]
    fn what_the_client_prints_is_what_is_read() {
        let latency = read("1000 2 31.50 90.25 120.00\n").unwrap();
        assert_eq!(
            (latency.rate, latency.lost, latency.p99),
            (1000.0, 2, 90.25)
        );
        assert_eq!(read("1000 2"), None);
    }
}
