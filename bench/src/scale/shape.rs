//! The objects of a cluster of a given size: what they are called, where they belong, how they look.

use super::args::Args;
use serde_json::{Value, json};

/// The label of everything that is made, with the prefix as its value.
pub const LABEL: &str = "portolan-bench";
/// Pods that one node runs.
const PODS_OF_NODE: u32 = 60;

/// How many objects there are of each kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// Of the namespaces' names; also the label's value.
    pub prefix: String,
    /// Every tenth is headless.
    pub services: u32,
    /// Slice `i` belongs to service `i % services`.
    pub slices: u32,
    /// Over all slices; the first `pods` of them are pods of the cluster.
    pub endpoints: u32,
    pub pods: u32,
    pub namespaces: u32,
}

impl Size {
    /// Takes the options that all commands have in common.
    pub fn of(args: &mut Args) -> Result<Self, String> {
        Ok(Self {
            prefix: args.text("--prefix").unwrap_or_else(|| "bench".into()),
            services: args.positive("--services", 10_000)?,
            slices: args.positive("--slices", 10_000)?,
            endpoints: args.positive("--endpoints", 22_000)?,
            pods: args.number("--pods", 10_000)?,
            namespaces: args.positive("--namespaces", 100)?,
        })
    }

    /// How many of each kind, for people.
    pub fn summary(&self) -> String {
        format!(
            "{} services, {} endpoints in {} slices, {} pods in {} namespaces",
            self.services, self.endpoints, self.slices, self.pods, self.namespaces
        )
    }

    /// The name of a service with an address, the last of all.
    pub fn known_service(&self) -> String {
        let last = (0..self.services).rev().find(|&index| !is_headless(index));
        let last = last.unwrap_or_default();
        format!(
            "{}.{}.svc.cluster.local",
            service_name(last),
            self.namespace(last)
        )
    }

    pub fn namespace_name(&self, index: u32) -> String {
        format!("{}-{index}", self.prefix)
    }

    /// The namespace of a service.
    pub fn namespace(&self, service: u32) -> String {
        self.namespace_name(service % self.namespaces)
    }

    /// The slice that an endpoint is in.
    fn slice_of(&self, endpoint: u32) -> u32 {
        let (slices, endpoints) = (u64::from(self.slices), u64::from(self.endpoints));
        let slice = ((u64::from(endpoint) + 1) * slices - 1) / endpoints;
        u32::try_from(slice).unwrap_or(u32::MAX)
    }

    /// The endpoints of a slice.
    fn endpoints_of(&self, slice: u32) -> std::ops::Range<u32> {
        let first = |slice: u32| {
            let first = u64::from(slice) * u64::from(self.endpoints) / u64::from(self.slices);
            u32::try_from(first).unwrap_or(u32::MAX)
        };
        first(slice)..first(slice + 1)
    }

    /// The service that a pod belongs to.
    fn service_of_pod(&self, pod: u32) -> u32 {
        match pod < self.endpoints {
            true => self.slice_of(pod) % self.services,
            false => pod % self.services,
        }
    }

    /// The namespace of a pod.
    pub fn namespace_of_pod(&self, pod: u32) -> String {
        self.namespace(self.service_of_pod(pod))
    }

    fn labels(&self, service: u32) -> Value {
        json!({
            LABEL: self.prefix,
            "app.kubernetes.io/name": service_name(service),
            "app.kubernetes.io/instance": format!("release-{}", service % 40),
            "app.kubernetes.io/version": format!("1.{}.{}", service % 30, service % 7),
            "app.kubernetes.io/managed-by": "Helm",
        })
    }

    pub fn namespace_object(&self, index: u32) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace_name(index), "labels": {LABEL: self.prefix}}})
    }

    /// A service. It has no selector, so that no controller adds slices of its own.
    pub fn service(&self, index: u32) -> Value {
        let mut service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": service_name(index),
                "namespace": self.namespace(index),
                "labels": self.labels(index),
                "annotations": {
                    "meta.helm.sh/release-name": format!("release-{}", index % 40),
                    "meta.helm.sh/release-namespace": self.namespace(index),
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": "9090",
                },
            },
            "spec": {
                "type": "ClusterIP",
                "ports": [
                    {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
                    {"name": "metrics", "port": 9090, "targetPort": "metrics", "protocol": "TCP"},
                ],
            },
        });
        if is_headless(index) {
            service["spec"]["clusterIP"] = "None".into();
        }
        service
    }

    pub fn slice(&self, index: u32) -> Value {
        let service = index % self.services;
        let mut labels = self.labels(service);
        labels["kubernetes.io/service-name"] = service_name(service).into();
        labels["endpointslice.kubernetes.io/managed-by"] = LABEL.into();
        if is_headless(service) {
            labels["service.kubernetes.io/headless"] = "".into();
        }
        let endpoints = self.endpoints_of(index).map(|endpoint| {
            let mut value = json!({
                "addresses": [pod_address(endpoint)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": node_name(endpoint),
                "zone": zone_name(endpoint),
                "targetRef": {
                    "kind": "Pod",
                    "name": self.pod_name(endpoint),
                    "namespace": self.namespace(service),
                    "uid": format!("{:08x}-5b6e-4d1a-9c57-{:012x}", scatter(endpoint), endpoint),
                },
            });
            if is_headless(service) {
                value["hostname"] = self.pod_name(endpoint).into();
            }
            value
        });
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}", service_name(service), suffix(index)),
                "namespace": self.namespace(service),
                "labels": labels,
                "annotations": {
                    "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z",
                },
            },
            "addressType": "IPv4",
            "endpoints": endpoints.collect::<Vec<Value>>(),
            "ports": [
                {"name": "http", "port": 8080, "protocol": "TCP"},
                {"name": "metrics", "port": 9090, "protocol": "TCP"},
            ],
        })
    }

    /// The name of the pod of an endpoint: a stateful set's where the service is headless.
    pub fn pod_name(&self, pod: u32) -> String {
        let service = self.service_of_pod(pod);
        match is_headless(service) {
            true => format!("{}-{pod}", service_name(service)),
            false => format!("{}-7d9c6b5f4-{}", service_name(service), suffix(pod)),
        }
    }

    /// A pod as its controller creates it.
    pub fn pod(&self, index: u32) -> Value {
        let service = self.service_of_pod(index);
        let mut labels = self.labels(service);
        labels["pod-template-hash"] = "7d9c6b5f4".into();
        let variable = |name: &str, value: &str| json!({"name": name, "value": value});
        let probe = |path: &str| {
            json!({"httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
                "periodSeconds": 10, "timeoutSeconds": 2})
        };
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": self.pod_name(index),
                "namespace": self.namespace(service),
                "labels": labels,
                "annotations": {
                    "prometheus.io/scrape": "true",
                    "checksum/config": format!("{0:08x}{0:08x}{0:08x}{0:08x}", scatter(service)),
                },
            },
            "spec": {
                "nodeName": node_name(index),
                "containers": [{
                    "name": "app",
                    "image": format!("registry.example.com/team/{}:1.4.2", service_name(service)),
                    "args": ["--listen=:8080", "--log-format=json"],
                    "env": [
                        variable("DATABASE_URL", "postgres://db.data.svc.cluster.local:5432/app"),
                        variable("LOG_LEVEL", "info"),
                        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    ],
                    "ports": [
                        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                        {"name": "metrics", "containerPort": 9090, "protocol": "TCP"},
                    ],
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "128Mi"},
                        "limits": {"memory": "256Mi"},
                    },
                    "livenessProbe": probe("/healthz"),
                    "readinessProbe": probe("/readyz"),
                    "volumeMounts": [{"name": "config", "mountPath": "/etc/app", "readOnly": true}],
                }],
                "volumes": [{"name": "config", "configMap": {"name": "app-config"}}],
                "tolerations": [
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                     "effect": "NoExecute", "tolerationSeconds": 300},
                ],
            },
        });
        if is_headless(service) {
            pod["spec"]["hostname"] = self.pod_name(index).into();
            pod["spec"]["subdomain"] = service_name(service).into();
        }
        pod
    }

    /// What a kubelet says about a running pod.
    pub fn pod_status(&self, index: u32) -> Value {
        let since = "2026-01-01T00:00:00Z";
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": since});
        let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
        json!({"status": {
            "phase": "Running",
            "podIP": pod_address(index),
            "podIPs": [{"ip": pod_address(index)}],
            "hostIP": node_address(index),
            "hostIPs": [{"ip": node_address(index)}],
            "startTime": since,
            "conditions": conditions,
            "containerStatuses": [{
                "name": "app", "ready": true, "started": true, "restartCount": 0,
                "image": "registry.example.com/team/app:1.4.2",
                "imageID": format!("registry.example.com/team/app@sha256:{:064x}", index % 50),
                "containerID": format!("containerd://{:064x}", scatter(index)),
                "state": {"running": {"startedAt": since}},
            }],
        }})
    }
}

pub fn service_name(index: u32) -> String {
    format!("service-{index:05}")
}

/// Every tenth service.
pub fn is_headless(service: u32) -> bool {
    service % 10 == 9
}

/// Out of 10.128.0.0/9.
pub fn pod_address(pod: u32) -> String {
    let [_, high, middle, low] = (pod + 2).to_be_bytes();
    format!("10.{}.{middle}.{low}", 128 | high)
}

fn node_address(pod: u32) -> String {
    let node = pod / PODS_OF_NODE;
    format!("172.20.{}.{}", node / 250, node % 250 + 1)
}

fn node_name(pod: u32) -> String {
    let address = node_address(pod).replace('.', "-");
    format!("ip-{address}.eu-central-1.compute.internal")
}

fn zone_name(pod: u32) -> String {
    let zone = ["a", "b", "c"][(pod / PODS_OF_NODE % 3) as usize];
    format!("eu-central-1{zone}")
}

/// An index as something that looks random, and is another one for each.
fn scatter(index: u32) -> u32 {
    index.wrapping_mul(0x9e37_79b1)
}

/// Seven letters that differ for each index.
fn suffix(index: u32) -> String {
    const LETTERS: &[u8; 20] = b"bcdfghjklmnpqrstvwxz";
    let mut rest = u64::from(scatter(index));
    let mut suffix = String::new();
    for _ in 0..8 {
        suffix.push(char::from(LETTERS[(rest % 20) as usize]));
        rest /= 20;
    }
    suffix
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn size() -> Size {
        Size {
            prefix: "t".into(),
            services: 100,
            slices: 130,
            endpoints: 299,
            pods: 350,
            namespaces: 7,
        }
    }

    #[test]
    fn every_endpoint_is_in_its_slice() {
        let size = size();
        let mut seen = 0;
        for slice in 0..size.slices {
            for endpoint in size.endpoints_of(slice) {
                assert_eq!((endpoint, size.slice_of(endpoint)), (seen, slice));
                seen += 1;
            }
        }
        assert_eq!(seen, size.endpoints);
    }

    #[test]
    fn names_and_addresses_differ() {
        let size = size();
        let key = |value: &Value| value["metadata"]["name"].to_string();
        let pods: HashSet<_> = (0..size.pods).map(|i| key(&size.pod(i))).collect();
        let slices: HashSet<_> = (0..size.slices).map(|i| key(&size.slice(i))).collect();
        let addresses: HashSet<_> = (0..70_000).map(pod_address).collect();
        assert_eq!(
            (pods.len(), slices.len(), addresses.len()),
            (350, 130, 70_000)
        );
    }

    #[test]
    fn endpoints_are_pods_of_the_namespace() {
        let size = size();
        for index in 0..size.slices {
            let slice = size.slice(index);
            for endpoint in slice["endpoints"].as_array().unwrap() {
                let reference = &endpoint["targetRef"];
                assert_eq!(reference["namespace"], slice["metadata"]["namespace"]);
                let pod = (0..size.pods)
                    .map(|i| size.pod(i))
                    .find(|pod| pod["metadata"]["name"] == reference["name"]);
                assert_eq!(
                    pod.unwrap()["metadata"]["namespace"],
                    reference["namespace"]
                );
                let headless = slice["metadata"]["labels"]
                    .get("service.kubernetes.io/headless")
                    .is_some();
                assert_eq!(endpoint.get("hostname").is_some(), headless);
            }
        }
    }
}
