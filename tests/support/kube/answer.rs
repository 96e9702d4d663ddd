//! Responses: errors, lists, and the heads of streams.

use super::Shared;
use super::fault::{At, Fault};
use super::protobuf;
use super::query::Query;
use super::store::Store;
use super::stream::{self, Event};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use portolan::plugins::kubernetes::source::decode::Format;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;

pub(super) type Body = BoxBody<Bytes, io::Error>;

pub(super) async fn respond(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<Body> {
    let uri = request.uri().to_string();
    shared.requests.lock().unwrap().push(uri);
    let protobuf = {
        let options = shared.options.lock().unwrap();
        let given = request.headers().get(AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok()).unwrap_or("");
        let wanted = options
            .token
            .as_ref()
            .map(|token| format!("Bearer {token}"));
        let is_oracle = given == format!("Bearer {}", super::oracle::TOKEN);
        if wanted.is_some_and(|wanted| wanted != given) && !is_oracle {
            return status(Format::Json, 401, "Unauthorized");
        }
        options.protobuf
    };
    let Some(query) = Query::new(request, protobuf) else {
        return status(Format::Json, 404, "NotFound");
    };
    if let Some(code) = shared.faults.lock().unwrap().all {
        return status(query.format, code, "InternalError");
    }
    if query.resource == "serviceimports" && shared.faults.lock().unwrap().no_imports {
        return status(query.format, 404, "NotFound");
    }
    let strike = {
        let mut script = shared.script.lock().unwrap();
        script.strike(&query.agent, query.at(), &query.resource)
    };
    match strike {
        Some(Fault::Status(410, _)) if query.at() == At::Watch && !is_portolan(&query) => {
            return gone_in_stream(&query);
        }
        Some(Fault::Status(code, retry_after)) => {
            let mut response = status(query.format, code, reason(code));
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            return response;
        }
        Some(Fault::Html) => {
            let page = Full::from("<html>Sign in</html>").map_err(|never| match never {});
            let mut response = Response::new(BodyExt::boxed(page));
            let html = "text/html".parse().unwrap();
            response.headers_mut().insert(CONTENT_TYPE, html);
            return response;
        }
        Some(Fault::Late(pause)) => tokio::time::sleep(pause).await,
        _ => {}
    }
    match query.at() {
        At::StreamList | At::Watch => watch(shared, query, strike),
        _ => list(shared, &query, strike),
    }
}

fn is_portolan(query: &Query) -> bool {
    query.agent == "portolan"
}

/// A stream of nothing but the error. The API server says 410 so, or by a status code; kube's
/// watcher stands the first only.
fn gone_in_stream(query: &Query) -> Response<Body> {
    let gone = Event::new("ERROR", status_object(410, "Expired"));
    response(200, query.format, full(gone.encode(query)))
}

fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    }
}

pub(super) fn status_object(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{reason} as the test wants"), "reason": reason, "code": code,
    })
}

fn status(format: Format, code: u16, reason: &str) -> Response<Body> {
    let object = status_object(code, reason);
    let body = match format {
        Format::Json => object.to_string().into_bytes(),
        Format::Protobuf => {
            protobuf::envelope("v1", "Status", &protobuf::object("Status", &object))
        }
    };
    response(code, format, full(body))
}

fn full(body: Vec<u8>) -> Body {
    BodyExt::boxed(Full::from(body).map_err(|never| match never {}))
}

fn response(code: u16, format: Format, body: Body) -> Response<Body> {
    let media = match format {
        Format::Json => "application/json",
        Format::Protobuf => "application/vnd.kubernetes.protobuf",
    };
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, media)
        .body(body)
        .unwrap()
}

fn list(shared: &Shared, query: &Query, strike: Option<Fault>) -> Response<Body> {
    let mut store = shared.store();
    let token = query.get("continue");
    let (version, mut items) = if token.is_empty() {
        let items = selected(&store, query).cloned().collect();
        (store.version, items)
    } else {
        let mut faults = shared.faults.lock().unwrap();
        if faults.expired_tokens > 0 {
            faults.expired_tokens -= 1;
            return status(query.format, 410, "Expired");
        }
        match store.tokens.remove(token) {
            Some(rest) => rest,
            None => return status(query.format, 410, "Expired"),
        }
    };
    let limit: usize = query.get("limit").parse().unwrap_or(usize::MAX);
    let page = shared.options.lock().unwrap().page.unwrap_or(usize::MAX);
    let rest = items.split_off(items.len().min(limit).min(page));
    let mut token = String::new();
    let remaining = rest.len();
    if !rest.is_empty() {
        token = format!("{}/{remaining}+{version}/{}", query.resource, query.agent);
        store.tokens.insert(token.clone(), (version, rest));
    }
    let kind = format!("{}List", query.kind);
    let body = match query.format {
        Format::Protobuf => {
            let list = protobuf::list(query.kind, version, &token, &items);
            protobuf::envelope(query.group, &kind, &list)
        }
        Format::Json => {
            // Items of a list do not repeat what they are.
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                item.remove("kind");
                item.remove("apiVersion");
            }
            let mut metadata = json!({"resourceVersion": version.to_string()});
            if !token.is_empty() {
                metadata["continue"] = token.into();
                metadata["remainingItemCount"] = remaining.into();
            }
            json!({"kind": kind, "apiVersion": query.group, "metadata": metadata, "items": items})
                .to_string()
                .into_bytes()
        }
    };
    let body = match strike {
        Some(Fault::Cut { .. }) => {
            let half = Bytes::copy_from_slice(&body[..body.len() / 2]);
            let broken = io::Error::other("a test cuts the page");
            let parts = [Ok(Frame::data(half)), Err(broken)];
            BodyExt::boxed(StreamBody::new(futures_util::stream::iter(parts)))
        }
        _ => full(body),
    };
    response(200, query.format, body)
}

fn selected<'a>(store: &'a Store, query: &'a Query) -> impl Iterator<Item = &'a Value> {
    let objects = store.objects.iter();
    objects
        .filter(|((resource, ..), object)| *resource == query.resource && query.selects(object))
        .map(|(_, object)| object)
}

fn watch(shared: &Arc<Shared>, query: Query, strike: Option<Fault>) -> Response<Body> {
    let format = query.format;
    let store = shared.store();
    let faults = shared.faults.lock().unwrap();
    let mut first = Vec::new();
    let mut cut = false;
    let initial: Vec<Event> = selected(&store, &query)
        .map(|object| Event::new("ADDED", object.clone()))
        .collect();
    let from = match query.get("resourceVersion") {
        "" | "0" if query.at() == At::StreamList => {
            let forbidden = faults.no_watch_list
                || query.get("resourceVersionMatch") != "NotOlderThan"
                || query.get("allowWatchBookmarks") != "true";
            if forbidden {
                return status(format, 422, "Invalid");
            }
            first.extend(initial);
            match faults.cut_watch_list {
                Some(count) => {
                    first.truncate(count);
                    cut = true;
                }
                None => {
                    let end = json!({"k8s.io/initial-events-end": "true"});
                    first.push(stream::bookmark(&query, store.version, end));
                }
            }
            store.version
        }
        "" | "0" => {
            first.extend(initial);
            store.version
        }
        version => match version.parse() {
            Ok(version) if version >= store.compacted => version,
            Ok(_) if faults.gone_in_stream || !is_portolan(&query) => {
                return gone_in_stream(&query);
            }
            Ok(_) => return status(format, 410, "Expired"),
            Err(_) => return status(format, 400, "BadRequest"),
        },
    };
    drop((store, faults));
    let frames = stream::start(shared, query, from, strike, first, cut);
    response(200, format, BodyExt::boxed(StreamBody::new(frames)))
}
