#![doc = include_str!("README.md")]

use crate::corefile::Error;
use crate::dns::name::MAX_NAME;
use crate::dns::{Header, Owner, RecordType, Reply, Section};
use crate::plugin::{Context, Outcome, Plugin, Setup, Step};
use std::net::IpAddr;

/// Builds the plugin from its occurrences in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    for directive in setup.directives {
        directive.exactly::<0>()?;
        directive.no_block()?;
    }
    setup.add(Whoami);
    Ok(())
}

/// Tells clients their address and port.
struct Whoami;

impl Plugin for Whoami {
    fn name(&self) -> &'static str {
        "whoami"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let (client, class) = (cx.client.addr, cx.query.qclass());
        reply.set_flag(Header::AA, true);
        let mut add = |owner: Owner<'_>, rtype, rdata: &[u8]| {
            reply.push_with(Section::Additional, owner, (rtype, class), 0, |out| {
                out.octets(rdata);
            });
        };
        match client.ip() {
            IpAddr::V4(address) => add(Owner::Query, RecordType::A, &address.octets()),
            IpAddr::V6(address) => add(Owner::Query, RecordType::AAAA, &address.octets()),
        }
        // A label, and a pointer to the question.
        let owner = match cx.client.transport.proto() {
            "udp" => b"\x04_udp\xc0\x0c",
            _ => b"\x04_tcp\xc0\x0c",
        };
        if cx.query.name().wire().len() + 5 <= MAX_NAME {
            let [high, low] = client.port().to_be_bytes();
            // Priority 0, weight 0, the port, and the root as target.
            let rdata = [0, 0, 0, 0, high, low, 0];
            add(Owner::Wire(owner), RecordType::SRV, &rdata);
        }
        Step::Done(Outcome::Written)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::dns::Class;
    use crate::plugin::{Chain, Transport};
    use crate::plugins::testing::{Rig, ask, passed, setup_error};
    use std::sync::Arc;

    fn chain() -> Arc<Chain> {
        let mut rig = Rig::new();
        rig.setup("whoami").unwrap();
        rig.chain(passed())
    }

    #[test]
    fn replies() {
        assert_eq!(
            ask("Example.org", RecordType::MX).of(&chain()).lines(),
            [
                "NOERROR aa",
                "AR Example.org. 0 IN A 10.240.0.1",
                "AR _udp.Example.org. 0 IN SRV 0 0 40212 .",
            ]
        );
        let six = ask(".", RecordType::A).class(Class::CH);
        let six = six.from("[2001:db8::7]:853", Transport::Tls);
        assert_eq!(
            six.of(&chain()).lines(),
            [
                "NOERROR aa",
                "AR . 0 CH AAAA 2001:db8::7",
                "AR _tcp. 0 CH SRV 0 0 853 ."
            ]
        );
    }

    #[test]
    fn a_name_too_long_for_the_port() {
        let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(58));
        let lines = ask(&name, RecordType::A).of(&chain()).lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(56));
        let lines = ask(&name, RecordType::A).of(&chain()).lines();
        assert_eq!(lines[2], format!("AR _udp.{name}. 0 IN SRV 0 0 40212 ."));
    }

    #[test]
    fn configuration_errors() {
        assert_eq!(
            setup_error("whoami x"),
            "plugin/whoami: Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after 'x'"
        );
    }
}
