//! The fake server's protobuf says what its JSON says, and what the real server's says.

use super::objects;
use crate::support::kube::protobuf;
use portolan::plugins::kubernetes::object::{Key, Kind, Object};
use portolan::plugins::kubernetes::source::decode::{self, Format};
use serde_json::{Value, json};
use std::path::Path;

type Items = Vec<(Key, String, Result<Object, ()>)>;

fn decoded(format: Format, kind: Kind, body: &[u8]) -> Items {
    let mut items = Items::new();
    decode::list(format, kind, body, &mut |item| {
        let version = item.version.into_owned();
        items.push((item.key, version, item.object.map_err(drop)));
    })
    .unwrap();
    items
}

/// These objects in both formats.
fn both(kind: Kind, objects: &[Value]) -> [Items; 2] {
    let name = format!("{kind:?}");
    let list = protobuf::list(&name, 7, "", objects);
    let list = protobuf::envelope("v1", &format!("{name}List"), &list);
    let json = json!({"metadata": {}, "items": objects}).to_string();
    [
        decoded(Format::Protobuf, kind, &list),
        decoded(Format::Json, kind, json.as_bytes()),
    ]
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Namespace, "namespaces"),
    (Kind::Service, "services"),
    (Kind::EndpointSlice, "endpointslices"),
    (Kind::Pod, "pods"),
];

#[test]
fn captured_objects_written_again_say_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kube");
    for (kind, resource) in KINDS {
        let read =
            |ending| std::fs::read(folder.join(format!("{resource}-list.{ending}"))).unwrap();
        let list: Value = serde_json::from_slice(&read("json")).unwrap();
        let [ours, json] = both(kind, list["items"].as_array().unwrap());
        assert!(!ours.is_empty());
        assert_eq!(ours, json);
        assert_eq!(
            ours,
            decoded(Format::Protobuf, kind, &read("pb")),
            "{kind:?}"
        );
    }
}

#[test]
fn odd_objects_say_the_same_in_both_formats() {
    for (kind, _) in KINDS {
        let is = |object: &Value| object["kind"] == format!("{kind:?}");
        let odd: Vec<_> = objects::odd().into_iter().filter(is).collect();
        let [ours, json] = both(kind, &odd);
        assert_eq!(ours, json);
        assert!(ours.iter().all(|(_, _, object)| object.is_ok()), "{ours:?}");
        let unreadable: Vec<_> = objects::unreadable().into_iter().filter(is).collect();
        for items in both(kind, &unreadable) {
            let all_bad = items.iter().all(|(_, _, object)| object.is_err());
            assert!(all_bad, "{items:?}");
        }
    }
}
