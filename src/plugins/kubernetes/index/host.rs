//! The names of endpoints below their service (spec 4.7).

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::ops::Deref;

/// Two labels of 63 octets and the dot between them.
const LONGEST: usize = 127;

/// What an endpoint's name starts with, in lower case: a label, or the labels of a pod's name, at
/// most 63 octets; then perhaps a dot and the label of its cluster. It lies on the stack: most are made from the address when they are needed.
#[derive(Clone, Copy)]
pub struct HostName {
    len: u8,
    text: [u8; LONGEST],
}

impl HostName {
    /// The text of an address with dots or colons as dashes; a trailing dash gets a `0`.
    pub fn of_address(ip: IpAddr) -> Self {
        let mut host = Self::of_text("");
        // At most 45 octets: it fits.
        let _ = write!(host, "{ip}");
        for octet in &mut host.text[..usize::from(host.len)] {
            if matches!(octet, b'.' | b':') {
                *octet = b'-';
            }
        }
        if host.ends_with('-') {
            let _ = host.write_char('0');
        }
        host
    }

    /// A name that was given; what is beyond 127 octets is cut off.
    pub fn of_text(text: &str) -> Self {
        let mut host = Self {
            len: 0,
            text: [0; LONGEST],
        };
        let len = text.floor_char_boundary(LONGEST.min(text.len()));
        let _ = host.write_str(&text[..len]);
        host
    }

    /// The address that a name of [`Self::of_address`] was made from.
    pub fn address(name: &[u8]) -> Option<IpAddr> {
        let name = str::from_utf8(name).ok().filter(|name| name.len() <= 46)?;
        let mut text = Self::of_text(name);
        let dashes = name.bytes().filter(|&octet| octet == b'-').count();
        let ip: IpAddr = if dashes == 3 && !name.contains("--") {
            text.replace(b'.');
            text.parse().ok()?
        } else {
            text.replace(b':');
            text.parse().ok()?
        };
        (&*Self::of_address(ip) == name).then_some(ip)
    }

    fn replace(&mut self, by: u8) {
        for octet in &mut self.text[..usize::from(self.len)] {
            if *octet == b'-' {
                *octet = by;
            }
        }
    }
}

impl fmt::Write for HostName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let at = usize::from(self.len);
        let room = self.text.get_mut(at..at + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

impl Deref for HostName {
    type Target = str;

    fn deref(&self) -> &str {
        // Only whole strings are written, and only ASCII octets replaced.
        str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Whether a name can stand in front of a service's (a source does not promise that).
pub(super) fn is_host(name: &str) -> bool {
    name.len() <= 63 && name.split('.').all(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses_and_back() {
        for (ip, name) in [
            ("10.244.1.5", "10-244-1-5"),
            ("fd00:10::5", "fd00-10--5"),
            ("fd00::", "fd00--0"),
            ("::1", "--1"),
        ] {
            let ip: IpAddr = ip.parse().expect("an address");
            assert_eq!(&*HostName::of_address(ip), name);
            assert_eq!(HostName::address(name.as_bytes()), Some(ip));
        }
        for name in [
            "",
            "web",
            "010-1-1-1",
            "10-1-1",
            "fd00--00",
            "10.1.1.1",
            "é-1-1-1",
        ] {
            assert_eq!(HostName::address(name.as_bytes()), None, "{name}");
        }
    }
}
