#![doc = include_str!("README.md")]

mod process;

use super::common;
use crate::corefile::Error;
use crate::dns::{Rcode, Reply};
use crate::metrics::{Format, Observed, QueryMetrics, exposition};
use crate::plugin::admin::{Endpoint, Response};
use crate::plugin::{Chain, Context, Hooks, Outcome, Plugin, Process, Setup, Transport};
use std::sync::{Arc, OnceLock, Weak};

/// The address where CoreDNS serves its metrics if none is given.
const DEFAULT_ADDRESS: &str = "localhost:9153";

/// Builds the plugin from its occurrences in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let directive = setup.only_one()?;
    let listen = match directive.args.as_slice() {
        [] => DEFAULT_ADDRESS.to_owned(),
        [address] => common::host_port(address)?,
        [.., last] => return Err(last.arg_error()),
    };
    for line in &directive.block {
        match line.name.as_str() {
            "runtime_metrics" => line.exactly::<0>().map(|_| ())?,
            "tls" => return Err(line.error("tls is not supported yet: metrics are plain HTTP")),
            other => return Err(line.error(format!("unknown option: {other}"))),
        }
    }
    build_info(setup.process);
    process::register(&setup.process.metrics);
    let process = Arc::clone(setup.process);
    setup.endpoints.push(Endpoint {
        listen,
        path: "/metrics",
        handler: Arc::new(move |request| {
            let format = Format::from_accept(request.accept);
            Response {
                status: 200,
                content_type: format.content_type(),
                body: exposition(&process.metrics, format),
            }
        }),
    });
    let (process, slot) = (Arc::clone(setup.process), Arc::clone(setup.chain));
    let show = Hooks::hook(move || async move { show_plugins(&process, &slot) });
    setup.hooks.serving.push(show);
    let plugin = Prometheus::new(setup);
    setup.add(plugin);
    Ok(())
}

fn build_info(process: &Process) {
    let labels = vec![
        ("goversion", env!("PORTOLAN_RUSTC").to_owned()),
        ("revision", env!("PORTOLAN_COMMIT").to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let help = "A metric with a constant '1' value labeled by version, revision, and the \
                compiler that made the binary.";
    let gauge = process.metrics.gauge("coredns_build_info", help, labels);
    gauge.set(1);
}

/// Shows `coredns_plugin_enabled` for every plugin of the chain, as long as the chain lives.
fn show_plugins(process: &Process, slot: &OnceLock<Weak<Chain>>) {
    let Some((weak, chain)) = slot.get().and_then(|weak| Some((weak, weak.upgrade()?))) else {
        return;
    };
    let block = chain.block();
    for zone in &block.zones {
        for plugin in chain.plugins() {
            let labels = vec![
                ("name", plugin.name().to_owned()),
                ("server", block.server.clone()),
                ("view", String::new()),
                ("zone", zone.text().to_owned()),
            ];
            let alive = Weak::clone(weak);
            process.metrics.read_gauge(
                "coredns_plugin_enabled",
                "A metric that indicates whether a plugin is enabled on per server and zone basis.",
                labels,
                move || (alive.strong_count() > 0).then_some(1.0),
            );
        }
    }
}

/// Counts the queries of a server block.
struct Prometheus {
    /// Parallel to the zones of the block.
    zones: Box<[QueryMetrics]>,
}

impl Prometheus {
    fn new(setup: &Setup<'_>) -> Self {
        // CoreDNS labels a reply with the plugin directly below this one, whoever answers.
        let mut below = setup
            .loaded
            .iter()
            .skip_while(|name| **name != "prometheus");
        let below = below.nth(1).copied().unwrap_or_default();
        let (registry, server) = (&setup.process.metrics, &setup.block.server);
        let zones = setup.block.zones.iter();
        Self {
            zones: zones
                .map(|zone| QueryMetrics::new(registry, server, zone.text(), below))
                .collect(),
        }
    }

    /// The cells of the longest zone that the query's name is in.
    fn zone(&self, cx: &Context<'_>) -> Option<&QueryMetrics> {
        let zones = cx.chain.block().zones.iter().zip(&self.zones);
        zones
            .filter(|(zone, _)| zone.contains(cx.query.name()))
            .max_by_key(|(zone, _)| zone.label_count())
            .map(|(_, metrics)| metrics)
            .or(self.zones.first())
    }
}

impl Plugin for Prometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn only_looks_back(&self) -> bool {
        true
    }

    fn answered(&self, cx: &mut Context<'_>, reply: &mut Reply, outcome: &mut Outcome) {
        let Some(zone) = self.zone(cx) else {
            return;
        };
        let written = *outcome == Outcome::Written;
        let observed = Observed {
            tcp: !matches!(cx.client.transport, Transport::Udp | Transport::Quic),
            ipv6: cx.client.addr.is_ipv6(),
            qtype: cx.query.qtype(),
            dnssec_ok: cx.query.dnssec_ok(),
            request_size: cx.query.packet().len(),
            response_size: if written { reply.len() } else { 0 },
            rcode: outcome.rcode(reply).unwrap_or(Rcode::NOERROR),
            by_plugin: written,
            nanos: u64::try_from(cx.received.elapsed().as_nanos()).unwrap_or(u64::MAX),
        };
        zone.count(cx.shard, &observed);
    }
}

#[cfg(test)]
mod tests;
