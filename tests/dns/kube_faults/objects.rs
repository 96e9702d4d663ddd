//! Objects as the API writes them.

use serde_json::{Value, json};

pub fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
}

pub fn service(name: &str, ip: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "type": "ClusterIP",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
        "status": {"loadBalancer": {}},
    })
}

pub fn pod(name: &str, ip: &str, phase: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"},
        "status": {"phase": phase, "podIP": ip},
    })
}

pub fn slice(name: &str, service: &str, addresses: &[String]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "default",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    })
}

/// Objects that the API would not have let in, each readable all the same: with fields missing,
/// null, empty, or of no meaning. None concerns a name that is asked for.
pub fn odd() -> Vec<Value> {
    let meta = |name: &str| json!({"name": name, "namespace": "odd"});
    let service = |name: &str, spec: Value| json!({"kind": "Service", "apiVersion": "v1", "metadata": meta(name), "spec": spec});
    let slice = |name: &str, endpoints: Value| {
        json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": name, "namespace": "odd",
                "labels": {"kubernetes.io/service-name": "plain"}},
            "addressType": "FQDN", "endpoints": endpoints, "ports": null})
    };
    vec![
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "odd"}}),
        json!({"kind": "Service", "apiVersion": "v1", "metadata": meta("plain")}),
        service("null", Value::Null),
        service(
            "no-address",
            json!({"clusterIP": "", "clusterIPs": [], "ports": []}),
        ),
        service(
            "no-ip",
            json!({"clusterIP": "no address", "clusterIPs": ["1.2.3", "::g"]}),
        ),
        service("mapped", json!({"clusterIP": "::ffff:10.1.2.3"})),
        service(
            "ports",
            json!({"clusterIP": "10.255.0.1", "ports": [
            {"port": -1}, {"port": 65536, "name": "UPPER"}, {"name": "", "protocol": "x".repeat(300)}]}),
        ),
        service(
            "alias",
            json!({"type": "ExternalName", "externalName": "a..b. c"}),
        ),
        service(
            "long-alias",
            json!({"type": "ExternalName", "externalName": "x".repeat(2000)}),
        ),
        service(&"n".repeat(253), json!({"clusterIP": "10.255.0.2"})),
        service("no label.at all", json!({"clusterIP": "10.255.0.3"})),
        slice("none", Value::Null),
        slice("empty", json!([])),
        slice(
            "hollow",
            json!([{}, {"addresses": null}, {"addresses": []}]),
        ),
        slice(
            "names",
            json!([{"addresses": ["host.example"], "hostname": "",
            "targetRef": {"name": "t".repeat(100)}, "zone": "ZONE"}]),
        ),
        slice(
            "many",
            json!([{"addresses": ["10.254.0.1", "10.254.0.1", "fe80::1"],
            "conditions": {}, "hostname": "h", "targetRef": {}}]),
        ),
        json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": "nobodys", "namespace": "odd", "labels": null}}),
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": meta("bare")}),
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": meta("nowhere"),
            "status": {"podIP": "somewhere"}}),
    ]
}

/// Objects that cannot be read, in either format.
pub fn unreadable() -> Vec<Value> {
    let of = |kind: &str, group: &str, name: &str, field: &str, value: Value| {
        let meta = json!({"name": name, "namespace": "odd"});
        json!({"kind": kind, "apiVersion": group, "metadata": meta, field: value})
    };
    vec![
        of(
            "Service",
            "v1",
            "bad-ports",
            "spec",
            json!({"clusterIP": "10.255.1.1", "ports": 80}),
        ),
        of("Service", "v1", "bad-ip", "spec", json!({"clusterIP": 7})),
        of(
            "EndpointSlice",
            "discovery.k8s.io/v1",
            "bad-slice",
            "endpoints",
            json!(true),
        ),
        of("Pod", "v1", "bad-pod", "status", json!({"podIP": 7})),
    ]
}
