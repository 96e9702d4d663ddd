//! Decoding of `application/vnd.kubernetes.protobuf`.
//!
//! Every object comes in an envelope: the octets `k8s\0`, then a `runtime.Unknown` whose field 2 is
//! the object. The event of a watch frame is bare, its object has an envelope again. The field
//! numbers are those of the API's published `generated.proto` files.

use super::rules::{
    CLUSTER_LABEL, EndpointParts, IMPORT_LABEL, INITIAL_EVENTS_END, SERVICE_LABEL, ServiceParts,
    TRIGGER_TIME, pod, port, slice,
};
use super::wire::{Field, Fields};
use super::{Error, Event, Item, Meta, Page, Resource, Status, item};
use crate::plugins::kubernetes::object::{Object, Port};

const MAGIC: &[u8] = b"k8s\0";

pub(super) fn list(
    of: Resource,
    body: &[u8],
    each: &mut dyn FnMut(Item<'_>),
) -> Result<Page, Error> {
    let mut page = Page::default();
    let mut fields = Fields::new(unwrap(body)?);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => list_meta(field, &mut page)?,
            2 => each(decode(of, field.bytes()?)),
            _ => {}
        }
    }
    Ok(page)
}

pub(super) fn event(of: Resource, frame: &[u8]) -> Result<Event<'_>, Error> {
    let frame = unwrap(frame).unwrap_or(frame);
    let (mut name, mut object) = ("", &[][..]);
    let mut fields = Fields::new(frame);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => object = first_bytes(field.bytes()?, 1)?,
            _ => {}
        }
    }
    if name == "ERROR" {
        return Ok(Event::Error(status(object)?));
    }
    let object = unwrap(object)?;
    match name {
        "ADDED" | "MODIFIED" => Ok(Event::Set(decode(of, object))),
        "DELETED" => {
            let meta = metadata(object)?;
            Ok(Event::Deleted(meta.key(), meta.version))
        }
        "BOOKMARK" => {
            let meta = metadata(object)?;
            Ok(Event::Bookmark {
                version: meta.version,
                initial_end: meta.initial_end,
            })
        }
        other => Err(Error::EventType(other.into())),
    }
}

pub(super) fn status(body: &[u8]) -> Result<Status, Error> {
    let mut status = Status::default();
    let mut fields = Fields::new(unwrap(body)?);
    while let Some(field) = fields.next()? {
        match field.number {
            3 => status.message = field.text()?.into(),
            4 => status.reason = field.text()?.into(),
            6 => status.code = u16::try_from(field.int()?).unwrap_or(0),
            _ => {}
        }
    }
    Ok(status)
}

/// What an envelope holds.
fn unwrap(envelope: &[u8]) -> Result<&[u8], Error> {
    first_bytes(envelope.strip_prefix(MAGIC).ok_or(Error::Envelope)?, 2)
}

/// The octets of the first field of this number, none if there is no such field.
fn first_bytes(message: &[u8], number: u32) -> Result<&[u8], Error> {
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        if field.number == number {
            return field.bytes();
        }
    }
    Ok(&[])
}

fn list_meta(field: Field<'_>, page: &mut Page) -> Result<(), Error> {
    let mut fields = field.message()?;
    while let Some(field) = fields.next()? {
        match field.number {
            2 => page.version = field.text()?.into(),
            3 => page.next = field.text()?.into(),
            _ => {}
        }
    }
    Ok(())
}

/// An object of any kind: its metadata are field 1, spec and status fields 2 and 3.
fn decode(of: Resource, message: &[u8]) -> Item<'_> {
    let meta = match metadata(message) {
        Ok(meta) => meta,
        Err(error) => return item(Meta::default(), Err(error)),
    };
    let object = match of {
        Resource::Namespace => Ok(Object::Namespace),
        Resource::Service => service(message),
        Resource::ServiceImport => Err(Error::Custom),
        Resource::EndpointSlice | Resource::ImportedSlice => endpoint_slice(of, &meta, message),
        Resource::Pod => pod_address(message).map(|ip| pod(&meta, ip)),
        Resource::LabelledPod => labelled_pod(&meta, message),
    };
    item(meta, object)
}

fn metadata(message: &[u8]) -> Result<Meta<'_>, Error> {
    let mut meta = Meta::default();
    let mut fields = Fields::new(first_bytes(message, 1)?);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => meta.name = field.cow()?,
            3 => meta.namespace = field.cow()?,
            6 => meta.version = field.cow()?,
            9 => meta.deleted = true,
            11 => match entry(field)? {
                (SERVICE_LABEL, value) => meta.service = value.into(),
                (IMPORT_LABEL, value) => meta.imported = value.into(),
                (CLUSTER_LABEL, value) => meta.cluster = value.into(),
                _ => {}
            },
            12 => match entry(field)? {
                (TRIGGER_TIME, value) => meta.triggered = value.into(),
                (INITIAL_EVENTS_END, value) => meta.initial_end = value == "true",
                _ => {}
            },
            _ => {}
        }
    }
    Ok(meta)
}

/// An entry of a map of strings.
fn entry(field: Field<'_>) -> Result<(&str, &str), Error> {
    let (mut key, mut value) = ("", "");
    let mut fields = field.message()?;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => key = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn service(message: &[u8]) -> Result<Object, Error> {
    let mut parts = ServiceParts::default();
    let mut spec = Fields::new(first_bytes(message, 2)?);
    while let Some(field) = spec.next()? {
        match field.number {
            1 => parts.ports.push(a_port(field)?),
            3 => parts.cluster_ip = field.text()?,
            4 => parts.r#type = field.text()?,
            5 => parts.external_ips.push(field.text()?.into()),
            10 => parts.external_name = field.text()?,
            18 => parts.cluster_ips.push(field.text()?),
            _ => {}
        }
    }
    let status = first_bytes(message, 3)?;
    let mut load_balancer = Fields::new(first_bytes(status, 1)?);
    while let Some(ingress) = load_balancer.next()? {
        if ingress.number == 1 {
            let (ip, hostname) = entry(ingress)?;
            parts.ingress(ip, hostname);
        }
    }
    Ok(parts.finish())
}

/// A port of a service or a slice: in both, 1 is the name, 2 the protocol, 3 the number.
fn a_port(field: Field<'_>) -> Result<Port, Error> {
    let (mut name, mut protocol, mut number) = ("", "", 0);
    let mut fields = field.message()?;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text()?,
            2 => protocol = field.text()?,
            3 => number = field.int()?,
            _ => {}
        }
    }
    Ok(port(name, protocol, number))
}

fn endpoint_slice(of: Resource, meta: &Meta<'_>, message: &[u8]) -> Result<Object, Error> {
    let (mut endpoints, mut ports) = (Vec::new(), Vec::new());
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field.number {
            2 => endpoint(field)?.append(&mut endpoints),
            3 => ports.push(a_port(field)?),
            _ => {}
        }
    }
    Ok(slice(of, meta, endpoints, ports))
}

fn endpoint(field: Field<'_>) -> Result<EndpointParts<'_>, Error> {
    let mut parts = EndpointParts::default();
    let mut fields = field.message()?;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => parts.addresses.push(field.text()?),
            2 => parts.ready = ready(field)?,
            3 => parts.hostname = field.text()?,
            4 => {
                let name = first_bytes(field.bytes()?, 3)?;
                parts.target = std::str::from_utf8(name).map_err(|_| Error::Utf8)?;
            }
            7 => parts.zone = field.text()?,
            _ => {}
        }
    }
    Ok(parts)
}

fn ready(field: Field<'_>) -> Result<Option<bool>, Error> {
    let mut conditions = field.message()?;
    while let Some(field) = conditions.next()? {
        if field.number == 1 {
            return Ok(Some(field.int()? != 0));
        }
    }
    Ok(None)
}

fn pod_address(message: &[u8]) -> Result<&str, Error> {
    let ip = first_bytes(first_bytes(message, 3)?, 6)?;
    std::str::from_utf8(ip).map_err(|_| Error::Utf8)
}

fn labelled_pod(meta: &Meta<'_>, message: &[u8]) -> Result<Object, Error> {
    let mut object = pod(meta, pod_address(message)?);
    let mut fields = Fields::new(first_bytes(message, 1)?);
    while let Some(field) = fields.next()? {
        if let (11, Object::Pod(pod)) = (field.number, &mut object) {
            let (name, value) = entry(field)?;
            pod.labels.push((name.into(), value.into()));
        }
    }
    Ok(object)
}
