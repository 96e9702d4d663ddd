//! Watches: events from a version on, each in two pieces, with what goes wrong between them.

use super::answer::status_object;
use super::fault::Fault;
use super::query::Query;
use super::store::{Change, Payload};
use super::{Shared, protobuf};
use bytes::Bytes;
use futures_util::Stream as Sequence;
use hyper::body::Frame;
use portolan::plugins::kubernetes::source::decode::Format;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// An event before it is written.
#[derive(Clone)]
pub(super) enum Event {
    Typed(&'static str, Value),
    Raw(Vec<u8>),
}

impl Event {
    pub(super) const fn new(r#type: &'static str, object: Value) -> Self {
        Self::Typed(r#type, object)
    }

    /// The octets: a line, or a frame with its length.
    pub(super) fn encode(&self, query: &Query) -> Vec<u8> {
        let content = match (self, query.format) {
            (Self::Raw(octets), _) => octets.clone(),
            (Self::Typed(r#type, object), Format::Json) => {
                json!({"type": r#type, "object": object}).to_string().into()
            }
            (Self::Typed(r#type, object), Format::Protobuf) => {
                let (group, kind) = match *r#type {
                    "ERROR" => ("v1", "Status"),
                    _ => (query.group, query.kind),
                };
                protobuf::event(r#type, group, kind, object)
            }
        };
        match query.format {
            Format::Json => [content, b"\n".to_vec()].concat(),
            Format::Protobuf => {
                let length = (content.len() as u32).to_be_bytes();
                [length.to_vec(), content].concat()
            }
        }
    }
}

pub(super) fn bookmark(query: &Query, version: u64, annotations: Value) -> Event {
    let metadata = json!({
        "resourceVersion": version.to_string(),
        "creationTimestamp": null,
        "annotations": annotations,
    });
    let object = json!({"kind": query.kind, "apiVersion": query.group, "metadata": metadata});
    Event::Typed("BOOKMARK", object)
}

/// A change as a watch with this query sees it.
fn event(query: &Query, change: &Change) -> Option<Event> {
    let (before, after) = match &change.payload {
        Payload::Object { before, after } => (before, after),
        Payload::Raw(text) => return Some(Event::Raw(text.clone().into())),
        Payload::Event(r#type, object) => return Some(Event::Typed(r#type, object.clone())),
        Payload::Bookmark => return Some(bookmark(query, change.version, json!({}))),
    };
    let was = before.as_ref().filter(|object| query.selects(object));
    let is = after.as_ref().filter(|object| query.selects(object));
    let (r#type, object) = match (was, is) {
        (None, Some(object)) => ("ADDED", object),
        (Some(_), Some(object)) => ("MODIFIED", object),
        (Some(_), None) => ("DELETED", after.as_ref().or(was)?),
        (None, None) => return None,
    };
    Some(Event::Typed(r#type, object.clone()))
}

/// A watch that is open.
struct Stream {
    shared: Arc<Shared>,
    cuts: watch::Receiver<u64>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    query: Query,
    from: u64,
    strike: Option<Fault>,
    /// Events that were sent.
    sent: usize,
    last: Option<Event>,
}

/// Why a stream ends.
enum End {
    /// The client is gone, or the stream is to end well.
    Closed,
    /// It is to break off in the middle of an event.
    Broken,
}

/// Runs a watch: these events, then what happens after version `from`.
pub(super) fn start(
    shared: &Arc<Shared>,
    query: Query,
    from: u64,
    strike: Option<Fault>,
    first: Vec<Event>,
    cut: bool,
) -> impl Sequence<Item = io::Result<Frame<Bytes>>> + use<> {
    let (sender, receiver) = mpsc::channel(8);
    let seconds: u64 = query.get("timeoutSeconds").parse().unwrap_or(1800);
    let stream = Stream {
        shared: Arc::clone(shared),
        cuts: shared.signals.cuts.subscribe(),
        sender,
        query,
        from,
        strike,
        sent: 0,
        last: None,
    };
    tokio::spawn(async move {
        let run = stream.run(first, cut);
        let _ = tokio::time::timeout(Duration::from_secs(seconds), run).await;
    });
    futures_util::stream::unfold(receiver, |mut receiver| async {
        let frame: io::Result<Bytes> = receiver.recv().await?;
        Some((frame.map(Frame::data), receiver))
    })
}

impl Stream {
    async fn run(mut self, first: Vec<Event>, cut: bool) {
        if let Err(End::Broken) = self.events(first, cut).await {
            let half = match self.query.format {
                Format::Json => &b"{\"type\":\"ADDED\",\"obj"[..],
                Format::Protobuf => b"\0\0\x02\x8f\x0a\x05ADD",
            };
            let error = io::Error::other("a test cuts the stream");
            for piece in [Ok(Bytes::from_static(half)), Err(error)] {
                let _ = self.sender.send(piece).await;
            }
        }
    }

    async fn events(&mut self, first: Vec<Event>, cut: bool) -> Result<(), End> {
        let mut changes = self.shared.signals.changes.subscribe();
        for event in first {
            self.struck().await?;
            self.send(&event).await?;
        }
        if cut {
            return Err(End::Broken);
        }
        loop {
            changes.mark_unchanged();
            let mut due = self.due();
            if self.strike == Some(Fault::Reversed) {
                due.reverse();
            }
            for event in due {
                self.struck().await?;
                self.send(&event).await?;
                let last = self.last.replace(event.clone());
                match (self.strike, last) {
                    (Some(Fault::Twice), _) => self.send(&event).await?,
                    (Some(Fault::Stale), Some(last)) => self.send(&last).await?,
                    _ => {}
                }
            }
            self.struck().await?;
            tokio::select! {
                _ = changes.changed() => {}
                _ = self.cuts.changed() => return Err(End::Broken),
                () = self.sender.closed() => return Err(End::Closed),
            }
        }
    }

    /// Does what is to go wrong now.
    async fn struck(&mut self) -> Result<(), End> {
        let sent = self.sent;
        match self.strike {
            Some(Fault::Cut { after }) if sent >= after => Err(End::Broken),
            Some(Fault::Close { after }) if sent >= after => Err(End::Closed),
            Some(Fault::Mute { after }) if sent >= after => Err(self.silence().await),
            Some(Fault::Error { after, code }) if sent >= after => {
                let reason = if code == 410 {
                    "Expired"
                } else {
                    "InternalError"
                };
                let error = Event::Typed("ERROR", status_object(code, reason));
                self.send(&error).await?;
                Err(End::Closed)
            }
            Some(Fault::Garbage { after }) if sent == after => {
                self.strike = None;
                self.send(&Event::Raw(b"\x07\xffnot an event".to_vec()))
                    .await
            }
            Some(Fault::Slow(pause)) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sends nothing until somebody ends it.
    async fn silence(&mut self) -> End {
        tokio::select! {
            _ = self.cuts.changed() => End::Broken,
            () = self.sender.closed() => End::Closed,
        }
    }

    fn due(&mut self) -> Vec<Event> {
        let store = self.shared.store();
        let changes = store.events.iter();
        let due: Vec<&Change> = changes
            .filter(|change| change.version > self.from && change.resource == self.query.resource)
            .collect();
        if let Some(last) = due.last() {
            self.from = last.version;
        }
        due.into_iter()
            .filter_map(|change| event(&self.query, change))
            .collect()
    }

    async fn send(&mut self, event: &Event) -> Result<(), End> {
        let (slow, mute) = {
            let faults = self.shared.faults.lock().unwrap();
            (faults.slow, faults.mute)
        };
        if let Some(pause) = slow {
            tokio::time::sleep(pause).await;
        }
        if mute {
            // For ever: a stream leaves nothing out.
            return Err(self.silence().await);
        }
        self.sent += 1;
        // In two pieces, since the network keeps no events together.
        let octets = event.encode(&self.query);
        let (head, tail) = octets.split_at(octets.len() / 2);
        for piece in [head, tail] {
            let piece = Ok(Bytes::copy_from_slice(piece));
            self.sender.send(piece).await.map_err(|_| End::Closed)?;
        }
        Ok(())
    }
}
