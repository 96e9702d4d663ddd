//! Makes the cluster's objects through an API server, for servers that read it from there.

use super::cluster::{NAMESPACES, object};
use http::Request;
use kube::client::{Client, ClientBuilder};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::task::JoinSet;

/// Requests at one time.
const CONNECTIONS: usize = 16;

/// Makes the namespaces and so many services; what is there already stays as it is.
pub fn create(kubeconfig: &str, services: u32) -> Result<(), String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = client(kubeconfig).await?;
        eprintln!("{kubeconfig}: making {services} services");
        for index in 0..NAMESPACES {
            post(
                client.clone(),
                "/api/v1/namespaces",
                object("Namespace", index),
            )
            .await?;
        }
        let mut tasks = JoinSet::new();
        for index in 0..services {
            if tasks.len() == CONNECTIONS {
                joined(tasks.join_next().await)?;
            }
            let path = format!(
                "/api/v1/namespaces/{}/services",
                super::cluster::namespace(index)
            );
            let client = client.clone();
            tasks.spawn(async move { post(client, &path, object("Service", index)).await });
        }
        while let Some(task) = tasks.join_next().await {
            joined(Some(task))?;
        }
        Ok(())
    })
}

async fn client(kubeconfig: &str) -> Result<Client, String> {
    // A provider that is installed already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| error.to_string())?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    let config = config.map_err(|error| error.to_string())?;
    let builder = ClientBuilder::try_from(config).map_err(|error| error.to_string())?;
    Ok(builder.build())
}

async fn post(client: Client, path: &str, object: String) -> Result<(), String> {
    let name = serde_json::from_str(&object)
        .map(|object: serde_json::Value| object["metadata"]["name"].as_str().map(str::to_owned));
    let name = name.ok().flatten().unwrap_or_default();
    let request = Request::post(path)
        .header("Content-Type", "application/json")
        .body(object.into_bytes())
        .map_err(|error| error.to_string())?;
    match client.request_text(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        // Of a service that is there already, the address is looked at first.
        Err(kube::Error::Api(status))
            if status.code == 422 && is_there(&client, path, &name).await =>
        {
            Ok(())
        }
        Err(error) => Err(format!("{path}: {error}")),
    }
}

async fn is_there(client: &Client, path: &str, name: &str) -> bool {
    let request = Request::get(format!("{path}/{name}")).body(Vec::new());
    match request {
        Ok(request) => client.request_text(request).await.is_ok(),
        Err(_) => false,
    }
}

type Joined = Result<Result<(), String>, tokio::task::JoinError>;

fn joined(task: Option<Joined>) -> Result<(), String> {
    match task {
        Some(Ok(done)) => done,
        Some(Err(error)) => Err(error.to_string()),
        None => Ok(()),
    }
}
