//! `fresh`: from the API server's reply to a change to the changed answer.

use super::api::{self, Api, JSON, MERGE};
use super::args::Args;
use super::contender::{self, Contender, Mode, Server, Setting};
use super::dns::{Client, Reply, SRV};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long an old answer may last (an answer in a cache of 30 s is no failure of the measurement).
const PATIENCE: Duration = Duration::from_secs(60);

/// The command.
pub fn run(args: &mut Args) -> Result<(), String> {
    let prefix = args.text("--prefix").unwrap_or_else(|| "bench".into());
    let contenders = contender::take(args)?;
    let modes = contender::take_modes(args, &["insecure"])?;
    let times = args.positive("--times", 200)?;
    let peer_times = args.positive("--peer-times", times)?;
    let no_cache = args.text("--no-cache").is_some();
    args.finish()?;
    let runtime = api::runtime()?;
    let bench = Bench {
        api: runtime.block_on(Api::from_environment())?,
        runtime,
        namespace: format!("{prefix}-fresh"),
        kubeconfig: api::kubeconfig()?,
    };
    bench.make_namespace()?;
    println!("\n{HEAD}");
    let mut done = Ok(());
    for mode in modes {
        for contender in &contenders {
            let (times, cache) = match contender.peer {
                true => (peer_times, !no_cache),
                false => (times, true),
            };
            done = done.and_then(|()| bench.measure(contender, mode, times, cache));
        }
    }
    bench
        .runtime
        .block_on(bench.api.remove_namespace(&bench.namespace))?;
    done
}

const HEAD: &str = "\
| server | pods | change | times | median ms | p99 ms | worst ms |
|---|---|---|---|---|---|---|";

struct Bench {
    api: Api,
    runtime: Runtime,
    namespace: String,
    kubeconfig: String,
}

impl Bench {
    fn make_namespace(&self) -> Result<(), String> {
        let object = json!({"metadata": {"name": self.namespace}});
        let object = object.to_string().into_bytes();
        let made = self.api.create("/api/v1/namespaces", object);
        self.runtime.block_on(made).map(drop)
    }

    /// A service is created, gets a port, and is deleted. Before each change the name is asked for,
    /// as clients do, so that whoever keeps answers has an old one.
    fn measure(
        &self,
        contender: &Contender,
        mode: Mode,
        times: u32,
        cache: bool,
    ) -> Result<(), String> {
        let setting = Setting {
            mode,
            kubeconfig: &self.kubeconfig,
            cache,
            cpu: None,
        };
        let server = contender.start_ready(&setting)?;
        server.answers("kubernetes.default.svc.cluster.local")?;
        let mut client = Client::to(server.dns)?;
        let mut waits = [Vec::new(), Vec::new(), Vec::new()];
        for index in 0..times {
            if index % 50 == 0 {
                eprintln!("fresh: {}: {index} of {times}", contender.name);
            }
            let waits_of_one = self.one(&mut client, &server, index)?;
            for (wait, waits) in waits_of_one.into_iter().zip(&mut waits) {
                waits.push(wait);
            }
        }
        let name = match cache {
            true => contender.name.clone(),
            false => format!("{} without cache", contender.name),
        };
        for (change, waits) in ["create", "update", "delete"].iter().zip(&mut waits) {
            waits.sort_unstable();
            let at = |share: f64| {
                let index = (waits.len() as f64 * share) as usize;
                let wait = waits.get(index.min(waits.len() - 1));
                wait.map_or(0.0, |wait| wait.as_secs_f64() * 1000.0)
            };
            println!(
                "| {name} | {mode} | {change} | {times} | {:.2} | {:.2} | {:.2} |",
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
        Ok(())
    }

    fn one(
        &self,
        client: &mut Client,
        server: &Server,
        index: u32,
    ) -> Result<[Duration; 3], String> {
        let name = format!("fresh-{}-{index}", server.dns.port());
        let host = format!("{name}.{}.svc.cluster.local", self.namespace);
        let port = format!("_added._tcp.{host}");
        let path = format!("/api/v1/namespaces/{}/services", self.namespace);
        let http = json!({"name": "http", "port": 80});

        client.ask(&host)?;
        let object =
            json!({"metadata": {"name": name}, "spec": {"ports": [http.clone()]}}).to_string();
        let (replied, service) = self.change(Method::POST, &path, JSON, object)?;
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        let address: std::net::Ipv4Addr = address
            .parse()
            .map_err(|_| format!("{name}: no address: {service}"))?;
        let created = until(replied, || Ok(client.ask(&host)?.addresses == [address]))?;

        let gone = |reply: &Reply| reply.code == 3;
        if !gone(&client.ask_type(&port, SRV)?) {
            return Err(format!("{port} is there already"));
        }
        let path = format!("{path}/{name}");
        let object = json!({"spec": {"ports": [http, {"name": "added", "port": 81}]}}).to_string();
        let (replied, _) = self.change(Method::PATCH, &path, MERGE, object)?;
        let updated = until(replied, || Ok(client.ask_type(&port, SRV)?.answers == 1))?;

        client.ask(&host)?;
        let (replied, _) = self.change(Method::DELETE, &path, JSON, String::new())?;
        let deleted = until(replied, || Ok(gone(&client.ask(&host)?)))?;
        Ok([created, updated, deleted])
    }

    /// Asks the API server for a change: when it replied, and what.
    fn change(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: String,
    ) -> Result<(Instant, Value), String> {
        let asked = self.api.once(method, path, media, Bytes::from(body));
        let (code, body) = self.runtime.block_on(asked)?;
        let replied = Instant::now();
        let text = String::from_utf8_lossy(&body);
        match (200..300).contains(&code) {
            true => Ok((replied, serde_json::from_str(&text).unwrap_or_default())),
            false => Err(format!("{path}: {code}: {text}")),
        }
    }
}

/// Asks without a pause until it is so; for how long.
fn until(
    replied: Instant,
    mut is_so: impl FnMut() -> Result<bool, String>,
) -> Result<Duration, String> {
    loop {
        let so = is_so()?;
        let elapsed = replied.elapsed();
        if so {
            return Ok(elapsed);
        }
        if elapsed > PATIENCE {
            return Err("the answer does not change".into());
        }
    }
}
