#![allow(clippy::unwrap_used)]

use super::super::selector::Selector;
use super::*;
use crate::plugins::kubernetes::object::{EndpointSlice, Kind, Port};
use std::sync::Mutex;
use tempfile::TempDir;

/// Remembers what it is told, as lines.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Sink for Lines {
    fn list_start(&self, _: Kind) {}
    fn set(&self, key: Key, object: Object) {
        let name = format!("{}/{}", key.namespace, key.name);
        let line = match object {
            Object::Namespace => format!("namespace {}", key.name),
            Object::Service(service) => {
                format!(
                    "service {name} {:?} {}",
                    service.cluster_ips,
                    ports(&service.ports)
                )
            }
            Object::EndpointSlice(slice) => format!("slice {name} {}", endpoints(&slice)),
            Object::Pod(pod) => format!("pod {name} {:?}", pod.ip.unwrap()),
        };
        self.0.lock().unwrap().push(line);
    }
    fn keep(&self, _: Kind, _: &Key) {}
    fn delete(&self, _: Kind, _: &Key) {}
    fn list_end(&self, _: Kind) {}
}

fn ports(ports: &[Port]) -> String {
    let ports = ports
        .iter()
        .map(|p| format!("{}:{}/{}", p.name, p.port, p.protocol));
    ports.collect::<Vec<_>>().join(",")
}

fn endpoints(slice: &EndpointSlice) -> String {
    let endpoints = slice.endpoints.iter().map(|endpoint| {
        let hostname = endpoint.hostname.as_deref().unwrap_or("");
        format!("{hostname}@{}", endpoint.ip)
    });
    let endpoints: Vec<_> = endpoints.collect();
    format!(
        "{} {} {}",
        slice.service,
        endpoints.join(","),
        ports(&slice.ports)
    )
}

struct Lab {
    folder: TempDir,
    files: Files,
    settings: Settings,
    metrics: Registry,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Registry::new(1);
        let errors = metrics.counter("errors_total", "", Vec::new());
        let quarantine = vec![(
            Resource::Service,
            Quarantine::new(Resource::Service, &metrics),
        )];
        Self {
            files: Files::new(&[folder.path().to_owned()], errors, quarantine),
            folder,
            settings: Settings {
                endpoints: true,
                pods: true,
                ..Settings::default()
            },
            metrics,
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// What the sink is told now.
    fn lines(&mut self) -> Vec<String> {
        self.both().0
    }

    /// What the sinks of the cluster and of the imports are told now.
    fn both(&mut self) -> (Vec<String>, Vec<String>) {
        self.files.refresh();
        let [cluster, imports] = [(); 2].map(|()| Arc::new(Lines::default()));
        let teller = Teller {
            settings: self.settings.clone(),
            sinks: Sinks {
                cluster: cluster.clone(),
                imports: Some(imports.clone()),
            },
        };
        teller.tell(&self.files.manifests());
        let lines = |sink: &Lines| std::mem::take(&mut *sink.0.lock().unwrap());
        (lines(&cluster), lines(&imports))
    }

    fn errors(&self) -> u64 {
        self.metrics.counter("errors_total", "", Vec::new()).get()
    }
}

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  selector: {app: web}
  ports:
  - {name: HTTP, port: 80, targetPort: http}
  - {name: dns, port: 53, protocol: UDP}
---
# Nothing.
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
";

fn pod(name: &str, ip: &str, port: u16, more: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: web, x: y}}}}
spec:
  hostname: {name}
  subdomain: web
  containers: [{{ports: [{{name: http, containerPort: {port}}}]}}]
status: {{podIP: {ip}{more}}}
---"
    )
}

#[test]
fn endpoints_come_from_pods() {
    let mut lab = Lab::new();
    lab.write("web.yaml", WEB);
    let ready = |status| format!(", conditions: [{{type: Ready, status: '{status}'}}]");
    let pods = [
        pod("a", "10.1.0.1", 8080, ""),
        pod("b", "10.1.0.2", 8080, &ready("True")),
        pod("c", "10.1.0.3", 8080, &ready("False")),
        pod("d", "10.1.0.4", 9090, ""),
        pod("e", "10.1.0.5", 8080, ", phase: Failed"),
        pod("f", "''", 8080, ""),
    ];
    lab.write("pods/all.yml", &pods.concat());
    lab.settings.pods = false;
    let service = "service shop/web [10.0.0.1] http:80/tcp,dns:53/udp";
    assert_eq!(
        lab.lines(),
        [
            "namespace shop",
            service,
            "slice shop/web-pods-0 web a@10.1.0.1,b@10.1.0.2 http:8080/tcp,dns:53/udp",
            "slice shop/web-pods-1 web d@10.1.0.4 http:9090/tcp,dns:53/udp",
        ]
    );
    // A slice of its own, and nothing is derived.
    lab.write(
        "slice.json",
        r#"{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "s", "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.9.0.1"], "hostname": "z"}], "ports": [{"port": 1}]}"#,
    );
    assert_eq!(
        lab.lines(),
        [
            "namespace shop",
            service,
            "slice shop/s web z@10.9.0.1 :1/tcp"
        ]
    );
}

#[test]
fn services_choose_addresses() {
    let mut lab = Lab::new();
    let head = "kind: Service\napiVersion: v1\nmetadata: {name: db}\n";
    let pods = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: db-0, labels: {app: db}}
  spec: {hostname: db-0, subdomain: other}
  status:
    podIP: 10.1.0.1
    podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]
    conditions: [{type: Ready, status: 'False'}]
- {apiVersion: v1, kind: Namespace, metadata: {name: empty}}
";
    lab.write("pods.yaml", pods);
    lab.settings.pods = false;
    for (spec, slice) in [
        ("{clusterIP: None, selector: {app: db}}", ""),
        ("{clusterIP: None, publishNotReadyAddresses: true}", ""),
        ("{publishNotReadyAddresses: true, selector: {app: x}}", ""),
        (
            "{clusterIP: None, publishNotReadyAddresses: true, selector: {app: db}}",
            "@10.1.0.1,@fd00::1 ",
        ),
        (
            "{publishNotReadyAddresses: true, ipFamilies: [IPv6], selector: {app: db},
              ports: [{port: 5432, targetPort: 5433}, {port: 1, targetPort: none}]}",
            "@fd00::1 :5433/tcp",
        ),
    ] {
        lab.write("db.yaml", &format!("{head}spec: {spec}"));
        let lines = lab.lines();
        assert_eq!(lines[..2], ["namespace default", "namespace empty"]);
        let slices = lines.iter().filter_map(|line| line.strip_prefix("slice "));
        let slices: Vec<_> = slices
            .map(|s| s.trim_start_matches("default/db-pods-0 db "))
            .collect();
        assert_eq!(
            slices,
            slice.split_terminator('|').collect::<Vec<_>>(),
            "{spec}"
        );
    }
}

#[test]
fn broken_files_keep_what_they_had() {
    let mut lab = Lab::new();
    lab.write(
        "a.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}",
    );
    lab.write(
        "b.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: b}",
    );
    lab.write(
        ".hidden/c.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: c}",
    );
    lab.write(
        "readme.txt",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: d}",
    );
    assert_eq!(lab.lines(), ["namespace a", "namespace b"]);
    assert!(!lab.files.refresh());

    lab.write("a.yaml", "apiVersion: v1\nkind: [Namespace\n");
    assert!(!lab.files.refresh());
    assert_eq!(lab.lines(), ["namespace a", "namespace b"]);
    assert_eq!(lab.errors(), 1, "said once");

    std::fs::remove_file(lab.folder.path().join("b.yaml")).unwrap();
    assert_eq!(lab.lines(), ["namespace a"]);
    lab.write("a.yaml", "");
    assert!(lab.files.refresh());
    assert!(lab.lines().is_empty());
}

#[test]
fn broken_objects_are_left_out() {
    let mut lab = Lab::new();
    lab.write(
        "a.yaml",
        "
apiVersion: v1
kind: ServiceList
items:
- metadata: {name: bad}
  spec: {ports: 80}
- metadata: {name: good}
---
{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: other}}
",
    );
    assert_eq!(
        lab.lines(),
        ["namespace default", "service default/good [] "]
    );
    let count = Quarantine::new(Resource::Service, &lab.metrics).total.get();
    assert_eq!(count, 1);
}

#[test]
fn selectors_select_manifests() {
    let mut lab = Lab::new();
    lab.write("web.yaml", WEB);
    lab.write(
        "ns.yaml",
        "
{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {of: a}}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: team, labels: {dns: 'yes'}}}
",
    );
    lab.settings.labels = Selector::parse("dns").unwrap();
    lab.settings.namespace_labels = Selector::parse("of=a").unwrap();
    assert_eq!(lab.lines(), ["namespace team", "service team/s [] "]);
    lab.settings.namespace_labels = Selector::parse("kubernetes.io/metadata.name=shop").unwrap();
    assert_eq!(lab.lines(), ["namespace shop", "service team/s [] "]);
}

#[test]
fn imports_have_a_sink_of_their_own() {
    let mut lab = Lab::new();
    let text = "
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImportList
items:
- metadata: {name: web, labels: {app: shop}}
  spec: {type: ClusterSetIP, ips: [10.42.0.1], ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels:
    app: shop
    multicluster.kubernetes.io/service-name: web
    kubernetes.io/service-name: derived
endpoints: [{addresses: [10.1.0.1]}]
ports: [{name: http, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: own-1, labels: {kubernetes.io/service-name: own}}
endpoints: [{addresses: [10.1.0.2]}]
";
    lab.write("imports.yaml", text);
    let cluster = [
        "namespace default",
        "slice default/web-1 derived @10.1.0.1 http:8080/tcp",
        "slice default/own-1 own @10.1.0.2 ",
    ];
    assert_eq!(lab.both(), (cluster.map(str::to_owned).into(), vec![]));
    lab.settings.imports = true;
    let service = "service default/web [10.42.0.1] http:80/tcp";
    let slice = "slice default/web-1 web @10.1.0.1 http:8080/tcp";
    assert_eq!(lab.both().1, [service, slice]);
    // Imports are selected like namespaces, their slices like slices.
    let selector = |text| Selector::parse(text).unwrap();
    lab.settings.labels = selector("app=other");
    assert_eq!(lab.both().1, [service]);
    lab.settings.labels = selector("app=shop");
    lab.settings.namespace_labels = selector("team=a");
    assert_eq!(lab.both().1, [slice]);
}
