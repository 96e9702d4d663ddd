//! Sockets: batched UDP, and listening sockets with the options that the server wants.
//!
//! The only module with `unsafe` code: `recvmmsg`, `sendmmsg` and `getifaddrs` have no safe
//! counterpart. It knows packets and addresses, nothing of DNS.

mod address;
mod batch;
mod burst;
pub mod interfaces;
mod listen;

pub use address::Peer;
pub use batch::Batch;
pub use burst::Burst;
pub use listen::{UdpSocket, tcp_listener, watch};
