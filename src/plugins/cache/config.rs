//! The directive's arguments and options.

use crate::corefile::value::{duration, zones_or};
use crate::corefile::{Directive, Error, Line, Token};
use crate::dns::{Name, Zone};
use std::time::Duration;

/// Seconds that a reply without records, or a delegation, is kept (CA-9); the least TTL (CA-2).
pub(super) const SHORT_TTL: u32 = 5;

/// Entries that a store holds at least, however few were asked for (CA-3).
pub(super) const CAPACITY_MIN: usize = 1024;
/// Octets for each entry of a store where `memory` is not set.
pub(super) const ENTRY_OCTETS: usize = 512;
/// Octets of memory that can be set at least.
const MEMORY_MIN: usize = 1 << 20;

/// What is set for one of the two stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Entries at most.
    pub(super) capacity: usize,
    /// The largest TTL, in seconds.
    pub(super) max_ttl: u32,
    /// The least TTL, in seconds; the largest wins over it.
    pub(super) min_ttl: u32,
    /// Zones in which nothing is stored.
    pub(super) disabled: Vec<Zone>,
}

impl Class {
    /// A TTL within the bounds. A TTL with its highest bit set is zero (RFC 2181 §8).
    pub(super) fn clamp(&self, ttl: u32) -> u32 {
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        ttl.max(self.min_ttl).min(self.max_ttl)
    }

    /// Whether replies to `name` may be stored.
    pub(super) fn stores(&self, name: &Name) -> bool {
        !self.disabled.iter().any(|zone| zone.contains(name))
    }
}

/// The option `prefetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefetch {
    /// Hits that make an entry popular; 0 turns prefetching off.
    pub(super) amount: u32,
    /// The longest time between two hits that count.
    pub(super) gap: Duration,
    /// Refresh when so much of the TTL is left, in percent.
    pub(super) percentage: u32,
}

/// The option `serve_stale`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stale {
    /// How long behind its TTL an entry may be served, in seconds; 0 turns it off.
    pub(super) window: u32,
    /// Ask first (`verify`), and for how long at most (zero: as long as it takes).
    pub(super) verify: Option<Duration>,
    /// The TTL of stale records, in seconds.
    pub(super) ttl: u32,
    /// How long after a failed refresh there is no other.
    pub(super) recheck: Duration,
    /// `serve_stale_policy prefer_positive`.
    pub(super) prefer_positive: bool,
}

/// Everything that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) zones: Vec<Zone>,
    pub(super) success: Class,
    pub(super) denial: Class,
    /// Octets that both stores may take, where it is set (`memory`).
    pub(super) memory: Option<usize>,
    /// Seconds that a SERVFAIL is kept; 0 not at all.
    pub(super) servfail: u32,
    pub(super) prefetch: Prefetch,
    pub(super) stale: Stale,
    pub(super) keep_ttl: bool,
}

impl Settings {
    /// The defaults (CA-2).
    pub(super) fn new(zones: &[Zone]) -> Self {
        let class = |max_ttl| Class {
            capacity: 10_000,
            max_ttl,
            min_ttl: SHORT_TTL,
            disabled: Vec::new(),
        };
        Self {
            zones: zones.to_vec(),
            success: class(3600),
            denial: class(1800),
            memory: None,
            servfail: SHORT_TTL,
            prefetch: Prefetch {
                amount: 0,
                gap: Duration::from_secs(60),
                percentage: 10,
            },
            stale: Stale::default(),
            keep_ttl: false,
        }
    }

    /// Reads the directive; `zones` are those of the server block.
    pub(super) fn read(directive: &Directive, zones: &[Zone]) -> Result<Self, Error> {
        let mut settings = Self::new(zones);
        let mut args = directive.args.as_slice();
        if let [first, rest @ ..] = args
            && first.as_str().parse::<i64>().is_ok()
        {
            settings.success.max_ttl = ttl(first)?;
            settings.denial.max_ttl = settings.success.max_ttl;
            args = rest;
        }
        settings.zones = zones_or(args, zones)?;
        let mut policy = None;
        let mut has_stale = false;
        for line in &directive.block {
            match line.name.as_str() {
                "success" => class(line, &mut settings.success)?,
                "denial" => class(line, &mut settings.denial)?,
                "prefetch" => prefetch(line, &mut settings.prefetch)?,
                "serve_stale" => {
                    let prefer_positive = settings.stale.prefer_positive;
                    settings.stale = stale(line)?;
                    settings.stale.prefer_positive = prefer_positive;
                    has_stale = true;
                }
                "serve_stale_policy" if policy.is_some() => {
                    return Err(line.error("serve_stale_policy can only be specified once"));
                }
                "serve_stale_policy" => {
                    let [name] = line.exactly()?;
                    if !name.as_str().eq_ignore_ascii_case("prefer_positive") {
                        return Err(name.error(format!("invalid serve_stale_policy: {name}")));
                    }
                    settings.stale.prefer_positive = true;
                    policy = Some(line);
                }
                "servfail" => settings.servfail = servfail(line)?,
                "memory" => settings.memory = Some(memory(line)?),
                "disable" => disable(line, &mut settings)?,
                "keepttl" => {
                    line.exactly::<0>()?;
                    settings.keep_ttl = true;
                }
                _ => return Err(line.name.arg_error()),
            }
        }
        match policy {
            Some(line) if !has_stale => Err(line.error("serve_stale_policy requires serve_stale")),
            _ => Ok(settings),
        }
    }

    /// Octets that the stores of positive and of negative replies may take: what is set, shared
    /// like the capacities, or [`ENTRY_OCTETS`] for each entry.
    pub(super) fn budgets(&self) -> [usize; 2] {
        let capacity = |class: &Class| class.capacity.max(CAPACITY_MIN);
        let [success, denial] = [capacity(&self.success), capacity(&self.denial)];
        let Some(memory) = self.memory else {
            return [success, denial].map(|entries| entries.saturating_mul(ENTRY_OCTETS));
        };
        let share = success as f64 / (success as f64 + denial as f64);
        let least = MEMORY_MIN / 4;
        let success = ((memory as f64 * share) as usize).clamp(least, memory - least);
        [success, memory - success]
    }

    /// The `zones` label of metrics.
    pub(super) fn zones_label(&self) -> String {
        let zones: Vec<&str> = self.zones.iter().map(Zone::text).collect();
        zones.join(",")
    }
}

fn integer(token: &Token) -> Result<i64, Error> {
    token
        .as_str()
        .parse()
        .map_err(|_| token.error(format!("strconv.Atoi: parsing \"{token}\": invalid syntax")))
}

/// An integer as seconds; what is beyond 32 bits is no smaller bound than 2^32 - 1.
fn seconds(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

fn ttl(token: &Token) -> Result<u32, Error> {
    match integer(token)? {
        value if value <= 0 => {
            Err(token.error(format!("cache TTL can not be zero or negative: {value}")))
        }
        value => Ok(seconds(value)),
    }
}

fn class(line: &Line, class: &mut Class) -> Result<(), Error> {
    let args = line.some_args()?;
    class.capacity = usize::try_from(integer(&args[0])?).unwrap_or(0);
    if let Some(max) = args.get(1) {
        class.max_ttl = ttl(max)?;
    }
    if let Some(min) = args.get(2) {
        let value = integer(min)?;
        if value < 0 {
            return Err(min.error(format!("cache min TTL can not be negative: {value}")));
        }
        class.min_ttl = seconds(value);
    }
    Ok(())
}

fn prefetch(line: &Line, prefetch: &mut Prefetch) -> Result<(), Error> {
    let args = line.some_args()?;
    if let Some(extra) = args.get(3) {
        return Err(extra.arg_error());
    }
    let amount = integer(&args[0])?;
    if amount < 0 {
        return Err(args[0].error(format!("prefetch amount should be positive: {amount}")));
    }
    prefetch.amount = seconds(amount);
    if let Some(gap) = args.get(1) {
        prefetch.gap = duration(gap)?;
    }
    let Some(token) = args.get(2) else {
        return Ok(());
    };
    let Some(digits) = token.as_str().strip_suffix('%') else {
        let last = token.as_str().chars().last().unwrap_or(' ');
        return Err(token.error(format!(
            "last character of percentage should be `%`, but is: '{last}'"
        )));
    };
    let number = Token {
        text: digits.to_owned(),
        ..token.clone()
    };
    let number = integer(&number)?;
    if !(10..=90).contains(&number) {
        return Err(token.error(format!(
            "percentage should fall in range [10, 90]: {number}"
        )));
    }
    prefetch.percentage = seconds(number);
    Ok(())
}

/// A duration for which CoreDNS has an error text of its own when it is negative, and one (a
/// prefix) when it is none at all.
fn positive(token: &Token, wrong: &str, negative: &str) -> Result<Duration, Error> {
    if let Some(rest) = token.as_str().strip_prefix('-') {
        let without_sign = Token {
            text: rest.to_owned(),
            ..token.clone()
        };
        if duration(&without_sign).is_ok_and(|value| !value.is_zero()) {
            return Err(token.error(negative));
        }
    }
    duration(token).map_err(|error| token.error(format!("{wrong}{}", error.message)))
}

fn stale(line: &Line) -> Result<Stale, Error> {
    let mut args = line.args.iter();
    let mut stale = Stale {
        window: 3600,
        ..Stale::default()
    };
    if let Some(window) = args.next() {
        let window = positive(window, "", "invalid negative duration for serve_stale")?;
        stale.window = u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
    }
    if let Some(token) = args.next() {
        let mode = token.as_str().to_ascii_lowercase();
        stale.verify = match mode.as_str() {
            "immediate" => None,
            "verify" => Some(Duration::ZERO),
            _ => {
                return Err(token.error(format!(
                    "invalid value for serve_stale refresh mode: {mode}"
                )));
            }
        };
    }
    if stale.verify.is_some()
        && let Some(timeout) = args.next()
    {
        stale.verify = Some(positive(
            timeout,
            "invalid serve_stale verify timeout: ",
            "invalid negative timeout for serve_stale verify",
        )?);
    }
    if let Some(ttl) = args.next() {
        stale.ttl = stale_ttl(ttl)?;
    }
    if let Some(token) = args.next() {
        stale.recheck = positive(
            token,
            "invalid serve_stale failure recheck: ",
            "invalid negative failure recheck for serve_stale",
        )?;
        if stale.recheck > Duration::from_secs(300) {
            return Err(token.error("serve_stale failure recheck cannot exceed 5 minutes"));
        }
    }
    match args.next() {
        Some(extra) => Err(extra.arg_error()),
        None => Ok(stale),
    }
}

fn stale_ttl(token: &Token) -> Result<u32, Error> {
    let ttl = positive(
        token,
        "invalid serve_stale response TTL: ",
        "invalid negative response TTL for serve_stale",
    )?;
    if ttl.subsec_nanos() != 0 {
        let message = "serve_stale response TTL must be a whole number of seconds";
        return Err(token.error(message));
    }
    u32::try_from(ttl.as_secs())
        .map_err(|_| token.error("serve_stale response TTL exceeds the DNS TTL range"))
}

fn servfail(line: &Line) -> Result<u32, Error> {
    let [token] = line.exactly()?;
    let ttl = positive(token, "", "invalid negative ttl for servfail")?;
    // RFC 9520 §3.2: five minutes at most.
    if ttl > Duration::from_secs(300) {
        let message = "caching SERVFAIL responses over 5 minutes is not permitted";
        return Err(token.error(message));
    }
    Ok(seconds(ttl.as_secs() as i64))
}

/// Octets as Kubernetes writes them (`64Mi`, `64M`), an `iB` or `B` at the end allowed.
fn memory(line: &Line) -> Result<usize, Error> {
    let [token] = line.exactly()?;
    let text = token.as_str();
    let at = text.find(|c: char| !c.is_ascii_digit());
    let (digits, unit) = text.split_at(at.unwrap_or(text.len()));
    let factor = match unit {
        "" | "B" => Some(1),
        "k" | "K" | "kB" | "KB" => Some(1000),
        "Ki" | "KiB" => Some(1 << 10),
        "M" | "MB" => Some(1_000_000),
        "Mi" | "MiB" => Some(1 << 20),
        "G" | "GB" => Some(1_000_000_000),
        "Gi" | "GiB" => Some(1 << 30),
        _ => None,
    };
    let octets: Option<usize> = digits.parse().ok();
    let octets = octets.zip(factor).and_then(|(n, by)| n.checked_mul(by));
    match octets {
        Some(octets) if octets >= MEMORY_MIN => Ok(octets),
        Some(_) => Err(token.error(format!("cache memory can not be less than 1Mi: {text}"))),
        None => Err(token.error(format!("invalid size for memory: {text}"))),
    }
}

fn disable(line: &Line, settings: &mut Settings) -> Result<(), Error> {
    let (class, zones) = match line.some_args()? {
        [class, zones @ ..] => (class, zones),
        [] => return Err(line.name.arg_error()),
    };
    let disabled = zones_or(zones, &[Zone::root()])?;
    match class.as_str() {
        "success" => settings.success.disabled = disabled,
        "denial" => settings.denial.disabled = disabled,
        _ => {
            let message = "cache type for disable must be \"success\" or \"denial\"";
            return Err(class.error(message));
        }
    }
    Ok(())
}
