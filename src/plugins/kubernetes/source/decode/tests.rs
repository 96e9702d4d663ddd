#![allow(clippy::unwrap_used)]

use super::*;
use crate::plugins::kubernetes::object::{Endpoint, EndpointSlice, Pod, Port, Service};
use proptest::prelude::*;
use serde_json::json;
use std::path::Path;

const RESOURCES: [Resource; 7] = [
    Resource::Namespace,
    Resource::Service,
    Resource::EndpointSlice,
    Resource::Pod,
    Resource::LabelledPod,
    Resource::ServiceImport,
    Resource::ImportedSlice,
];

/// A captured body (see tests/data/kube/README.md).
fn sample(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kube");
    std::fs::read(folder.join(name)).unwrap()
}

/// The items of a list, and what the page says.
fn items(format: Format, kind: Resource, body: &[u8]) -> Result<(Page, Vec<String>), Error> {
    let mut items = Vec::new();
    let page = list(format, kind, body, &mut |item| {
        items.push(format!("{} {:?} {:?}", item.version, item.key, item.object));
    })?;
    Ok((page, items))
}

/// The events of a watch, cut into chunks of this size.
fn events(format: Format, kind: Resource, body: &[u8], chunk: usize) -> Vec<String> {
    let mut frames = Frames::new(format);
    let mut events = Vec::new();
    for chunk in body.chunks(chunk) {
        frames.push(chunk);
        while let Some(frame) = frames.take().unwrap() {
            events.push(format!("{:?}", event(format, kind, frame).unwrap()));
        }
    }
    events
}

#[test]
fn twins_decode_alike() {
    for (kind, name) in [
        (Resource::Namespace, "namespaces"),
        (Resource::Service, "services"),
        (Resource::EndpointSlice, "endpointslices"),
        (Resource::Pod, "pods"),
        (Resource::LabelledPod, "pods"),
        (Resource::ImportedSlice, "endpointslices"),
    ] {
        let json = items(Format::Json, kind, &sample(&format!("{name}-list.json"))).unwrap();
        let proto = items(Format::Protobuf, kind, &sample(&format!("{name}-list.pb"))).unwrap();
        assert_eq!(json, proto);
        assert!(json.1.iter().all(|item| item.contains(" Ok(")), "{json:#?}");
        assert!(!json.1.is_empty());

        let json = sample(&format!("{name}-watch.json"));
        let json = events(Format::Json, kind, &json, usize::MAX);
        let body = sample(&format!("{name}-watch.pb"));
        for chunk in [1, 5, 4096] {
            let proto = events(Format::Protobuf, kind, &body, chunk);
            assert_eq!(json, proto);
        }
        let ends = |event: &&String| event.contains("initial_end: true");
        assert_eq!(json.iter().filter(ends).count(), 1, "{json:#?}");
        // The namespace was still terminating when the capture ended.
        let deleted = json.iter().any(|event| event.starts_with("Deleted"));
        assert_eq!(deleted, kind != Resource::Namespace, "{json:#?}");
    }
}

#[test]
fn errors_of_a_server() {
    for (format, end) in [(Format::Json, "json"), (Format::Protobuf, "pb")] {
        let error = |name: &str| {
            let body = sample(&format!("services-watch-{name}.{end}"));
            let mut frames = Frames::new(format);
            frames.push(&body);
            if format == Format::Json && !body.ends_with(b"\n") {
                frames.push(b"\n");
            }
            match event(format, Resource::Service, frames.take().unwrap().unwrap()).unwrap() {
                Event::Error(status) => status,
                other => panic!("{other:?}"),
            }
        };
        let gone = error("gone");
        assert_eq!((gone.code, &*gone.reason), (410, "Expired"));
        assert_eq!(gone.message, "too old resource version: 1 (258)");
        let refused = error("refused");
        assert_eq!((refused.code, &*refused.reason), (500, "InternalError"));
    }
}

/// The object of this JSON, which is of `kind`.
fn object(kind: Resource, mut json: serde_json::Value) -> Object {
    json["metadata"]["name"] = "x".into();
    let event = json!({"type": "ADDED", "object": json}).to_string();
    match super::event(Format::Json, kind, event.as_bytes()).unwrap() {
        Event::Set(item) => item.object.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn port(name: &str, protocol: &str, port: u16) -> Port {
    Port {
        name: name.into(),
        protocol: protocol.into(),
        port,
    }
}

#[test]
fn services() {
    let service = |json| match object(Resource::Service, json) {
        Object::Service(service) => service,
        other => panic!("{other:?}"),
    };
    let none = Service::default();
    // KM-1: clusterIPs before clusterIP; externalIPs before the load balancer's.
    assert_eq!(
        service(json!({
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1", "fd00::1"], "externalName": "not.for.this.type",
                "externalIPs": ["192.0.2.1"],
                "ports": [{"name": "dns", "protocol": "UDP", "port": 53}, {"port": 70000}],
            },
            "status": {"loadBalancer": {"ingress": [
                {"ip": "192.0.2.2", "hostname": "no"}, {"hostname": "lb.example"}, {},
            ]}},
        })),
        Service {
            cluster_ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            external_ips: vec!["192.0.2.1".into(), "192.0.2.2".into(), "lb.example".into()],
            ports: vec![port("dns", "udp", 53), port("", "", 0)],
            ..none.clone()
        }
    );
    let alone = service(json!({"spec": {"clusterIP": "::ffff:10.0.0.1"}}));
    assert_eq!(
        alone.cluster_ips,
        ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
    // KM-9.
    for spec in [
        json!({"clusterIP": "None"}),
        json!({"clusterIPs": ["None"], "type": null}),
    ] {
        let headless = Service {
            headless: true,
            ..none.clone()
        };
        assert_eq!(service(json!({"spec": spec})), headless);
    }
    assert_eq!(service(json!({"spec": {"clusterIP": ""}})), none);
    assert_eq!(service(json!({"spec": null, "status": null})), none);
    let alias = service(json!({
        "spec": {"type": "ExternalName", "externalName": "Db.Example.", "clusterIP": ""},
    }));
    assert_eq!(alias.external_name.as_deref(), Some("Db.Example."));
    assert!(!alias.headless && alias.cluster_ips.is_empty());
}

/// KM-2 to KM-4.
#[test]
fn endpoint_slices() {
    let slice = |json| match object(Resource::EndpointSlice, json) {
        Object::EndpointSlice(slice) => slice,
        other => panic!("{other:?}"),
    };
    let endpoint = |ip: &str| Endpoint {
        ip: ip.parse().unwrap(),
        hostname: None,
        target: None,
        zone: None,
    };
    let label = |length| "a".repeat(length);
    assert_eq!(
        slice(json!({
            "metadata": {
                "labels": {"kubernetes.io/service-name": "web", "other": "x"},
                "annotations": {
                    "endpoints.kubernetes.io/last-change-trigger-time": "1970-01-01T00:00:02.5Z",
                },
            },
            "endpoints": [
                // KM-3: only `ready` counts, and counts as true if it is not there.
                {"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": false}},
                {"addresses": ["10.1.0.2"], "conditions": {"ready": false, "serving": true}},
                {"addresses": ["10.1.0.3"], "conditions": {"ready": null, "terminating": true}},
                {"addresses": ["10.1.0.4", "10.1.0.5"], "hostname": "a", "zone": "EU-1"},
                {"addresses": ["10.1.0.6"], "targetRef": {"kind": "Pod", "name": label(63)}},
                {"addresses": ["10.1.0.7"], "targetRef": {"kind": "Pod", "name": label(64)}},
                // KM-4.
                {"addresses": ["host.example"]},
                {"addresses": null},
            ],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {}],
        })),
        EndpointSlice {
            cluster: None,
            service: "web".into(),
            endpoints: vec![
                endpoint("10.1.0.1"),
                endpoint("10.1.0.3"),
                Endpoint {
                    hostname: Some("a".into()),
                    zone: Some("eu-1".into()),
                    ..endpoint("10.1.0.4")
                },
                Endpoint {
                    hostname: Some("a".into()),
                    zone: Some("eu-1".into()),
                    ..endpoint("10.1.0.5")
                },
                Endpoint {
                    target: Some(label(63).into()),
                    ..endpoint("10.1.0.6")
                },
                endpoint("10.1.0.7"),
            ],
            ports: vec![port("http", "tcp", 8080), port("", "", 0)],
            triggered: Some(2_500_000_000),
        }
    );
    let nothing = slice(json!({"endpoints": null, "ports": null}));
    assert_eq!(nothing, EndpointSlice::default());
}

#[test]
fn pods() {
    let pod = |json| match object(Resource::Pod, json) {
        Object::Pod(pod) => pod,
        other => panic!("{other:?}"),
    };
    let primary = json!({"status": {
        "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}],
    }});
    let ip = Some("10.1.0.1".parse().unwrap());
    assert_eq!(
        pod(primary),
        Pod {
            ip,
            ..Pod::default()
        }
    );
    let on_its_node = json!({"spec": {"hostNetwork": true}, "status": {"podIP": "10.1.0.1"}});
    let expected = Pod {
        ip,
        host_network: true,
        ..Pod::default()
    };
    assert_eq!(pod(on_its_node), expected);
    // KM-5.
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {}});
    let gone = Pod {
        deleted: true,
        ..Pod::default()
    };
    assert_eq!(pod(going), gone);
}

#[test]
fn labels_of_pods() {
    let json = json!({
        "metadata": {"labels": {"app": "web", "a/b": ""}}, "status": {"podIP": "10.1.0.1"},
    });
    let labels = |of| match object(of, json.clone()) {
        Object::Pod(pod) => pod.labels,
        other => panic!("{other:?}"),
    };
    assert_eq!(labels(Resource::Pod), []);
    let all = [("a/b".into(), "".into()), ("app".into(), "web".into())];
    assert_eq!(labels(Resource::LabelledPod), all);
    // Both formats have them: what was captured does (twins_decode_alike), or nothing is compared.
    let body = sample("pods-list.json");
    let (_, items) = items(Format::Json, Resource::LabelledPod, &body).unwrap();
    assert!(items[0].contains("labels: [(\""), "{items:?}");
}

#[test]
fn service_imports() {
    let import = |json| match object(Resource::ServiceImport, json) {
        Object::Service(service) => service,
        other => panic!("{other:?}"),
    };
    let ports = json!([{"name": "HTTP", "protocol": "TCP", "port": 80, "appProtocol": "h2c"}]);
    assert_eq!(
        import(json!({
            "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceImport",
            "spec": {
                "type": "ClusterSetIP", "ips": ["10.42.0.1", "fd00:42::1", "no address"],
                "ports": ports, "sessionAffinity": "None",
            },
            "status": {"clusters": [{"cluster": "a"}]},
        })),
        Service {
            cluster_ips: vec!["10.42.0.1".parse().unwrap(), "fd00:42::1".parse().unwrap()],
            ports: vec![port("http", "tcp", 80)],
            ..Service::default()
        }
    );
    assert_eq!(
        import(json!({"spec": {"type": "Headless", "ips": ["10.42.0.1"], "ports": ports}})),
        Service {
            headless: true,
            ports: vec![port("http", "tcp", 80)],
            ..Service::default()
        }
    );
    assert_eq!(import(json!({"spec": null})), Service::default());
    // A service has no `ips`, and an import no `clusterIP`.
    let other = json!({"spec": {"type": "ClusterSetIP", "ips": ["10.42.0.1"]}});
    let none = Object::Service(Service::default());
    assert_eq!(object(Resource::Service, other), none);
    let other = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}});
    assert_eq!(object(Resource::ServiceImport, other), none);
}

/// The API has custom resources in JSON only: an import in protobuf is refused, not guessed at.
#[test]
fn an_import_in_protobuf_is_an_error() {
    let body = sample("services-list.pb");
    let (_, items) = items(Format::Protobuf, Resource::ServiceImport, &body).unwrap();
    assert!(!items.is_empty() && items.iter().all(|item| item.contains("Err(Custom)")));
}

#[test]
fn slices_of_imports() {
    let json = json!({
        "metadata": {"labels": {
            "kubernetes.io/service-name": "derived-7",
            "multicluster.kubernetes.io/service-name": "web",
            "multicluster.kubernetes.io/source-cluster": "East",
        }},
        "endpoints": [{"addresses": ["10.1.0.1"]}],
    });
    let of = |resource| match object(resource, json.clone()) {
        Object::EndpointSlice(slice) => (slice.service, slice.cluster),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(Resource::EndpointSlice), ("derived-7".into(), None));
    assert_eq!(
        of(Resource::ImportedSlice),
        ("web".into(), Some("east".into()))
    );
    let slice = slice_in_protobuf(&[
        ("multicluster.kubernetes.io/service-name", "web"),
        ("multicluster.kubernetes.io/source-cluster", "East"),
    ]);
    let (_, items) = items(Format::Protobuf, Resource::ImportedSlice, &slice).unwrap();
    let same = object(
        Resource::ImportedSlice,
        json!({"metadata": {"labels": {
            "multicluster.kubernetes.io/service-name": "web",
            "multicluster.kubernetes.io/source-cluster": "East",
        }}}),
    );
    assert!(items[0].ends_with(&format!("Ok({same:?})")), "{items:?}");
}

/// A list of one slice that has these labels, and nothing else.
fn slice_in_protobuf(labels: &[(&str, &str)]) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let mut field = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        assert!(content.len() < 128);
        field.extend(content);
        field
    };
    let long = |number: u8, content: &[u8]| {
        let (low, high) = (content.len() as u8 | 0x80, (content.len() >> 7) as u8);
        let mut field = vec![number << 3 | 2, low, high];
        field.extend(content);
        field
    };
    let mut meta = field(1, b"x");
    for (name, value) in labels {
        let entry = [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
        meta.extend(field(11, &entry));
    }
    let list = long(2, &long(1, &meta));
    [&b"k8s\0"[..], &long(2, &list)].concat()
}

#[test]
fn pods_on_the_network_of_their_node_in_protobuf() {
    // Field `number` with these octets, at most 127 of them.
    let field = |number: u8, octets: &[u8]| {
        let mut out = vec![number << 3 | 2, octets.len() as u8];
        out.extend_from_slice(octets);
        out
    };
    for (flag, host_network) in [
        (&[][..], false),
        (&[11 << 3, 0], false),
        (&[11 << 3, 1], true),
    ] {
        // `nodeName` stands before the flag.
        let spec = [&field(10, b"node"), flag].concat();
        let parts = [
            field(1, &field(1, b"a")),
            field(2, &spec),
            field(3, &field(6, b"10.1.0.1")),
        ];
        let list = field(2, &parts.concat());
        let body = [b"k8s\0", &field(2, &list)[..]].concat();
        let items = items(Format::Protobuf, Resource::Pod, &body).unwrap();
        let pod = Object::Pod(Pod {
            ip: Some("10.1.0.1".parse().unwrap()),
            host_network,
            ..Pod::default()
        });
        assert!(
            format!("{items:?}").contains(&format!("{pod:?}")),
            "{items:?}"
        );
    }
}

#[test]
fn bad_items_keep_their_names() {
    let body = json!({
        "metadata": {"resourceVersion": "9", "continue": "t"},
        "items": [
            {"metadata": {"name": "a", "namespace": "n", "resourceVersion": "1"},
             "spec": {"ports": 80}},
            {"metadata": {"namespace": "n"}},
            {"metadata": 7},
            {"metadata": {"name": "b\u{301}\"", "namespace": "n"}},
            null,
        ],
    });
    let mut seen = Vec::new();
    let body = body.to_string();
    let page = list(
        Format::Json,
        Resource::Service,
        body.as_bytes(),
        &mut |item| {
            seen.push((item.key.name.to_string(), item.object.is_ok()));
        },
    );
    let wanted = [
        ("a", false),
        ("", false),
        ("", false),
        ("b\u{301}\"", true),
        ("", false),
    ];
    assert_eq!(seen, wanted.map(|(name, good)| (name.to_owned(), good)));
    let (version, next) = ("9".into(), "t".into());
    assert_eq!(page.unwrap(), Page { version, next });
}

#[test]
fn events_of_any_length() {
    let long = "x".repeat(crate::limits::KUBE_EVENT_BYTES + 1);
    let mut frames = Frames::new(Format::Json);
    frames.push(b"\n \na\nb");
    assert_eq!(frames.take().unwrap(), Some(&b"a"[..]));
    assert_eq!(frames.take().unwrap(), None);
    frames.push(b"c\n");
    assert_eq!(frames.take().unwrap(), Some(&b"bc"[..]));
    frames.push(long.as_bytes());
    assert!(matches!(frames.take(), Err(Error::TooLong(_))));
    let mut frames = Frames::new(Format::Protobuf);
    frames.push(&[0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(frames.take(), Err(Error::TooLong(_))));
}

#[test]
fn formats_by_content_type() {
    let protobuf = Some(Format::Protobuf);
    for (text, format) in [
        ("application/json", Some(Format::Json)),
        ("Application/JSON; charset=utf-8", Some(Format::Json)),
        ("application/vnd.kubernetes.protobuf", protobuf),
        ("application/vnd.kubernetes.protobuf;stream=watch", protobuf),
        ("text/plain", None),
        ("", None),
    ] {
        assert_eq!(Format::of(text), format, "{text}");
    }
}

/// Decodes as everything; the results do not matter.
fn decode_all(body: &[u8]) {
    for format in [Format::Json, Format::Protobuf] {
        for kind in RESOURCES {
            let _ = items(format, kind, body);
            let _ = event(format, kind, body);
        }
        let _ = status(Some(format), body);
        let mut frames = Frames::new(format);
        for chunk in body.chunks(7) {
            frames.push(chunk);
            while let Ok(Some(_)) = frames.take() {}
        }
    }
}

/// A captured body with a few octets changed, cut off somewhere.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "services-list.pb",
        "endpointslices-watch.pb",
        "pods-list.pb",
        "pods-watch.json",
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    let cut = any::<prop::sample::Index>();
    (prop::sample::select(names.to_vec()), changes, cut).prop_map(|(name, changes, cut)| {
        let mut body = sample(name);
        for (at, octet) in changes {
            let at = at.index(body.len());
            body[at] = octet;
        }
        body.truncate(cut.index(body.len()) + 1);
        body
    })
}

proptest! {
    #[test]
    fn any_octets(body in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&body);
        decode_all(&[b"k8s\0", &body[..]].concat());
    }

    #[test]
    fn damaged_bodies(body in damaged()) {
        decode_all(&body);
        // The content of the first frame of a watch.
        decode_all(body.get(4..).unwrap_or_default());
    }

    #[test]
    fn any_time(text in "[0-9T:.Z+-]{0,40}|\\PC{0,40}") {
        let _ = time::rfc3339(&text);
    }
}
