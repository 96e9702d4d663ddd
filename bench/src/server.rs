//! The servers: how each is started, asked whether it serves, measured and ended.

use crate::cluster::Data;
use crate::options::Options;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that takes part.
pub struct Contender {
    pub name: String,
    command: Vec<String>,
    pub port: u16,
    /// Whether it answers questions (the echo server does not).
    pub answers: bool,
}

/// Portolan, the echo server, and the peers.
pub fn contenders(options: &Options, folder: &Path, data: &Data) -> Result<Vec<Contender>, String> {
    let corefile = folder.join("Corefile");
    let text = format!(
        ".:5310 {{\n bind 127.0.0.1\n errors\n kubernetes cluster.local in-addr.arpa ip6.arpa {{\n  \
         manifests {}\n  pods insecure\n  ttl 30\n }}\n prometheus 127.0.0.1:0\n \
         forward . 127.0.0.1:5399\n cache 30\n loadbalance\n}}\n",
        data.manifests.display()
    );
    std::fs::write(&corefile, text).map_err(|error| error.to_string())?;
    let itself = std::env::current_exe().map_err(|error| error.to_string())?;
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let mut all = vec![
        Contender {
            name: "portolan".into(),
            command: words(&[&options.portolan, "-conf", &corefile.display().to_string()]),
            port: 5310,
            answers: true,
        },
        Contender {
            name: "echo".into(),
            command: words(&[&itself.display().to_string(), "--echo", "5311"]),
            port: 5311,
            answers: false,
        },
    ];
    all.extend(options.peers.iter().map(|(name, command, port)| Contender {
        name: name.clone(),
        command: command.clone(),
        port: *port,
        answers: true,
    }));
    Ok(all)
}

/// A running server; it is ended when it goes out of scope.
pub struct Server<'c> {
    pub contender: &'c Contender,
    child: Child,
}

impl<'c> Server<'c> {
    /// Starts a server on CPU 0 and waits until it answers.
    pub fn start(contender: &'c Contender) -> Result<Self, String> {
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .args(&contender.command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", contender.name))?;
        let mut server = Self { contender, child };
        let end = Instant::now() + Duration::from_secs(30);
        while !server.is_serving() {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("{} ended: {status}", contender.name));
            }
            if Instant::now() > end {
                return Err(format!(
                    "{} does not answer at port {}",
                    contender.name, contender.port
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
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
            Ok(len > 12 && (!self.contender.answers || reply[7] > 0))
        };
        ask().unwrap_or(false)
    }

    /// CPU time so far: user and system, in ticks of a hundredth of a second; peak memory in KiB.
    pub fn usage(&self) -> Result<(u64, u64, u64), String> {
        let read = |file| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
        let stat = read("stat").map_err(|error| error.to_string())?;
        let status = read("status").map_err(|error| error.to_string())?;
        let (user, system) = cpu_time(&stat).ok_or("unreadable /proc/PID/stat")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        Ok((user, system, peak.unwrap_or_default()))
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
}
