//! The requests: paths with their queries.

use super::super::Resource;
use super::super::selector::Selector;
use std::fmt::Write;

/// Makes the requests for one resource.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    path: &'static str,
    /// Selectors, as parameters.
    selectors: String,
}

impl Requests {
    pub(super) fn new(resource: Resource, labels: &Selector) -> Self {
        let path = resource.path();
        // Pods that are over have no address of their own any more.
        let fields = match resource {
            Resource::Pod | Resource::LabelledPod => {
                "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"
            }
            _ => "",
        };
        let mut selectors = String::new();
        parameter(&mut selectors, "labelSelector", labels.text());
        parameter(&mut selectors, "fieldSelector", fields);
        Self { path, selectors }
    }

    /// A page of at most `limit` objects, the first if there is no `token`.
    pub(super) fn page(&self, limit: u32, token: &str) -> String {
        let mut uri = format!("{}?limit={limit}", self.path);
        parameter(&mut uri, "continue", token);
        uri + &self.selectors
    }

    /// A watch that the server ends after `seconds`: from a version, or beginning with all objects.
    pub(super) fn watch(&self, version: Option<&str>, seconds: u64) -> String {
        let mut uri = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}",
            self.path
        );
        match version {
            Some(version) => parameter(&mut uri, "resourceVersion", version),
            // Without a version the list is consistent, not from a cache that may be old.
            None => uri.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
        }
        uri + &self.selectors
    }
}

/// Appends `&name=value` with everything escaped that is not unreserved (RFC 3986 section 2.3),
/// unless the value is empty.
fn parameter(uri: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    uri.push('&');
    uri.push_str(name);
    uri.push('=');
    for &octet in value.as_bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(octet));
            }
            // Writing into a string cannot fail.
            _ => drop(write!(uri, "%{octet:02X}")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn writes_requests() {
        let labels = Selector::parse("a in (b, c),d!=e").unwrap();
        let services = Requests::new(Resource::Service, &labels);
        assert_eq!(
            services.page(500, "x/y="),
            "/api/v1/services?limit=500&continue=x%2Fy%3D&labelSelector=a%20in%20%28b%2C%20c%29%2Cd%21%3De"
        );
        let slices = Requests::new(Resource::EndpointSlice, &Selector::default());
        assert_eq!(
            slices.watch(None, 300),
            "/apis/discovery.k8s.io/v1/endpointslices?watch=true&allowWatchBookmarks=true\
             &timeoutSeconds=300&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        let pods = Requests::new(Resource::Pod, &Selector::default());
        assert_eq!(
            pods.watch(Some("12"), 300),
            "/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion=12\
             &fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed%2Cstatus.phase%21%3DUnknown"
        );
    }
}
