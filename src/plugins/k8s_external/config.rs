//! The options of `k8s_external`.

use crate::corefile::value::{self, Fallthrough};
use crate::corefile::{Directive, Error};
use crate::dns::{Name, Zone};

/// What the directive says.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// The zones, as configured.
    pub zones: Vec<Zone>,
    /// The first zone that is no reverse zone: PTR targets lie in it. The first one where all are.
    pub primary: Zone,
    /// The labels of `apex`: the name server lies below it.
    pub apex: Name,
    /// TTL of records, in seconds.
    pub ttl: u32,
    /// Whether headless services, and endpoints, have names.
    pub headless: bool,
    /// Names that are handed on if they do not exist.
    pub fallthrough: Fallthrough,
}

impl Config {
    /// Reads the directive; `zones` are the server block's.
    ///
    /// # Errors
    /// Points at what is wrong.
    pub fn read(directive: &Directive, zones: &[Zone]) -> Result<Self, Error> {
        let zones = value::zones_or(&directive.args, zones)?;
        let forward = zones.iter().find(|zone| !zone.is_reverse());
        let Some(primary) = forward.or(zones.first()).cloned() else {
            return Err(directive.error("no zone"));
        };
        // A label: it is a name.
        let dns = |error| directive.error(format!("dns: {error}"));
        let mut config = Self {
            zones,
            primary,
            apex: Name::from_text("dns").map_err(dns)?,
            ttl: 5,
            headless: false,
            fallthrough: Fallthrough::NONE,
        };
        for line in &directive.block {
            match line.name.as_str() {
                "apex" => {
                    let [token] = line.exactly()?;
                    let name = Name::from_text(token.as_str());
                    config.apex = name.map_err(|error| token.error(format!("{token}: {error}")))?;
                    if config.apex.label_count() == 0 {
                        return Err(token.error("the apex needs a name"));
                    }
                }
                "ttl" => {
                    let [token] = line.exactly()?;
                    let ttl: i64 = value::number(token)?;
                    let valid = u32::try_from(ttl).ok().filter(|&ttl| ttl <= 3600);
                    let wrong = || token.error(format!("ttl must be in range [0, 3600]: {ttl}"));
                    config.ttl = valid.ok_or_else(wrong)?;
                }
                "headless" => {
                    line.exactly::<0>()?;
                    config.headless = true;
                }
                "fallthrough" => config.fallthrough = Fallthrough::from_args(&line.args)?,
                _ => return Err(line.unknown()),
            }
        }
        Ok(config)
    }
}
