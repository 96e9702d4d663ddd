//! Requests to the API server, as JSON.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::{Body, Client, ClientBuilder};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use std::path::Path;
use std::time::Duration;

/// How often a request is made again that the server is too busy for.
const ATTEMPTS: u32 = 20;

/// A merge patch (RFC 7396).
pub const MERGE: &str = "application/merge-patch+json";
/// An object.
pub const JSON: &str = "application/json";

/// The API server that `KUBECONFIG` names.
#[derive(Clone)]
pub struct Api {
    client: Client,
}

impl Api {
    /// Reads the kubeconfig file that `KUBECONFIG` names.
    pub async fn from_environment() -> Result<Self, String> {
        kubeconfig()?;
        let options = KubeConfigOptions::default();
        let config = Config::from_kubeconfig(&options).await;
        Self::from_config(config.map_err(|error| error.to_string())?)
    }

    /// Reads this kubeconfig file.
    pub async fn from_file(path: &Path) -> Result<Self, String> {
        let file = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await;
        Self::from_config(config.map_err(|error| error.to_string())?)
    }

    fn from_config(mut config: Config) -> Result<Self, String> {
        // A provider that is installed already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        config.default_retry = false;
        // A list of everything may take long.
        config.read_timeout = None;
        let client = ClientBuilder::try_from(config).map_err(|error| error.to_string())?;
        Ok(Self {
            client: client.build(),
        })
    }

    /// Hands a request on as it is.
    pub async fn forward(&self, request: Request<Body>) -> Result<http::Response<Body>, String> {
        let answer = self.client.send(request).await;
        answer.map_err(|error| error.to_string())
    }

    /// Asks once: the status and the body.
    pub async fn once(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: Bytes,
    ) -> Result<(u16, Bytes), String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", media)
            .header("Accept", JSON)
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        let (head, body) = self.forward(request).await?.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok((head.status.as_u16(), body.to_bytes()))
    }

    /// Asks, again while the server is too busy. A status of `also` is as good as success.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: Vec<u8>,
        also: u16,
    ) -> Result<Bytes, String> {
        let body = Bytes::from(body);
        let mut attempt = 0;
        loop {
            let answer = self.once(method.clone(), path, media, body.clone()).await;
            let error = match answer {
                Ok((code, body)) if (200..300).contains(&code) || code == also => return Ok(body),
                Ok((code, body)) => {
                    let text = String::from_utf8_lossy(&body);
                    let text = format!("{method} {path}: {code}: {text}");
                    if code != 429 && code < 500 {
                        return Err(text);
                    }
                    text
                }
                Err(error) => format!("{method} {path}: {error}"),
            };
            attempt += 1;
            if attempt == ATTEMPTS {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Creates an object; one that is there already stays.
    pub async fn create(&self, path: &str, object: Vec<u8>) -> Result<Bytes, String> {
        self.ask(Method::POST, path, JSON, object, 409).await
    }

    /// Removes a namespace whose objects are gone, also where no controller finalizes it.
    pub async fn remove_namespace(&self, name: &str) -> Result<(), String> {
        let path = format!("/api/v1/namespaces/{name}");
        let left = self
            .ask(Method::DELETE, &path, JSON, Vec::new(), 404)
            .await?;
        let mut left: serde_json::Value =
            serde_json::from_slice(&left).map_err(|error| error.to_string())?;
        if left["spec"]["finalizers"].is_array() {
            left["spec"]["finalizers"] = serde_json::json!([]);
            let path = format!("{path}/finalize");
            let body = left.to_string().into_bytes();
            // A controller may have been quicker.
            let done = self.ask(Method::PUT, &path, JSON, body, 404).await;
            done.or_else(|error| match error.contains(": 409:") {
                true => Ok(Bytes::new()),
                false => Err(error),
            })?;
        }
        Ok(())
    }
}

/// The file that `KUBECONFIG` names.
pub fn kubeconfig() -> Result<String, String> {
    std::env::var("KUBECONFIG").map_err(|_| "KUBECONFIG names no kubeconfig file".to_owned())
}

/// A runtime for a command. Its threads stand back behind whatever loads or asks the servers.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.on_thread_start(|| {
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
    });
    let built = builder.worker_threads(2).enable_all().build();
    built.map_err(|error| error.to_string())
}
