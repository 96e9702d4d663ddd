//! The real binary as a child process, and tools that may be missing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
        let binary = env!("CARGO_BIN_EXE_portolan");
        let words = [prefix, &[binary, "-conf", corefile.to_str().unwrap()], more].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
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
