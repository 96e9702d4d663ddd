//! A server process: started, waited for, looked at, ended.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to become ready.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at `/ready`.
const POLL: Duration = Duration::from_millis(1);

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Resident now.
    pub now: u64,
    /// The most that ever was.
    pub peak: u64,
}

/// A running process; it is ended when it goes out of scope.
pub struct Process {
    child: Child,
    begun: Instant,
    name: String,
}

impl Process {
    /// Starts a command, on one CPU if that is given.
    pub fn start(name: &str, words: &[String], cpu: Option<u32>) -> Result<Self, String> {
        let pin = ["taskset", "-c"].map(str::to_owned);
        let pin = cpu.map(|cpu| pin.into_iter().chain([cpu.to_string()]));
        let mut words = pin.into_iter().flatten().chain(words.iter().cloned());
        let program = words.next().ok_or_else(|| format!("{name}: no command"))?;
        let begun = Instant::now();
        let child = Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(Self {
            child,
            begun,
            name: name.to_owned(),
        })
    }

    /// Waits until `/ready` says 200; since the start of the process.
    pub fn ready(&mut self, admin: SocketAddr) -> Result<Duration, String> {
        while !is_ready(admin) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended: {status}", self.name));
            }
            if self.begun.elapsed() > PATIENCE {
                return Err(format!("{} does not become ready", self.name));
            }
            std::thread::sleep(POLL);
        }
        Ok(self.begun.elapsed())
    }

    /// Since its start.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Its memory.
    pub fn memory(&self) -> Result<Memory, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        memory(&status).ok_or_else(|| format!("{}: unreadable status", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `VmRSS` and `VmHWM` of `/proc/PID/status`.
fn memory(status: &str) -> Option<Memory> {
    let line = |name| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Memory {
        now: line("VmRSS:")?,
        peak: line("VmHWM:")?,
    })
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&admin, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process() {
        let status = "Name:\tx\nVmHWM:\t   20000 kB\nVmRSS:\t   10000 kB\n";
        let wanted = Memory {
            now: 10_000,
            peak: 20_000,
        };
        assert_eq!(memory(status), Some(wanted));
        assert_eq!(memory("Name:\tx\n"), None);
    }
}
