//! The policy `weighted`: a file says how often each address of a name comes first (LB-3).

use crate::corefile::value::duration;
use crate::corefile::{Directive, Error, Token};
use crate::dns::Name;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The weights that the file names, by name in lower-case wire form; all others are 1.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Weights(HashMap<Vec<u8>, Vec<(IpAddr, u8)>>);

impl Weights {
    /// The weight of an address of a name: the first that the file gives, 1 if it gives none.
    pub(super) fn of(&self, name: &Name, address: IpAddr) -> u8 {
        let listed = self.0.get(name.wire()).into_iter().flatten();
        let found = listed.into_iter().find(|(known, _)| *known == address);
        found.map_or(1, |(_, weight)| *weight)
    }

    /// Reads lines with a name, each followed by lines with an address and its weight (1 to 255).
    /// Empty lines and those that start with `#` do not count.
    pub(super) fn read(text: &str, file: &Path) -> Result<Self, String> {
        let file = file.display();
        let mut weights = Self::default();
        let mut name: Option<Vec<u8>> = None;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [word] => {
                    let wrong = || format!("wrong domain name:\"{word}\" in weight file {file}.");
                    if word.parse::<IpAddr>().is_ok() {
                        return Err(wrong() + " (Maybe a missing weight value?)");
                    }
                    let wire = Name::from_text(word).map_err(|_| wrong())?.wire().to_vec();
                    weights.0.entry(wire.clone()).or_default();
                    name = Some(wire);
                }
                [address, weight] => {
                    let ip: IpAddr = address.parse().map_err(|_| {
                        format!("wrong IP address:\"{address}\" in weight file {file}")
                    })?;
                    let weight = weight.parse().ok().filter(|&weight: &u8| weight > 0);
                    let weight = weight.ok_or_else(|| {
                        format!("wrong weight value:\"{}\" in weight file {file}", words[1])
                    })?;
                    let listed = name.as_ref().and_then(|name| weights.0.get_mut(name));
                    listed
                        .ok_or_else(|| format!("missing domain name in weight file {file}"))?
                        .push((ip, weight));
                }
                _ => {
                    return Err(format!(
                        "could not parse weight line:\"{line}\" in weight file {file}"
                    ));
                }
            }
        }
        Ok(weights)
    }
}

/// The weights in use.
pub(super) type Current = Arc<ArcSwap<Weights>>;

/// Reads the file that the directive names, and follows its changes as long as the weights are
/// in use.
///
/// # Errors
/// What is wrong with the directive or the file. A file that cannot be opened is tried again later
/// if it is read again at all.
pub(super) fn setup(directive: &Directive, runtime: &Handle) -> Result<Current, Error> {
    let path = match directive.args.as_slice() {
        [policy] => return Err(policy.error("missing weight file argument")),
        [_, path] => path,
        [_, _, extra, ..] => return Err(extra.error("unexpected argument(s)")),
        [] => return Err(directive.name.arg_error()),
    };
    let mut reload = Duration::from_secs(30);
    for line in &directive.block {
        if line.name.as_str() != "reload" {
            return Err(line.unknown());
        }
        reload = match line.args.as_slice() {
            [] => return Err(line.error("reload duration value is missing")),
            [value] => duration(value)
                .map_err(|_| value.error(format!("invalid reload duration '{value}'")))?,
            [_, extra, ..] => return Err(extra.error("unexpected argument")),
        };
    }
    let (text, weights) = first(path, reload)?;
    let current: Current = Arc::new(ArcSwap::from_pointee(weights));
    if !reload.is_zero() {
        let task = follow(
            Arc::downgrade(&current),
            path.text.clone().into(),
            text,
            reload,
        );
        runtime.spawn(task);
    }
    Ok(current)
}

/// The file's text, if it can be opened, and what it says.
fn first(path: &Token, reload: Duration) -> Result<(Option<String>, Weights), Error> {
    match std::fs::read_to_string(path.as_str()) {
        Ok(text) => {
            let weights = Weights::read(&text, Path::new(path.as_str()));
            let weights = weights.map_err(|error| path.error(error))?;
            Ok((Some(text), weights))
        }
        Err(_) if reload.is_zero() => Err(path.error("weight file open error")),
        Err(error) => {
            tracing::warn!(
                target: "plugin/loadbalance",
                "Failed to open weight file {path}: {error}. Will try again in {reload:?}"
            );
            Ok((None, Weights::default()))
        }
    }
}

/// Reads the file every so often; a file that cannot be read or is wrong changes nothing.
async fn follow(
    current: std::sync::Weak<ArcSwap<Weights>>,
    path: PathBuf,
    mut known: Option<String>,
    every: Duration,
) {
    loop {
        tokio::time::sleep(every).await;
        let Some(current) = current.upgrade() else {
            return;
        };
        let text = match tokio::fs::read_to_string(&path).await {
            Ok(text) => text,
            Err(error) => {
                let file = path.display();
                tracing::error!(
                    target: "plugin/loadbalance",
                    "weight file {file} open error: {error}"
                );
                continue;
            }
        };
        if known.as_ref() == Some(&text) {
            continue;
        }
        match Weights::read(&text, &path) {
            Ok(weights) => {
                current.store(Arc::new(weights));
                let file = path.display();
                tracing::info!(
                    target: "plugin/loadbalance",
                    "Successfully reloaded weight file {file}"
                );
            }
            Err(error) => tracing::error!(target: "plugin/loadbalance", "{error}"),
        }
        known = Some(text);
    }
}
