//! `names`: a million different names, each asked once.

use super::server::{Running, keep_off};
use super::source::{Manner, State, start};
use super::{mib, verdict};
use crate::scale::args::Args;
use crate::scale::contender::{Contender, take};
use crate::scale::dns;
use crate::scale::process::Memory;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A question without a reply for this long is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// Questions between two looks at the memory.
const LOOK: u32 = 20_000;
/// The server gives memory back, if it does, within this time.
const REST: Duration = Duration::from_secs(2);

/// Runs the command.
pub fn run(args: &mut Args) -> Result<(), String> {
    let contenders = take(args)?;
    let count = args.positive("--count", 1_000_000)?;
    let window = args.positive("--window", 256)?.min(32_768);
    let cache = args.text("--cache").unwrap_or_else(|| "30".into());
    args.finish()?;
    keep_off();
    println!("{count} names, `cache {cache}`, {window} under way\n");
    println!(
        "| server | before MiB | most seen MiB | after MiB | peak MiB | growth MiB | \
         entries (success) | entries (denial) | good | other | lost | queries/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut wrong = Vec::new();
    for contender in &contenders {
        let lost = measure(contender, count, window, &cache)?;
        // Some are lost under load, by the kernel if nobody else.
        if !contender.peer && lost > u64::from(count) / 1_000 {
            wrong.push(format!(
                "{}: {lost} questions without an answer",
                contender.name
            ));
        }
    }
    verdict(wrong)
}

/// Prints a line; gives how many questions were not answered well.
fn measure(contender: &Contender, count: u32, window: u32, cache: &str) -> Result<u64, String> {
    let manner = Manner {
        ttl: 300,
        delay: Duration::ZERO,
    };
    let port = start(&Arc::new(State::default()), manner)?;
    let directives = format!(" cache {cache}\n forward . 127.0.0.1:{port}\n");
    let server = Running::start(contender, &directives)?;
    // What the first questions need anyhow: sockets, threads, buffers.
    ask(server.dns, "w", (2_000.min(count), window), &mut |_| Ok(()))?;
    let before = server.memory()?;
    let mut most = before;
    let begun = Instant::now();
    let mut look = |_| {
        let Memory { now, .. } = server.memory()?;
        most.now = most.now.max(now);
        Ok(())
    };
    let asked = ask(server.dns, "n", (count, window), &mut look)?;
    let seconds = begun.elapsed().as_secs_f64();
    let entries = |kind| server.metric("coredns_cache_entries", kind);
    let (success, denial) = (entries("\"success\"")?, entries("\"denial\"")?);
    std::thread::sleep(REST);
    let after = server.memory()?;
    println!(
        "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {success} | {denial} | {} | {} | {} | {:.0} |",
        contender.name,
        mib(before.now),
        mib(most.now),
        mib(after.now),
        mib(after.peak),
        mib(after.peak.saturating_sub(before.now)),
        asked.good,
        asked.other,
        asked.lost,
        f64::from(count) / seconds,
    );
    Ok(asked.other + asked.lost)
}

#[derive(Default)]
struct Asked {
    good: u64,
    other: u64,
    lost: u64,
}

/// Asks for `PREFIX0`, `PREFIX1`, …; `look` is called now and then.
fn ask(
    to: SocketAddr,
    prefix: &str,
    (count, window): (u32, u32),
    look: &mut dyn FnMut(u32) -> Result<(), String>,
) -> Result<Asked, String> {
    let error = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(error)?;
    socket.connect(to).map_err(error)?;
    socket.set_nonblocking(true).map_err(error)?;
    let mut waiting = vec![false; 1 << 16];
    let (mut sent, mut open) = (0, 0);
    let mut asked = Asked::default();
    let mut last = Instant::now();
    while sent < count || open > 0 {
        while open < window && sent < count {
            // One that was sent 65,536 questions ago.
            if std::mem::take(&mut waiting[sent as usize & 0xffff]) {
                asked.lost += 1;
                open -= 1;
            }
            let packet = dns::query(
                sent as u16,
                &format!("{prefix}{sent}.names.example.org"),
                dns::A,
            );
            if socket.send(&packet).is_err() {
                break;
            }
            waiting[sent as usize & 0xffff] = true;
            sent += 1;
            open += 1;
            if sent.is_multiple_of(LOOK) {
                look(sent)?;
            }
        }
        let mut message = [0; 1500];
        let mut got = false;
        while let Ok(len) = socket.recv(&mut message) {
            let reply = dns::parse(message.get(..len).unwrap_or_default());
            let reply = reply.filter(|reply| std::mem::take(&mut waiting[usize::from(reply.id)]));
            let Some(reply) = reply else {
                continue;
            };
            got = true;
            open -= 1;
            match reply.code == 0 && reply.addresses.len() == 1 {
                true => asked.good += 1,
                false => asked.other += 1,
            }
        }
        if got {
            last = Instant::now();
        } else if last.elapsed() > PATIENCE {
            // Nothing comes any more of what is under way.
            asked.lost += u64::from(std::mem::take(&mut open));
            waiting.fill(false);
            last = Instant::now();
        } else {
            let time = Timespec::try_from(Duration::from_millis(5)).unwrap_or_default();
            let _ = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&time));
        }
    }
    Ok(asked)
}
