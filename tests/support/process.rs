//! The real binary as a child process, and tools that may be missing.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_portolan");

/// A port that nothing listens on, below those that the system gives to clients.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..2000 {
        let offset = std::process::id() * 97 + NEXT.fetch_add(1, Relaxed);
        let port = 20_000 + (offset % 10_000) as u16;
        let udp = UdpSocket::bind(("::", port));
        if udp.is_ok() && TcpListener::bind(("::", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// Whether all of `tools` are on the PATH; if not, says which one is missing and that the test is
/// skipped.
pub fn have(tools: &[&str]) -> bool {
    let found = |tool: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
    };
    match tools.iter().find(|tool| !found(tool)) {
        Some(missing) => {
            println!("skipped: {missing} is not installed");
            false
        }
        None => true,
    }
}

/// Runs a command to its end.
pub fn run(command: &[&str]) -> Output {
    Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Standard output of a command, whatever its exit status.
pub fn output(command: &[&str]) -> String {
    String::from_utf8_lossy(&run(command).stdout).into_owned()
}

/// A running `portolan`; ended when it goes out of scope.
pub struct Portolan {
    pub child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Portolan {
    /// Starts it with this Corefile, behind the words of `prefix` (`ip netns exec NAME`).
    pub fn start(prefix: &[&str], corefile: &Path, more: &[&str]) -> Self {
        let words = [prefix, &[BINARY, "-conf", corefile.to_str().unwrap()], more].concat();
        let mut command = Command::new(words[0]);
        Self::spawn(command.args(&words[1..]).stdin(Stdio::null()))
    }

    /// Starts it as `command` says.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        for pipe in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        }
        Self { child, lines }
    }

    /// What it has printed.
    pub fn printed(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until it has printed a line with `text` in it.
    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.printed().iter().any(|line| line.contains(text)) {
            if let Some(status) = self.child.try_wait().unwrap() {
                std::thread::sleep(Duration::from_millis(100));
                panic!("ended with {status}: {:#?}", self.printed());
            }
            assert!(Instant::now() < end, "no {text:?} in {:#?}", self.printed());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `done`, which is what `what` says.
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < end, "never: {what}: {:#?}", self.printed());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many lines with `text` in it it has printed.
    pub fn count(&self, text: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until it ends by itself; its exit status.
    pub fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "it goes on: {:#?}", self.printed());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        run(&["kill", "-s", name, &self.child.id().to_string()]);
    }
}

impl Drop for Portolan {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
