#![doc = include_str!("README.md")]

mod file;
mod table;

use crate::corefile::{Directive, Error, Line, Token, value};
use crate::dns::{Header, Owner, RecordType, Reply, Section, Zone};
use crate::plugin::{Block, Context, Hooks, Outcome, Plugin, Setup, Step};
use arc_swap::ArcSwap;
use file::HostsFile;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use table::{Table, reverse_address};
use value::Fallthrough;

/// Builds the plugin from its occurrence in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let settings = Settings::parse(setup.only_one()?, setup.block)?;
    let inline = settings.inline.join("\n");
    let inline = Table::parse(&inline, &settings.zones, settings.reverse);
    let file: Arc<ArcSwap<Table>> = Arc::default();
    let hosts_file = HostsFile::new(
        &settings,
        inline.len(),
        Arc::clone(&file),
        Arc::clone(setup.process),
    );
    hooks(setup, hosts_file, settings.reload);
    setup.add(Hosts {
        zones: settings.zones,
        ttl: settings.ttl,
        fallthrough: settings.fallthrough,
        fallthrough_unsupported: settings.fallthrough_unsupported,
        inline,
        file,
    });
    Ok(())
}

/// The file is read before the server starts, and then every `interval` (never again if it is 0).
fn hooks(setup: &mut Setup<'_>, mut file: HostsFile, interval: Duration) {
    let runtime = setup.process.runtime.clone();
    let task: Arc<OnceLock<tokio::task::AbortHandle>> = Arc::default();
    let running = Arc::clone(&task);
    let start = Hooks::hook(move || async move {
        file.read();
        if interval > Duration::ZERO {
            // Set once: the hook runs once.
            let _ = running.set(runtime.spawn(file.follow(interval)).abort_handle());
        }
    });
    setup.hooks.start.push(start);
    let stop = Hooks::hook(move || async move {
        if let Some(task) = task.get() {
            task.abort();
        }
    });
    setup.hooks.shutdown.push(stop);
}

/// The directive, read.
struct Settings {
    path: PathBuf,
    zones: Vec<Zone>,
    inline: Vec<String>,
    ttl: u32,
    reverse: bool,
    reload: Duration,
    fallthrough: Fallthrough,
    fallthrough_unsupported: bool,
}

impl Settings {
    fn parse(directive: &Directive, block: &Block) -> Result<Self, Error> {
        let (path, zones) = match directive.args.as_slice() {
            [] => (PathBuf::from("/etc/hosts"), &[][..]),
            [path, zones @ ..] => (existing(path)?, zones),
        };
        let mut settings = Self {
            path,
            zones: value::zones_or(zones, &block.zones)?,
            inline: Vec::new(),
            ttl: 3600,
            reverse: true,
            reload: Duration::from_secs(5),
            fallthrough: Fallthrough::NONE,
            fallthrough_unsupported: false,
        };
        for line in &directive.block {
            settings.option(line)?;
        }
        Ok(settings)
    }

    fn option(&mut self, line: &Line) -> Result<(), Error> {
        match line.name.as_str() {
            "fallthrough" => self.fallthrough = Fallthrough::from_args(&line.args)?,
            "fallthrough_unsupported" => self.fallthrough_unsupported = true,
            "no_reverse" => self.reverse = false,
            "ttl" => {
                let [ttl, ..] = line.args.as_slice() else {
                    return Err(line.error("ttl needs a time in second"));
                };
                let seconds: i64 = ttl
                    .text
                    .parse()
                    .map_err(|_| ttl.error("ttl needs a number of second"))?;
                self.ttl = u16::try_from(seconds).unwrap_or(0).into();
                if self.ttl == 0 {
                    return Err(ttl.error("ttl provided is invalid"));
                }
            }
            "reload" => {
                let [interval] = line.args.as_slice() else {
                    let needed = "reload needs a duration (zero seconds to disable)";
                    return Err(line.error(needed));
                };
                self.reload = value::duration(interval).map_err(|_| {
                    interval.error(format!("invalid duration for reload '{interval}'"))
                })?;
            }
            // An entry, as long as `fallthrough` did not end them.
            _ if !self.fallthrough.is_some() => {
                let words = std::iter::once(&line.name).chain(&line.args);
                let words: Vec<_> = words.map(Token::as_str).collect();
                let entry = words.join(" ");
                if !table::is_entry(&entry) {
                    let place = &line.name;
                    tracing::warn!(
                        target: "plugin/hosts",
                        "{}:{} - ignoring '{entry}': no address with names", place.file, place.line
                    );
                }
                self.inline.push(entry);
            }
            _ => return Err(line.unknown()),
        }
        Ok(())
    }
}

/// The path of a file that may be missing, but not forbidden.
fn existing(path: &Token) -> Result<PathBuf, Error> {
    match std::fs::metadata(&path.text) {
        Ok(meta) if meta.is_dir() => {
            tracing::warn!(target: "plugin/hosts", "Hosts file \"{path}\" is a directory");
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(target: "plugin/hosts", "File does not exist: {path}");
        }
        Err(error) => {
            return Err(path.error(format!("unable to access hosts file '{path}': {error}")));
        }
    }
    Ok(PathBuf::from(&path.text))
}

/// Answers from tables of addresses and names.
struct Hosts {
    zones: Vec<Zone>,
    ttl: u32,
    fallthrough: Fallthrough,
    fallthrough_unsupported: bool,
    inline: Table,
    file: Arc<ArcSwap<Table>>,
}

impl Hosts {
    /// Says which entries there are for the question.
    fn note(&self, cx: &Context<'_>, tables: [&Table; 2]) {
        let name = cx.query.name();
        if !self.zones.iter().any(|zone| zone.contains(name)) && cx.query.qtype() != RecordType::PTR
        {
            return cx.note(|| "the name is in none of its zones".into());
        }
        let mut none = true;
        for (table, place) in tables.into_iter().zip(["the hosts file", "the Corefile"]) {
            for line in table.lines_of(name).into_iter().take(NOTED) {
                none = false;
                cx.note(|| format!("{place} has: {line}"));
            }
        }
        if none {
            cx.note(|| "no entry for the name".into());
        }
    }
}

/// Most entries of a name that are told of.
const NOTED: usize = 20;

impl Plugin for Hosts {
    fn name(&self) -> &'static str {
        "hosts"
    }

    fn query(&self, cx: &mut Context<'_>, reply: &mut Reply) -> Step {
        let (name, qtype) = (cx.query.name(), cx.query.qtype());
        let file = self.file.load();
        // File entries come before those of the Corefile.
        let tables = [&**file, &self.inline];
        if cx.trace.is_some() {
            self.note(cx, tables);
        }
        let owner = Owner::Wire(name.wire());
        let mut push = |rdata: &[u8]| {
            reply.push(Section::Answer, owner, qtype, self.ttl, rdata);
        };
        if qtype == RecordType::PTR {
            // Addresses need not be in the zones, and those that are not known pass in any case.
            let names = reverse_address(name)
                .map(|address| tables.map(|table| table.names_of(address)))
                .unwrap_or_default();
            if names.iter().all(|names| names.is_empty()) {
                return Step::Next;
            }
            names.into_iter().flatten().for_each(|name| push(name));
        } else if !self.zones.iter().any(|zone| zone.contains(name)) {
            return Step::Next;
        } else {
            let v4 = tables.map(|table| table.v4(name));
            let v6 = tables.map(|table| table.v6(name));
            let known = v4.iter().any(|found| !found.is_empty())
                || v6.iter().any(|found| !found.is_empty());
            let supported = matches!(qtype, RecordType::A | RecordType::AAAA);
            let passes = !known || (self.fallthrough_unsupported && !supported);
            if passes && self.fallthrough.covers(name) {
                return Step::Next;
            }
            if !known {
                // There is no SOA record for an NXDOMAIN.
                return Step::Done(Outcome::Unwritten {
                    rcode: crate::dns::Rcode::SERVFAIL,
                    error: None,
                });
            }
            match qtype {
                RecordType::A => v4.into_iter().flatten().for_each(|ip| push(&ip.octets())),
                RecordType::AAAA => v6.into_iter().flatten().for_each(|ip| push(&ip.octets())),
                _ => {}
            }
        }
        reply.set_flag(Header::AA, true);
        Step::Done(Outcome::Written)
    }
}

#[cfg(test)]
mod tests;
