//! Clock steps: every wait follows the monotonic clock, and stands a jump of that as well.

use super::compare::index_and_server;
use super::world::World;
use crate::support::kube::{Api, Options};
use portolan::metrics::Registry;
use portolan::plugins::kubernetes::index::{Index, Naming};
use portolan::plugins::kubernetes::object::{Kind, Sink};
use portolan::plugins::kubernetes::source::{Origin, Settings, start};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A machine that slept: every wait is over at once. With the usual waits, nothing but that jump
/// makes the source come back.
#[tokio::test]
async fn jumps_of_the_clock_are_stood() {
    let api = Arc::new(Api::start_with(Options::default()).await);
    let mut world = World::new(Arc::clone(&api));
    let kinds = [
        Kind::Namespace,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Pod,
    ];
    let naming = Naming::default();
    let index = Arc::new(Index::new(&kinds, naming));
    let settings = Settings {
        origin: Origin::Endpoint {
            url: api.url.clone(),
            tls: None,
        },
        endpoints: true,
        pods: true,
        ..Settings::default()
    };
    let sink: Arc<dyn Sink> = index.clone();
    let runtime = tokio::runtime::Handle::current();
    let _running = start(&settings, sink, &runtime, &Registry::new(1)).unwrap();
    for step in [0, 1, 61, 3600, 30 * 24 * 3600] {
        settle(&index, &api).await;
        api.faults().mute = step > 0;
        world.changes(10);
        // Streams that were mute have to be begun anew, or were heard in time.
        tokio::time::sleep(Duration::from_millis(20)).await;
        api.faults().mute = false;
        let before = api.requests().len();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(step)).await;
        tokio::time::resume();
        if (1..=61).contains(&step) {
            // Not long enough to give the streams up.
            assert_eq!(api.requests().len(), before);
            api.cut();
        }
    }
    settle(&index, &api).await;
}

async fn settle(index: &Index, api: &Api) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while let Err(difference) = index_and_server(index, api) {
        assert!(std::time::Instant::now() < end, "{difference}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The wall clock may be set at any time: no wait and no expiry of the source hangs on it.
#[test]
fn the_source_never_asks_for_the_time_of_day() {
    fn look(folder: &Path, files: &mut usize) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, files);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            *files += 1;
            for clock in ["SystemTime::now", "Timestamp::now", "Utc::now"] {
                assert!(!text.contains(clock), "{}: {clock}", path.display());
            }
        }
    }
    let mut files = 0;
    let source = "src/plugins/kubernetes/source";
    look(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(source),
        &mut files,
    );
    assert!(files > 10);
}
