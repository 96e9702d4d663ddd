//! What tests share: blocks built without a server, scripted peers, messages.

pub mod block;
pub mod message;
pub mod upstream;
