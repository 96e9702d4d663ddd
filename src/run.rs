//! The life of the process: load, check, serve, reload, end.

use crate::cli::{self, Options};
use crate::corefile::{self, Corefile};
use crate::plugin::{Control, Process};
use crate::plugins;
use crate::server::{Configuration, Server};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What is served where there is no Corefile (CF-101).
const DEFAULT_COREFILE: &str = ". {\n    whoami\n    log\n}\n";

/// Every plugin with a line on what it does, in the order in which queries pass them.
pub fn plugin_list() -> String {
    let rows = plugins::TABLE
        .iter()
        .map(|entry| format!("{:<14} {}\n", entry.name, entry.summary));
    rows.collect()
}

/// `-check`: says what would run, or every error.
pub fn check(options: &Options) -> ExitCode {
    let result = runtime().and_then(|runtime| {
        let (mut process, _requests) = new_process(&runtime, options);
        process.check_only = true;
        let _entered = runtime.enter();
        let source = Source::new(options, &process);
        let configuration = source.configure(&Arc::new(process))?;
        Ok(format!(
            "{}{}: ok\n",
            describe(&configuration),
            source.shown()
        ))
    });
    match result {
        Ok(text) => {
            cli::print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal ends the process.
pub fn serve(options: &Options) -> ExitCode {
    // One provider of cryptography for the whole process; the first call counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    crate::server::panics::install_hook();
    let result = runtime().and_then(|runtime| {
        let (process, requests) = new_process(&runtime, options);
        let served = runtime.block_on(serve_until_signal(options, Arc::new(process), requests));
        // Background work that is left (a watch, a connection) has no say in when the end is.
        runtime.shutdown_background();
        served
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The signals that mean something to a server (CF-110 … CF-113).
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reload: Signal,
    /// A terminal that goes away is no reason to stop.
    hangup: Signal,
    /// CoreDNS starts its successor then; here there is nothing that would need it.
    upgrade: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            reload: signal(SignalKind::user_defined1())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

async fn serve_until_signal(
    options: &Options,
    process: Arc<Process>,
    mut requests: mpsc::Receiver<Control>,
) -> Result<ExitCode, String> {
    let explain = |error: std::io::Error| error.to_string();
    let mut signals = Signals::new().map_err(explain)?;
    let source = Source::new(options, &process);
    let configuration = source.configure(&process)?;
    let zones = describe_zones(&configuration);
    let announce = || {
        if !options.quiet {
            cli::print(&zones);
        }
    };
    let starting = Server::start_telling(Arc::clone(&process), configuration, announce);
    let mut server = tokio::select! {
        started = starting => started.map_err(explain)?,
        // Nothing is served yet, so nothing has to be drained.
        _ = signals.terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = signals.interrupt.recv() => return Ok(ExitCode::SUCCESS),
        _ = signals.quit.recv() => return Ok(ExitCode::SUCCESS),
    };
    if !options.quiet {
        cli::print(&format!("{}\n", cli::version()));
    }
    write_pidfile(options);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => {
                tracing::info!(target: "server", "SIGTERM: Shutting down servers then terminating");
                break;
            }
            _ = signals.interrupt.recv() => {
                tracing::info!(target: "server", "SIGINT: Shutting down");
                break;
            }
            _ = signals.quit.recv() => return Ok(quit_at_once(options)),
            _ = signals.hangup.recv() => {}
            _ = signals.upgrade.recv() => {
                tracing::warn!(target: "server", "SIGUSR2: there is no upgrade in place");
            }
            _ = signals.reload.recv() => {
                tracing::info!(target: "server", "SIGUSR1: Reloading");
                let _ = reload(&source, &process, &mut server).await;
            }
            Some(Control::Reload(done)) = requests.recv() => {
                // Who asked may be gone with the configuration that was replaced.
                let _ = done.send(reload(&source, &process, &mut server).await);
            }
        }
    }
    let stopping = server.stop(|| remove_pidfile(options));
    tokio::select! {
        () = stopping => Ok(ExitCode::SUCCESS),
        _ = signals.quit.recv() => Ok(quit_at_once(options)),
        _ = signals.interrupt.recv() => {
            tracing::info!(target: "server", "SIGINT: Force quit");
            remove_pidfile(options);
            Ok(ExitCode::from(2))
        }
    }
}

fn quit_at_once(options: &Options) -> ExitCode {
    tracing::info!(target: "server", "SIGQUIT: Quitting process immediately");
    remove_pidfile(options);
    ExitCode::SUCCESS
}

async fn reload(
    source: &Source<'_>,
    process: &Arc<Process>,
    server: &mut Server,
) -> Result<(), String> {
    tracing::info!(target: "server", "Reloading");
    let result = match source.configure_again(process) {
        Ok(configuration) => server
            .reload(configuration)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match &result {
        Ok(()) => tracing::info!(target: "server", "Reloading complete"),
        Err(error) => tracing::error!(target: "server", "{error}"),
    }
    result
}

/// Where the Corefile comes from.
struct Source<'o> {
    options: &'o Options,
    /// The file; none if it is standard input, or there is none.
    file: Option<PathBuf>,
    /// What stood on standard input, which can be read once only.
    stdin: OnceLock<String>,
}

impl<'o> Source<'o> {
    fn new(options: &'o Options, process: &Process) -> Self {
        Self {
            options,
            file: process.corefile.clone(),
            stdin: OnceLock::new(),
        }
    }

    /// Its name in `-check`.
    fn shown(&self) -> String {
        let named = self.options.conf.as_ref().or(self.file.as_ref());
        named.map_or_else(
            || "built-in default".into(),
            |path| path.display().to_string(),
        )
    }

    /// Loads the Corefile and builds its configuration; errors are what is printed.
    fn configure(&self, process: &Arc<Process>) -> Result<Configuration, String> {
        let mut corefile = self.load()?;
        if corefile.blocks.is_empty() {
            corefile = default_corefile()?;
        }
        self.build(corefile, process)
    }

    /// The same for a reload. A file that became empty is no reason to forget the cluster: it is
    /// one that is being written, or a mistake.
    fn configure_again(&self, process: &Arc<Process>) -> Result<Configuration, String> {
        let corefile = self.load()?;
        match &self.file {
            Some(_) if corefile.blocks.is_empty() => {
                Err(format!("{} has no server block", self.shown()))
            }
            _ if corefile.blocks.is_empty() => self.build(default_corefile()?, process),
            _ => self.build(corefile, process),
        }
    }

    fn load(&self) -> Result<Corefile, String> {
        let corefile = match (&self.file, &self.options.conf) {
            (Some(path), conf) => corefile::load(path).map_err(|error| match conf {
                Some(_) if error.place.is_none() => {
                    format!("loading Caddyfile via flag: {}", error.message)
                }
                _ => error.to_string(),
            })?,
            (None, Some(_)) => {
                let text = match self.stdin.get() {
                    Some(text) => text,
                    None => {
                        let text = std::io::read_to_string(std::io::stdin());
                        let text = text.map_err(|error| format!("reading stdin: {error}"))?;
                        self.stdin.get_or_init(|| text)
                    }
                };
                let parsed = corefile::parse("stdin", text, &corefile::environment);
                parsed.map_err(|error| error.to_string())?
            }
            (None, None) => default_corefile()?,
        };
        Ok(corefile)
    }

    fn build(
        &self,
        mut corefile: Corefile,
        process: &Arc<Process>,
    ) -> Result<Configuration, String> {
        for warning in &corefile.warnings {
            tracing::warn!(target: "server", "{warning}");
        }
        for warning in plugins::legacy::modernise(&mut corefile) {
            tracing::warn!(target: "server", "{warning}");
        }
        let built = Configuration::build(&corefile, plugins::TABLE, process, self.options.port);
        built.map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })
    }
}

fn default_corefile() -> Result<Corefile, String> {
    let parsed = corefile::parse("default", DEFAULT_COREFILE, &corefile::environment);
    parsed.map_err(|error| error.to_string())
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers().clamp(1, 8))
        .thread_name("async")
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// CPUs of the cgroup quota.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn new_process(
    runtime: &tokio::runtime::Runtime,
    options: &Options,
) -> (Process, mpsc::Receiver<Control>) {
    let (mut process, requests) = Process::new(runtime.handle().clone(), workers());
    let file = options
        .conf
        .clone()
        .filter(|path| path != Path::new("stdin"));
    let default = || Some(PathBuf::from("Corefile")).filter(|path| path.exists());
    process.corefile = match options.conf {
        Some(_) => file,
        None => default(),
    };
    (process, requests)
}

/// `zone:port` of every server block and address, sorted (CF-105).
fn describe_zones(configuration: &Configuration) -> String {
    let mut lines: Vec<String> = Vec::new();
    for chain in &configuration.chains {
        let block = chain.block();
        let served = block
            .keys
            .iter()
            .flat_map(|key| key.zones.iter().map(|zone| (zone, key.port)));
        let scheme = if block.scheme == "dns" {
            String::new()
        } else {
            format!("{}://", block.scheme)
        };
        for (zone, port) in served {
            let line = format!("{scheme}{zone}:{port}");
            match block.bind.as_slice() {
                [] => lines.push(line),
                ips => lines.extend(ips.iter().map(|ip| format!("{line} on {ip}"))),
            }
        }
    }
    lines.sort();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What `-check` prints: the zones, and the plugins of each server block in their order.
fn describe(configuration: &Configuration) -> String {
    let mut out = describe_zones(configuration);
    for chain in &configuration.chains {
        let zones: Vec<_> = chain
            .block()
            .zones
            .iter()
            .map(ToString::to_string)
            .collect();
        let plugins: Vec<_> = chain.plugins().iter().map(|plugin| plugin.name()).collect();
        out.push_str(&format!(
            "{} {}: {}\n",
            chain.block().server,
            zones.join(" "),
            plugins.join(" → ")
        ));
    }
    out
}

fn write_pidfile(options: &Options) {
    let Some(path) = &options.pidfile else { return };
    if let Err(error) = std::fs::write(path, format!("{}\n", std::process::id())) {
        tracing::error!(target: "server", "Could not write pidfile {}: {error}", path.display());
    }
}

fn remove_pidfile(options: &Options) {
    if let Some(path) = &options.pidfile {
        // It may have been removed already.
        let _ = std::fs::remove_file(path);
    }
}
