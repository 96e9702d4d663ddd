//! Watches beside the servers': when the API server tells of a change.
//!
//! The config maps are watched as well, so that the API server has the same to do in both phases.

use super::update::{Cluster, ENDPOINTS, Sort};
use crate::scale::history::version;
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Watches what is updated, and notes in the histories when it tells of each version; for ever.
pub async fn tell(cluster: Cluster, sort: Sort) {
    loop {
        if let Err(error) = follow(&cluster, sort).await {
            eprintln!("  the watch beside the servers: {error}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn follow(cluster: &Cluster, sort: Sort) -> Result<(), String> {
    let uri = format!(
        "{}?watch=1&resourceVersion=0&timeoutSeconds=7200",
        cluster.path(sort)
    );
    let request = Request::get(uri).body(Body::empty());
    let request = request.map_err(|error| error.to_string())?;
    let mut body = cluster.api.forward(request).await?.into_body();
    let mut unread = Vec::new();
    while let Some(frame) = body.frame().await {
        let at = cluster.epoch.elapsed();
        let frame = frame.map_err(|error| error.to_string())?;
        unread.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        let Some(end) = unread.iter().rposition(|&octet| octet == b'\n') else {
            continue;
        };
        for line in unread[..end].split(|&octet| octet == b'\n') {
            if let Some((target, version)) = seen(line) {
                cluster.history(target).tell(version, at);
            }
        }
        unread.drain(..=end);
    }
    Ok(())
}

/// The target and the version that an event is of.
fn seen(event: &[u8]) -> Option<(u32, u32)> {
    let event: Value = serde_json::from_slice(event).ok()?;
    let slice = &event["object"];
    let service = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str()?;
    let target = service.strip_prefix("target-")?.parse().ok()?;
    let addresses = slice["endpoints"].as_array()?.iter();
    let addresses = addresses.map(|endpoint| endpoint["addresses"][0].as_str()?.parse().ok());
    let mut addresses = addresses.collect::<Option<Vec<Ipv4Addr>>>()?;
    addresses.sort_unstable();
    Some((target, version(target, ENDPOINTS, &addresses)?))
}
