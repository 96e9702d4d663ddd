//! Slim decoding: from JSON or protobuf to [`Object`]s, only the fields that DNS needs.
//!
//! Both formats give the same objects: what a field means is said once, in `rules`. Nothing here
//! panics or reads beyond its input, whatever the input is. A bad object in a list or in an event
//! is an [`Item`] that says what is wrong with it; only a page or a frame that is broken itself is
//! an error.

mod frames;
pub(crate) mod json;
mod protobuf;
mod rules;
mod time;
mod wire;

#[cfg(test)]
mod tests;

pub use frames::Frames;
pub(crate) use rules::{IMPORT_LABEL, SERVICE_LABEL, address, lower, some};

use super::Resource;
use crate::plugins::kubernetes::object::{Key, Object};
use std::borrow::Cow;

/// The two formats that are asked for.
pub const ACCEPT: &str = "application/vnd.kubernetes.protobuf,application/json";

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Format {
    /// The format that a `Content-Type` names.
    pub fn of(content_type: &str) -> Option<Self> {
        let media = content_type.split(';').next().unwrap_or("").trim();
        if media.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else if media.eq_ignore_ascii_case("application/vnd.kubernetes.protobuf") {
            Some(Self::Protobuf)
        } else {
            None
        }
    }
}

/// Why something could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The JSON is broken, or a field is of another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A message or a field reaches beyond its end.
    #[error("protobuf: truncated")]
    Truncated,
    /// A varint has more than 64 bits.
    #[error("protobuf: varint too long")]
    Varint,
    /// A field of another wire type than the API's.
    #[error("protobuf: field {0} has the wrong wire type")]
    WireType(u32),
    /// A string that is not UTF-8.
    #[error("protobuf: a string is not UTF-8")]
    Utf8,
    /// The four octets `k8s\0` are missing.
    #[error("protobuf: no envelope")]
    Envelope,
    /// An object without `metadata.name`.
    #[error("no metadata.name")]
    NoName,
    /// A custom resource in protobuf, which the API does not have.
    #[error("a custom resource in protobuf")]
    Custom,
    /// A watch event of a type that the API does not have.
    #[error("unknown type of event {0:?}")]
    EventType(String),
    /// A line or frame of more octets than `limits::KUBE_EVENT_BYTES`.
    #[error("an event of more than {0} octets")]
    TooLong(usize),
}

/// An object of a list or an event.
#[derive(Debug)]
pub struct Item<'a> {
    /// Its identity; the name is empty if not even that could be read.
    pub key: Key,
    /// `metadata.resourceVersion`.
    pub version: Cow<'a, str>,
    /// The object, or what is wrong with it.
    pub object: Result<Object, Error>,
}

/// What a page says besides its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The version of the whole list.
    pub version: String,
    /// The token of the next page, empty on the last.
    pub next: String,
}

/// A watch event.
#[derive(Debug)]
pub enum Event<'a> {
    /// `ADDED` or `MODIFIED`.
    Set(Item<'a>),
    /// `DELETED`: identity and version.
    Deleted(Key, Cow<'a, str>),
    /// `BOOKMARK`: everything up to this version was sent.
    Bookmark {
        /// The version.
        version: Cow<'a, str>,
        /// Whether the initial list ends here (annotation `k8s.io/initial-events-end`).
        initial_end: bool,
    },
    /// `ERROR`.
    Error(Status),
}

impl Event<'_> {
    /// The version that the event stands for, empty if it has none.
    pub fn version(&self) -> &str {
        match self {
            Self::Set(item) => &item.version,
            Self::Deleted(_, version) | Self::Bookmark { version, .. } => version,
            Self::Error(_) => "",
        }
    }
}

/// A `metav1.Status`: the API's error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// One word, such as `Expired`.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The header `Retry-After` in seconds; 0 without one.
    pub retry_after: u32,
}

/// What is read of `metadata`.
#[derive(Debug, Default)]
pub(crate) struct Meta<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) version: Cow<'a, str>,
    pub(crate) deleted: bool,
    pub(crate) initial_end: bool,
    /// The label `kubernetes.io/service-name`.
    pub(crate) service: Cow<'a, str>,
    /// The label `multicluster.kubernetes.io/service-name`.
    pub(crate) imported: Cow<'a, str>,
    /// The label `multicluster.kubernetes.io/source-cluster`.
    pub(crate) cluster: Cow<'a, str>,
    /// The annotation `endpoints.kubernetes.io/last-change-trigger-time`.
    pub(crate) triggered: Cow<'a, str>,
}

impl Meta<'_> {
    pub(crate) fn key(&self) -> Key {
        Key {
            namespace: (*self.namespace).into(),
            name: (*self.name).into(),
        }
    }
}

/// Decodes a page of a list of a resource, item by item.
///
/// # Errors
/// If the page itself is broken; `each` may have been called by then.
pub fn list(
    format: Format,
    of: impl Into<Resource>,
    body: &[u8],
    each: &mut dyn FnMut(Item<'_>),
) -> Result<Page, Error> {
    match format {
        Format::Json => json::list(of.into(), body, each),
        Format::Protobuf => protobuf::list(of.into(), body, each),
    }
}

/// Decodes a watch event (a line, or the content of a frame).
///
/// # Errors
/// If the event itself is broken.
pub fn event(format: Format, of: impl Into<Resource>, frame: &[u8]) -> Result<Event<'_>, Error> {
    match format {
        Format::Json => json::event(of.into(), frame),
        Format::Protobuf => protobuf::event(of.into(), frame),
    }
}

/// Decodes a `Status`; whatever cannot be read is empty.
pub fn status(format: Option<Format>, body: &[u8]) -> Status {
    match format {
        Some(Format::Json) => json::status(body),
        Some(Format::Protobuf) => protobuf::status(body),
        None => Ok(Status::default()),
    }
    .unwrap_or_default()
}

/// An item of what was read: an object needs a name.
fn item<'a>(meta: Meta<'a>, object: Result<Object, Error>) -> Item<'a> {
    let object = object.and_then(|object| match &*meta.name {
        "" => Err(Error::NoName),
        _ => Ok(object),
    });
    Item {
        key: meta.key(),
        version: meta.version,
        object,
    }
}
