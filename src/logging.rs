//! Log lines as CoreDNS prints them: to standard output, without a time (CF-104).

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Whether debug lines are logged: a `debug` plugin is loaded.
static DEBUG: AtomicBool = AtomicBool::new(false);

/// Installs the logger; the first call counts.
pub fn init() {
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines)
        .with_ansi(false);
    let layer = tracing_subscriber::Layer::with_filter(lines, Ours);
    // Fails only where one is installed already (tests).
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

/// Turns debug lines on or off.
pub fn set_debug(on: bool) {
    DEBUG.store(on, Relaxed);
}

/// Lets pass what this program logs, not what its libraries do.
struct Ours;

impl Ours {
    fn passes(metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let ours = ["plugin/", "portolan", "server", "query"];
        ours.iter().any(|prefix| target.starts_with(prefix))
            && (*metadata.level() <= Level::INFO
                || *metadata.level() == Level::DEBUG && DEBUG.load(Relaxed))
    }
}

impl<S> Filter<S> for Ours {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        Self::passes(metadata)
    }
}

/// `[LEVEL] plugin/NAME: message`.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        write!(out, "[{level}] ")?;
        if event.metadata().target().starts_with("plugin/") {
            write!(out, "{}: ", event.metadata().target())?;
        }
        let mut message = Message(&mut out, Ok(()));
        event.record(&mut message);
        message.1?;
        writeln!(out)
    }
}

/// Writes the message of an event; other fields as `name=value` behind it.
struct Message<'m, 'w>(&'m mut Writer<'w>, fmt::Result);

impl Visit for Message<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.1.is_ok() {
            self.1 = match field.name() {
                "message" => write!(self.0, "{value:?}"),
                name => write!(self.0, " {name}={value:?}"),
            };
        }
    }
}
