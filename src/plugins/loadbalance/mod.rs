#![doc = include_str!("README.md")]

mod order;
#[cfg(test)]
mod tests;
mod weighted;

use crate::corefile::{Error, Token};
use crate::dns::{Rcode, RecordType, Reply};
use crate::plugin::{Context, Outcome, Plugin, Setup};
use ipnet::IpNet;
use order::{Order, Policy};

/// Builds the plugin from its occurrences in a server block: the last policy counts, preferred
/// networks add up.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let mut prefer = Vec::new();
    let mut weights = None;
    for directive in setup.directives {
        weights = match directive.args.as_slice() {
            [] => None,
            [policy, extra @ ..] if policy.as_str() == "round_robin" => match extra.first() {
                Some(extra) => {
                    return Err(extra.error(format!("unknown property for {policy}")));
                }
                None => None,
            },
            [policy, ..] if policy.as_str() == "weighted" => {
                // Its options are its own.
                weights = Some(weighted::setup(directive, &setup.process.runtime)?);
                continue;
            }
            [policy, ..] => return Err(policy.error(format!("unknown policy: {policy}"))),
        };
        for line in &directive.block {
            if line.name.as_str() != "prefer" {
                return Err(line.unknown());
            }
            for token in &line.args {
                prefer.push(network(token)?);
            }
        }
    }
    setup.add(LoadBalance { weights, prefer });
    Ok(())
}

fn network(token: &Token) -> Result<IpNet, Error> {
    token.as_str().parse::<IpNet>().map_err(|_| {
        token.error(format!(
            "invalid CIDR \"{token}\": invalid CIDR address: {token}"
        ))
    })
}

/// The plugin.
struct LoadBalance {
    /// The policy `weighted`; otherwise all addresses are shuffled.
    weights: Option<weighted::Current>,
    prefer: Vec<IpNet>,
}

impl Plugin for LoadBalance {
    fn name(&self) -> &'static str {
        "loadbalance"
    }

    fn only_looks_back(&self) -> bool {
        true
    }

    fn answered(&self, cx: &mut Context<'_>, reply: &mut Reply, outcome: &mut Outcome) {
        if *outcome != Outcome::Written || reply.rcode() != Rcode::NOERROR {
            return;
        }
        let weights = self.weights.as_ref().map(|weights| weights.load());
        let policy = match (&weights, cx.query.qtype()) {
            (_, RecordType::AXFR | RecordType::IXFR) => return,
            (None, _) => Policy::RoundRobin,
            (Some(weights), RecordType::A | RecordType::AAAA | RecordType::SRV) => {
                Policy::Weighted(weights)
            }
            (Some(_), _) => return,
        };
        let order = Order {
            policy,
            prefer: &self.prefer,
        };
        crate::plugins::random::with(|random| order.apply(reply, random));
    }
}
