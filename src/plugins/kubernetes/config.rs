//! The options of `kubernetes` (spec 4.1).

use super::object::Kind;
use super::parse::Dialect;
use super::records::LocalAddresses;
use super::snapshot;
use super::source::selector::Selector;
use super::source::{Origin, Settings, Tls};
use crate::corefile::value::{self, Fallthrough};
use crate::corefile::{Directive, Error, Line, Token};
use crate::dns::Zone;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which names of pods there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pods {
    /// None.
    #[default]
    Disabled,
    /// Every address in a namespace that exists.
    Insecure,
    /// Addresses of pods.
    Verified,
}

/// What an occurrence of the plugin answers, whatever index it answers from.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The zones, as configured.
    pub zones: Vec<Zone>,
    /// The first zone that is no reverse zone: PTR targets lie in it.
    pub primary: Zone,
    /// TTL of records, in seconds.
    pub ttl: u32,
    /// Which names of pods there are.
    pub pods: Pods,
    /// `namespaces`; empty for all.
    pub namespaces: Vec<Box<str>>,
    /// Whether `namespace_labels` hides namespaces.
    pub labelled_namespaces: bool,
    /// `noendpoints`.
    pub noendpoints: bool,
    /// `zonal`.
    pub zonal: bool,
    /// `multicluster`: those of `zones` that have imported services only.
    pub multicluster: Vec<Zone>,
    /// `ignore empty_service`.
    pub ignore_empty_service: bool,
    /// Names that are handed on if they do not exist.
    pub fallthrough: Fallthrough,
    /// This machine's addresses, loopback left out.
    pub local: LocalAddresses,
}

impl Answers {
    /// What names `zone` has, which is one of these.
    pub fn dialect(&self, zone: &Zone) -> Dialect {
        let clusters = self.multicluster.contains(zone);
        Dialect {
            clusters,
            zonal: self.zonal && !clusters,
        }
    }
}

/// Everything that the directive says.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is answered.
    pub answers: Answers,
    /// Where the objects are, and which.
    pub settings: Settings,
    /// `endpoint_pod_names`.
    pub endpoint_pod_names: bool,
    /// How long the start waits for the first lists.
    pub startup_timeout: Duration,
    /// `snapshot`.
    pub snapshot: Option<snapshot::Options>,
}

impl Config {
    /// Reads the directive. Relative paths start at `base`; `zones` are the server block's.
    ///
    /// # Errors
    /// Points at what is wrong.
    pub fn read(directive: &Directive, zones: &[Zone], base: &Path) -> Result<Self, Error> {
        let zones = value::zones_or(&directive.args, zones)?;
        let Some(primary) = zones.iter().find(|zone| !zone.is_reverse()).cloned() else {
            return Err(directive.error("non-reverse zone name must be used"));
        };
        let mut config = Self {
            answers: Answers {
                zones,
                primary,
                ttl: 5,
                pods: Pods::default(),
                namespaces: Vec::new(),
                labelled_namespaces: false,
                noendpoints: false,
                zonal: false,
                multicluster: Vec::new(),
                ignore_empty_service: false,
                fallthrough: Fallthrough::NONE,
                local: LocalAddresses::from([]),
            },
            settings: Settings {
                endpoints: true,
                ..Settings::default()
            },
            endpoint_pod_names: false,
            startup_timeout: Duration::from_secs(5),
            snapshot: None,
        };
        let mut tls = None;
        for line in &directive.block {
            config.option(line, base, &mut tls)?;
        }
        if let (Some(files), Origin::Endpoint { tls, .. }) = (tls, &mut config.settings.origin) {
            *tls = Some(files);
        }
        config.settings.pods = config.answers.pods == Pods::Verified;
        config.settings.endpoints = !config.answers.noendpoints;
        config.settings.imports = !config.answers.multicluster.is_empty();
        if config.answers.zonal && config.answers.noendpoints {
            return Err(directive.error("zonal and noendpoints cannot both be set"));
        }
        if config.answers.labelled_namespaces && !config.answers.namespaces.is_empty() {
            return Err(directive.error("namespaces and namespace_labels cannot both be set"));
        }
        let snapshot = directive
            .block
            .iter()
            .find(|line| line.name.as_str() == "snapshot");
        if let (Some(line), Origin::Manifests(_)) = (snapshot, &config.settings.origin) {
            return Err(
                line.error("snapshot keeps what an API server said; manifests are files already")
            );
        }
        Ok(config)
    }

    fn option(&mut self, line: &Line, base: &Path, tls: &mut Option<Tls>) -> Result<(), Error> {
        let path = |token: &Token| base.join(token.as_str());
        let Self {
            answers, settings, ..
        } = self;
        match line.name.as_str() {
            "endpoint" => {
                let urls = line.some_args()?;
                if urls.len() > 1 {
                    tracing::warn!(
                        target: "plugin/kubernetes",
                        "multiple endpoints have been deprecated, only the first specified endpoint '{}' is used",
                        urls[0]
                    );
                }
                // A kubeconfig counts for more (KC-7).
                if !matches!(settings.origin, Origin::Kubeconfig { .. }) {
                    settings.origin = Origin::Endpoint {
                        url: urls[0].text.clone(),
                        tls: None,
                    };
                }
            }
            "tls" => {
                let [cert, key, ca] = line.exactly()?;
                *tls = Some(Tls {
                    cert: path(cert),
                    key: path(key),
                    ca: path(ca),
                });
            }
            "kubeconfig" => {
                let (file, context) = match line.args.as_slice() {
                    [file] => (file, None),
                    [file, context] => (file, Some(context.text.clone())),
                    _ => return Err(line.name.arg_error()),
                };
                settings.origin = Origin::Kubeconfig {
                    file: path(file),
                    context,
                };
            }
            "manifests" => {
                let paths = line.some_args()?.iter().map(path);
                match &mut settings.origin {
                    Origin::Manifests(known) => known.extend(paths),
                    origin => *origin = Origin::Manifests(paths.collect::<Vec<PathBuf>>()),
                }
            }
            "apiserver_qps" => settings.pace.qps = not_negative(&line.exactly::<1>()?[0])?,
            "apiserver_burst" => settings.pace.burst = value::number(&line.exactly::<1>()?[0])?,
            "apiserver_max_inflight" => {
                settings.pace.max_inflight = value::number(&line.exactly::<1>()?[0])?;
            }
            "namespaces" => {
                let names = line.some_args()?.iter();
                answers
                    .namespaces
                    .extend(names.map(|name| name.text.as_str().into()));
            }
            "labels" => settings.labels = selector(line, "label")?,
            "namespace_labels" => {
                settings.namespace_labels = selector(line, "namespace_label")?;
                answers.labelled_namespaces = true;
            }
            "pods" => {
                let [mode] = line.exactly()?;
                answers.pods = match mode.as_str() {
                    "disabled" => Pods::Disabled,
                    "insecure" => Pods::Insecure,
                    "verified" => Pods::Verified,
                    other => return Err(mode.error(format!("wrong value for pods: {other},  must be one of: disabled, verified, insecure"))),
                };
            }
            "endpoint_pod_names" => {
                line.exactly::<0>()?;
                self.endpoint_pod_names = true;
            }
            "ttl" => {
                let [token] = line.exactly()?;
                let ttl: i64 = value::number(token)?;
                answers.ttl = u32::try_from(ttl)
                    .ok()
                    .filter(|&ttl| ttl <= 3600)
                    .ok_or_else(|| token.error(format!("ttl must be in range [0, 3600]: {ttl}")))?;
            }
            "noendpoints" => {
                line.exactly::<0>()?;
                answers.noendpoints = true;
            }
            "fallthrough" => answers.fallthrough = Fallthrough::from_args(&line.args)?,
            "ignore" => match line.args.as_slice() {
                // CoreDNS takes this and does nothing (KC-4).
                [] => {}
                [what, ..] if what.as_str() == "empty_service" => {
                    answers.ignore_empty_service = true
                }
                [what, ..] => {
                    return Err(what.error(format!("unable to parse ignore value: '{what}'")));
                }
            },
            "zonal" => {
                line.exactly::<0>()?;
                answers.zonal = true;
            }
            "multicluster" => {
                answers.multicluster = value::zones_or(&line.args, &[])?;
                for zone in &answers.multicluster {
                    if !answers.zones.contains(zone) {
                        return Err(line.error(format!(
                            "is not authoritative for the multicluster zone {zone}"
                        )));
                    }
                }
            }
            "snapshot" => self.snapshot = Some(snapshot::Options::read(line, base)?),
            "startup_timeout" => {
                self.startup_timeout = value::duration(&line.exactly::<1>()?[0])?;
            }
            _ => return Err(line.unknown()),
        }
        Ok(())
    }

    /// The kinds that have to be listed before the index is complete.
    pub fn kinds(&self) -> Vec<Kind> {
        self.settings.kinds()
    }
}

fn selector(line: &Line, what: &str) -> Result<Selector, Error> {
    let words: Vec<&str> = line.some_args()?.iter().map(Token::as_str).collect();
    let text = words.join(" ");
    Selector::parse(&text).map_err(|error| {
        line.error(format!(
            "unable to parse {what} selector value: '{text}': {error}"
        ))
    })
}

fn not_negative(token: &Token) -> Result<f64, Error> {
    let number: f64 = value::number(token)?;
    if number >= 0.0 {
        Ok(number)
    } else {
        Err(token.error(format!("must not be negative: {token}")))
    }
}
