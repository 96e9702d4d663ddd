//! The life of the process: load, check, serve, reload, end.

use crate::cli::{self, Options};
use crate::corefile::{self, Corefile};
use crate::plugin::{Control, Process};
use crate::plugins;
use crate::server::{Configuration, Server};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What is served where there is no Corefile (CF-101).
const DEFAULT_COREFILE: &str = "whoami\nlog\n";

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
        configure(options, &Arc::new(process))
    });
    match result {
        Ok(configuration) => {
            print!("{}", describe(&configuration));
            println!("{}: ok", source(options));
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
    let result = runtime().and_then(|runtime| {
        let (process, requests) = new_process(&runtime, options);
        let served = runtime.block_on(serve_until_signal(options, Arc::new(process), requests));
        // Background work that is left (a watch, a connection) has no say in when the end is.
        runtime.shutdown_background();
        served
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve_until_signal(
    options: &Options,
    process: Arc<Process>,
    mut requests: mpsc::Receiver<Control>,
) -> Result<(), String> {
    let explain = |error: std::io::Error| error.to_string();
    let mut terminate = signal(SignalKind::terminate()).map_err(explain)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(explain)?;
    let mut quit = signal(SignalKind::quit()).map_err(explain)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(explain)?;
    let mut user1 = signal(SignalKind::user_defined1()).map_err(explain)?;
    let configuration = configure(options, &process)?;
    let zones = describe_zones(&configuration);
    let starting = Server::start(Arc::clone(&process), configuration);
    let mut server = tokio::select! {
        started = starting => started.map_err(explain)?,
        // Nothing is served yet, so nothing has to be drained.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    if !options.quiet {
        print!("{zones}");
        println!("{}", cli::version());
    }
    write_pidfile(options);
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                tracing::info!(target: "server", "SIGTERM: Shutting down servers then terminating");
                break;
            }
            _ = interrupt.recv() => {
                tracing::info!(target: "server", "SIGINT: Shutting down");
                break;
            }
            _ = quit.recv() => return Ok(()),
            // A terminal that goes away is no reason to stop (CF-113).
            _ = hangup.recv() => {}
            _ = user1.recv() => {
                tracing::info!(target: "server", "SIGUSR1: Reloading");
                let _ = reload(options, &process, &mut server).await;
            }
            Some(Control::Reload(done)) = requests.recv() => {
                // Who asked may be gone with the configuration that was replaced.
                let _ = done.send(reload(options, &process, &mut server).await);
            }
        }
    }
    let stopping = server.stop(|| remove_pidfile(options));
    tokio::select! {
        () = stopping => Ok(()),
        _ = interrupt.recv() => Err("SIGINT: stopped at once".into()),
    }
}

async fn reload(
    options: &Options,
    process: &Arc<Process>,
    server: &mut Server,
) -> Result<(), String> {
    tracing::info!(target: "server", "Reloading");
    let configured = configure(options, process);
    let result = match configured {
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

/// Loads the Corefile and builds its configuration; errors are what is printed.
fn configure(options: &Options, process: &Arc<Process>) -> Result<Configuration, String> {
    let corefile = load(options).map_err(|error| error.to_string())?;
    let built = Configuration::build(&corefile, plugins::TABLE, process, options.port);
    built.map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

fn load(options: &Options) -> Result<Corefile, corefile::Error> {
    let mut corefile = match &options.conf {
        Some(path) if path == Path::new("stdin") => {
            let text = std::io::read_to_string(std::io::stdin())
                .map_err(|error| corefile::Error::internal(format!("reading stdin: {error}")))?;
            corefile::parse("stdin", &text, &corefile::environment)?
        }
        Some(path) => corefile::load(path)?,
        None if Path::new("Corefile").exists() => corefile::load(Path::new("Corefile"))?,
        None => corefile::parse("default", DEFAULT_COREFILE, &corefile::environment)?,
    };
    if corefile.blocks.is_empty() {
        corefile = corefile::parse("default", DEFAULT_COREFILE, &corefile::environment)?;
    }
    for warning in &corefile.warnings {
        tracing::warn!(target: "server", "{warning}");
    }
    for warning in plugins::legacy::modernise(&mut corefile) {
        tracing::warn!(target: "server", "{warning}");
    }
    Ok(corefile)
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
    let default = Some("Corefile".into()).filter(|path: &std::path::PathBuf| path.exists());
    process.corefile = file.or(default);
    (process, requests)
}

fn source(options: &Options) -> String {
    options
        .conf
        .as_ref()
        .map_or_else(|| "Corefile".into(), |path| path.display().to_string())
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
