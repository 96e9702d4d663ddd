//! The processes: how each is started, asked whether it serves, measured and ended.

use super::peers::Contender;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer: a large cluster has to be read first.
const START: Duration = Duration::from_secs(180);
/// How often it is looked whether a server that answers still works on its start, and how long that
/// may take: some put their data in order, or give memory back.
const SETTLING: Duration = Duration::from_millis(100);
const SETTLED: Duration = Duration::from_secs(10);
/// How long a server may take to end by itself.
const END: Duration = Duration::from_secs(10);
/// Clock ticks of `/proc/PID/stat` in a second (USER_HZ, the same on every Linux).
pub const TICKS: f64 = 100.0;

/// CPU time so far in ticks, and memory.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub user: u64,
    pub system: u64,
    /// The peak (VmHWM), in KiB.
    pub peak: u64,
}

/// A running server; it is ended when it goes out of scope.
pub struct Server<'c> {
    pub contender: &'c Contender,
    child: Child,
}

impl<'c> Server<'c> {
    /// Starts a server on its CPUs and waits until it answers and has nothing else to do.
    pub fn start(contender: &'c Contender) -> Result<Self, String> {
        free(contender.port)?;
        let child = pinned(&contender.cpus)
            .args(&contender.command)
            .spawn()
            .map_err(|error| format!("{}: {error}", contender.name))?;
        let mut server = Self { contender, child };
        let end = Instant::now() + START;
        while !server.is_serving() {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!(
                    "{} ended: {status}: {}",
                    contender.name,
                    contender.command.join(" ")
                ));
            }
            if Instant::now() > end {
                return Err(format!(
                    "{} does not answer at port {}",
                    contender.name, contender.port
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server.settle()?;
        Ok(server)
    }

    fn settle(&self) -> Result<(), String> {
        let end = Instant::now() + SETTLED;
        let ticks = || self.usage().map(|usage| usage.user + usage.system);
        let mut before = ticks()?;
        while Instant::now() < end {
            std::thread::sleep(SETTLING);
            let now = ticks()?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(())
    }

    fn is_serving(&self) -> bool {
        // `s0.ns0.svc.cluster.local. A`, RD set.
        let query =
            b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x02s0\x03ns0\x03svc\x07cluster\x05local\0\0\x01\0\x01";
        let ask = || -> std::io::Result<bool> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(("127.0.0.1", self.contender.port))?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            socket.send(query)?;
            let mut reply = [0; 512];
            let len = socket.recv(&mut reply)?;
            Ok(len > 12 && (!self.contender.answers() || reply[7] > 0))
        };
        ask().unwrap_or(false)
    }

    /// What it and the processes it started have used.
    pub fn usage(&self) -> Result<Usage, String> {
        let mut sum = Usage::default();
        for pid in family(self.child.id()) {
            let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
            let stat = read("stat").map_err(|error| format!("process {pid}: {error}"))?;
            let status = read("status").map_err(|error| format!("process {pid}: {error}"))?;
            let (user, system) = cpu_time(&stat).ok_or("unreadable /proc/PID/stat")?;
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
            sum.user += user;
            sum.system += system;
            sum.peak += peak.unwrap_or(0);
        }
        Ok(sum)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A process of this program itself that runs beside the measurements.
pub struct Helper(Child);

impl Helper {
    /// Starts this program with these two arguments, on these CPUs.
    pub fn start(command: &str, argument: &str, cpus: &str) -> Result<Self, String> {
        let itself = std::env::current_exe().map_err(|error| error.to_string())?;
        let child = pinned(cpus).arg(itself).args([command, argument]).spawn();
        child
            .map(Self)
            .map_err(|error| format!("{command}: {error}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// That nobody listens there: with SO_REUSEPORT two servers would share the queries.
pub fn free(port: u16) -> Result<(), String> {
    let bound = UdpSocket::bind(("127.0.0.1", port));
    bound
        .map(drop)
        .map_err(|error| format!("port {port}: {error}"))
}

/// A command that runs on these CPUs only, and says nothing.
fn pinned(cpus: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpus]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Asks a process to end (one with children has to end them), and ends it if it does not.
fn end(child: &mut Child) {
    let asked = Command::new("kill").arg(child.id().to_string()).status();
    let latest = Instant::now() + END;
    while asked.is_ok() && Instant::now() < latest {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// A process and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        next += 1;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            all.extend(children.split_whitespace().flat_map(str::parse::<u32>));
        }
    }
    all
}

/// `utime` and `stime` of a line of `/proc/PID/stat`, whose second field may hold anything.
fn cpu_time(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_a_process() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 6 0 100 1 2";
        assert_eq!(cpu_time(stat), Some((123, 45)));
        assert_eq!(cpu_time("7 (a)"), None);
    }

    #[test]
    fn a_port_that_somebody_has_is_not_free() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(free(port).is_err());
    }

    #[test]
    fn a_process_and_what_it_started() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let family = family(child.id());
        assert_eq!((family[0], family.len()), (child.id(), 2));
        let killed = Command::new("kill").arg(family[1].to_string()).status();
        assert!(killed.unwrap().success());
        end(&mut child);
    }
}
