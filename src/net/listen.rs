//! Listening sockets.
#![allow(unsafe_code)]

use super::address::{self, Peer};
use super::batch;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What the kernel may queue for a UDP socket, in octets; asked for, the kernel caps it.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A UDP socket that shares its address with the sockets of the other workers (SO_REUSEPORT).
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    local: SocketAddr,
}

impl UdpSocket {
    /// Binds `addr`. An unspecified IPv6 address takes IPv4 as well. Receiving gives up after
    /// `timeout` without a packet, so that the thread can look whether it has to stop.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(addr: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let socket = open(addr, Type::DGRAM, Protocol::UDP)?;
        if addr.ip().is_unspecified() {
            address::want_destination(socket.as_raw_fd(), addr.is_ipv6())?;
        }
        // The default holds some hundred packets; a burst loses what does not fit. The kernel may
        // grant less than is asked for, which is no reason not to start.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.set_read_timeout(Some(timeout))?;
        socket.bind(&addr.into())?;
        let local = local_addr(&socket)?;
        Ok(Self { socket, local })
    }

    /// The bound address; its port is the real one where port 0 was asked for.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Packets that the kernel has dropped since the socket was opened, because nobody had taken
    /// those before them. The kernel counts in 32 bits.
    ///
    /// # Errors
    /// What the system says; kernels before 4.12 do not know the option.
    pub fn drops(&self) -> io::Result<u32> {
        let mut info = [0u32; libc::SK_MEMINFO_DROPS as usize + 1];
        let mut len = size_of_val(&info) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` octets, the size of `info`.
        let result = unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                info.as_mut_ptr().cast(),
                &mut len,
            )
        };
        match result {
            0 => Ok(info[libc::SK_MEMINFO_DROPS as usize]),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends one packet to where a query came from, from the address that it was sent to.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` if the send buffer is full.
    pub fn send(&self, packet: &[u8], peer: &Peer) -> io::Result<()> {
        batch::send_one(self.as_raw_fd(), packet, peer)
    }
}

/// Has the current tokio runtime watch a socket for packets.
///
/// # Errors
/// What the system says.
pub fn watch(socket: Arc<UdpSocket>) -> io::Result<AsyncFd<Arc<UdpSocket>>> {
    // SAFETY: the descriptor is that of the socket, which never changes and which the `AsyncFd`
    // itself keeps open.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(watched?)
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A listening TCP socket, non-blocking, that shares its address (SO_REUSEPORT).
///
/// # Errors
/// What the system says.
pub fn tcp_listener(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = open(addr, Type::STREAM, Protocol::TCP)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn open(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    let addr = socket.local_addr()?.as_socket();
    addr.ok_or_else(|| io::Error::other("bound to no Internet address"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::net::Batch;

    #[test]
    fn drops_are_what_was_sent_and_never_arrived() {
        let timeout = Duration::from_millis(200);
        let server = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), timeout).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local()).unwrap();
        assert_eq!(server.drops().unwrap(), 0);
        // More than any buffer that the socket may have been given.
        let sent = 20_000;
        for _ in 0..sent {
            client.send(&[0; 1_400]).unwrap();
        }
        let mut batch = Batch::new(32);
        let mut arrived = 0;
        while let Ok(count) = batch.receive(&server) {
            arrived += count;
        }
        assert!(arrived < sent);
        assert_eq!(server.drops().unwrap() as usize, sent - arrived);
    }
}
