//! Tells the build which compiler makes it, for `coredns_build_info` and `-version`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PORTOLAN_REVISION");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version
        .ok()
        .and_then(|out| String::from_utf8(out.stdout).ok());
    let version = version.as_deref().map_or("rustc", str::trim);
    println!("cargo::rustc-env=PORTOLAN_RUSTC={version}");
    let revision = std::env::var("PORTOLAN_REVISION").unwrap_or_default();
    println!("cargo::rustc-env=PORTOLAN_REVISION={revision}");
}
