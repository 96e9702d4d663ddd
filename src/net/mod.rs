//! Sockets: batched UDP, and listening sockets with the options that the server wants.
//!
//! The only module with `unsafe` code: `recvmmsg` and `sendmmsg` have no safe counterpart. It knows
//! packets and addresses, nothing of DNS.

mod batch;
mod listen;

pub use batch::{Batch, Peer};
pub use listen::{UdpSocket, tcp_listener};
