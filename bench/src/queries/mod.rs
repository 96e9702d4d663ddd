//! `queries`: what a query costs Portolan and other servers, side by side.

mod api;
mod chart;
pub mod cluster;
mod extra;
mod json;
pub mod latency;
mod machine;
mod options;
mod pace;
mod peers;
mod perf;
mod process;
mod report;
mod rounds;
mod sample;
pub mod upstream;
mod workload;

use options::Options;
use process::Helper;
use report::Section;
use std::path::Path;

/// Runs the command of the first argument; everything that is no other command's is this one's.
pub fn run(command: &str, mut args: impl Iterator<Item = String>) -> Result<(), String> {
    match command {
        // Started by this program itself.
        "--upstream" => return upstream::serve(args.nth(1).as_deref()),
        "--pace" => return pace::run(args.skip(1)),
        "queries" => drop(args.next()),
        _ => {}
    }
    match Options::parse(args)? {
        Some(options) => measure(&options),
        None => {
            print!("{}", options::HELP);
            Ok(())
        }
    }
}

/// Everything that was asked for, one section after the other.
fn measure(options: &Options) -> Result<(), String> {
    machine::check_tools()?;
    let temporary = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = options.data.as_deref().map_or(temporary.path(), Path::new);
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    // Servers may look for their files from a folder of their own.
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let cpus = machine::Cpus::of_this_machine();
    process::free(peers::UPSTREAM)?;
    let _upstream = Helper::start("--upstream", &peers::UPSTREAM.to_string(), cpus.client)?;
    let mut sections = Vec::new();
    if !options.workloads()?.is_empty() {
        let data = cluster::write(&folder, options.services)?;
        if let Some(file) = &options.kubeconfig {
            api::create(file, options.services)?;
        }
        let contenders = peers::contenders(options, &folder, &data)?;
        sections = rounds::workloads(options, &folder, &contenders)?;
    }
    if options.workers {
        sections.push(extra::workers(options, &folder)?);
    }
    if options.plugins {
        sections.push(extra::plugins(options, &folder)?);
    }
    if !options.sizes.is_empty() {
        sections.push(extra::sizes(options, &folder)?);
    }
    finish(options, &sections)
}

/// Writes `results.txt`, `results.json` and `results.svg`.
fn finish(options: &Options, sections: &[Section]) -> Result<(), String> {
    let head = machine::describe();
    let text = report::text(&head, sections);
    print!("{text}");
    let folder = Path::new(&options.out);
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    for (name, content) in [
        ("results.txt", text),
        ("results.json", json::write(&head, sections)),
        ("results.svg", chart::write(sections)),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}
