#![doc = include_str!("README.md")]

mod order;
mod random;
#[cfg(test)]
mod tests;

use crate::corefile::{Error, Token};
use crate::dns::{Rcode, RecordType, Reply};
use crate::plugin::{Context, Outcome, Plugin, Setup, Step};
use ipnet::IpNet;

/// Builds the plugin from its occurrences in a server block: the last policy counts, preferred
/// networks add up.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let mut prefer = Vec::new();
    for directive in setup.directives {
        match directive.args.as_slice() {
            [] => {}
            [policy, extra @ ..] if policy.as_str() == "round_robin" => {
                if let Some(extra) = extra.first() {
                    return Err(extra.error(format!("unknown property for {policy}")));
                }
            }
            [policy] if policy.as_str() == "weighted" => {
                return Err(policy.error("missing weight file argument"));
            }
            [policy, ..] if policy.as_str() == "weighted" => {
                return Err(policy.error("policy weighted is not supported yet"));
            }
            [policy, ..] => return Err(policy.error(format!("unknown policy: {policy}"))),
        }
        for line in &directive.block {
            if line.name.as_str() != "prefer" {
                return Err(line.unknown());
            }
            for token in &line.args {
                prefer.push(network(token)?);
            }
        }
    }
    setup.add(LoadBalance { prefer });
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
    prefer: Vec<IpNet>,
}

impl Plugin for LoadBalance {
    fn name(&self) -> &'static str {
        "loadbalance"
    }

    fn query(&self, _: &mut Context<'_>, _: &mut Reply) -> Step {
        Step::Next
    }

    fn answered(&self, cx: &mut Context<'_>, reply: &mut Reply, outcome: &mut Outcome) {
        let transfer = matches!(cx.query.qtype(), RecordType::AXFR | RecordType::IXFR);
        if *outcome == Outcome::Written && reply.rcode() == Rcode::NOERROR && !transfer {
            random::with(|random| order::shuffle(reply, &self.prefer, random));
        }
    }
}
