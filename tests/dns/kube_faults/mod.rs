//! The kubernetes plugin while its API server fails: after every fault the index is what the server
//! has, object by object, kube's own watcher has come to the same, and no query in between was
//! answered wrongly or not at all.

mod asker;
mod clock;
mod compare;
mod encoding;
mod lab;
mod objects;
mod random;
mod scenarios;
mod script;
mod world;
