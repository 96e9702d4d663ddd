//! Queries whose answers are checked, each against what was so at the time.

use super::update::{Cluster, ENDPOINTS};
use crate::scale::dns::{A, Reply, parse, query};
use crate::scale::history::{Age, Verdict, version};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long replies are waited for after the last query.
const LINGER: Duration = Duration::from_secs(2);
/// Wrong answers that are shown.
const SHOWN: u32 = 5;

/// A question.
enum Asked {
    /// A service that changes.
    Target(u32),
    /// One that stays, with its address.
    Stable(Ipv4Addr),
}

/// A reply and its times.
struct Seen {
    question: usize,
    sent: Duration,
    received: Duration,
    reply: Outcome,
}

/// What a reply was.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// The stable address.
    Exact,
    /// A whole version.
    Version(u32),
    Wrong,
}

/// A sender and a receiver at work.
pub struct Checker {
    sender: JoinHandle<std::io::Result<u64>>,
    receiver: JoinHandle<Vec<Seen>>,
    asked: Arc<Vec<Asked>>,
}

/// The result.
pub struct Report {
    pub checked: u64,
    /// Queries without reply.
    pub lost: u64,
    pub wrong: u64,
    /// The oldest answer from the API server's reply to the change, and the oldest one from when
    /// another watch had told of it as well.
    pub oldest: Age,
    /// In microseconds, in ascending order.
    latencies: Vec<u32>,
}

impl Report {
    /// A percentile of the latency, in microseconds.
    pub fn latency(&self, share: f64) -> u32 {
        let index = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        let latency = self.latencies.get(index.min(last));
        latency.copied().unwrap_or_default()
    }
}

impl Checker {
    /// Asks for targets and stable services in turn, at a rate, for a time.
    pub fn start(
        server: SocketAddr,
        cluster: &Cluster,
        rate: u32,
        time: Duration,
    ) -> Result<Self, String> {
        let connect = || -> std::io::Result<_> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok((socket.try_clone()?, socket))
        };
        let (sending, receiving) = connect().map_err(|error| error.to_string())?;
        let mut asked = Vec::new();
        let mut queries = Vec::new();
        for target in 0..cluster.targets() {
            let stable = target as usize % cluster.stable.len();
            queries.push(query(0, &cluster.target_name(target), A));
            asked.push(Asked::Target(target));
            let name = cluster.stable_name(u32::try_from(stable).unwrap_or_default());
            queries.push(query(0, &name, A));
            asked.push(Asked::Stable(cluster.stable[stable]));
        }
        let asked = Arc::new(asked);
        let times: Arc<Vec<AtomicU64>> = Arc::new((0..=u16::MAX).map(|_| 0.into()).collect());
        let epoch = cluster.epoch;
        let begun = Instant::now();
        let sent_times = times.clone();
        let sender = std::thread::spawn(move || {
            go_first();
            let mut count = 0u64;
            loop {
                let due = Duration::from_secs_f64(count as f64 / f64::from(rate));
                if due >= time {
                    return Ok(count);
                }
                if let Some(left) = due.checked_sub(begun.elapsed()) {
                    std::thread::sleep(left);
                }
                let id = (count % (1 << 16)) as u16;
                let index = usize::from(id) % queries.len();
                queries[index][..2].copy_from_slice(&id.to_be_bytes());
                // A slot that is still taken belongs to a query of 65,536 queries ago: it is lost.
                sent_times[usize::from(id)].store(nanos(epoch.elapsed()), Ordering::Release);
                sending.send(&queries[index])?;
                count += 1;
            }
        });
        let judged = asked.clone();
        let receiver = std::thread::spawn(move || {
            go_first();
            let mut seen = Vec::new();
            let mut buffer = [0; 2048];
            while begun.elapsed() < time + LINGER {
                let Ok(len) = receiving.recv(&mut buffer) else {
                    continue;
                };
                let received = epoch.elapsed();
                let Some(reply) = parse(&buffer[..len]) else {
                    continue;
                };
                let sent = times[usize::from(reply.id)].swap(0, Ordering::AcqRel);
                if sent == 0 {
                    continue;
                }
                let question = usize::from(reply.id) % judged.len();
                seen.push(Seen {
                    question,
                    sent: Duration::from_nanos(sent),
                    received,
                    reply: outcome(&judged[question], &reply),
                });
            }
            seen
        });
        Ok(Self {
            sender,
            receiver,
            asked,
        })
    }

    /// Waits for the end and judges.
    pub fn finish(self, cluster: &Cluster, bound: Duration) -> Result<Report, String> {
        let sent = self.sender.join().map_err(|_| "the sender has ended")?;
        let sent = sent.map_err(|error| error.to_string())?;
        let seen = self.receiver.join().map_err(|_| "the receiver has ended")?;
        let mut report = Report {
            checked: seen.len() as u64,
            lost: sent - seen.len() as u64,
            wrong: 0,
            oldest: Age::default(),
            latencies: Vec::with_capacity(seen.len()),
        };
        let mut shown = 0;
        for seen in &seen {
            let micros = (seen.received - seen.sent).as_micros();
            report
                .latencies
                .push(u32::try_from(micros).unwrap_or(u32::MAX));
            let right = match (&self.asked[seen.question], seen.reply) {
                (Asked::Stable(_), Outcome::Exact) => true,
                (Asked::Target(target), Outcome::Version(version)) => {
                    let history = cluster.history(*target);
                    let verdict = history.judge(version, seen.sent, seen.received, bound);
                    if let Verdict::Old(age) | Verdict::TooOld(age) = verdict {
                        let oldest = &mut report.oldest;
                        oldest.replied = oldest.replied.max(age.replied);
                        oldest.told = oldest.told.max(age.told);
                    }
                    let right = matches!(verdict, Verdict::Right | Verdict::Old(_));
                    if !right && shown < SHOWN {
                        eprintln!("  target {target}: version {version}: {verdict:?}");
                    }
                    right
                }
                (Asked::Target(target), _) => {
                    if shown < SHOWN {
                        eprintln!("  target {target}: not a version");
                    }
                    false
                }
                (Asked::Stable(address), _) => {
                    if shown < SHOWN {
                        eprintln!("  not {address}");
                    }
                    false
                }
            };
            if !right {
                shown += 1;
                report.wrong += 1;
            }
        }
        report.latencies.sort_unstable();
        Ok(report)
    }
}

/// Lets this thread run before others, where that is permitted: what it measures is the server's time,
/// not how long it waits itself for a CPU that load and updates share.
fn go_first() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -10);
}

fn outcome(asked: &Asked, reply: &Reply) -> Outcome {
    match asked {
        _ if reply.code != 0 => Outcome::Wrong,
        Asked::Stable(address) if reply.addresses == [*address] => Outcome::Exact,
        Asked::Stable(_) => Outcome::Wrong,
        Asked::Target(target) => {
            let found = version(*target, ENDPOINTS, &reply.addresses);
            found.map_or(Outcome::Wrong, Outcome::Version)
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
