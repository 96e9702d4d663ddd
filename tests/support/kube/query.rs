//! What a request asks for.

use super::fault::At;
use http::Request;
use http::header::{ACCEPT, USER_AGENT};
use hyper::body::Incoming;
use portolan::plugins::kubernetes::source::decode::Format;
use portolan::plugins::kubernetes::source::selector::Selector;
use serde_json::Value;
use std::collections::HashMap;

/// A request's parameters.
#[derive(Clone)]
pub(super) struct Query {
    pub(super) resource: String,
    pub(super) kind: &'static str,
    pub(super) group: &'static str,
    pub(super) format: Format,
    /// The client's `User-Agent` up to the version.
    pub(super) agent: String,
    parameters: HashMap<String, String>,
    labels: Selector,
}

impl Query {
    pub(super) fn new(request: &Request<Incoming>, protobuf: bool) -> Option<Self> {
        let resource = request.uri().path().rsplit('/').next()?;
        let (kind, group) = match resource {
            "namespaces" => ("Namespace", "v1"),
            "services" => ("Service", "v1"),
            "pods" => ("Pod", "v1"),
            "endpointslices" => ("EndpointSlice", "discovery.k8s.io/v1"),
            "serviceimports" => ("ServiceImport", "multicluster.x-k8s.io/v1alpha1"),
            _ => return None,
        };
        let pairs = request.uri().query().unwrap_or("").split('&');
        let parameters: HashMap<String, String> = pairs
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), unescape(value)))
            .collect();
        let labels = parameters.get("labelSelector").map_or("", String::as_str);
        let header = |name| {
            let value = request.headers().get(name);
            value.and_then(|value| value.to_str().ok()).unwrap_or("")
        };
        let takes = header(ACCEPT).contains("application/vnd.kubernetes.protobuf");
        let agent = header(USER_AGENT).split('/').next().unwrap_or("");
        Some(Self {
            resource: resource.to_owned(),
            kind,
            group,
            format: match protobuf && takes {
                true => Format::Protobuf,
                false => Format::Json,
            },
            agent: agent.to_owned(),
            labels: Selector::parse(labels).unwrap(),
            parameters,
        })
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// What kind of request it is.
    pub(super) fn at(&self) -> At {
        match (
            self.get("watch"),
            self.get("sendInitialEvents"),
            self.get("continue"),
        ) {
            ("true" | "1", "true" | "1", _) => At::StreamList,
            ("true" | "1", ..) => At::Watch,
            (_, _, "") => At::List,
            _ => At::NextPage,
        }
    }

    pub(super) fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let phase = object.pointer("/status/phase").and_then(Value::as_str);
        let excluded = |field: &str| field.strip_prefix("status.phase!=") == phase;
        let fields = self.get("fieldSelector");
        self.labels.matches(|label| labels[label].as_str())
            && (fields.is_empty() || phase.is_none() || !fields.split(',').any(excluded))
    }
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match first {
            b'%' => {
                let hex = std::str::from_utf8(&after[..2]).unwrap();
                out.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &after[2..];
            }
            b'+' => {
                out.push(b' ');
                rest = after;
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(out).unwrap()
}
