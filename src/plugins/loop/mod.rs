#![doc = include_str!("README.md")]

mod probe;
mod returned;

use crate::corefile::Error;
use crate::dns::{ExtendedError, Rcode, RecordType, Reply, Zone};
use crate::plugin::{Context, Hooks, Outcome, Plugin, Setup, Step};
use crate::upstream::marker::Origin;
use probe::{Detector, Sighting};
use returned::Return;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Builds the plugin from its occurrence in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let directive = setup.only_one()?;
    directive.exactly::<0>()?;
    directive.no_block()?;
    let zone = setup.block.zones.first().cloned();
    let zone = zone.unwrap_or_else(Zone::root);
    let listen = probe_address(&setup.block.bind, setup.block.port);
    let detector = Arc::new(Detector::new(zone.clone(), listen));
    let origin = Origin::of_block(&setup.block.server, &setup.block.zones);
    let labels = vec![
        ("server", setup.block.server.clone()),
        ("zone", zone.text().to_owned()),
    ];
    let process = Arc::clone(setup.process);
    let served = Arc::downgrade(&detector);
    setup.hooks.serving.push(Hooks::hook(move || async move {
        let Some(detector) = served.upgrade() else {
            return;
        };
        // Not before: a configuration that is turned down must not take the gauge from the one
        // that serves on.
        process.metrics.read_gauge(
            "portolan_loop_detected",
            "Whether queries that are forwarded come back to the server.",
            labels,
            move || Some(f64::from(u8::from(served.upgrade()?.is_looping()))),
        );
        detector.start();
    }));
    setup.add(Loop { detector, origin });
    Ok(())
}

/// Where the block listens, as seen from the server's own host.
fn probe_address(bind: &[IpAddr], port: u16) -> SocketAddr {
    let ip = match bind.first() {
        None => Ipv4Addr::LOCALHOST.into(),
        Some(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        Some(&ip) => ip,
    };
    (ip, port).into()
}

/// Stands before `forward`, so that only queries that nothing else answered come here.
struct Loop {
    detector: Arc<Detector>,
    /// The block, as *forward* marks its queries.
    origin: Origin,
}

impl Loop {
    /// Whether the query is not to be forwarded.
    fn is_circling(&self, cx: &Context<'_>) -> bool {
        let query = &cx.query;
        if query.qtype() == RecordType::HINFO {
            match self.detector.sight(query.name(), cx.client) {
                Sighting::Expected => return false,
                Sighting::Loop => return true,
                Sighting::NotOurs => {}
            }
        }
        let returned = self
            .origin
            .has_in_flight(query.header().id, query.question())
            && self.detector.sight_returned(query.name(), cx.client) != Return::Chance;
        returned || self.detector.is_probe_looping()
    }
}

impl Plugin for Loop {
    fn name(&self) -> &'static str {
        "loop"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        if !self.is_circling(cx) {
            return Step::Next;
        }
        cx.note(|| "this server's upstream asks this server: a loop was found".into());
        reply.add_extended_error(ExtendedError::new(
            ExtendedError::OTHER,
            "forwarding loop: this server's upstream asks this server",
        ));
        // Without an error: the loop itself was logged, once.
        Step::Done(Outcome::Unwritten {
            rcode: Rcode::SERVFAIL,
            error: None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn probes_go_to_the_first_address() {
        let address = |bind: &[&str]| {
            let bind: Vec<IpAddr> = bind.iter().map(|ip| ip.parse().unwrap()).collect();
            probe_address(&bind, 1053).to_string()
        };
        assert_eq!(address(&[]), "127.0.0.1:1053");
        assert_eq!(address(&["0.0.0.0"]), "127.0.0.1:1053");
        assert_eq!(address(&["::"]), "[::1]:1053");
        assert_eq!(address(&["169.254.20.10", "::1"]), "169.254.20.10:1053");
    }
}
