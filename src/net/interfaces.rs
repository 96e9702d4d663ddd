//! The addresses of the machine's network interfaces.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::net::IpAddr;

/// Every address with the name of its interface, in the kernel's order; an interface without an
/// address is left out.
///
/// # Errors
/// The error of `getifaddrs(3)`.
pub fn addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the call writes a pointer to a list of its own, freed below, or fails.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut out = Vec::new();
    let mut next = first;
    // SAFETY: `next` is null or an entry of the list, which is not freed before the loop ends.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: the name of an entry is a string that ends in a zero octet.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        if let Some(address) = address(entry.ifa_addr) {
            out.push((name.to_string_lossy().into_owned(), address));
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list came from `getifaddrs`, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(out)
}

/// The IP address of a socket address that is null or one of the kernel's.
fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null, or long enough for the family that it names.
    match i32::from(unsafe { address.as_ref() }?.sa_family) {
        libc::AF_INET => {
            // SAFETY: a `sockaddr_in`, by its family.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::from(address.sin_addr.s_addr.to_ne_bytes()))
        }
        libc::AF_INET6 => {
            // SAFETY: a `sockaddr_in6`, by its family.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::from(address.sin6_addr.s6_addr))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_loopback_interface() {
        let addresses = super::addresses().unwrap();
        let loopback = ("lo".to_owned(), "127.0.0.1".parse().unwrap());
        assert!(addresses.contains(&loopback), "{addresses:?}");
    }
}
