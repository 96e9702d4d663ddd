//! Tells the binary which compiler and commit it was made from.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = output(Command::new(rustc).arg("--version"));
    // `rustc 1.95.0 (commit date)`: without what stands in parentheses.
    let version = version.split(" (").next().unwrap_or("rustc");
    println!("cargo:rustc-env=PORTOLAN_RUSTC={version}");
    let commit = output(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]));
    println!("cargo:rustc-env=PORTOLAN_COMMIT={commit}");
}

/// What a command prints, empty if it cannot be run.
fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.unwrap_or_default().trim().to_owned()
}
