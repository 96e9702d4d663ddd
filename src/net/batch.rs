//! Many packets with one system call: `recvmmsg` and `sendmmsg`.
#![allow(unsafe_code)]

use super::address::{CONTROL, Control, Peer, address, read_address, read_destination};
use libc::{iovec, mmsghdr, msghdr, sockaddr_storage, socklen_t};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};

/// Longest packet that is received whole.
const PACKET: usize = 4096;
/// From one packet's place to the next: not a power of two, whose multiples share a few lines of the
/// first cache.
const SLOT: usize = PACKET + 64;
/// Room for the replies of a batch; what does not fit any more is sent at once.
const REPLIES: usize = 160 * 1024;

/// Buffers for a batch of packets and the replies to them.
///
/// Invariants: the pointers in `headers_in` lead to the slots of `packets`, `names`, `controls` and
/// `slices_in`, which are never reallocated; `received` slots were filled by the last call;
/// `queued` entries of `headers_out` lead into `replies`, `names_out`, `controls_out`.
pub struct Batch {
    packets: Box<[u8]>,
    names: Box<[sockaddr_storage]>,
    controls: Box<[Control]>,
    slices_in: Box<[iovec]>,
    headers_in: Box<[mmsghdr]>,
    received: usize,
    /// How many of the headers the last call may have changed.
    changed: usize,
    replies: Box<[u8]>,
    used: usize,
    names_out: Box<[sockaddr_storage]>,
    controls_out: Box<[Control]>,
    slices_out: Box<[iovec]>,
    headers_out: Box<[mmsghdr]>,
    queued: usize,
}

// SAFETY: the raw pointers lead only to memory that the value itself owns on the heap.
unsafe impl Send for Batch {}

impl Batch {
    /// Buffers for `slots` packets.
    pub fn new(slots: usize) -> Self {
        // SAFETY: these C structures are valid when all their octets are zero.
        let (name, slice, header) = unsafe {
            (
                mem::zeroed::<sockaddr_storage>(),
                mem::zeroed::<iovec>(),
                mem::zeroed::<mmsghdr>(),
            )
        };
        let mut batch = Self {
            packets: vec![0; slots * SLOT].into(),
            names: vec![name; slots].into(),
            controls: vec![Control([0; CONTROL]); slots].into(),
            slices_in: vec![slice; slots].into(),
            headers_in: vec![header; slots].into(),
            received: 0,
            changed: slots,
            replies: vec![0; REPLIES].into(),
            used: 0,
            names_out: vec![name; slots].into(),
            controls_out: vec![Control([0; CONTROL]); slots].into(),
            slices_out: vec![slice; slots].into(),
            headers_out: vec![header; slots].into(),
            queued: 0,
        };
        for slot in 0..slots {
            batch.slices_in[slot] = iovec {
                iov_base: batch.packets[slot * SLOT..].as_mut_ptr().cast(),
                iov_len: PACKET,
            };
            let header = &mut batch.headers_in[slot].msg_hdr;
            header.msg_name = (&raw mut batch.names[slot]).cast();
            header.msg_iov = &raw mut batch.slices_in[slot];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut batch.controls[slot]).cast();
        }
        batch
    }

    /// Waits for a packet (no longer than the socket's timeout), and takes those that are there.
    /// Gives how many.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` or `Interrupted` if nothing came.
    pub fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.receive_with(socket, libc::MSG_WAITFORONE)
    }

    /// As [`Self::receive`], without waiting.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` if nothing is there.
    pub fn try_receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.receive_with(socket, libc::MSG_DONTWAIT)
    }

    fn receive_with(&mut self, socket: &impl AsRawFd, flags: libc::c_int) -> io::Result<usize> {
        self.received = 0;
        for header in &mut self.headers_in[..self.changed] {
            header.msg_hdr.msg_namelen = mem::size_of::<sockaddr_storage>() as socklen_t;
            header.msg_hdr.msg_controllen = CONTROL;
        }
        // SAFETY: the headers lead to buffers of the lengths they say (see the invariants).
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers_in.as_mut_ptr(),
                self.headers_in.len() as libc::c_uint,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        // A call that failed may have come to the first.
        self.changed = count.max(1) as usize;
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        self.received = count as usize;
        Ok(self.received)
    }

    /// Packet `slot` of the last batch.
    ///
    /// # Panics
    /// If the last batch had fewer packets.
    #[inline]
    pub fn packet(&self, slot: usize) -> &[u8] {
        assert!(slot < self.received);
        let len = (self.headers_in[slot].msg_len as usize).min(PACKET);
        &self.packets[slot * SLOT..][..len]
    }

    /// Where packet `slot` of the last batch came from; `None` if the kernel did not say.
    #[inline]
    pub fn peer(&self, slot: usize) -> Option<Peer> {
        let header = &self.headers_in[..self.received].get(slot)?.msg_hdr;
        let sender = read_address(&self.names[slot])?;
        Some(Peer::new(sender, read_destination(header)))
    }

    /// Queues a reply to `peer`; it goes out with the next [`Self::flush`], or at once if the
    /// queue is full.
    ///
    /// # Errors
    /// What the system says of what had to be sent at once.
    #[inline]
    pub fn reply(&mut self, socket: &impl AsRawFd, peer: &Peer, reply: &[u8]) -> io::Result<()> {
        if self.queued == self.headers_out.len() || self.used + reply.len() > self.replies.len() {
            self.flush(socket)?;
        }
        let Some(room) = self.replies.get_mut(self.used..self.used + reply.len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        room.copy_from_slice(reply);
        let slot = self.queued;
        self.slices_out[slot] = iovec {
            iov_base: room.as_mut_ptr().cast(),
            iov_len: reply.len(),
        };
        let header = &mut self.headers_out[slot].msg_hdr;
        header.msg_iov = &raw mut self.slices_out[slot];
        header.msg_iovlen = 1;
        address(
            header,
            peer,
            &mut self.names_out[slot],
            &mut self.controls_out[slot],
        );
        self.used += reply.len();
        self.queued += 1;
        Ok(())
    }

    /// Sends the queued replies. A packet that the kernel refuses is left out.
    ///
    /// # Errors
    /// What the system said of the last packet that it refused.
    pub fn flush(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        let mut sent = 0;
        let mut result = Ok(());
        while sent < self.queued {
            let headers = &mut self.headers_out[sent..self.queued];
            // SAFETY: the headers lead to buffers of the lengths they say (see the invariants).
            let count = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    headers.len() as libc::c_uint,
                    0,
                )
            };
            if count > 0 {
                sent += count as usize;
                continue;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                sent += 1;
                result = Err(error);
            }
        }
        self.queued = 0;
        self.used = 0;
        result
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// Sends one packet without waiting.
pub(super) fn send_one(socket: RawFd, packet: &[u8], peer: &Peer) -> io::Result<()> {
    // SAFETY: these C structures are valid when all their octets are zero.
    let (mut header, mut name) =
        unsafe { (mem::zeroed::<msghdr>(), mem::zeroed::<sockaddr_storage>()) };
    let mut control = Control([0; CONTROL]);
    let mut slice = iovec {
        iov_base: packet.as_ptr().cast_mut().cast(),
        iov_len: packet.len(),
    };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    address(&mut header, peer, &mut name, &mut control);
    // SAFETY: the header leads to `slice`, `name` and `control`, which live until the call ends;
    // the kernel only reads from them.
    let sent = unsafe { libc::sendmsg(socket, &header, libc::MSG_DONTWAIT) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::UdpSocket;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn echo(bind: &str, ask: &[&str]) {
        let server = UdpSocket::bind(bind.parse().unwrap(), Duration::from_secs(5)).unwrap();
        let port = server.local().port();
        let mut batch = Batch::new(4);
        for to in ask {
            let to: SocketAddr = format!("{to}:{port}").parse().unwrap();
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let client = std::net::UdpSocket::bind(any).unwrap();
            // Connected: the reply only arrives if it comes from the address that was asked.
            client.connect(to).unwrap();
            client
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            for (index, sent) in [b"one".as_slice(), b"two"].into_iter().enumerate() {
                client.send(sent).unwrap();
                assert_eq!(batch.receive(&server).unwrap(), 1);
                let peer = batch.peer(0).unwrap();
                assert_eq!(peer.addr().port(), client.local_addr().unwrap().port());
                assert_eq!(peer.addr().is_ipv4(), to.is_ipv4());
                let packet = batch.packet(0).to_vec();
                assert_eq!(packet, sent);
                if index == 0 {
                    batch.reply(&server, &peer, &packet).unwrap();
                    batch.flush(&server).unwrap();
                } else {
                    server.send(&packet, &peer).unwrap();
                }
                let mut buffer = [0; 16];
                let len = client.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..len], sent);
            }
        }
    }

    #[test]
    fn replies_leave_from_the_address_that_was_asked() {
        echo("0.0.0.0:0", &["127.0.0.1", "127.0.0.9"]);
        echo("127.0.0.3:0", &["127.0.0.3"]);
        if std::net::UdpSocket::bind("[::1]:0").is_ok() {
            echo("[::]:0", &["127.0.0.1", "127.0.0.9", "[::1]"]);
        } else {
            println!("skipped IPv6: this machine has none");
        }
    }

    #[test]
    fn a_full_queue_is_sent_at_once() {
        let server =
            UdpSocket::bind("127.0.0.1:0".parse().unwrap(), Duration::from_secs(5)).unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        client.send(b"x").unwrap();
        let mut batch = Batch::new(2);
        batch.receive(&server).unwrap();
        let peer = batch.peer(0).unwrap();
        for octet in 0..5u8 {
            batch.reply(&server, &peer, &[octet]).unwrap();
        }
        batch.flush(&server).unwrap();
        for octet in 0..5u8 {
            let mut buffer = [0; 2];
            assert_eq!(client.recv(&mut buffer).unwrap(), 1);
            assert_eq!(buffer[0], octet);
        }
        assert!(batch.reply(&server, &peer, &vec![0; REPLIES + 1]).is_err());
    }
}
