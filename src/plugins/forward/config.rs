//! The options of a `forward` stanza, as the Corefile gives them.

use super::addresses::{self, To};
use super::peer::Probe;
use super::policy::Policy;
use super::private::Treatment;
use crate::corefile::value::{duration, number, zone};
use crate::corefile::{Directive, Error, Line, Token};
use crate::dns::{Rcode, Zone};
use crate::upstream::{ClientTls, DohMethod, Encryption, PoolSettings};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// One stanza.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) from: Zone,
    pub(super) except: Vec<Zone>,
    pub(super) to: Vec<To>,
    pub(super) force_tcp: bool,
    pub(super) prefer_udp: bool,
    pub(super) pool: PoolSettings,
    pub(super) read_timeout: Duration,
    /// Zero: upstreams are never down.
    pub(super) max_fails: u32,
    /// Zero: as many as fit into the time.
    pub(super) max_attempts: usize,
    pub(super) policy: Policy,
    pub(super) probe: Probe,
    /// Zero: no bound of its own.
    pub(super) max_concurrent: usize,
    pub(super) next: Vec<Rcode>,
    pub(super) next_on_nodata: bool,
    pub(super) failover: Vec<Rcode>,
    pub(super) fail_fast: bool,
    pub(super) private_zones: Treatment,
    pub(super) search_leftovers: Treatment,
}

/// Reads a stanza; relative paths start at `directory`.
///
/// # Errors
/// Points at what is wrong.
pub(super) fn parse(directive: &Directive, directory: &Path) -> Result<Config, Error> {
    let Some((from, to)) = directive.args.split_first() else {
        return Err(directive.name.arg_error());
    };
    let name = directive.args.last().unwrap_or(from);
    let to = addresses::upstreams(name, to, directory, &resolvers(directive))?;
    let mut config = Config {
        from: first_zone(from)?,
        except: Vec::new(),
        max_attempts: 2 * to.len(),
        to,
        force_tcp: false,
        prefer_udp: false,
        pool: PoolSettings::default(),
        read_timeout: Duration::from_secs(2),
        max_fails: 2,
        policy: Policy::Random,
        probe: Probe::default(),
        max_concurrent: 0,
        next: Vec::new(),
        next_on_nodata: false,
        failover: Vec::new(),
        fail_fast: false,
        private_zones: Treatment::Usual,
        search_leftovers: Treatment::Usual,
    };
    let mut encrypting = Encrypting::default();
    for line in &directive.block {
        option(&mut config, &mut encrypting, line)?;
    }
    encrypting.apply(directory, directive, &mut config.to)?;
    config.probe.over_tcp = config.force_tcp;
    let PoolSettings {
        expire, max_age, ..
    } = config.pool;
    if !max_age.is_zero() && max_age < expire {
        return Err(directive.error(format!(
            "max_age ({max_age:?}) must not be less than expire ({expire:?})"
        )));
    }
    Ok(config)
}

fn option<'a>(
    config: &mut Config,
    encrypting: &mut Encrypting<'a>,
    line: &'a Line,
) -> Result<(), Error> {
    match line.name.as_str() {
        "except" => {
            for token in line.some_args()? {
                config.except.extend(zone(token)?);
            }
        }
        "force_tcp" => config.force_tcp = flag(line)?,
        "prefer_udp" => config.prefer_udp = flag(line)?,
        "keep_case" => config.pool.keep_case = flag(line)?,
        "expire" => config.pool.expire = positive_duration(line)?,
        "max_age" => config.pool.max_age = positive_duration(line)?,
        "max_idle_conns" => config.pool.max_idle = count(line)?,
        "read_timeout" => {
            let timeout = positive_duration(line)?;
            if timeout.is_zero() {
                return Err(line.error("read_timeout must be positive"));
            }
            config.read_timeout = timeout;
        }
        "max_fails" => config.max_fails = number(&line.exactly::<1>()?[0])?,
        "max_connect_attempts" => config.max_attempts = count(line)?,
        "policy" => {
            let [name] = line.exactly()?;
            let policy = Policy::from_name(name.as_str());
            config.policy = policy.ok_or_else(|| name.error(format!("unknown policy '{name}'")))?;
        }
        "health_check" => config.probe = probe(line)?,
        "max_concurrent" => config.max_concurrent = count(line)?,
        "next" => config.next.extend(rcodes(line)?),
        "next_on_nodata" => config.next_on_nodata = flag(line)?,
        "failover" => {
            let rcodes = rcodes(line)?;
            if rcodes.contains(&Rcode::NOERROR) {
                return Err(line.error("NOERROR cannot be used in failover"));
            }
            config.failover.extend(rcodes);
        }
        "failfast_all_unhealthy_upstreams" => config.fail_fast = flag(line)?,
        "private_zones" => config.private_zones = Treatment::read(line)?,
        "search_leftovers" => config.search_leftovers = Treatment::read(line)?,
        "source_address" => {
            let [token] = line.exactly()?;
            let source: Result<IpAddr, _> = token.as_str().parse();
            let source = source.map_err(|_| {
                token.error(format!("source_address: invalid IP address '{token}'"))
            })?;
            let mut all = config.to.iter().map(|to| to.address);
            if let Some(other) = all.find(|to| to.is_ipv4() != source.is_ipv4()) {
                return Err(token.error(format!(
                    "source_address {source} cannot reach upstream {other}: another address family"
                )));
            }
            config.pool.source = Some(source);
        }
        _ => return encrypting.option(line),
    }
    Ok(())
}

/// The servers that host names are asked of (`resolver`); those that are none are told of when the
/// option itself is read.
fn resolvers(directive: &Directive) -> Vec<SocketAddr> {
    let lines = directive
        .block
        .iter()
        .filter(|line| line.name.as_str() == "resolver");
    let tokens = lines.flat_map(|line| &line.args);
    tokens
        .filter_map(|token| addresses::plain_address(token.as_str()))
        .collect()
}

/// What the options say of encrypted upstreams.
#[derive(Default)]
struct Encrypting<'a> {
    /// The line `tls` (FW-26).
    tls: Option<&'a Line>,
    server_name: Option<&'a Token>,
    method: DohMethod,
}

impl<'a> Encrypting<'a> {
    /// Options that concern encrypted upstreams only, and `resolver`, which was read before.
    fn option(&mut self, line: &'a Line) -> Result<(), Error> {
        match (line.name.as_str(), &line.args[..]) {
            ("tls", [] | [_] | [_, _] | [_, _, _]) => self.tls = Some(line),
            ("tls_servername", [name]) => self.server_name = Some(name),
            ("doh_method", [method]) => {
                self.method = match method.as_str() {
                    "POST" => DohMethod::Post,
                    "GET" => DohMethod::Get,
                    _ => {
                        return Err(method.error(format!(
                            "doh_method: unknown method '{method}', must be POST or GET"
                        )));
                    }
                };
            }
            ("resolver", [_, ..]) => {
                let mut args = line.args.iter();
                let bad = args.find(|token| addresses::plain_address(token.as_str()).is_none());
                if let Some(token) = bad {
                    return Err(token.error(format!("resolver: not an IP address: \"{token}\"")));
                }
            }
            ("tls" | "tls_servername" | "doh_method" | "resolver", _) => {
                return Err(line.args.last().unwrap_or(&line.name).arg_error());
            }
            _ => return Err(line.unknown()),
        }
        Ok(())
    }

    /// Gives encrypted upstreams what they are asked with.
    fn apply(self, directory: &Path, directive: &Directive, all: &mut [To]) -> Result<(), Error> {
        let files = self.tls.map_or(&[][..], |line| &line.args);
        // Files that are named are read, needed or not: a wrong one is found at the start.
        if files.is_empty() && all.iter().all(|to| to.encrypted.is_none()) {
            return Ok(());
        }
        let file = |at: usize| directory.join(files[at].as_str());
        let (identity, authorities) = match files.len() {
            0 => (None, None),
            1 => (None, Some(file(0))),
            2 => (Some((file(0), file(1))), None),
            _ => (Some((file(0), file(1))), Some(file(2))),
        };
        let identity = identity.as_ref().map(|(chain, key)| (&**chain, &**key));
        let client = ClientTls::load(identity, authorities.as_deref()).map_err(|why| {
            let text = format!("tls: {why}");
            files
                .first()
                .map_or_else(|| directive.error(&text), |token| token.error(&text))
        })?;
        for to in all {
            let Some(protocol) = to.encrypted else {
                continue;
            };
            let name = match (&to.server_name, self.server_name) {
                (Some(own), Some(_)) => {
                    return Err(own.error(format!(
                        "tls_servername cannot be used together with the server name of an upstream: '%{own}'"
                    )));
                }
                (own, stanza) => own.as_ref().or(stanza).or(to.host.as_ref()),
            };
            let text = name.map(Token::as_str);
            let ip = to.address.ip();
            let made = Encryption::new(protocol, client.clone(), text, ip, self.method);
            let made = made.map_err(|why| match name {
                Some(name) => name.error(&why),
                None => directive.error(&why),
            })?;
            to.encryption = Some(made);
        }
        Ok(())
    }
}

/// The zone of `FROM`: the first one that a network stands for.
fn first_zone(from: &Token) -> Result<Zone, Error> {
    let invalid = || from.error(format!("unable to normalize '{from}'"));
    let zones = zone(from).map_err(|_| invalid())?;
    if let [first, _, ..] = &zones[..] {
        tracing::warn!(
            target: "plugin/forward",
            "Unsupported CIDR notation: '{from}' expands to multiple zones. Using only '{first}'."
        );
    }
    zones.into_iter().next().ok_or_else(invalid)
}

fn probe(line: &Line) -> Result<Probe, Error> {
    let (interval, options) = line
        .args
        .split_first()
        .ok_or_else(|| line.name.arg_error())?;
    let mut probe = Probe {
        interval: not_negative(line, interval)?,
        ..Probe::default()
    };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match option.as_str() {
            "no_rec" => probe.recurse = false,
            "domain" => {
                let domain = options.next().ok_or_else(|| option.arg_error())?;
                probe.domain = Zone::from_text(domain.as_str()).map_err(|_| {
                    domain.error(format!("health_check: invalid domain name {domain}"))
                })?;
            }
            _ => {
                return Err(option.error(format!("health_check: unknown option {option}")));
            }
        }
    }
    Ok(probe)
}

fn flag(line: &Line) -> Result<bool, Error> {
    line.exactly::<0>().map(|_| true)
}

fn positive_duration(line: &Line) -> Result<Duration, Error> {
    not_negative(line, &line.exactly::<1>()?[0])
}

fn not_negative(line: &Line, token: &Token) -> Result<Duration, Error> {
    if token.as_str().starts_with('-') {
        return Err(token.error(format!("{} can't be negative: {token}", line.name)));
    }
    duration(token)
}

fn count(line: &Line) -> Result<usize, Error> {
    let [token] = line.exactly()?;
    if token.as_str().starts_with('-') {
        return Err(token.error(format!("{} can't be negative: {token}", line.name)));
    }
    number(token)
}

fn rcodes(line: &Line) -> Result<Vec<Rcode>, Error> {
    let tokens = line.some_args()?.iter();
    tokens
        .map(|token| {
            let rcode = token.as_str().parse();
            rcode.map_err(|_| token.error(format!("{token} is not a valid rcode")))
        })
        .collect()
}
