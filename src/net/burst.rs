//! Many datagrams of a connected socket with one system call.
#![allow(unsafe_code)]

use libc::{iovec, mmsghdr};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};

/// Buffers for a burst of datagrams from or to the one peer of a connected UDP socket.
///
/// Invariants: the pointers in `headers_in` lead to `slices_in`, and those to slots of `packets`;
/// neither is ever reallocated.
pub struct Burst {
    packets: Box<[u8]>,
    slot: usize,
    slices_in: Box<[iovec]>,
    headers_in: Box<[mmsghdr]>,
    received: usize,
    slices_out: Vec<iovec>,
    headers_out: Vec<mmsghdr>,
}

// SAFETY: the raw pointers lead only to memory that the value itself owns on the heap, or are not
// looked at before they are written again.
unsafe impl Send for Burst {}

impl Burst {
    /// Buffers for `slots` datagrams of `slot` octets. The system gives memory only for what
    /// arrives.
    pub fn new(slots: usize, slot: usize) -> Self {
        // SAFETY: these C structures are valid when all their octets are zero.
        let (slice, header) = unsafe { (mem::zeroed::<iovec>(), mem::zeroed::<mmsghdr>()) };
        let mut burst = Self {
            packets: vec![0; slots * slot].into(),
            slot,
            slices_in: vec![slice; slots].into(),
            headers_in: vec![header; slots].into(),
            received: 0,
            slices_out: Vec::with_capacity(slots),
            headers_out: Vec::with_capacity(slots),
        };
        for at in 0..slots {
            burst.slices_in[at] = iovec {
                iov_base: burst.packets[at * slot..].as_mut_ptr().cast(),
                iov_len: slot,
            };
            let header = &mut burst.headers_in[at].msg_hdr;
            header.msg_iov = &raw mut burst.slices_in[at];
            header.msg_iovlen = 1;
        }
        burst
    }

    /// How many datagrams there is room for.
    pub fn slots(&self) -> usize {
        self.headers_in.len()
    }

    /// Takes the datagrams that are there, without waiting; gives how many.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` if there is none.
    pub fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.received = 0;
        // SAFETY: the headers lead to buffers of the lengths they say (see the invariants); no
        // address and no control message is asked for.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers_in.as_mut_ptr(),
                self.headers_in.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        self.received = count as usize;
        Ok(self.received)
    }

    /// The datagrams of the last [`Self::receive`].
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let headers = self.headers_in[..self.received].iter();
        let slots = self.packets.chunks_exact(self.slot);
        headers
            .zip(slots)
            .map(|(header, slot)| &slot[..(header.msg_len as usize).min(slot.len())])
    }

    /// Sends these datagrams, without waiting; gives how many of them, first to last, the system
    /// took.
    ///
    /// # Errors
    /// What the system says of the first.
    pub fn send<'p>(
        &mut self,
        socket: RawFd,
        packets: impl Iterator<Item = &'p [u8]>,
    ) -> io::Result<usize> {
        self.slices_out.clear();
        self.slices_out.extend(packets.map(|packet| iovec {
            iov_base: packet.as_ptr().cast_mut().cast(),
            iov_len: packet.len(),
        }));
        self.headers_out.clear();
        for slice in &mut self.slices_out {
            // SAFETY: this C structure is valid when all its octets are zero.
            let mut header = unsafe { mem::zeroed::<mmsghdr>() };
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            self.headers_out.push(header);
        }
        // SAFETY: the headers lead to `slices_out`, which does not change any more, and those to
        // the packets, which are borrowed until the call ends; the kernel only reads from them.
        let count = unsafe {
            libc::sendmmsg(
                socket,
                self.headers_out.as_mut_ptr(),
                self.headers_out.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(count as usize)
    }
}

impl std::fmt::Debug for Burst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Burst")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn bursts_arrive_in_order() {
        let bound = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (one, other) = (bound(), bound());
        one.connect(other.local_addr().unwrap()).unwrap();
        other.connect(one.local_addr().unwrap()).unwrap();
        let mut burst = Burst::new(4, 16);
        let error = burst.receive(&other).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let packets: [&[u8]; 6] = [
            b"1",
            b"22",
            b"",
            b"4444",
            b"55555",
            b"longer than 16 octets",
        ];
        let sent = burst.send(one.as_raw_fd(), packets.into_iter());
        assert_eq!(sent.unwrap(), 6);
        assert_eq!(burst.receive(&other).unwrap(), 4);
        assert!(burst.packets().eq(packets[..4].iter().copied()));
        assert_eq!(burst.receive(&other).unwrap(), 2);
        assert!(burst.packets().eq([packets[4], &packets[5][..16]]));
    }
}
