//! What an operator sees of the process: command line, output, exit status, signals, reloads.

mod command_line;
mod reloads;
mod signals;

use crate::support::client::{ask, exchange_udp, question};
use crate::support::process::{BINARY, Portolan};
use portolan::dns::RecordType;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Exit status, standard output, standard error of a command that ends.
fn outcome(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A folder with a Corefile.
struct Conf {
    folder: TempDir,
    path: PathBuf,
}

impl Conf {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Corefile");
        fs::write(&path, text).unwrap();
        Self { folder, path }
    }

    fn write(&self, text: &str) {
        // At once, as a ConfigMap is exchanged: never half a file.
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    fn shown(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn start(&self) -> Portolan {
        let mut server = Portolan::start(&[], &self.path, &[]);
        server.wait_for("Portolan-");
        server
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A server block that answers every A question with `address`.
fn fixed(port: u16, address: &str, more: &str) -> String {
    format!(
        ".:{port} {{
    bind 127.0.0.1
    template IN A . {{
        answer \"{{{{ .Name }}}} 60 IN A {address}\"
    }}
    {more}
}}
"
    )
}

fn address(port: u16) -> String {
    let reply = ask(local(port), &question("www.example.", RecordType::A));
    let answers = reply.answers.iter().map(|record| record.data.to_string());
    answers.collect::<Vec<_>>().join(" ")
}

fn silent(port: u16) -> bool {
    let packet = question("www.example.", RecordType::A);
    exchange_udp(local(port), &packet, Duration::from_millis(300)).is_none()
        && TcpStream::connect(local(port)).is_err()
}
