//! `/explain`: what every plugin did with a question, and which objects made the answer.

mod bounds;
mod chain;
mod cluster;
mod stock;

use crate::support::http::{Said, get};
use crate::support::process::free_port;
use crate::support::server::TestServer;
use portolan::plugins::TABLE;
use regex::Regex;
use std::time::{Duration, Instant};

/// A server with `/explain`.
struct Explaining {
    server: TestServer,
    health: u16,
}

impl Explaining {
    /// Serves these directives for the root, with `HEALTH` and `UPSTREAM` replaced.
    async fn start(directives: &str) -> Self {
        let health = free_port();
        let text = format!(
            ".:0 {{
                bind 127.0.0.1
                health 127.0.0.1:{health}
                {directives}
            }}"
        );
        Self {
            server: TestServer::start(TABLE, &text).await,
            health,
        }
    }

    fn get(&self, parameters: &str, accept: &str) -> Said {
        explain(self.health, parameters, accept)
    }

    /// The explanation without what differs from run to run.
    fn text(&self, parameters: &str) -> String {
        let said = self.get(parameters, "*/*");
        assert_eq!(said.status, 200, "{}", said.body);
        let addr = self.server.addr().to_string();
        stable(&said.body.replace(&addr, "SERVER"))
    }
}

/// Asks, and again if there were too many questions a second.
fn explain(port: u16, parameters: &str, accept: &str) -> Said {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let said = get(port, &format!("/explain?{parameters}"), accept).unwrap();
        if said.status != 429 || !said.body.contains("a second") || Instant::now() > end {
            return said;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn stable(text: &str) -> String {
    let time = Regex::new(r"\d+\.\d ms").unwrap();
    let text = time.replace_all(text, "T");
    let text = text.replace(" at T", "");
    let port = Regex::new(r"127\.0\.0\.1:\d+").unwrap();
    port.replace_all(&text, "127.0.0.1:PORT").into_owned()
}
