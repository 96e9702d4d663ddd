//! dnsperf as the load beside the checked queries.

use crate::load::number;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// How long the capacity is measured, in seconds.
const CAPACITY_SECONDS: u32 = 5;

/// Where the load goes.
pub struct Load<'l> {
    pub server: SocketAddr,
    pub questions: &'l Path,
    pub cpu: u32,
}

/// What dnsperf said.
pub struct Outcome {
    pub rate: f64,
    pub lost: u64,
}

/// A dnsperf that runs; it is ended when it goes out of scope.
pub struct Running(Option<Child>);

impl Load<'_> {
    /// As many queries a second as the server takes.
    pub fn capacity(&self) -> Result<u32, String> {
        let outcome = self.run(None, CAPACITY_SECONDS)?.finish()?;
        eprintln!("  capacity {:.0}/s", outcome.rate);
        Ok((outcome.rate as u32).max(2))
    }

    /// Begins to ask at a rate.
    pub fn start(&self, rate: u32, seconds: u32) -> Result<Running, String> {
        self.run(Some(rate), seconds)
    }

    fn run(&self, rate: Option<u32>, seconds: u32) -> Result<Running, String> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.cpu.to_string(), "dnsperf"]);
        command.args(["-s", &self.server.ip().to_string()]);
        command.args(["-p", &self.server.port().to_string()]);
        command.args([
            "-c",
            "16",
            "-T",
            "1",
            "-q",
            "200",
            "-l",
            &seconds.to_string(),
        ]);
        if let Some(rate) = rate {
            command.args(["-Q", &rate.to_string()]);
        }
        let child = command
            .arg("-d")
            .arg(self.questions)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let child = child.map_err(|error| format!("dnsperf: {error}"))?;
        Ok(Running(Some(child)))
    }
}

impl Running {
    /// Waits for its end.
    pub fn finish(mut self) -> Result<Outcome, String> {
        let child = self.0.take().ok_or("dnsperf has ended")?;
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number =
            |name| number(&text, name).ok_or_else(|| format!("no {name:?} from dnsperf:\n{text}"));
        Ok(Outcome {
            rate: number("Queries per second:")?,
            lost: number("Queries lost:")? as u64,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps this process, all of its threads, off the server's CPU.
pub fn pin_this(cpu: u32) -> Result<(), String> {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset")
        .args(["-a", "-c", "-p", &cpu.to_string(), &pid])
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err("taskset is missing (Debian's package util-linux), or there is one CPU".into()),
    }
}
