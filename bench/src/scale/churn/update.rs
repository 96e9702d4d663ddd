//! The services that are asked for, and the updates.

use super::stand_in::StandIn;
use crate::scale::api::{Api, JSON};
use crate::scale::history::{History, addresses};
use http::Method;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Endpoints of each service that changes.
pub const ENDPOINTS: u32 = 10;
/// Services that do not change.
const STABLE: u32 = 200;
/// Requests at one time.
const WRITERS: u32 = 16;

/// What is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sort {
    /// Config maps, which are as large and concern no DNS server.
    Control,
    /// The endpoint slices.
    Slices,
}

/// The namespace of the test.
pub struct Cluster {
    pub api: Api,
    /// Where updates go straight into.
    stand_in: Option<StandIn>,
    namespace: String,
    targets: u32,
    /// The stable services' addresses.
    pub stable: Vec<Ipv4Addr>,
    histories: Arc<Vec<Mutex<History>>>,
    /// The beginning of all times.
    pub epoch: Instant,
}

impl Cluster {
    /// Makes namespace, services and first versions.
    pub async fn make(
        api: Api,
        stand_in: Option<StandIn>,
        namespace: &str,
        targets: u32,
        epoch: Instant,
    ) -> Result<Self, String> {
        let mut cluster = Self {
            api,
            stand_in,
            namespace: namespace.to_owned(),
            targets,
            stable: Vec::new(),
            histories: Arc::new((0..targets).map(|_| Mutex::default()).collect()),
            epoch,
        };
        cluster
            .api
            .create(
                "/api/v1/namespaces",
                bytes(&json!({"metadata": {"name": namespace}})),
            )
            .await?;
        let path = format!("/api/v1/namespaces/{namespace}/services");
        let port = json!([{"name": "http", "port": 80}]);
        for index in 0..STABLE {
            let name = format!("stable-{index}");
            let object = json!({"metadata": {"name": name}, "spec": {"ports": port.clone()}});
            let made = cluster.new_object(&path, &object).await?;
            let made: Value = serde_json::from_slice(&made).map_err(|error| error.to_string())?;
            let address = made["spec"]["clusterIP"].as_str().unwrap_or_default();
            let address = address.parse();
            cluster
                .stable
                .push(address.map_err(|_| format!("{name}: {made}"))?);
        }
        for target in 0..targets {
            let object = json!({"metadata": {"name": target_name(target)},
                "spec": {"clusterIP": "None", "ports": port.clone()}});
            cluster.new_object(&path, &object).await?;
            for sort in [Sort::Control, Sort::Slices] {
                let sent = cluster.epoch.elapsed();
                let (path, object) = cluster.object(sort, target, 0);
                cluster.new_object(&path, &object).await?;
                if sort == Sort::Slices {
                    cluster.history(target).push(sent, cluster.epoch.elapsed());
                }
            }
        }
        Ok(cluster)
    }

    /// Creates an object that must not be there yet.
    async fn new_object(&self, path: &str, object: &Value) -> Result<bytes::Bytes, String> {
        let made = self.api.ask(Method::POST, path, JSON, bytes(object), 0);
        made.await
            .map_err(|error| format!("{error}\n(left over? see --prefix and objects --delete)"))
    }

    /// Removes everything.
    pub async fn remove(&self) -> Result<(), String> {
        crate::scale::objects::remove_namespace(&self.api, &self.namespace).await
    }

    /// What is known of a service that changes.
    pub fn history(&self, target: u32) -> MutexGuard<'_, History> {
        // Nothing panics while it holds the lock; targets are counted modulo their number.
        let history = &self.histories[target as usize % self.histories.len()];
        history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many services change.
    pub fn targets(&self) -> u32 {
        self.targets
    }

    /// The domain name of a service that changes.
    pub fn target_name(&self, target: u32) -> String {
        self.domain(&target_name(target))
    }

    /// The domain name of a service that stays.
    pub fn stable_name(&self, index: u32) -> String {
        self.domain(&format!("stable-{index}"))
    }

    /// The path of what is updated.
    pub fn path(&self, sort: Sort) -> String {
        let namespace = &self.namespace;
        match sort {
            Sort::Control => format!("/api/v1/namespaces/{namespace}/configmaps"),
            Sort::Slices => {
                format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
            }
        }
    }

    fn domain(&self, service: &str) -> String {
        format!("{service}.{}.svc.cluster.local", self.namespace)
    }

    /// Writes dnsperf's questions.
    pub fn write_questions(&self, path: &Path) -> Result<(), String> {
        let targets = (0..self.targets).map(|target| self.target_name(target));
        let stable = (0..STABLE).map(|index| self.stable_name(index));
        let lines = targets.chain(stable).map(|name| format!("{name} A\n"));
        std::fs::write(path, lines.collect::<String>()).map_err(|error| error.to_string())
    }

    /// Updates at a rate for a time; how many updates there were.
    pub async fn change(&self, sort: Sort, rate: u32, time: Duration) -> Result<u32, String> {
        let begun = Instant::now();
        let mut tasks: JoinSet<Result<u32, String>> = JoinSet::new();
        let writers = WRITERS.min(self.targets);
        for writer in 0..writers {
            let cluster = self.share();
            tasks.spawn(async move {
                let mut count = 0;
                loop {
                    let number = count * writers + writer;
                    let due = Duration::from_secs_f64(f64::from(number) / f64::from(rate));
                    if due >= time || begun.elapsed() >= time {
                        return Ok(count);
                    }
                    tokio::time::sleep_until((begun + due).into()).await;
                    // The targets of a writer are its own, so that versions are in order.
                    let own = (cluster.targets - writer).div_ceil(writers);
                    cluster.update(sort, writer + count % own * writers).await?;
                    count += 1;
                }
            });
        }
        let mut updates = 0;
        while let Some(done) = tasks.join_next().await {
            updates += done.map_err(|error| error.to_string())??;
        }
        Ok(updates)
    }

    /// Another handle, without the stable services.
    pub fn share(&self) -> Self {
        Self {
            api: self.api.clone(),
            stand_in: self.stand_in.clone(),
            namespace: self.namespace.clone(),
            targets: self.targets,
            stable: Vec::new(),
            histories: self.histories.clone(),
            epoch: self.epoch,
        }
    }

    async fn update(&self, sort: Sort, target: u32) -> Result<(), String> {
        let version = self.history(target).next();
        let (path, object) = self.object(sort, target, version);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{path}/{name}");
        let sent = self.epoch.elapsed();
        match &self.stand_in {
            Some(stand_in) => stand_in.put(&path, object),
            None => {
                let object = bytes(&object);
                self.api.ask(Method::PUT, &path, JSON, object, 0).await?;
            }
        }
        if sort == Sort::Slices {
            self.history(target).push(sent, self.epoch.elapsed());
        }
        Ok(())
    }

    /// A version of a target's slice, or of the config map beside it; and where it belongs.
    fn object(&self, sort: Sort, target: u32, version: u32) -> (String, Value) {
        let service = target_name(target);
        let name = format!("{service}-x7k2p");
        let namespace = &self.namespace;
        let endpoints = addresses(target, version, ENDPOINTS).map(|address| {
            json!({
                "addresses": [address.to_string()],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "node-1",
                "targetRef": {"kind": "Pod", "namespace": namespace,
                    "name": format!("{service}-7d9c6b5f4-{address}")},
            })
        });
        let endpoints: Vec<Value> = endpoints.collect();
        match sort {
            Sort::Slices => (
                self.path(sort),
                json!({
                    "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
                    "addressType": "IPv4", "endpoints": endpoints,
                    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                }),
            ),
            Sort::Control => {
                // Versions of config maps are nobody's: each update must be a change, though.
                let data = json!({"at": format!("{:?}", self.epoch.elapsed()),
                    "data": Value::from(endpoints).to_string()});
                (
                    self.path(sort),
                    json!({"metadata": {"name": name}, "data": data}),
                )
            }
        }
    }
}

fn target_name(target: u32) -> String {
    format!("target-{target}")
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
