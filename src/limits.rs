//! Every bound of the server, in one place. At each of them something defined happens, and a
//! metric says so.

use std::time::Duration;

/// How deeply the server asks itself on behalf of one query (aliases that lead to aliases).
pub const SELF_QUERY_DEPTH: u8 = 8;
/// Queries over UDP that wait for an answer at one time, for each listening address; each UDP worker
/// has an equal share. Beyond it the query that has waited longest is answered SERVFAIL
/// (`portolan_pending_dropped_total`): its client is the likeliest to have given up.
pub const PENDING_QUERIES: usize = 65_536;
/// Queries over TCP that wait for an answer at one time; beyond it the one that has waited longest is
/// answered SERVFAIL (`portolan_pending_dropped_total`).
pub const PENDING_TCP_QUERIES: usize = 16_384;
/// How long a query waits at most; then it is answered SERVFAIL (`portolan_pending_dropped_total`).
pub const PENDING_TIME: Duration = Duration::from_secs(10);
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
/// Octets of one file that a Corefile consists of; a longer one is an error.
pub const COREFILE_SIZE: usize = 4 << 20;
/// Octets of memory that the tokens of all imports of one Corefile may take; more is an error.
pub const COREFILE_EXPANSION: usize = 64 << 20;
/// Octets of the records (and EDNS options) of one entry of a `cache`; a longer reply is passed on
/// and not stored (`portolan_cache_oversize_total`). What all entries take is bounded by the option
/// `memory`.
pub const CACHE_ENTRY: usize = 16_384;
/// Entries of one `cache` that are refreshed in the background at one time; beyond it an entry is
/// not refreshed ahead of its time (`portolan_cache_refresh_rejected_total`).
pub const CACHE_REFRESHES: usize = 256;
/// Threads that have sockets to an upstream of their own; further ones share them.
pub const UPSTREAM_LANES: usize = 17;
/// UDP sockets open to one upstream at one time, for each UDP worker.
pub const UPSTREAM_UDP_SOCKETS: usize = 128;
/// Queries in flight on a UDP socket above which another socket is opened.
pub const UPSTREAM_UDP_TARGET: usize = 64;
/// Queries in flight on one UDP socket, once no further socket may be opened; beyond it the query
/// fails at once (`portolan_upstream_rejected_total`).
pub const UPSTREAM_UDP_IN_FLIGHT: usize = 256;
/// Queries sent on one UDP socket before another one, with another source port, takes its place.
pub const UPSTREAM_UDP_USES: u32 = 4_096;
/// Datagrams that answer nothing, on one UDP socket to an upstream while queries wait; at that many
/// the socket is given up and its queries are asked over TCP (`portolan_upstream_mismatched_total`).
pub const UPSTREAM_MISMATCHES: u32 = 32;
/// Replies in a row that did not keep the case of the question, after which an upstream is taken as
/// one that never does (`portolan_upstream_case_ignored_total`).
pub const UPSTREAM_CASE_STRIKES: u32 = 3;
/// Queries in flight to upstreams that `loop` knows again when they come back; a further one may
/// take the place of an older one, which then is not known (`portolan_loop_detected`).
pub const UPSTREAM_MARKS: usize = 4_096;
/// Names of a chain of aliases, and zones, of one upstream reply; records that belong to further
/// ones are taken out (`portolan_upstream_records_removed_total`).
pub const UPSTREAM_ALIASES: usize = 32;
/// Names in the records of one upstream reply whose addresses may stand in its additional section;
/// those of further ones are taken out (`portolan_upstream_records_removed_total`).
pub const UPSTREAM_GLUE: usize = 128;
/// TCP connections open to one upstream at one time; beyond it the query fails at once
/// (`portolan_upstream_rejected_total`).
pub const UPSTREAM_TCP_CONNECTIONS: usize = 1_024;
/// TLS or HTTPS connections open to one upstream at one time.
pub const UPSTREAM_TLS_CONNECTIONS: usize = 16;
/// Queries in flight on a TLS or HTTPS connection above which another one is opened.
pub const UPSTREAM_TLS_TARGET: usize = 64;
/// Queries in flight on one TLS or HTTPS connection, once no further one may be opened; beyond it
/// the query fails at once (`portolan_upstream_rejected_total`).
pub const UPSTREAM_TLS_IN_FLIGHT: usize = 256;
/// Octets of a certificate, key or bundle of authorities that the Corefile names; a longer file is
/// an error.
pub const TLS_FILE: u64 = 4 << 20;
/// Upstreams of one `forward` stanza (FW-3).
pub const FORWARD_UPSTREAMS: usize = 15;
/// Upstreams that the extended error of a failure names; those beyond are counted.
pub const FORWARD_TOLD_UPSTREAMS: usize = 4;
/// Questions of one `forward` stanza that others may join while they are in flight; a further one
/// is sent on its own (`portolan_forward_coalesced_total` stops growing).
pub const FORWARD_SHARED_QUESTIONS: usize = 16_384;
/// Objects of one page of a list of the Kubernetes API.
pub const KUBE_PAGE_OBJECTS: u32 = 500;
/// Octets of one page; at a larger one half as many objects are asked for
/// (`portolan_kubernetes_watch_failures_total`).
pub const KUBE_PAGE_BYTES: usize = 4 << 20;
/// Objects of a kind that are counted as unreadable now (`portolan_kubernetes_unreadable_objects`);
/// further ones are left out as well, and only counted in
/// `portolan_kubernetes_quarantined_objects_total`.
pub const KUBE_QUARANTINE: usize = 1_024;
/// Octets of one event of a watch; at a larger one the connection is given up and the kind listed
/// again (`portolan_kubernetes_watch_failures_total`).
pub const KUBE_EVENT_BYTES: usize = 16 << 20;
/// Octets of one manifest file; a larger one counts as broken
/// (`portolan_kubernetes_manifest_errors_total`).
pub const MANIFEST_BYTES: u64 = 64 << 20;
/// Manifest files; further ones are left out (`portolan_kubernetes_manifest_errors_total`).
pub const MANIFEST_FILES: usize = 10_000;
/// The shortest time from one write of a snapshot of the cluster to the next, where the Corefile
/// does not say: what changes meanwhile is written together
/// (`portolan_kubernetes_snapshot_writes_total`).
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(10);
/// How long the end of the process waits for the last snapshot; then it ends without, and the one
/// before it stays.
pub const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(5);
/// Octets of one object in a snapshot; a larger one is left out with a warning, a file with a larger
/// one is refused (`portolan_kubernetes_snapshot_failures_total`).
pub const SNAPSHOT_RECORD_BYTES: usize = 16 << 20;
/// Questions to `/explain` in a second; a further one, like one while another is being explained,
/// is 429 (`portolan_explain_rejected_total`).
pub const EXPLAIN_PER_SECOND: u32 = 10;
/// Octets of the query string of `/explain`; a longer one is 400.
pub const EXPLAIN_QUERY: usize = 4_096;
/// Lines of one explanation; what happens to the question after them is left out.
pub const EXPLAIN_STEPS: usize = 500;
/// Zone transfers at one time; a further one is REFUSED (`portolan_transfer_rejected_total`). Each
/// holds a packed copy of its zone, about 200 octets for a service or an endpoint of one port.
pub const TRANSFERS: usize = 4;
/// Octets of a query for a transfer; a longer one is FORMERR.
pub const TRANSFER_QUERY: usize = 4_096;
/// Addresses in one `transfer` stanza, each with a task of its own; more is an error.
pub const TRANSFER_SECONDARIES: usize = 64;
/// Domains of a search list that `autopath` completes names with: as many as Kubernetes lets a pod
/// have. A longer list is an error in the Corefile; the server's own is left out with a warning.
pub const SEARCH_DOMAINS: usize = 32;
