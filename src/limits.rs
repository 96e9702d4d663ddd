//! Every bound of the server, in one place. At each of them something defined happens, and a
//! metric says so.

/// How deeply the server asks itself on behalf of one query (aliases that lead to aliases).
pub const SELF_QUERY_DEPTH: u8 = 8;
/// Queries that wait for an answer at one time, over all transports; beyond it the query is
/// answered SERVFAIL at once (`portolan_pending_rejected_total`).
pub const PENDING_QUERIES: usize = 65_536;
/// TCP connections at one time over all listeners; a further one is closed at once.
pub const TCP_CONNECTIONS: usize = 4_096;
/// Queries of one TCP connection that wait for an answer at one time; beyond it reading pauses.
pub const TCP_PIPELINE: usize = 64;
/// UDP packets taken from a socket with one call.
pub const UDP_BATCH: usize = 32;
/// Snippets expanded in one Corefile (CF-59).
pub const SNIPPET_EXPANSIONS: usize = 10_000;
/// Files imported into one Corefile (CF-59).
pub const FILE_EXPANSIONS: usize = 100_000;
/// Objects of one page of a list of the Kubernetes API.
pub const KUBE_PAGE_OBJECTS: u32 = 500;
/// Octets of one page; at a larger one half as many objects are asked for
/// (`portolan_kubernetes_watch_failures_total`).
pub const KUBE_PAGE_BYTES: usize = 64 << 20;
/// Octets of one event of a watch; at a larger one the connection is given up and the kind listed
/// again (`portolan_kubernetes_watch_failures_total`).
pub const KUBE_EVENT_BYTES: usize = 16 << 20;
/// Octets of one manifest file; a larger one counts as broken
/// (`portolan_kubernetes_manifest_errors_total`).
pub const MANIFEST_BYTES: u64 = 64 << 20;
/// Manifest files; further ones are left out (`portolan_kubernetes_manifest_errors_total`).
pub const MANIFEST_FILES: usize = 10_000;
