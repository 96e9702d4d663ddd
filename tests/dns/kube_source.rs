//! Sources of the cluster's objects: the sink always comes to the state of the API server.

use crate::support::kube::Api;
use crate::support::kube::fault::{At, Fault, Strike};
use crate::support::sink::{Recorder, key};
use portolan::metrics::{Format, Registry, exposition};
use portolan::plugins::kubernetes::object::{Kind, Object, Sink};
use portolan::plugins::kubernetes::source::selector::Selector;
use portolan::plugins::kubernetes::source::{Origin, Running, Settings, Timing, start};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ALL: [Kind; 4] = [
    Kind::Namespace,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

struct Lab {
    api: Api,
    sink: Arc<Recorder>,
    metrics: Registry,
    running: Option<Running>,
}

impl Lab {
    async fn new() -> Self {
        Self {
            api: Api::start().await,
            sink: Arc::default(),
            metrics: Registry::new(1),
            running: None,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            origin: Origin::Endpoint {
                url: self.api.url.clone(),
                tls: None,
            },
            endpoints: true,
            pods: true,
            timing: Timing {
                pause: Duration::from_millis(5),
                longest_pause: Duration::from_millis(50),
                ..Timing::default()
            },
            ..Settings::default()
        }
    }

    fn start(&mut self) {
        self.start_with(self.settings());
    }

    fn start_with(&mut self, settings: Settings) {
        let sink: Arc<dyn Sink> = self.sink.clone();
        let runtime = tokio::runtime::Handle::current();
        self.running = Some(start(&settings, sink, &runtime, &self.metrics).unwrap());
    }

    /// A sample of the metrics.
    fn metric(&self, sample: &str) -> Option<String> {
        let text = exposition(&self.metrics, Format::Classic);
        let line = text.lines().find(|line| line.starts_with(sample))?;
        line.rsplit(' ').next().map(str::to_owned)
    }

    async fn has(&self, names: &[&str]) {
        let what = format!("services {names:?}");
        self.sink
            .until(&what, |state| state.names(Kind::Service) == names)
            .await;
    }
}

fn namespace(name: &str) -> Value {
    json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}})
}

fn service(name: &str, ip: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "type": "ClusterIP",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}]},
        "status": {"loadBalancer": {}},
    })
}

fn pod(name: &str, phase: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"},
        "status": {"phase": phase, "podIP": "10.1.0.7"},
    })
}

fn slice(name: &str, service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "default",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": null,
    })
}

fn some_objects() -> Vec<Value> {
    vec![
        namespace("default"),
        service("web", "10.0.0.1"),
        slice("web-1", "web", &["10.1.0.1", "10.1.0.2"]),
        pod("p", "Running"),
        pod("done", "Succeeded"),
    ]
}

fn cluster_ip(object: Option<&Object>) -> Option<String> {
    match object? {
        Object::Service(service) => Some(service.cluster_ips.first()?.to_string()),
        _ => None,
    }
}

/// KW-3.
#[tokio::test]
async fn streaming_list_then_watch() {
    let mut lab = Lab::new().await;
    lab.api.apply(some_objects());
    lab.start();
    lab.sink.synced(&ALL).await;
    assert_eq!(lab.api.asked("limit="), 0);
    assert_eq!(lab.api.asked("sendInitialEvents=true"), 4);
    everything_arrives(&lab).await;
    // The stream of the list was the watch as well.
    assert_eq!(lab.api.requests().len(), 4);
    assert_eq!(lab.sink.state().lists, 4);
}

#[tokio::test]
async fn paged_list_where_streaming_is_refused() {
    let mut lab = Lab::new().await;
    lab.api.faults().no_watch_list = true;
    lab.api.apply(some_objects());
    lab.start();
    lab.sink.synced(&ALL).await;
    assert_eq!(lab.api.asked("limit=500"), 4);
    everything_arrives(&lab).await;
    assert_eq!(lab.sink.state().lists, 4);
}

async fn everything_arrives(lab: &Lab) {
    {
        let state = lab.sink.state();
        assert_eq!(state.names(Kind::Namespace), ["default"]);
        assert_eq!(state.names(Kind::EndpointSlice), ["web-1"]);
        assert_eq!(state.names(Kind::Pod), ["p"]);
    }
    lab.api.apply([service("db", "10.0.0.2")]);
    lab.has(&["db", "web"]).await;
    lab.api.apply([service("web", "10.0.0.9")]);
    let moved = |state: &crate::support::sink::State| {
        cluster_ip(state.get(Kind::Service, "default", "web")).as_deref() == Some("10.0.0.9")
    };
    lab.sink.until("another address", moved).await;
    lab.api.delete("services", "default", "db");
    lab.has(&["web"]).await;
    // A pod that is over leaves the selection, which is a deletion.
    lab.api.apply([pod("p", "Succeeded")]);
    lab.sink
        .until("no pod", |state| state.names(Kind::Pod).is_empty())
        .await;
    lab.api.apply([namespace("prod")]);
    lab.sink
        .until("a namespace", |state| {
            state.get(Kind::Namespace, "", "prod").is_some()
        })
        .await;
}

#[tokio::test]
async fn pages_of_a_long_list() {
    let mut lab = Lab::new().await;
    lab.api.faults().no_watch_list = true;
    lab.api
        .apply((0..1203).map(|n| service(&format!("s{n}"), "10.0.0.1")));
    lab.start();
    lab.sink.synced(&ALL).await;
    assert_eq!(lab.sink.state().names(Kind::Service).len(), 1203);
    assert_eq!(lab.api.asked("/services?limit=500"), 3);
    assert_eq!(lab.api.asked("continue="), 2);
}

#[tokio::test]
async fn expired_token_begins_the_list_again() {
    let mut lab = Lab::new().await;
    {
        let mut faults = lab.api.faults();
        faults.no_watch_list = true;
        faults.expired_tokens = 2;
    }
    lab.api
        .apply((0..700).map(|n| service(&format!("s{n}"), "10.0.0.1")));
    lab.start();
    lab.sink.synced(&ALL).await;
    assert_eq!(lab.sink.state().names(Kind::Service).len(), 700);
    assert_eq!(lab.api.asked("/services?limit=500"), 6);
}

#[tokio::test]
async fn streaming_list_that_never_completes_falls_back_to_pages() {
    let mut lab = Lab::new().await;
    lab.api.faults().cut_watch_list = Some(2);
    lab.api
        .apply((0..9).map(|n| service(&format!("s{n}"), "10.0.0.1")));
    lab.start();
    lab.sink.synced(&ALL).await;
    assert_eq!(lab.sink.state().names(Kind::Service).len(), 9);
    let requests = lab.api.requests();
    let streams = requests.iter().filter(|r| r.contains("/services?watch"));
    let lists = streams.filter(|r| r.contains("sendInitialEvents"));
    assert_eq!(lists.count(), 3);
    assert_eq!(lab.api.asked("/services?limit=500"), 1);
}

#[tokio::test]
async fn cut_stream_goes_on_from_its_version() {
    let mut lab = Lab::new().await;
    lab.api.apply(some_objects());
    lab.start();
    lab.sink.synced(&ALL).await;
    for round in 0..3 {
        lab.api.faults().all = Some(503);
        lab.api.cut();
        lab.api.apply([service(&format!("new{round}"), "10.0.0.2")]);
        lab.api.faults().all = None;
        let name = format!("new{round}");
        lab.sink
            .until(&name, |state| {
                state.get(Kind::Service, "default", &name).is_some()
            })
            .await;
    }
    lab.api.delete("services", "default", "new1");
    lab.has(&["new0", "new2", "web"]).await;
    assert_eq!(lab.sink.state().lists, 4, "cuts make no list necessary");
    assert_eq!(
        lab.sink.state().deleted,
        [(Kind::Service, key("default", "new1"))]
    );
}

/// Version gone while the server was away: what vanished meanwhile goes with the new list, and
/// nothing before.
async fn gone(in_stream: bool, paged: bool) {
    let mut lab = Lab::new().await;
    {
        let mut faults = lab.api.faults();
        faults.gone_in_stream = in_stream;
        faults.no_watch_list = paged;
    }
    lab.api.apply(some_objects());
    lab.api.apply([service("old", "10.0.0.3")]);
    lab.start();
    lab.sink.synced(&ALL).await;
    lab.has(&["old", "web"]).await;

    lab.api.faults().all = Some(503);
    let before = lab.api.asked("/services?");
    lab.api.cut();
    lab.api.delete("services", "default", "old");
    lab.api.apply([service("new", "10.0.0.4")]);
    lab.api.compact();
    // Two attempts fail.
    while lab.api.asked("/services?") < before + 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(lab.sink.state().names(Kind::Service), ["old", "web"]);
    assert_eq!(lab.sink.state().deleted, []);

    lab.api.faults().all = None;
    lab.has(&["new", "web"]).await;
    assert_eq!(
        lab.sink.state().deleted,
        [(Kind::Service, key("default", "old"))]
    );
    let relists = lab.metric("portolan_kubernetes_relists_total{resource=\"services\"}");
    assert_eq!(relists.as_deref(), Some("1"));
}

/// KW-4: a version that is gone is listed again.
#[tokio::test]
async fn gone_as_status_lists_again() {
    gone(false, false).await;
}

#[tokio::test]
async fn gone_as_event_lists_again() {
    gone(true, false).await;
}

#[tokio::test]
async fn gone_lists_again_in_pages() {
    gone(true, true).await;
}

#[tokio::test]
async fn server_errors_are_waited_out() {
    let mut lab = Lab::new().await;
    lab.api.apply(some_objects());
    lab.api.faults().all = Some(500);
    lab.start();
    while lab.api.requests().len() < 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(lab.sink.state().synced.is_empty());
    assert_eq!(lab.sink.state().lists, 0);
    lab.api.faults().all = None;
    lab.sink.synced(&ALL).await;
    lab.has(&["web"]).await;
    let host = lab.api.url.strip_prefix("http://").unwrap();
    let errors = format!(
        "coredns_kubernetes_rest_client_requests_total{{code=\"500\",method=\"GET\",host=\"{host}\"}}"
    );
    let errors: u32 = lab.metric(&errors).unwrap().parse().unwrap();
    assert!(errors >= 20, "{errors}");
}

#[tokio::test]
async fn bad_objects_are_left_out() {
    for paged in [false, true] {
        let mut lab = Lab::new().await;
        lab.api.faults().no_watch_list = paged;
        let mut bad = service("bad", "10.0.0.5");
        bad["spec"]["ports"] = "eighty".into();
        lab.api.apply([bad.clone(), service("good", "10.0.0.6")]);
        lab.start();
        lab.sink.synced(&ALL).await;
        lab.has(&["good"]).await;
        lab.api.apply([bad]);
        lab.api
            .raw_event("services", "{\"type\":\"ADDED\",\"object\":{\"metadata\":");
        lab.api.raw_event("services", "not JSON at all");
        lab.api.apply([service("later", "10.0.0.7")]);
        lab.has(&["good", "later"]).await;
        let count = lab.metric("portolan_kubernetes_quarantined_objects_total{kind=\"Service\"}");
        assert_eq!(count.as_deref(), Some("4"));
        assert_eq!(lab.sink.state().lists, 4);
    }
}

#[tokio::test]
async fn bookmarks_move_the_version_on() {
    let mut lab = Lab::new().await;
    lab.api.apply(some_objects());
    lab.start();
    lab.sink.synced(&ALL).await;
    let resources = ["namespaces", "services", "endpointslices", "pods"];
    let versions = resources.map(|resource| lab.api.bookmark(resource));
    for resource in resources {
        lab.api.raw_event(resource, "not JSON");
    }
    // Once the broken event is counted, the bookmark before it was read.
    for kind in ALL {
        let name = format!("portolan_kubernetes_quarantined_objects_total{{kind=\"{kind:?}\"}}");
        while lab.metric(&name).as_deref() != Some("1") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    lab.api.compact_to(versions[0]);
    lab.api.cut();
    lab.api.apply([
        namespace("x"),
        service("x", "10.0.0.8"),
        slice("x", "x", &["10.1.0.1"]),
        pod("x", "Running"),
    ]);
    let all = |state: &crate::support::sink::State| {
        ALL.iter().all(|&kind| state.names(kind).contains(&"x"))
    };
    lab.sink.until("one of each", all).await;
    assert_eq!(lab.sink.state().lists, 4, "no version was too old");
}

#[tokio::test]
async fn event_older_than_the_one_before_is_no_news_but_a_reason_to_list() {
    let mut lab = Lab::new().await;
    lab.api.apply(some_objects());
    lab.start();
    lab.sink.synced(&ALL).await;
    let old = lab.api.objects("services").remove(0);
    lab.api.apply([service("web", "10.0.0.9")]);
    let address = |state: &crate::support::sink::State| {
        cluster_ip(state.get(Kind::Service, "default", "web"))
    };
    lab.sink
        .until("the new address", |state| {
            address(state).as_deref() == Some("10.0.0.9")
        })
        .await;
    lab.api.event("services", "MODIFIED", old);
    lab.sink
        .until("a list", |state| {
            assert_eq!(address(state).as_deref(), Some("10.0.0.9"));
            state.lists == 5
        })
        .await;
    lab.api.delete("services", "default", "web");
    lab.has(&[]).await;
}

#[tokio::test]
async fn silent_and_slow_streams() {
    let mut lab = Lab::new().await;
    lab.api.apply(some_objects());
    lab.api.faults().slow = Some(Duration::from_millis(2));
    let mut settings = lab.settings();
    settings.timing.silence = Duration::from_millis(200);
    lab.start_with(settings);
    lab.sink.synced(&ALL).await;
    lab.api.faults().mute = true;
    lab.api.apply([service("unheard", "10.0.0.2")]);
    let watches = || lab.api.asked("/services?watch=true");
    let before = watches();
    while watches() < before + 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(lab.sink.state().names(Kind::Service), ["web"]);
    lab.api.faults().mute = false;
    lab.has(&["unheard", "web"]).await;
    assert_eq!(
        lab.sink.state().deleted,
        [],
        "silence says of nothing that it is gone"
    );
}

#[tokio::test]
async fn label_selectors_are_the_servers() {
    let mut lab = Lab::new().await;
    lab.api.apply(some_objects());
    lab.api.apply([service("db", "10.0.0.2")]);
    let mut settings = lab.settings();
    settings.labels = Selector::parse("app in (db, cache)").unwrap();
    settings.namespace_labels = Selector::parse("team=a").unwrap();
    settings.pods = false;
    lab.start_with(settings);
    lab.sink
        .synced(&[Kind::Namespace, Kind::Service, Kind::EndpointSlice])
        .await;
    let state = lab.sink.state();
    assert_eq!(state.names(Kind::Service), ["db"]);
    assert!(state.names(Kind::Namespace).is_empty());
    assert_eq!(lab.api.asked("/pods"), 0);
}

#[tokio::test]
async fn stopping_ends_all_requests() {
    let mut lab = Lab::new().await;
    lab.api.faults().all = Some(500);
    lab.start();
    while lab.api.requests().len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(lab.running.take());
    // One task a kind may have a request on its way.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let after = lab.api.requests().len();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(lab.api.requests().len(), after);
    assert_eq!(lab.metric("portolan_kubernetes_watch_age_seconds"), None);
}

#[tokio::test]
async fn setup_errors_are_clear() {
    let lab = Lab::new().await;
    let refused = |origin: Origin| {
        let settings = Settings {
            origin,
            ..Settings::default()
        };
        let sink: Arc<dyn Sink> = lab.sink.clone();
        let runtime = tokio::runtime::Handle::current();
        start(&settings, sink, &runtime, &lab.metrics)
            .unwrap_err()
            .to_string()
    };
    let text = refused(Origin::Kubeconfig {
        file: "/nonexistent/config".into(),
        context: None,
    });
    assert!(
        text.starts_with("kubeconfig /nonexistent/config: "),
        "{text}"
    );
    let text = refused(Origin::Endpoint {
        url: "ftp://x".into(),
        tls: None,
    });
    assert_eq!(text, "endpoint \"ftp://x\": not an http or https URL");
    let text = refused(Origin::Manifests(vec!["/nonexistent".into()]));
    assert!(text.starts_with("/nonexistent: "), "{text}");
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
        let text = refused(Origin::InCluster);
        assert!(
            text.starts_with("no Kubernetes service account here"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn kubeconfig_names_the_server() {
    let mut lab = Lab::new().await;
    lab.api.apply(some_objects());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: other\n\
         clusters: [{{name: c, cluster: {{server: '{}'}}}}]\n\
         users: [{{name: u, user: {{token: secret}}}}]\n\
         contexts: [{{name: this, context: {{cluster: c, user: u}}}}]\n",
        lab.api.url
    );
    std::fs::write(&file, text).unwrap();
    let mut settings = lab.settings();
    settings.origin = Origin::Kubeconfig {
        file,
        context: Some("this".into()),
    };
    lab.start_with(settings);
    lab.sink.synced(&ALL).await;
    lab.has(&["web"]).await;
}

#[tokio::test]
async fn manifests_are_picked_up_live() {
    let mut lab = Lab::new().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, objects: &[Value]| {
        let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
        std::fs::write(folder.path().join(name), texts.join("\n---\n")).unwrap();
    };
    write("a.yaml", &[service("web", "10.0.0.1"), pod("p", "Running")]);
    let mut settings = lab.settings();
    settings.origin = Origin::Manifests(vec![folder.path().to_owned()]);
    lab.start_with(settings);
    lab.sink.synced(&ALL).await;
    lab.has(&["web"]).await;
    assert_eq!(lab.sink.state().names(Kind::Namespace), ["default"]);

    write("b.yaml", &[service("db", "10.0.0.2")]);
    lab.has(&["db", "web"]).await;
    std::fs::create_dir(folder.path().join("more")).unwrap();
    write("more/c.yaml", &[service("cache", "10.0.0.3")]);
    lab.has(&["cache", "db", "web"]).await;
    std::fs::remove_file(folder.path().join("b.yaml")).unwrap();
    lab.has(&["cache", "web"]).await;
    assert_eq!(
        lab.sink.state().deleted,
        [(Kind::Service, key("default", "db"))]
    );

    // As a ConfigMap is mounted and updated: the file is a link through a folder that is swapped.
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("..1")).unwrap();
    write("..1/d.yaml", &[service("one", "10.0.0.4")]);
    std::os::unix::fs::symlink("..1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/d.yaml", at("d.yaml")).unwrap();
    lab.has(&["cache", "one", "web"]).await;
    std::fs::create_dir(at("..2")).unwrap();
    write("..2/d.yaml", &[service("two", "10.0.0.4")]);
    std::os::unix::fs::symlink("..2", at("..new")).unwrap();
    std::fs::rename(at("..new"), at("..data")).unwrap();
    lab.has(&["cache", "two", "web"]).await;
}

/// A server whose versions are always too old is not listed without a pause.
#[tokio::test]
async fn versions_that_are_always_gone_do_not_keep_the_server_busy() {
    let mut lab = Lab::new().await;
    lab.api.faults().no_watch_list = true;
    lab.api.script(vec![Strike {
        at: At::Watch,
        resource: None,
        fault: Fault::Status(410, None),
        times: usize::MAX,
    }]);
    lab.api.apply(some_objects());
    lab.start();
    lab.sink.synced(&ALL).await;
    let begun = std::time::Instant::now();
    let before = lab.api.asked("/services?limit=");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lists = lab.api.asked("/services?limit=") - before;
    // After the first ones a pause of the longest length lies before each.
    let pauses = begun.elapsed().as_millis() / 50;
    assert!(
        lists as u128 <= pauses + 8,
        "{lists} lists, {pauses} pauses"
    );
}
