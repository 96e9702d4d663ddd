//! Addresses of packets as the kernel has them: socket addresses, and control messages with the
//! destination (`IP_PKTINFO`, `IPV6_PKTINFO`).
#![allow(unsafe_code)]

use libc::{c_int, c_void, msghdr, sockaddr_storage, socklen_t};
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;

/// Room for one control message with a packet's destination.
pub(super) const CONTROL: usize = 64;

/// Where a packet came from, and which of our addresses it was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The sender; an IPv4 sender on an IPv6 socket as it was received (mapped).
    raw: SocketAddr,
    /// The destination, where the socket is bound to an unspecified address.
    destination: Option<Destination>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    V4(Ipv4Addr),
    /// With the interface, which a link-local address needs.
    V6(Ipv6Addr, u32),
}

impl Peer {
    pub(super) const fn new(raw: SocketAddr, destination: Option<Destination>) -> Self {
        Self { raw, destination }
    }

    /// The sender, an IPv4 address always as such.
    pub const fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.raw.ip().to_canonical(), self.raw.port())
    }

    /// The address that the packet was sent to, if the socket is bound to an unspecified one.
    pub const fn destination(&self) -> Option<IpAddr> {
        match self.destination {
            Some(Destination::V4(ip)) => Some(IpAddr::V4(ip)),
            Some(Destination::V6(ip, _)) => Some(IpAddr::V6(ip).to_canonical()),
            None => None,
        }
    }
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control(pub(super) [u8; CONTROL]);

/// Asks the kernel to tell the destination of each packet.
pub(super) fn want_destination(socket: RawFd, v6: bool) -> io::Result<()> {
    let (level, name) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: c_int = 1;
    // SAFETY: the option's value is an int, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket,
            level,
            name,
            (&raw const on).cast::<c_void>(),
            mem::size_of::<c_int>() as socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Fills a header's destination address and source address.
#[inline]
pub(super) fn address(
    header: &mut msghdr,
    peer: &Peer,
    name: &mut sockaddr_storage,
    control: &mut Control,
) {
    header.msg_namelen = write_address(name, peer.raw);
    header.msg_name = (name as *mut sockaddr_storage).cast();
    header.msg_control = std::ptr::null_mut();
    header.msg_controllen = 0;
    let Some(destination) = peer.destination else {
        return;
    };
    let (level, kind, size) = match destination {
        Destination::V4(_) => (
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            mem::size_of::<libc::in_pktinfo>(),
        ),
        Destination::V6(..) => (
            libc::IPPROTO_IPV6,
            libc::IPV6_PKTINFO,
            mem::size_of::<libc::in6_pktinfo>(),
        ),
    };
    header.msg_control = (control as *mut Control).cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute. `control` is aligned and larger than one
    // control message of either kind, so that CMSG_FIRSTHDR gives a place in it, and CMSG_DATA has
    // room for the structure that is written there (unaligned, as it may be).
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size as u32) as usize;
        let message = libc::CMSG_FIRSTHDR(header);
        if message.is_null() {
            return;
        }
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size as u32) as usize;
        match destination {
            Destination::V4(ip) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from(ip).to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                libc::CMSG_DATA(message)
                    .cast::<libc::in_pktinfo>()
                    .write_unaligned(info);
            }
            Destination::V6(ip, interface) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                    ipi6_ifindex: if ip.is_unicast_link_local() {
                        interface
                    } else {
                        0
                    } as _,
                };
                libc::CMSG_DATA(message)
                    .cast::<libc::in6_pktinfo>()
                    .write_unaligned(info);
            }
        }
    }
}

/// The destination from the control message of a received packet.
#[inline]
pub(super) fn read_destination(header: &msghdr) -> Option<Destination> {
    if header.msg_controllen < mem::size_of::<libc::cmsghdr>() {
        return None;
    }
    // SAFETY: the kernel filled `msg_controllen` octets of the control buffer with whole control
    // messages; the length of the one read is checked against its structure.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        if message.is_null() {
            return None;
        }
        let data = libc::CMSG_DATA(message);
        let holds = |size: usize| (*message).cmsg_len >= libc::CMSG_LEN(size as u32) as usize;
        match ((*message).cmsg_level, (*message).cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(mem::size_of::<libc::in_pktinfo>()) => {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                Some(Destination::V4(Ipv4Addr::from(u32::from_be(
                    info.ipi_spec_dst.s_addr,
                ))))
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                if holds(mem::size_of::<libc::in6_pktinfo>()) =>
            {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                Some(Destination::V6(ip, info.ipi6_ifindex as u32))
            }
            _ => None,
        }
    }
}

#[inline]
pub(super) fn read_address(name: &sockaddr_storage) -> Option<SocketAddr> {
    let name: *const sockaddr_storage = name;
    // SAFETY: `sockaddr_storage` is large enough and aligned for every address family, and the
    // family says which structure the kernel wrote.
    unsafe {
        match c_int::from((*name).ss_family) {
            libc::AF_INET => {
                let v4 = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let v6 = &*name.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[inline]
pub(super) fn write_address(name: &mut sockaddr_storage, addr: SocketAddr) -> socklen_t {
    let name: *mut sockaddr_storage = name;
    // SAFETY: `sockaddr_storage` is large enough and aligned for every address family.
    unsafe {
        match addr {
            SocketAddr::V4(v4) => {
                let out = &mut *name.cast::<libc::sockaddr_in>();
                out.sin_family = libc::AF_INET as libc::sa_family_t;
                out.sin_port = v4.port().to_be();
                out.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                mem::size_of::<libc::sockaddr_in>() as socklen_t
            }
            SocketAddr::V6(v6) => {
                let out = &mut *name.cast::<libc::sockaddr_in6>();
                out.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                out.sin6_port = v6.port().to_be();
                out.sin6_addr.s6_addr = v6.ip().octets();
                out.sin6_flowinfo = v6.flowinfo();
                out.sin6_scope_id = v6.scope_id();
                mem::size_of::<libc::sockaddr_in6>() as socklen_t
            }
        }
    }
}
