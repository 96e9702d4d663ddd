//! Imported services: from an API server to answers in multicluster zones.

use crate::support::client::{ask, question, show};
use crate::support::kube::Api;
use crate::support::server::TestServer;
use crate::support::sink::Recorder;
use portolan::dns::RecordType;
use portolan::metrics::{Format, Registry, exposition};
use portolan::plugins::TABLE;
use portolan::plugins::kubernetes::object::{Kind, Object, Sink};
use portolan::plugins::kubernetes::source::selector::Selector;
use portolan::plugins::kubernetes::source::{Origin, Running, Settings, Sinks, Timing, start};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const IMPORTED: [Kind; 2] = [Kind::Service, Kind::EndpointSlice];

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
}

fn import(name: &str, ip: &str) -> Value {
    json!({
        "kind": "ServiceImport", "apiVersion": "multicluster.x-k8s.io/v1alpha1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "ClusterSetIP", "ips": [ip],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
        "status": {"clusters": [{"cluster": "east"}]},
    })
}

fn slice(name: &str, label: &str, service: &str, address: &str) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "default", "labels": {
            label: service, "multicluster.kubernetes.io/source-cluster": "east",
        }},
        "addressType": "IPv4", "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": [{"addresses": [address], "hostname": "a"}],
    })
}

const IMPORT: &str = "multicluster.kubernetes.io/service-name";
const OWN: &str = "kubernetes.io/service-name";

/// A source of an API server, with two sinks.
struct Lab {
    api: Api,
    cluster: Arc<Recorder>,
    imports: Arc<Recorder>,
    metrics: Registry,
    running: Option<Running>,
}

impl Lab {
    async fn new() -> Self {
        Self {
            api: Api::start().await,
            cluster: Arc::default(),
            imports: Arc::default(),
            metrics: Registry::new(1),
            running: None,
        }
    }

    fn start(&mut self) {
        let settings = Settings {
            origin: Origin::Endpoint {
                url: self.api.url.clone(),
                tls: None,
            },
            endpoints: true,
            imports: true,
            labels: Selector::parse("!hidden").unwrap(),
            timing: Timing {
                pause: Duration::from_millis(5),
                longest_pause: Duration::from_millis(50),
                ..Timing::default()
            },
            ..Settings::default()
        };
        let (cluster, imports): (Arc<dyn Sink>, Arc<dyn Sink>) =
            (self.cluster.clone(), self.imports.clone());
        let sinks = Sinks {
            cluster,
            imports: Some(imports),
        };
        let runtime = tokio::runtime::Handle::current();
        self.running = Some(start(&settings, sinks, &runtime, &self.metrics).unwrap());
    }

    async fn has(&self, names: &[&str]) {
        let has = |state: &crate::support::sink::State| state.names(Kind::Service) == names;
        self.imports.until(&format!("imports {names:?}"), has).await;
    }

    /// Waits for so many requests for imports.
    async fn asked_more(&self, times: usize) {
        let enough = self.api.asked("/serviceimports") + times;
        let end = Instant::now() + Duration::from_secs(20);
        while self.api.asked("/serviceimports") < enough {
            assert!(Instant::now() < end, "{:?}", self.api.requests());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A sample of the metrics.
    fn metric(&self, sample: &str) -> Option<String> {
        let text = exposition(&self.metrics, Format::Classic);
        let line = text.lines().find(|line| line.starts_with(sample))?;
        line.rsplit(' ').next().map(str::to_owned)
    }
}

#[tokio::test]
async fn imports_and_their_slices_go_to_a_sink_of_their_own() {
    let mut lab = Lab::new().await;
    lab.api.apply([
        namespace("default"),
        import("web", "10.42.0.1"),
        slice("web-east", IMPORT, "web", "10.250.0.1"),
        slice("own-1", OWN, "own", "10.1.0.1"),
    ]);
    lab.start();
    lab.imports.synced(&IMPORTED).await;
    lab.cluster
        .synced(&[Kind::Namespace, Kind::Service, Kind::EndpointSlice])
        .await;
    {
        let (cluster, imports) = (lab.cluster.state(), lab.imports.state());
        assert!(cluster.names(Kind::Service).is_empty());
        assert_eq!(cluster.names(Kind::EndpointSlice), ["own-1", "web-east"]);
        assert_eq!(imports.names(Kind::Service), ["web"]);
        assert_eq!(imports.names(Kind::EndpointSlice), ["web-east"]);
        let Some(Object::EndpointSlice(slice)) =
            imports.get(Kind::EndpointSlice, "default", "web-east")
        else {
            panic!("{imports:?}");
        };
        assert_eq!(
            (&*slice.service, slice.cluster.as_deref()),
            ("web", Some("east"))
        );
        let Some(Object::EndpointSlice(slice)) =
            cluster.get(Kind::EndpointSlice, "default", "web-east")
        else {
            panic!("{cluster:?}");
        };
        assert_eq!((&*slice.service, &slice.cluster), ("", &None));
    }
    let both = "/endpointslices?";
    assert_eq!(lab.api.asked(both), 2);
    let only = "labelSelector=%21hidden%2Cmulticluster.kubernetes.io%2Fservice-name";
    assert_eq!(lab.api.asked(only), 1);
    let imports = "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports?watch=true";
    assert_eq!(lab.api.asked(imports), 1);

    lab.api.apply([import("db", "10.42.0.2")]);
    lab.has(&["db", "web"]).await;
    lab.api.delete("serviceimports", "default", "web");
    lab.has(&["db"]).await;
    lab.api.compact();
    lab.api.cut();
    lab.api.apply([import("new", "10.42.0.3")]);
    lab.has(&["db", "new"]).await;
}

/// CoreDNS is never ready then.
#[tokio::test]
async fn a_server_without_service_imports_has_none() {
    let mut lab = Lab::new().await;
    lab.api.faults().no_imports = true;
    lab.api.apply([import("web", "10.42.0.1")]);
    lab.start();
    lab.imports.synced(&IMPORTED).await;
    assert!(lab.imports.state().names(Kind::Service).is_empty());
    // It is asked again, in case they are defined later; that is no failure.
    lab.asked_more(6).await;
    let failures = "portolan_kubernetes_watch_failures_total{resource=\"serviceimports\"}";
    assert_eq!(lab.metric(failures).as_deref(), Some("0"));
    lab.api.faults().no_imports = false;
    lab.has(&["web"]).await;
    // An API server that starts may not know its definitions yet: what was known stays.
    lab.api.faults().no_imports = true;
    lab.api.cut();
    lab.asked_more(6).await;
    assert_eq!(lab.imports.state().names(Kind::Service), ["web"]);
    lab.api.delete("serviceimports", "default", "web");
    lab.api.faults().no_imports = false;
    lab.has(&[]).await;
}

/// What the server says about an address, with its serials taken out.
fn addresses(server: &TestServer, name: &str) -> String {
    let reply = ask(server.addr(), &question(name, RecordType::A));
    let text = show(&reply);
    let kept = text.lines().filter(|line| !line.starts_with("authority"));
    kept.collect::<Vec<_>>().join(" / ")
}

async fn until(server: &TestServer, name: &str, wanted: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let found = addresses(server, name);
        if found == wanted {
            return;
        }
        assert!(Instant::now() < end, "{name}: {found}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn server(api: &Api) -> TestServer {
    let text = format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local clusterset.local {{
                endpoint {}
                multicluster clusterset.local
                ttl 30
            }}
        }}",
        api.url
    );
    TestServer::start(TABLE, &text).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_imports_is_answered_in_multicluster_zones() {
    let api = Api::start().await;
    api.apply([
        namespace("default"),
        import("web", "10.42.0.1"),
        slice("web-east", IMPORT, "web", "10.250.0.1"),
    ]);
    let server = server(&api).await;
    let web = "web.default.svc.clusterset.local.";
    assert_eq!(
        addresses(&server, web),
        format!("NoError aa rd / {web} 30 IN A 10.42.0.1")
    );
    let endpoint = format!("a.east.{web}");
    assert_eq!(
        addresses(&server, &endpoint),
        format!("NoError aa rd / {endpoint} 30 IN A 10.250.0.1")
    );
    assert_eq!(
        addresses(&server, "web.default.svc.cluster.local."),
        "NXDomain aa rd"
    );
    for (kind, count) in [
        ("ServiceImport", 1.0),
        ("ImportedSlice", 1.0),
        ("Service", 0.0),
    ] {
        let series = format!("portolan_kubernetes_objects{{kind=\"{kind}\"}}");
        assert_eq!(server.metric(&series), Some(count), "{kind}");
    }
    api.delete("serviceimports", "default", "web");
    until(&server, web, "NXDomain aa rd").await;
    api.apply([import("web", "10.42.0.9")]);
    until(
        &server,
        web,
        &format!("NoError aa rd / {web} 30 IN A 10.42.0.9"),
    )
    .await;
    server.server.stop(|| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_service_imports_does_not_hold_the_start_up() {
    let api = Api::start().await;
    api.faults().no_imports = true;
    api.apply([namespace("default")]);
    let server = server(&api).await;
    // Not synced would be SERVFAIL.
    for zone in ["cluster.local", "clusterset.local"] {
        let name = format!("web.default.svc.{zone}.");
        assert_eq!(addresses(&server, &name), "NXDomain aa rd");
    }
    server.server.stop(|| ()).await;
}

#[test]
fn configuration_errors() {
    use portolan::plugins::kubernetes::config::Config;
    let read = |zones: &str, options: &str| {
        let text = format!(". {{\n kubernetes {zones} {{\n {options}\n }}\n}}");
        let corefile = portolan::corefile::parse("Corefile", &text, &|_| None).unwrap();
        let directive = &corefile.blocks[0].directives[0];
        Config::read(directive, &[], std::path::Path::new("/"))
            .map(|config| (config.answers, config.settings))
            .map_err(|error| error.to_string())
    };
    let zones = "cluster.local Clusterset.Local a.clusterset.local 10.0.0.0/8";
    let (answers, settings) = read(zones, "multicluster clusterset.local\n zonal").unwrap();
    assert!(settings.imports && answers.zonal);
    let multicluster: Vec<_> = answers
        .multicluster
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(multicluster, ["clusterset.local."]);
    let dialects = answers.zones.iter().map(|zone| {
        let dialect = answers.dialect(zone);
        (dialect.clusters, dialect.zonal)
    });
    // A zone in one of imports is an ordinary one (KX-4).
    let ordinary = (false, true);
    assert_eq!(
        dialects.collect::<Vec<_>>(),
        [ordinary, (true, false), ordinary, ordinary]
    );
    // KC-3.
    let (answers, settings) = read(zones, "multicluster").unwrap();
    assert!(!settings.imports && answers.multicluster.is_empty());
    for (options, error) in [
        (
            "multicluster other.local",
            "Corefile:3 - Error during parsing: is not authoritative for the multicluster zone other.local.",
        ),
        (
            "multicluster b.clusterset.local",
            "Corefile:3 - Error during parsing: is not authoritative for the multicluster zone b.clusterset.local.",
        ),
        (
            "zonal on",
            "Corefile:3 - Error during parsing: Wrong argument count or unexpected line ending after 'on'",
        ),
        (
            "zonal\n noendpoints",
            "Corefile:2 - Error during parsing: zonal and noendpoints cannot both be set",
        ),
    ] {
        assert_eq!(read(zones, options).unwrap_err(), error, "{options}");
    }
}
