//! The objects as files, for servers that need no API server.

use super::shape::{Size, is_headless};
use serde_json::Value;
use std::io::Write;
use std::path::Path;

/// Objects of one file.
const PER_FILE: u32 = 1_000;

/// What the object of an index looks like.
type Shape<'s> = &'s dyn Fn(u32) -> Value;

/// Writes `namespaces-0.yaml`, `services-0.yaml`, … into a folder.
pub fn write(folder: &Path, size: &Size) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let kinds: [(&str, u32, Shape<'_>); 4] = [
        ("namespaces", size.namespaces, &|index| {
            size.namespace_object(index)
        }),
        ("services", size.services, &|index| service(size, index)),
        ("slices", size.slices, &|index| size.slice(index)),
        ("pods", size.pods, &|index| pod(size, index)),
    ];
    for (name, count, object) in kinds {
        for file in 0..count.div_ceil(PER_FILE) {
            let indices = file * PER_FILE..count.min((file + 1) * PER_FILE);
            let path = folder.join(format!("{name}-{file}.yaml"));
            write_file(&path, indices.map(object))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    eprintln!("{}: {}", folder.display(), size.summary());
    Ok(())
}

/// JSON is YAML: a document for each object.
fn write_file(path: &Path, objects: impl Iterator<Item = Value>) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for object in objects {
        writeln!(file, "---\n{object}")?;
    }
    file.flush()
}

/// With the address that the API server would have given, out of 10.96.0.0/12.
fn service(size: &Size, index: u32) -> Value {
    let mut service = size.service(index);
    if !is_headless(index) {
        let [_, high, middle, low] = (index + 2).to_be_bytes();
        let address = format!("10.{}.{middle}.{low}", 96 + high % 16);
        service["spec"]["clusterIP"] = address.clone().into();
        service["spec"]["clusterIPs"] = vec![address].into();
    }
    service
}

fn pod(size: &Size, index: u32) -> Value {
    let mut pod = size.pod(index);
    pod["status"] = size.pod_status(index)["status"].take();
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_documents_as_objects() {
        let folder = tempfile::tempdir().unwrap();
        let size = Size {
            prefix: "t".into(),
            services: 20,
            slices: 30,
            endpoints: 60,
            pods: 1_001,
            namespaces: 2,
        };
        write(folder.path(), &size).unwrap();
        let count = |file: &str| {
            let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
            let parts = text.split("---\n").skip(1);
            let objects = parts.map(|part| serde_json::from_str::<Value>(part).unwrap());
            objects.filter(|object| object["kind"].is_string()).count()
        };
        assert_eq!(count("services-0.yaml"), 20);
        assert_eq!(count("slices-0.yaml"), 30);
        assert_eq!((count("pods-0.yaml"), count("pods-1.yaml")), (1_000, 1));
    }
}
