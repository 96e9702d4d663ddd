//! `race`: so many clients ask for one uncached name at once; how many exchanges does it take?

use super::server::{Running, keep_off};
use super::source::{Manner, State, start};
use super::verdict;
use crate::scale::args::Args;
use crate::scale::contender::{Contender, take};
use crate::scale::dns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const SOCKETS: u32 = 1_000;
/// Files that this process may need.
const FILES: u64 = 4_096;
/// How long after the last reply another one is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

struct Round {
    exchanges: u64,
    answers: usize,
    /// Other replies than the address.
    wrong: usize,
    /// Over which the questions were sent.
    sending: Duration,
    /// From the first question to the last reply.
    whole: Duration,
}

/// Runs the command.
pub fn run(args: &mut Args) -> Result<(), String> {
    let contenders = take(args)?;
    let clients = args.positive("--clients", 10_000)?;
    let rounds = args.positive("--rounds", 5)?;
    let delay = Duration::from_millis(args.positive("--delay", 200)?.into());
    args.finish()?;
    raise_files()?;
    keep_off();
    println!("{clients} questions at once for one name, upstream answers after {delay:?}\n");
    println!(
        "| server | round | exchanges upstream | answers | wrong | without reply | sent within ms | all answered within ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut wrong = Vec::new();
    for contender in &contenders {
        let all = measure(contender, clients, rounds, delay)?;
        for (number, round) in all.iter().enumerate() {
            let lost = clients as usize - round.answers - round.wrong;
            println!(
                "| {} | {} | {} | {} | {} | {lost} | {:.0} | {:.0} |",
                contender.name,
                number + 1,
                round.exchanges,
                round.answers,
                round.wrong,
                round.sending.as_secs_f64() * 1e3,
                round.whole.as_secs_f64() * 1e3,
            );
            if !contender.peer && (round.exchanges != 1 || round.wrong > 0 || lost > 0) {
                wrong.push(format!("{}: round {}", contender.name, number + 1));
            }
        }
    }
    verdict(wrong)
}

fn measure(
    contender: &Contender,
    clients: u32,
    rounds: u32,
    delay: Duration,
) -> Result<Vec<Round>, String> {
    let state = Arc::new(State::default());
    let port = start(&state, Manner { ttl: 300, delay })?;
    // Enough time for an upstream that is this slow.
    let directives = format!(" cache 30\n forward . 127.0.0.1:{port}\n");
    let server = Running::start(contender, &directives)?;
    let mut all = Vec::new();
    for round in 0..rounds {
        let before = state.queries.load(Relaxed);
        let name = format!("race-{round}.example.org");
        let mut result = ask(server.dns, &name, clients).map_err(|error| error.to_string())?;
        result.exchanges = state.queries.load(Relaxed) - before;
        all.push(result);
    }
    Ok(all)
}

fn ask(to: SocketAddr, name: &str, clients: u32) -> std::io::Result<Round> {
    let mut sockets = Vec::new();
    for _ in 0..clients.min(SOCKETS) {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    let mut packet = dns::query(0, name, dns::A);
    let begun = Instant::now();
    for client in 0..clients {
        packet[..2].copy_from_slice(&((client / SOCKETS) as u16).to_be_bytes());
        let socket = &sockets[client as usize % sockets.len()];
        while socket.send(&packet).is_err() && begun.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
    }
    let sending = begun.elapsed();
    let mut round = Round {
        exchanges: 0,
        answers: 0,
        wrong: 0,
        sending,
        whole: sending,
    };
    let mut seen = HashSet::new();
    let mut last = Instant::now();
    while seen.len() < clients as usize && last.elapsed() < PATIENCE {
        let before = seen.len();
        for (number, socket) in sockets.iter().enumerate() {
            let mut message = [0; 1500];
            while let Ok(len) = socket.recv(&mut message) {
                let reply = dns::parse(message.get(..len).unwrap_or_default());
                let Some(reply) = reply.filter(|reply| seen.insert((number, reply.id))) else {
                    continue;
                };
                match reply.code == 0 && reply.addresses.len() == 1 {
                    true => round.answers += 1,
                    false => round.wrong += 1,
                }
            }
        }
        if seen.len() > before {
            last = Instant::now();
            round.whole = begun.elapsed();
        } else if let Some(first) = sockets.first() {
            let time = Timespec::try_from(Duration::from_millis(2)).unwrap_or_default();
            let _ = poll(&mut [PollFd::new(first, PollFlags::IN)], Some(&time));
        }
    }
    Ok(round)
}

/// Lets this process have enough open files.
fn raise_files() -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= FILES) {
        return Ok(());
    }
    let maximum = limit.maximum;
    let current = Some(maximum.map_or(FILES, |maximum| maximum.min(FILES)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum })
        .map_err(|error| format!("open files: {error}"))
}
