//! The oracle: kube's own watcher, which keeps a copy of what the API server has.

use futures_util::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::config::{AuthInfo, Config};
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The token that the fake API server always accepts.
pub const TOKEN: &str = "the-oracle";

/// (resource, namespace, name) → (uid, resourceVersion).
pub type Identities = BTreeMap<(String, String, String), (String, String)>;

/// What kube's watcher knows.
pub struct Oracle {
    state: Arc<Mutex<Identities>>,
    _tasks: JoinSet<()>,
}

impl Oracle {
    /// Watches the same kinds as Portolan does, with lists in pages or as streams.
    pub fn start(url: &str, paged: bool) -> Self {
        let state = Arc::default();
        let mut tasks = JoinSet::new();
        let mut config = Config::new(url.parse().unwrap());
        config.default_retry = false;
        config.read_timeout = Some(Duration::from_secs(1));
        config.accept_invalid_certs = true;
        config.auth_info = AuthInfo {
            token: Some(TOKEN.to_owned().into()),
            ..AuthInfo::default()
        };
        let client = kube::Client::try_from(config).unwrap();
        for (group, version, kind) in [
            ("", "v1", "Namespace"),
            ("", "v1", "Service"),
            ("discovery.k8s.io", "v1", "EndpointSlice"),
            ("", "v1", "Pod"),
        ] {
            let resource = super::resource(kind);
            let kind = kube::core::GroupVersionKind::gvk(group, version, kind);
            let kind = ApiResource::from_gvk_with_plural(&kind, resource);
            let api = Api::<DynamicObject>::all_with(client.clone(), &kind);
            tasks.spawn(run(api, resource, paged, Arc::clone(&state)));
        }
        let _tasks = tasks;
        Self { state, _tasks }
    }

    pub fn state(&self) -> Identities {
        self.state.lock().unwrap().clone()
    }
}

async fn run(
    api: Api<DynamicObject>,
    resource: &'static str,
    paged: bool,
    state: Arc<Mutex<Identities>>,
) {
    let mut config = watcher::Config::default().page_size(500);
    config.initial_list_strategy = match paged {
        true => InitialListStrategy::ListWatch,
        false => InitialListStrategy::StreamingList,
    };
    if resource == "pods" {
        let over = ["Succeeded", "Failed", "Unknown"].map(|phase| format!("status.phase!={phase}"));
        config = config.fields(&over.join(","));
    }
    let mut events = Box::pin(watcher::watcher(api, config));
    let mut listed = Identities::new();
    while let Some(event) = events.next().await {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => drop(insert(&mut listed, resource, &object)),
            Ok(Event::InitDone) => {
                state.retain(|(of, ..), _| of != resource);
                state.append(&mut listed);
            }
            Ok(Event::Apply(object)) => drop(insert(&mut state, resource, &object)),
            Ok(Event::Delete(object)) => drop(state.remove(&key(resource, &object))),
            Err(_) => {
                drop(state);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn key(resource: &str, object: &DynamicObject) -> (String, String, String) {
    let meta = &object.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (resource.to_owned(), text(&meta.namespace), text(&meta.name))
}

fn insert(
    state: &mut Identities,
    resource: &str,
    object: &DynamicObject,
) -> Option<(String, String)> {
    let meta = object.metadata.clone();
    let (uid, version) = (
        meta.uid.unwrap_or_default(),
        meta.resource_version.unwrap_or_default(),
    );
    state.insert(key(resource, object), (uid, version))
}
