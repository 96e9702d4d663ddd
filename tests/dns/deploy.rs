//! What is handed to a cluster: the manifests of `deploy/`, and the examples.

use crate::support::process::run;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, Namespace, Pod, PodSpec, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use portolan::plugins::{
    TABLE,
    kubernetes::object::{WATCHED, WATCHED_IMPORTS},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(!documents.is_empty(), "{}", path.display());
    documents
}

/// Every document of `examples/cluster/`.
fn examples() -> Vec<Value> {
    let mut paths: Vec<_> = fs::read_dir(root("examples/cluster"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 3, "{paths:?}");
    paths.iter().flat_map(|path| documents(path)).collect()
}

fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn title(document: &Value) -> String {
    let (kind, name) = (text(document, "/kind"), text(document, "/metadata/name"));
    format!("{kind} {name}")
}

fn typed<T: DeserializeOwned>(document: &Value) -> T {
    serde_json::from_value(document.clone())
        .unwrap_or_else(|error| panic!("{}: {error}", title(document)))
}

/// What of the document its type knows.
fn known<T: DeserializeOwned + Serialize>(document: &Value) -> Value {
    serde_json::to_value(typed::<T>(document)).unwrap()
}

/// Fails on fields that the document's type does not know, and on values that it reads otherwise.
fn assert_nothing_is_lost(document: &Value) {
    let known = match (text(document, "/apiVersion"), text(document, "/kind")) {
        ("apps/v1", "Deployment") => known::<Deployment>(document),
        ("discovery.k8s.io/v1", "EndpointSlice") => known::<EndpointSlice>(document),
        ("policy/v1", "PodDisruptionBudget") => known::<PodDisruptionBudget>(document),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => known::<ClusterRole>(document),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            known::<ClusterRoleBinding>(document)
        }
        ("v1", "ConfigMap") => known::<ConfigMap>(document),
        ("v1", "Namespace") => known::<Namespace>(document),
        ("v1", "Pod") => known::<Pod>(document),
        ("v1", "Service") => known::<Service>(document),
        ("v1", "ServiceAccount") => known::<ServiceAccount>(document),
        (version, kind) => panic!("{}: what is {kind} of {version}?", title(document)),
    };
    assert_eq!(&known, document, "{}", title(document));
}

fn deployed<T: DeserializeOwned>(kind: &str) -> T {
    let documents = documents(&root("deploy/coredns.yaml"));
    let mut of_kind = documents
        .iter()
        .filter(|document| text(document, "/kind") == kind);
    let found = of_kind.next().unwrap();
    assert!(of_kind.next().is_none(), "one {kind}");
    typed(found)
}

fn pod_spec() -> PodSpec {
    deployed::<Deployment>("Deployment")
        .spec
        .unwrap()
        .template
        .spec
        .unwrap()
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
}

#[test]
fn manifests_hold_nothing_that_kubernetes_does_not_know() {
    for document in documents(&root("deploy/coredns.yaml"))
        .iter()
        .chain(&examples())
    {
        assert_nothing_is_lost(document);
    }
}

#[test]
#[should_panic(expected = "ServiceAccount a")]
fn an_unknown_field_is_found() {
    let account = serde_json::json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "secret": []
    });
    assert_nothing_is_lost(&account);
}

#[test]
fn the_deployment_replaces_the_objects_of_kubeadm() {
    let documents = documents(&root("deploy/coredns.yaml"));
    let titles: Vec<_> = documents.iter().map(title).collect();
    let expected = [
        "ServiceAccount coredns",
        "ClusterRole system:coredns",
        "ClusterRoleBinding system:coredns",
        "ConfigMap coredns",
        "Deployment coredns",
        "PodDisruptionBudget coredns",
        "Service kube-dns",
    ];
    assert_eq!(titles, expected);
    for document in &documents {
        let cluster_wide = text(document, "/kind").starts_with("ClusterRole");
        let namespace = if cluster_wide { "" } else { "kube-system" };
        assert_eq!(
            text(document, "/metadata/namespace"),
            namespace,
            "{}",
            title(document)
        );
    }
    // A Deployment's selector cannot be changed: it must be the one that is there.
    let labels = BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]);
    let deployment = deployed::<Deployment>("Deployment").spec.unwrap();
    let budget = deployed::<PodDisruptionBudget>("PodDisruptionBudget")
        .spec
        .unwrap();
    let service = deployed::<Service>("Service").spec.unwrap();
    assert_eq!(deployment.selector.match_labels.as_ref(), Some(&labels));
    assert_eq!(
        deployment.template.metadata.unwrap().labels.as_ref(),
        Some(&labels)
    );
    assert_eq!(
        budget.selector.unwrap().match_labels.as_ref(),
        Some(&labels)
    );
    assert_eq!(service.selector.as_ref(), Some(&labels));
    assert_eq!(service.cluster_ip.as_deref(), Some("10.96.0.10"));
}

#[test]
fn every_container_has_requests_and_limits() {
    let spec = pod_spec();
    assert!(containers(&spec).count() > 0);
    for container in containers(&spec) {
        let resources = container.resources.clone().unwrap();
        for list in [resources.requests.unwrap(), resources.limits.unwrap()] {
            for resource in ["cpu", "memory"] {
                let quantity = list
                    .get(resource)
                    .map_or("", |quantity| quantity.0.as_str());
                assert!(
                    !matches!(quantity, "" | "0"),
                    "{} {resource}",
                    container.name
                );
            }
        }
    }
}

#[test]
fn containers_can_do_no_more_than_they_must() {
    let spec = pod_spec();
    assert_ne!(spec.host_network, Some(true));
    let pod = spec.security_context.clone().unwrap();
    assert_eq!(pod.run_as_non_root, Some(true));
    assert!(pod.run_as_user.is_some_and(|user| user > 0));
    assert_eq!(pod.seccomp_profile.unwrap().type_, "RuntimeDefault");
    for container in containers(&spec) {
        let context = container.security_context.clone().unwrap();
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        assert_ne!(context.privileged, Some(true));
        // What the pod says holds.
        assert_eq!((context.run_as_user, context.run_as_non_root), (None, None));
        assert_eq!(context.seccomp_profile, None);
        let capabilities = context.capabilities.unwrap();
        assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(capabilities.add, Some(vec!["NET_BIND_SERVICE".to_owned()]));
    }
}

/// Regression: a right too few leaves the server without answers, one too many is a gift to whoever
/// takes the pod over.
#[test]
fn the_role_grants_what_the_server_watches_and_nothing_more() {
    let role: ClusterRole = deployed("ClusterRole");
    assert!(role.aggregation_rule.is_none());
    let granted = granted(role.rules.unwrap());
    assert_eq!(granted, needed(WATCHED));
    let binding: ClusterRoleBinding = deployed("ClusterRoleBinding");
    let account: ServiceAccount = deployed("ServiceAccount");
    let subjects = binding.subjects.unwrap();
    assert_eq!(Some(&binding.role_ref.name), role.metadata.name.as_ref());
    assert_eq!(subjects.len(), 1);
    assert_eq!(Some(&subjects[0].name), account.metadata.name.as_ref());
    assert_eq!(pod_spec().service_account_name, account.metadata.name);
}

/// What the documentation of `multicluster` says to add to the role.
#[test]
fn the_rule_of_multicluster_grants_what_it_watches_and_nothing_more() {
    let text = fs::read_to_string(root("src/plugins/kubernetes/README.md")).unwrap();
    let (_, fence) = text.split_once("```yaml\n").unwrap();
    let (rules, _) = fence.split_once("```").unwrap();
    let rules: Vec<PolicyRule> = serde_saphyr::from_str(rules).unwrap();
    assert_eq!(granted(rules), needed(WATCHED_IMPORTS));
}

/// `VERB GROUP/RESOURCE` of what rules grant.
fn granted(rules: Vec<PolicyRule>) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for rule in rules {
        assert!(rule.non_resource_urls.is_none());
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    granted.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    granted
}

/// The same of what is listed and watched.
fn needed(watched: &[(&str, &str)]) -> BTreeSet<String> {
    let rights = watched.iter().flat_map(|(group, resource)| {
        ["list", "watch"].map(|verb| format!("{verb} {group}/{resource}"))
    });
    rights.collect()
}

/// The probes ask where the Corefile says that `health` and `ready` are, and the Service leads to
/// ports that the container has.
#[test]
fn probes_and_service_meet_the_server() {
    let spec = pod_spec();
    let container = &spec.containers[0];
    let ports = container.ports.as_ref().unwrap();
    let port = |probe: &k8s_openapi::api::core::v1::Probe| {
        use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
        let get = probe.http_get.clone().unwrap();
        let IntOrString::String(name) = get.port else {
            panic!("a port's name")
        };
        let port = ports
            .iter()
            .find(|port| port.name.as_deref() == Some(&name))
            .unwrap();
        (get.path.unwrap(), port.container_port)
    };
    let liveness = port(container.liveness_probe.as_ref().unwrap());
    let readiness = port(container.readiness_probe.as_ref().unwrap());
    assert_eq!(liveness, ("/health".to_owned(), 8080));
    assert_eq!(readiness, ("/ready".to_owned(), 8181));
    let corefile = corefile_of_config_map();
    for line in ["health {", "ready", "prometheus :9153"] {
        assert!(corefile.lines().any(|found| found.trim() == line), "{line}");
    }
    let open: BTreeSet<_> = ports
        .iter()
        .map(|port| (port.container_port, &port.protocol))
        .collect();
    let service = deployed::<Service>("Service").spec.unwrap();
    for port in service.ports.as_ref().unwrap() {
        assert!(
            open.contains(&(port.port, &port.protocol)),
            "{:?}",
            port.name
        );
    }
}

fn corefile_of_config_map() -> String {
    deployed::<ConfigMap>("ConfigMap")
        .data
        .unwrap()
        .remove("Corefile")
        .unwrap()
}

/// The names of the directives, block by block; the parser's errors fail the test.
fn directives(path: &Path) -> Vec<Vec<String>> {
    let corefile = portolan::corefile::load(path).unwrap_or_else(|error| panic!("{error}"));
    let names = |block: &portolan::corefile::ServerBlock| {
        block
            .directives
            .iter()
            .map(|directive| directive.name.text.clone())
            .collect()
    };
    corefile.blocks.iter().map(names).collect()
}

#[test]
fn corefiles_have_the_directives_of_kubeadm() {
    let folder = tempfile::tempdir().unwrap();
    let deployed = folder.path().join("Corefile");
    fs::write(&deployed, corefile_of_config_map()).unwrap();
    let kubeadm = "errors health ready kubernetes prometheus forward cache loop reload loadbalance";
    let kubeadm: Vec<_> = kubeadm.split(' ').map(str::to_owned).collect();
    assert_eq!(directives(&deployed), [kubeadm.as_slice()]);
    let mut example = directives(&root("Corefile.example"));
    assert_eq!(example[0].remove(0), "bind");
    assert_eq!(example, [kubeadm.as_slice()]);
    for name in &kubeadm {
        assert!(TABLE.iter().any(|entry| entry.name == name), "{name}");
    }
}

/// What `portolan -check` says about a Corefile, run in `/`; that it is wrong fails the test.
fn check(corefile: &Path) -> String {
    let binary = env!("CARGO_BIN_EXE_portolan");
    let command = format!("cd / && {binary} -check -conf {}", corefile.display());
    let checked = run(&["sh", "-c", &command]);
    let errors = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{errors}");
    String::from_utf8_lossy(&checked.stdout).into_owned()
}

#[test]
fn the_example_passes_the_check_from_any_directory() {
    assert!(check(&root("Corefile.example")).contains(".:1053 on 127.0.0.1"));
}

/// Checking needs no cluster around it, so that CI can do it.
#[test]
fn the_deployed_corefile_passes_the_check_outside_of_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let corefile = folder.path().join("Corefile");
    fs::write(&corefile, corefile_of_config_map()).unwrap();
    assert!(check(&corefile).contains(".:53"));
}

/// The example is a cluster that could be: what it refers to is there.
#[test]
fn the_example_cluster_is_whole() {
    let examples = examples();
    let of_kind = |kind: &'static str| {
        examples
            .iter()
            .filter(move |document| text(document, "/kind") == kind)
    };
    let name = |document: &Value| {
        let namespace = text(document, "/metadata/namespace");
        format!("{namespace}/{}", text(document, "/metadata/name"))
    };
    let namespaces: BTreeSet<_> = of_kind("Namespace")
        .map(|n| text(n, "/metadata/name"))
        .collect();
    let services: BTreeSet<_> = of_kind("Service").map(name).collect();
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for document in examples
        .iter()
        .filter(|document| text(document, "/kind") != "Namespace")
    {
        assert!(
            namespaces.contains(text(document, "/metadata/namespace")),
            "{}",
            title(document)
        );
        assert!(
            names.insert((text(document, "/kind"), name(document))),
            "{}",
            title(document)
        );
    }
    for service in of_kind("Service").map(typed::<Service>) {
        let spec = service.spec.unwrap();
        for address in spec.cluster_ips.unwrap_or_default() {
            assert!(
                address == "None" || addresses.insert(address.clone()),
                "{address} twice"
            );
        }
    }
    for pod in of_kind("Pod") {
        let address = text(pod, "/status/podIP");
        assert!(addresses.insert(address.to_owned()), "{address} twice");
    }
    for slice in of_kind("EndpointSlice") {
        let service = text(slice, "/metadata/labels/kubernetes.io~1service-name");
        let service = format!("{}/{service}", text(slice, "/metadata/namespace"));
        assert!(services.contains(&service), "{} of {service}", title(slice));
    }
}
