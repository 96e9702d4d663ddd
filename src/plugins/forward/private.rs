//! What a catch-all stanza answers itself, so that it does not leak: names of private networks
//! (RFC 6303 §4, RFC 7793) where all upstreams are public, and what search lists leave over of
//! cluster names.

mod zones;

use super::config::Config;
use crate::corefile::{Error, Line};
use crate::dns::{
    Class, ExtendedError, Header, Name, Owner, Rcode, RecordType, Reply, Section, Zone,
};
use crate::metrics::Counter;
use crate::plugin::{Context, Outcome, Setup};
use crate::plugins::autopath;
use crate::plugins::kubernetes::ClusterZones;

/// How long a denial may be kept, in seconds: the address or the service may come into being.
/// (RFC 6303 §3 has three hours, for networks in which nobody ever names anything.)
const TTL: u32 = 30;
/// RNAME of a zone that nobody is to write to about (RFC 6303 §3).
const NOBODY: &[u8] = b"\x06nobody\x07invalid\0";

/// What the Corefile says of names that would leak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Nothing: what is sure to be useless is answered.
    #[default]
    Usual,
    /// They are answered, whatever the upstreams and `FROM`.
    Answer,
    /// They are forwarded.
    Forward,
}

impl Treatment {
    /// Of an option's line.
    ///
    /// # Errors
    /// It is neither `answer` nor `forward`.
    pub(super) fn read(line: &Line) -> Result<Self, Error> {
        let [token] = line.exactly()?;
        match token.as_str() {
            "answer" => Ok(Self::Answer),
            "forward" => Ok(Self::Forward),
            _ => Err(token.error(format!(
                "{}: unknown value '{token}', must be answer or forward",
                line.name
            ))),
        }
    }
}

/// The names that a stanza answers itself.
#[derive(Debug)]
pub(super) struct Private {
    zones: Treatment,
    leftovers: Treatment,
    /// Whether the stanza's `FROM` is the root.
    catch_all: bool,
    /// Whether every upstream has an address of the public Internet.
    public: bool,
    /// Names below these are leftovers of search lists.
    below: Box<[Zone]>,
    kept: [Counter; 2],
}

/// Why a name is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// It is of a zone of this many labels, of which public servers know nothing.
    Private { labels: usize },
    /// It is below a name of this many labels, which only a search list makes.
    Leftover { labels: usize },
}

impl Private {
    /// Of a stanza, in a block of which *kubernetes* is set up.
    pub(super) fn new(config: &Config, setup: &Setup<'_>) -> Self {
        let cluster = setup.process.shared.get_or("", ClusterZones::default);
        let own = match setup.process.check_only {
            true => Vec::new(),
            false => search_list(),
        };
        let counter = |reason: &str| {
            setup.process.metrics.counter(
                "portolan_forward_kept_total",
                "Queries answered here because their names are of no use to any upstream.",
                vec![("reason", reason.into())],
            )
        };
        Self {
            zones: config.private_zones,
            leftovers: config.search_leftovers,
            catch_all: config.from == Zone::root(),
            public: config.to.iter().all(|to| zones::is_public(to.address.ip())),
            below: leftovers(&cluster.all(), &own).into(),
            kept: [counter("private"), counter("leftover")],
        }
    }

    /// Answers a query that is not to be forwarded.
    pub(super) fn answer(&self, cx: &Context<'_>, reply: &mut Reply) -> Option<Outcome> {
        if cx.query.qclass() != Class::IN {
            return None;
        }
        let name = cx.query.name();
        let reason = self.reason(name)?;
        let (labels, text, counter) = match reason {
            Reason::Private { labels } => (
                labels,
                "a private zone, of which public servers know nothing",
                &self.kept[0],
            ),
            Reason::Leftover { labels } => (
                labels,
                "a cluster name with a domain of a search list",
                &self.kept[1],
            ),
        };
        let forced = match reason {
            Reason::Private { .. } => self.zones == Treatment::Answer,
            Reason::Leftover { .. } => self.leftovers == Treatment::Answer,
        };
        // A block or a stanza for some zone alone is there on purpose.
        let zone = Zone::longest(&cx.chain.block().zones, name);
        if !forced && !(self.catch_all && zone.is_none_or(|zone| zone.label_count() == 0)) {
            return None;
        }
        let apex = name.label_count() == labels;
        // The DS records of an apex are its parent's (RFC 4035 §3.1.4.1): that there are none is
        // what validators need to believe the rest.
        if apex && cx.query.qtype() == RecordType::DS {
            return None;
        }
        cx.note(|| format!("not forwarded: {text}"));
        counter.add(cx.shard, 1);
        write(name.label_count() - labels, cx.query.qtype(), reply);
        reply.add_extended_error(ExtendedError::new(ExtendedError::SYNTHESIZED, text));
        Some(Outcome::Written)
    }

    fn reason(&self, name: &Name) -> Option<Reason> {
        let answers = |treatment| treatment != Treatment::Forward;
        if answers(self.leftovers) {
            let found = Zone::longest(&self.below, name);
            let found = found.filter(|zone| name.label_count() > zone.label_count());
            // A company's servers may have a zone of this name; public servers have none.
            let found = found.filter(|zone| zone.label_count() > 1 || self.public);
            if let Some(zone) = found {
                let labels = zone.label_count();
                return Some(Reason::Leftover { labels });
            }
        }
        let answers = match self.zones {
            Treatment::Usual => self.public,
            Treatment::Answer => true,
            Treatment::Forward => false,
        };
        let labels = zones::private_apex(name).filter(|_| answers)?;
        Some(Reason::Private { labels })
    }
}

/// The search list of the process: that of its node, behind the cluster's domains if its pod has those.
fn search_list() -> Vec<Zone> {
    let text = std::fs::read_to_string(autopath::RESOLV_CONF).unwrap_or_default();
    autopath::search_domains(&text).unwrap_or_default()
}

/// Names below these are made by search lists alone: services and pods of the clusters' zones with
/// a search domain of the nodes (`own`) behind them; and `web.shop.svc` as it is typed.
///
/// A zone of a single label says too little: `api.svc.prod.example.com` may be somebody's.
fn leftovers(cluster: &[Zone], own: &[Zone]) -> Vec<Zone> {
    if cluster.is_empty() {
        return Vec::new();
    }
    let mut below = Vec::from_iter(Zone::from_text("svc.").ok());
    for zone in cluster.iter().filter(|zone| zone.label_count() > 1) {
        for domain in own.iter().filter(|domain| domain.label_count() > 0) {
            for kind in ["svc", "pod"] {
                // What is too long to be a name is no leftover either.
                let text = format!("{kind}.{zone}{domain}");
                below.extend(Zone::from_text(&text).ok());
            }
        }
    }
    below
}

/// Writes the answer of an empty zone whose apex is the name asked for without `labels` labels.
fn write(labels: usize, qtype: RecordType, reply: &mut Reply) {
    reply.set_flag(Header::AA, true);
    let (ns, soa) = ((RecordType::NS, Class::IN), (RecordType::SOA, Class::IN));
    let owner = Owner::Suffix(labels);
    let section = match (labels, qtype) {
        (0, RecordType::NS) => {
            reply.push_with(Section::Answer, owner, ns, TTL, |out| {
                out.question_suffix(labels)
            });
            return;
        }
        (0, RecordType::SOA) => Section::Answer,
        (0, _) => Section::Authority,
        _ => {
            reply.set_rcode(Rcode::NXDOMAIN);
            Section::Authority
        }
    };
    // The zone itself, which has no address, is its primary server: updates end there.
    reply.push_with(section, owner, soa, TTL, |out| {
        out.question_suffix(labels);
        out.octets(NOBODY);
        for number in [1, 3600, 1200, 604_800, 10_800] {
            out.u32(number);
        }
    });
}

#[cfg(test)]
mod tests;
