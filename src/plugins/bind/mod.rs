#![doc = include_str!("README.md")]

use crate::corefile::{Directive, Error, Token};
use crate::net::interfaces;
use crate::plugin::Setup;
use std::net::{IpAddr, SocketAddr};

/// Sets the addresses that the server block listens on. Queries do not pass it.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let machine = interfaces::addresses().unwrap_or_else(|error| {
        tracing::warn!(
            target: "plugin/bind",
            "failed to get interfaces list, cannot bind by interface name: {error}"
        );
        Vec::new()
    });
    let mut all = Vec::new();
    for directive in setup.directives {
        for address in parse(directive, &machine)? {
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
    let [first, ..] = all[..] else {
        // No address would mean every address.
        return Err(setup.directives[0].error("no address is left to listen on"));
    };
    let block = &mut *setup.block;
    block.server = format!("{}://{}", block.scheme, SocketAddr::new(first, block.port));
    block.bind = all;
    Ok(())
}

fn parse(directive: &Directive, machine: &[(String, IpAddr)]) -> Result<Vec<IpAddr>, Error> {
    if directive.args.is_empty() {
        return Err(directive.error("at least one address or interface name is expected"));
    }
    let mut except = Vec::new();
    for line in &directive.block {
        if line.name.text != "except" {
            return Err(line.error(format!("invalid option \"{}\"", line.name)));
        }
        if line.args.is_empty() {
            return Err(line
                .error("at least one address or interface must be given to except subdirective"));
        }
        except.extend(resolve(&line.args, machine)?);
    }
    let mut addresses = resolve(&directive.args, machine)?;
    addresses.retain(|address| !except.contains(address));
    Ok(addresses)
}

/// The addresses that addresses and names of interfaces stand for.
fn resolve(args: &[Token], machine: &[(String, IpAddr)]) -> Result<Vec<IpAddr>, Error> {
    let mut out = Vec::new();
    for arg in args {
        if machine.iter().any(|(name, _)| *name == arg.text) {
            let of_interface = machine.iter().filter(|(name, _)| *name == arg.text);
            out.extend(
                of_interface
                    .map(|(_, address)| *address)
                    .filter(is_reachable),
            );
            continue;
        }
        let address = arg.text.parse().map_err(|_| {
            arg.error(format!(
                "not a valid IP address or interface name: \"{arg}\""
            ))
        });
        out.push(address?);
    }
    Ok(out)
}

/// Whether an address of an interface can be listened on without naming the interface again.
fn is_reachable(address: &IpAddr) -> bool {
    !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plugins::testing::{Rig, directives, setup_error};

    fn machine() -> Vec<(String, IpAddr)> {
        [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "10.0.0.5"),
            ("eth0", "fe80::1"),
            ("eth0", "2001:db8::5"),
        ]
        .map(|(name, address)| (name.to_owned(), address.parse().unwrap()))
        .into()
    }

    #[test]
    fn addresses_and_interfaces() {
        for (text, expected) in [
            ("bind 127.0.0.9 ::2", vec!["127.0.0.9", "::2"]),
            ("bind eth0", vec!["10.0.0.5", "2001:db8::5"]),
            ("bind lo 10.0.0.5", vec!["127.0.0.1", "::1", "10.0.0.5"]),
            (
                "bind lo eth0 {\nexcept ::1 10.0.0.5\n}",
                vec!["127.0.0.1", "2001:db8::5"],
            ),
            (
                "bind lo eth0 {\nexcept lo\nexcept 10.0.0.5\n}",
                vec!["2001:db8::5"],
            ),
        ] {
            let found = parse(&directives(text)[0], &machine()).unwrap();
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn sets_the_block() {
        let mut rig = Rig::new();
        rig.setup("bind 127.0.0.9\nbind ::1 127.0.0.9").unwrap();
        assert_eq!(
            rig.block.bind,
            ["127.0.0.9", "::1"].map(|a| a.parse::<IpAddr>().unwrap())
        );
        assert_eq!(rig.block.server, "dns://127.0.0.9:53");
        let mut rig = Rig::new();
        rig.setup("bind ::1").unwrap();
        assert_eq!(rig.block.server, "dns://[::1]:53");
        let mut rig = Rig::new();
        rig.setup("bind lo").unwrap();
        assert!(rig.block.bind.contains(&"127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn configuration_errors() {
        for (text, error) in [
            (
                "bind",
                "1 - Error during parsing: at least one address or interface name is expected",
            ),
            (
                "bind nosuch0",
                "1 - Error during parsing: not a valid IP address or interface name: \"nosuch0\"",
            ),
            (
                "bind ::1 {\nexcept\n}",
                "2 - Error during parsing: at least one address or interface must be given to except subdirective",
            ),
            (
                "bind ::1 {\nfoo\n}",
                "2 - Error during parsing: invalid option \"foo\"",
            ),
            (
                "bind ::1 {\nexcept ::1\n}",
                "1 - Error during parsing: no address is left to listen on",
            ),
        ] {
            assert_eq!(setup_error(text), format!("plugin/bind: Corefile:{error}"));
        }
    }
}
