//! `objects`: makes the objects of a cluster through the API, and removes them.

use super::api::{self, Api, JSON, MERGE};
use super::args::Args;
use super::manifests;
use super::shape::{LABEL, Size};
use http::Method;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

type Tasks = JoinSet<Result<(), String>>;

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(5);
/// Namespaces that are emptied at one time.
const REMOVALS: usize = 8;

/// The command.
pub fn run(args: &mut Args) -> Result<(), String> {
    let size = Size::of(args)?;
    let connections = args.positive("--connections", 16)?;
    let delete = args.text("--delete").is_some();
    let folder = args.text("--manifests");
    args.finish()?;
    if let Some(folder) = folder {
        return manifests::write(Path::new(&folder), &size);
    }
    api::runtime()?.block_on(async {
        let api = Api::from_environment().await?;
        match delete {
            true => remove(&api, &size.prefix).await,
            false => make(&api, &size, connections).await,
        }
    })
}

/// Makes everything; what is there already stays as it is.
pub async fn make(api: &Api, size: &Size, connections: u32) -> Result<(), String> {
    let begun = Instant::now();
    eprintln!("{}: {}", size.prefix, size.summary());
    let size = Arc::new(size.clone());
    let all = |name: &'static str, count: u32| Batch {
        name,
        count,
        connections,
        api: api.clone(),
        size: size.clone(),
    };
    all("namespaces", size.namespaces)
        .each(|api, size, index| async move {
            let object = size.namespace_object(index).to_string().into_bytes();
            api.create("/api/v1/namespaces?fieldManager=helm", object)
                .await
                .map(drop)
        })
        .await?;
    all("services", size.services)
        .each(|api, size, index| async move {
            let namespace = size.namespace(index);
            let path = format!("/api/v1/namespaces/{namespace}/services?fieldManager=helm");
            let object = size.service(index).to_string().into_bytes();
            api.create(&path, object).await.map(drop)
        })
        .await?;
    all("pods", size.pods).each(make_pod).await?;
    all("slices", size.slices)
        .each(|api, size, index| async move {
            let namespace = size.namespace(index % size.services);
            let path = format!(
                "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
                 ?fieldManager=kube-controller-manager"
            );
            let object = size.slice(index).to_string().into_bytes();
            api.create(&path, object).await.map(drop)
        })
        .await?;
    eprintln!(
        "{}: made in {:.0} s",
        size.prefix,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A pod is created without status; what its kubelet tells comes after.
async fn make_pod(api: Api, size: Arc<Size>, index: u32) -> Result<(), String> {
    let path = format!("/api/v1/namespaces/{}/pods", size.namespace_of_pod(index));
    let object = size.pod(index).to_string().into_bytes();
    api.create(
        &format!("{path}?fieldManager=kube-controller-manager"),
        object,
    )
    .await?;
    let path = format!(
        "{path}/{}/status?fieldManager=kubelet",
        size.pod_name(index)
    );
    let status = size.pod_status(index).to_string().into_bytes();
    api.ask(Method::PATCH, &path, MERGE, status, 0)
        .await
        .map(drop)
}

/// Objects of one kind.
struct Batch {
    name: &'static str,
    count: u32,
    connections: u32,
    api: Api,
    size: Arc<Size>,
}

impl Batch {
    /// Does something for every index, a number of them at one time.
    async fn each<F, R>(self, job: F) -> Result<(), String>
    where
        F: Fn(Api, Arc<Size>, u32) -> R + Copy + Send + 'static,
        R: Future<Output = Result<(), String>> + Send,
    {
        let next = Arc::new(AtomicU32::new(0));
        let mut tasks: Tasks = JoinSet::new();
        for _ in 0..self.connections.min(self.count) {
            let (api, size, next, count) = (
                self.api.clone(),
                self.size.clone(),
                next.clone(),
                self.count,
            );
            tasks.spawn(async move {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return Ok(());
                    }
                    job(api.clone(), size.clone(), index).await?;
                }
            });
        }
        let begun = Instant::now();
        loop {
            let done = tokio::time::timeout(PROGRESS, tasks.join_next()).await;
            let begun = begun.elapsed().as_secs_f64();
            match done {
                Ok(None) => {
                    eprintln!("  {} {} ({begun:.1} s)", self.count, self.name);
                    return Ok(());
                }
                Ok(Some(done)) => done.map_err(|error| error.to_string())??,
                Err(_) => {
                    let done = next.load(Ordering::Relaxed).min(self.count);
                    let rate = f64::from(done) / begun;
                    eprintln!("  {done} of {} {} ({rate:.0}/s)", self.count, self.name);
                }
            }
        }
    }
}

/// Removes everything that has the label with this value.
pub async fn remove(api: &Api, prefix: &str) -> Result<(), String> {
    let begun = Instant::now();
    let path = format!("/api/v1/namespaces?labelSelector={LABEL}%3D{prefix}");
    let list = api.ask(Method::GET, &path, JSON, Vec::new(), 0).await?;
    let list: serde_json::Value =
        serde_json::from_slice(&list).map_err(|error| error.to_string())?;
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<String> = items
        .iter()
        .filter_map(|item| Some(item["metadata"]["name"].as_str()?.to_owned()))
        .collect();
    let count = names.len();
    let names = Arc::new(names);
    let mut tasks: Tasks = JoinSet::new();
    let next = Arc::new(AtomicU32::new(0));
    for _ in 0..count.min(REMOVALS) {
        let (api, names, next) = (api.clone(), names.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                let Some(name) = names.get(index) else {
                    return Ok(());
                };
                remove_namespace(&api, name).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("{prefix}: {count} namespaces removed in {seconds:.0} s");
    Ok(())
}

/// Removes a namespace and what is in it.
pub async fn remove_namespace(api: &Api, name: &str) -> Result<(), String> {
    let core = format!("/api/v1/namespaces/{name}");
    let discovery = format!("/apis/discovery.k8s.io/v1/namespaces/{name}");
    for path in [
        format!("{discovery}/endpointslices"),
        format!("{core}/pods"),
        format!("{core}/services"),
        format!("{core}/configmaps"),
    ] {
        // The server gives up on a large collection after a minute, and is asked again.
        let path = format!("{path}?gracePeriodSeconds=0");
        api.ask(Method::DELETE, &path, JSON, Vec::new(), 404)
            .await?;
    }
    api.remove_namespace(name).await
}
