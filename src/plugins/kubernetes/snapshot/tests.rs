#![allow(clippy::unwrap_used)]

use super::super::index::{Index, Naming};
use super::super::object::{Endpoint, EndpointSlice, Key, Kind, Object, Pod, Port, Service, Sink};
use super::super::source::selector::Selector;
use super::super::source::{Origin, Settings};
use super::codec::{self, KINDS};
use super::file::{self, Pending};
use super::format::{self, Head, Refused, Summary, Writer};
use super::{Options, Snapshot, identity, restore};
use crate::limits::SNAPSHOT_RECORD_BYTES;
use crate::metrics::Registry;
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const ALL: [Kind; 4] = [
    Kind::Namespace,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

fn head() -> Head {
    Head {
        written: 1_800_000_000,
        settings: "a test".into(),
    }
}

/// A file of these objects, in the order of the kinds.
fn written(objects: &[(Key, Object)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, &head()).unwrap();
    for (kind, mark) in KINDS {
        let of_kind = objects.iter().filter(|(_, object)| object.kind() == kind);
        let each = |put: &mut dyn FnMut(Key, Object)| {
            of_kind.for_each(|(key, object)| put(key.clone(), object.clone()));
        };
        writer.section(mark, each).unwrap();
    }
    let (count, left_out) = (objects.len() as u64, 0);
    assert_eq!(writer.finish().unwrap(), Summary { count, left_out });
    out
}

fn reread(file: &[u8]) -> Result<(Head, Vec<(Key, Object)>), Refused> {
    let mut objects = Vec::new();
    let head = format::read(file, &mut |key, object| objects.push((key, object)))?;
    Ok((head, objects))
}

fn key(namespace: &str, name: &str) -> Key {
    Key {
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn service(ip: &str) -> Object {
    Object::Service(Service {
        cluster_ips: vec![ip.parse().unwrap()],
        ports: vec![Port {
            name: "http".into(),
            protocol: "tcp".into(),
            port: 80,
        }],
        ..Service::default()
    })
}

/// An object of each kind with everything in it.
fn few() -> Vec<(Key, Object)> {
    let slice = EndpointSlice {
        service: "web".into(),
        endpoints: vec![Endpoint {
            ip: "2001:db8::7".parse().unwrap(),
            hostname: Some("web-0".into()),
            target: None,
            zone: Some("".into()),
        }],
        ports: vec![Port::default()],
        cluster: Some("north".into()),
        triggered: Some(0),
    };
    let pod = Pod {
        ip: Some("10.244.1.2".parse().unwrap()),
        deleted: false,
        ..Pod::default()
    };
    vec![
        (key("", "default"), Object::Namespace),
        (key("default", "web"), service("10.96.0.1")),
        (key("default", "web-x1"), Object::EndpointSlice(slice)),
        (key("default", "web-0"), Object::Pod(pod)),
    ]
}

fn name() -> impl Strategy<Value = Box<str>> {
    ".{0,40}".prop_map(Box::from)
}

fn port() -> impl Strategy<Value = Port> {
    (name(), name(), any::<u16>()).prop_map(|(name, protocol, port)| Port {
        name,
        protocol,
        port,
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let text = || prop::option::of(name());
    (any::<IpAddr>(), text(), text(), text()).prop_map(|(ip, hostname, target, zone)| Endpoint {
        ip,
        hostname,
        target,
        zone,
    })
}

fn object() -> impl Strategy<Value = Object> {
    let service = (
        prop::collection::vec(any::<IpAddr>(), 0..3),
        any::<bool>(),
        prop::option::of(name()),
        prop::collection::vec(name(), 0..3),
        prop::collection::vec(port(), 0..4),
    );
    let service = service.prop_map(
        |(cluster_ips, headless, external_name, external_ips, ports)| {
            Object::Service(Service {
                cluster_ips,
                headless,
                external_name,
                external_ips,
                ports,
            })
        },
    );
    let slice = (
        name(),
        prop::collection::vec(endpoint(), 0..9),
        prop::collection::vec(port(), 0..4),
        prop::option::of(name()),
        prop::option::of(0..u64::MAX),
    );
    let slice = slice.prop_map(|(service, endpoints, ports, cluster, triggered)| {
        Object::EndpointSlice(EndpointSlice {
            service: service.into(),
            endpoints,
            ports,
            cluster,
            triggered,
        })
    });
    let pod = (prop::option::of(any::<IpAddr>()), any::<bool>());
    let pod = pod.prop_map(|(ip, deleted)| {
        Object::Pod(Pod {
            ip,
            deleted,
            host_network: deleted,
            ..Pod::default()
        })
    });
    prop_oneof![Just(Object::Namespace), service, slice, pod]
}

proptest! {
    #[test]
    fn objects_come_back_as_they_were(
        mut objects in prop::collection::vec(((name(), name()), object()), 0..40)
            .prop_map(|all| -> Vec<_> {
                let pair = |((namespace, name), object): ((Box<str>, Box<str>), Object)| {
                    (key(&namespace, &name), object)
                };
                all.into_iter().map(pair).collect()
            }),
    ) {
        let file = written(&objects);
        let (found, back) = reread(&file).unwrap();
        prop_assert_eq!(found, head());
        objects.sort_by_key(|(_, object)| object.kind());
        prop_assert_eq!(back, objects);
    }

    #[test]
    fn no_record_makes_the_decoder_panic(
        kind in prop::sample::select(&ALL[..]),
        record in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Some((key, object)) = codec::decode(kind, &record) {
            let mut again = Vec::new();
            codec::encode(&key, &object, &mut again);
            prop_assert_eq!(codec::decode(kind, &again), Some((key, object)));
        }
    }
}

#[test]
fn a_disk_that_is_full_is_an_error() {
    let objects = few();
    let size = written(&objects).len();
    for room in 0..size {
        let mut disk = vec![0; room];
        let mut write = || {
            let mut writer = Writer::new(&mut disk[..], &head())?;
            for (at, (_, mark)) in KINDS.into_iter().enumerate() {
                let (key, object) = objects[at].clone();
                writer.section(mark, |put| put(key, object))?;
            }
            writer.finish()
        };
        assert!(write().is_err(), "{room} of {size}");
    }
}

/// Whoever changes what is written has to count the version up.
#[test]
fn version_1_stays_as_it_is() {
    let file = written(&few());
    let digest = ring::digest::digest(&ring::digest::SHA256, &file);
    let hex: String = digest.as_ref().iter().map(|o| format!("{o:02x}")).collect();
    assert_eq!(format::VERSION, 1);
    assert_eq!(file.len(), 193);
    assert_eq!(
        hex,
        "5dc293de8a92758aac6499cf907e6cdf70f5bda8e7fffbb518b7181b5c7453c9"
    );
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let file = written(&few());
    for len in 0..file.len() {
        let error = reread(&file[..len]).unwrap_err();
        assert!(matches!(error, Refused::Truncated), "{len}: {error}");
    }
    let error = reread(&[&file[..], b"\0"].concat()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it is damaged: something stands behind its end"
    );
}

#[test]
fn a_changed_octet_is_refused_wherever_it_is() {
    let file = written(&few());
    for at in 0..file.len() {
        for change in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut file = file.clone();
            file[at] ^= change;
            let error = reread(&file).unwrap_err();
            let expected = match at {
                0..8 => matches!(error, Refused::Magic),
                8..12 => matches!(error, Refused::Version(_)),
                _ => matches!(error, Refused::Damaged(_) | Refused::Truncated),
            };
            assert!(expected, "{at} {change:#x}: {error}");
        }
    }
}

#[test]
fn lengths_that_lie_take_no_memory() {
    let start = written(&[]);
    // Up to the settings' end; then a namespace of a length that is none.
    let start = &start[..8 + 4 + 5 + 1 + "a test".len()];
    for (len, wanted) in [
        (u64::MAX >> 1, "it is damaged: a length that is too large"),
        (SNAPSHOT_RECORD_BYTES as u64, "it is truncated"),
    ] {
        let mut file = start.to_vec();
        file.push(1);
        codec::number(len, &mut file);
        file.push(b'x');
        assert_eq!(reread(&file).unwrap_err().to_string(), wanted);
    }
    // A list that says it is longer than its record.
    let mut record = vec![0, 1, b'a', 0];
    codec::number(u64::MAX, &mut record);
    assert_eq!(codec::decode(Kind::Service, &record), None);
}

#[test]
fn an_object_too_large_is_left_out() {
    let huge = "x".repeat(SNAPSHOT_RECORD_BYTES);
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &head()).unwrap();
    let names = [&*huge, "default"];
    let each = |put: &mut dyn FnMut(Key, Object)| {
        let _ = names.map(|name| put(key("", name), Object::Namespace));
    };
    writer.section(1, each).unwrap();
    let (count, left_out) = (1, 1);
    assert_eq!(writer.finish().unwrap(), Summary { count, left_out });
    let namespace = (key("", "default"), Object::Namespace);
    assert_eq!(reread(&file).unwrap().1, [namespace]);
}

struct Lab {
    folder: tempfile::TempDir,
    index: Arc<Index>,
    metrics: Registry,
}

impl Lab {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            index: Arc::new(Index::new(&ALL, Naming::default())),
            metrics: Registry::new(1),
        }
    }

    fn options(&self) -> Options {
        Options {
            path: self.folder.path().join("snapshot"),
            interval: Duration::from_secs(10),
            ready: false,
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let snapshot = Snapshot::new(&self.options(), &settings("a"), &self.index, &self.metrics);
        snapshot.users.store(1, Relaxed);
        Arc::new(snapshot)
    }

    fn sync(&self) {
        for (key, object) in few() {
            self.index.set(key, object);
        }
        for kind in ALL {
            self.index.list_end(kind);
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// What a start with these settings says of the file.
    fn refused(&self, settings: &Settings) -> String {
        let index = Index::new(&ALL, Naming::default());
        let is = identity::describe(settings);
        let read = restore::read(&self.options().path, &is, &ALL, &index);
        assert!(ALL.iter().all(|&kind| index.count(kind) == 0));
        read.unwrap_err().to_string()
    }
}

fn settings(label: &str) -> Settings {
    Settings {
        origin: Origin::Endpoint {
            url: "http://127.0.0.1:1".into(),
            tls: None,
        },
        endpoints: true,
        pods: true,
        labels: Selector::parse(label).unwrap(),
        ..Settings::default()
    }
}

fn exported(index: &Index) -> Vec<(Key, Object)> {
    let mut all = Vec::new();
    for kind in ALL {
        index.export(kind, &mut |key, object| all.push((key, object)));
    }
    all
}

#[test]
fn what_was_written_is_restored_and_not_synced() {
    let lab = Lab::new();
    lab.sync();
    lab.snapshot().save_here();
    let mode = fs::metadata(lab.options().path).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    let index = Arc::new(Index::new(&ALL, Naming::default()));
    let read = || restore(&lab.options(), &settings("a"), &index, &lab.metrics);
    assert!(read().unwrap().age() < Duration::from_secs(60));
    assert!(!index.is_synced());
    let mut wanted = exported(&lab.index);
    for (_, object) in &mut wanted {
        if let Object::EndpointSlice(slice) = object {
            slice.triggered = None;
        }
    }
    assert_eq!(wanted.len(), 4);
    assert_eq!(exported(&index), wanted);

    // The first lists are a difference.
    for kind in ALL {
        index.list_start(kind);
    }
    index.set(key("", "default"), Object::Namespace);
    index.set(key("default", "new"), service("10.96.0.2"));
    for kind in ALL {
        index.list_end(kind);
    }
    assert!(index.is_synced());
    let now = exported(&index);
    let wanted = [
        (key("", "default"), Object::Namespace),
        (key("default", "new"), service("10.96.0.2")),
    ];
    assert_eq!(now, wanted);
}

#[test]
fn only_the_kinds_that_are_watched_are_restored() {
    let lab = Lab::new();
    lab.sync();
    lab.snapshot().save_here();
    let fewer = Settings {
        pods: false,
        ..settings("a")
    };
    let index = Arc::new(Index::new(&fewer.kinds(), Naming::default()));
    let restored = restore(&lab.options(), &fewer, &index, &lab.metrics);
    assert!(restored.is_some());
    assert_eq!(ALL.map(|kind| index.count(kind)), [1, 1, 1, 0]);
}

#[test]
fn a_foreign_a_newer_or_a_broken_file_is_refused_with_the_reason() {
    let lab = Lab::new();
    lab.sync();
    lab.snapshot().save_here();
    let path = lab.options().path;
    let good = fs::read(&path).unwrap();
    assert_eq!(
        lab.refused(&settings("b")),
        "it is a snapshot of something else: of the API server http://127.0.0.1:1, labels \"a\"; \
         this is the API server http://127.0.0.1:1, labels \"b\""
    );
    for (at, octets, reason) in [
        (0, &b"PORTSHIP"[..], "it is no snapshot of this server"),
        (
            8,
            &[0, 0, 0, 2],
            "it is of format 2, and this version reads format 1",
        ),
        (
            good.len() - 1,
            &[!good[good.len() - 1]],
            "it is damaged: the checksum is wrong",
        ),
    ] {
        let mut bad = good.clone();
        bad[at..at + octets.len()].copy_from_slice(octets);
        fs::write(&path, bad).unwrap();
        assert_eq!(lab.refused(&settings("a")), reason);
    }
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert_eq!(lab.refused(&settings("a")), "it is truncated");
    let start = || restore(&lab.options(), &settings("a"), &lab.index, &lab.metrics);
    assert!(start().is_none());
    assert_eq!(failed(&lab), 1);
    fs::remove_file(&path).unwrap();
    assert!(start().is_none());
    assert_eq!(failed(&lab), 1, "no file is no failure");
    fs::create_dir(&path).unwrap();
    assert_eq!(
        lab.refused(&settings("a")),
        "it is no snapshot of this server"
    );
}

fn failed(lab: &Lab) -> u64 {
    lab.snapshot().failures.get()
}

#[test]
fn another_cluster_is_told_by_its_authority() {
    let inside = |pem: &[u8]| identity::in_cluster("10.96.0.1", "443", Some(pem));
    assert_eq!(inside(b"one"), inside(b"one"));
    assert_ne!(inside(b"one"), inside(b"two"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    fs::write(
        &file,
        "{apiVersion: v1, kind: Config, current-context: a, \
          contexts: [{name: a, context: {cluster: x}}, {name: b, context: {cluster: y}}], \
          clusters: [{name: x, cluster: {server: 'https://x'}}, {name: y, cluster: {server: 'https://y'}}]}",
    )
    .unwrap();
    let of = |context: Option<&str>| {
        identity::describe(&Settings {
            origin: Origin::Kubeconfig {
                file: file.clone(),
                context: context.map(str::to_owned),
            },
            ..Settings::default()
        })
    };
    assert_eq!(of(None), "the API server https://x");
    assert_eq!(of(Some("b")), "the API server https://y");
}

#[test]
fn a_crash_leaves_the_old_file() {
    let lab = Lab::new();
    let path = lab.options().path;
    let write = |text: &[u8]| {
        let mut pending = Pending::create(&path).unwrap();
        pending.file.write_all(text).unwrap();
        pending
    };
    write(b"old").commit().unwrap();
    // The process ends between write and rename: nothing is dropped.
    std::mem::forget(write(b"new"));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(lab.files().len(), 2);
    file::clean(&path, Duration::from_secs(3600));
    assert_eq!(lab.files().len(), 2, "somebody may be writing it");
    // What merely fails leaves nothing.
    drop(write(b"half"));
    assert_eq!(lab.files().len(), 2);
    file::clean(&path, Duration::ZERO);
    assert_eq!(lab.files(), [path.as_path()]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_folder_that_is_gone_is_a_failure_until_it_is_back() {
    let lab = Lab::new();
    lab.sync();
    let folder = lab.folder.path().join("deep");
    let options = Options {
        path: folder.join("snapshot"),
        ..lab.options()
    };
    let snapshot = Snapshot::new(&options, &settings("a"), &lab.index, &lab.metrics);
    snapshot.users.store(1, Relaxed);
    snapshot.save_here();
    snapshot.save_here();
    assert_eq!((snapshot.writes.get(), snapshot.failures.get()), (0, 2));
    fs::create_dir(&folder).unwrap();
    snapshot.save_here();
    assert_eq!((snapshot.writes.get(), snapshot.failures.get()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn it_is_written_once_in_an_interval_and_only_what_changed() {
    let lab = Lab::new();
    let snapshot = lab.snapshot();
    Arc::clone(&snapshot).start();
    // A second configuration with the same settings.
    Arc::clone(&snapshot).start();
    let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    wait(35).await;
    assert_eq!(snapshot.writes.get(), 0, "nothing was listed");
    lab.sync();
    wait(4).await;
    assert_eq!(snapshot.writes.get(), 0, "not before the interval is over");
    wait(2).await;
    assert_eq!(snapshot.writes.get(), 1);
    wait(60).await;
    assert_eq!(snapshot.writes.get(), 1, "nothing changed");
    for at in 0..1000 {
        lab.index
            .set(key("default", &format!("s{at}")), service("10.96.0.9"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let writes = snapshot.writes.get();
    assert!((10..=11).contains(&writes), "{writes}");
    wait(10).await;
    let last = snapshot.writes.get();
    let counted = restored_services(&lab.options().path);
    assert_eq!(counted, 1001);
    // At the end, once more if there is anything.
    snapshot.save().await;
    assert_eq!(snapshot.writes.get(), last);
    lab.index.delete(Kind::Service, &key("default", "s7"));
    snapshot.save().await;
    assert_eq!(snapshot.writes.get(), last + 1);
    assert_eq!(restored_services(&lab.options().path), 1000);
    // Nobody wants it any more: the task goes.
    drop(snapshot);
    lab.index.delete(Kind::Service, &key("default", "s8"));
    wait(60).await;
    assert_eq!(restored_services(&lab.options().path), 1000);
}

fn restored_services(path: &Path) -> usize {
    let (_, objects) = reread(&fs::read(path).unwrap()).unwrap();
    let services = objects
        .iter()
        .filter(|(_, object)| object.kind() == Kind::Service);
    services.count()
}

#[test]
fn options_in_a_corefile() {
    let read = |line: &str| {
        let text = format!(". {{\n kubernetes {{\n snapshot {line}\n }}\n}}\n");
        let corefile = crate::corefile::parse("Corefile", &text, &|_| None).unwrap();
        let line = corefile.blocks[0].directives[0].block[0].clone();
        Options::read(&line, Path::new("/etc")).map_err(|error| error.to_string())
    };
    let is = |path: &str, seconds, ready| {
        let interval = Duration::from_secs(seconds);
        let path = path.into();
        Ok(Options {
            path,
            interval,
            ready,
        })
    };
    assert_eq!(read("/var/s"), is("/var/s", 10, false));
    assert_eq!(read("s 1m"), is("/etc/s", 60, false));
    assert_eq!(read("s ready"), is("/etc/s", 10, true));
    assert_eq!(read("s 1s ready"), is("/etc/s", 1, true));
    for (line, error) in [
        ("", "Corefile:3 - "),
        ("s ready 10s", "Corefile:3 - "),
        ("s 10s unready", "Corefile:3 - "),
        ("s 10s ready now", "Corefile:3 - "),
        (
            "s 0.5s",
            "the interval of a snapshot must be 1s at least: 0.5s",
        ),
        ("s often", "time: invalid duration"),
        ("..", "a file is wanted"),
    ] {
        let told = read(line).unwrap_err();
        assert!(
            told.contains(error) && told.contains("Corefile:3"),
            "{line}: {told}"
        );
    }
}

/// What docs/operations.md says of the size, with names as they are in clusters.
#[test]
fn an_object_takes_as_much_as_the_documents_say() {
    const COUNT: usize = 1000;
    let size = |make: &dyn Fn(usize) -> (Key, Object)| {
        let objects: Vec<_> = (0..COUNT).map(make).collect();
        written(&objects).len() / COUNT
    };
    let ip = |at: usize| IpAddr::from([10, 244, (at >> 8) as u8, at as u8]);
    let pod = size(&|at| {
        let (ip, deleted) = (Some(ip(at)), false);
        let name = format!("10-244-{}-{}", at >> 8, at & 0xff);
        (
            key("production", &name),
            Object::Pod(Pod {
                ip,
                deleted,
                ..Pod::default()
            }),
        )
    });
    let service = size(&|at| {
        let name = format!("checkout-service-{at}");
        (key("production", &name), service("10.96.0.1"))
    });
    let slice = size(&|at| {
        let endpoint = |of: usize| Endpoint {
            ip: ip(at + of),
            hostname: None,
            target: Some(format!("checkout-service-{at}-7d4b9c6f5-x{of}abc").into()),
            zone: Some("eu-central-1a".into()),
        };
        let slice = EndpointSlice {
            service: format!("checkout-service-{at}").into(),
            endpoints: (0..100).map(endpoint).collect(),
            ..EndpointSlice::default()
        };
        let name = format!("checkout-service-{at}-x7k2p");
        (key("production", &name), Object::EndpointSlice(slice))
    });
    assert!(pod <= 50, "{pod}");
    assert!(service <= 100, "{service}");
    assert!(slice <= 100 * 60, "{slice}");
}
