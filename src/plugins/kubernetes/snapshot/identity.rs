//! What a snapshot is of: the cluster and the selectors, in words that logs can show.

use super::super::source::{Origin, Settings};
use kube::config::Kubeconfig;
use ring::digest::{SHA256, digest};
use std::path::Path;

/// The authority of the cluster that a pod runs in.
const AUTHORITY: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// What the index of these settings is of. Which kinds are watched is no part of it: what a snapshot
/// has besides is left out, what it has not is unknown until it was listed.
pub(super) fn describe(settings: &Settings) -> String {
    let mut text = match &settings.origin {
        Origin::InCluster => {
            let variable = |name| std::env::var(name).unwrap_or_default();
            in_cluster(
                &variable("KUBERNETES_SERVICE_HOST"),
                &variable("KUBERNETES_SERVICE_PORT"),
                std::fs::read(AUTHORITY).ok().as_deref(),
            )
        }
        Origin::Kubeconfig { file, context } => match server(file, context.as_deref()) {
            Some(url) => format!("the API server {url}"),
            None => format!("the kubeconfig {}", file.display()),
        },
        Origin::Endpoint { url, .. } => format!("the API server {url}"),
        Origin::Manifests(paths) => format!("the manifests {paths:?}"),
    };
    for (option, selector) in [
        ("labels", &settings.labels),
        ("namespace_labels", &settings.namespace_labels),
    ] {
        let selector = selector.to_string();
        if !selector.is_empty() {
            text.push_str(&format!(", {option} {selector:?}"));
        }
    }
    text
}

/// Inside of clusters the API server's address is nearly always the same; authorities never are.
pub(super) fn in_cluster(host: &str, port: &str, authority: Option<&[u8]>) -> String {
    let sum = authority.map(|pem| digest(&SHA256, pem));
    let hex: Option<String> = sum.map(|sum| {
        let octets = sum.as_ref().iter().take(8);
        octets.map(|octet| format!("{octet:02x}")).collect()
    });
    let hex = hex.as_deref().unwrap_or("none");
    format!("the API server {host}:{port} with the authority {hex}")
}

/// The URL of a context of a kubeconfig file.
fn server(file: &Path, context: Option<&str>) -> Option<String> {
    let read = Kubeconfig::read_from(file).ok()?;
    let context = context.or(read.current_context.as_deref())?;
    let context = read.contexts.iter().find(|known| known.name == context)?;
    let name = &context.context.as_ref()?.cluster;
    let cluster = read.clusters.iter().find(|known| known.name == *name)?;
    cluster.cluster.as_ref()?.server.clone()
}
