//! Syntax that CoreDNS has given up and clusters still carry: read as what took its place.
//!
//! Works on the tree, so that the plugins know only today's syntax. Whatever has no counterpart is
//! left as it is, and is an unknown directive or property like any other: nothing is dropped
//! without a word, and nothing that would change who is asked how (`protocol grpc`) is dropped at
//! all. The Corefiles of Kubernetes 1.11 to today start with it (section 6 of the inventory).

use crate::corefile::{Corefile, Directive, Line, Token};

/// Rewrites old syntax, and says for each place what it was read as: `FILE:LINE - …`.
pub fn modernise(corefile: &mut Corefile) -> Vec<String> {
    let mut warnings = Warnings(Vec::new());
    for block in &mut corefile.blocks {
        block.directives.retain_mut(|directive| {
            match directive.name.as_str() {
                "federation" => {
                    warnings.ignored(
                        &directive.name,
                        "clusters share services by the multicluster API (ServiceImport) now",
                    );
                    return false;
                }
                "kubernetes" => kubernetes(directive, &mut warnings),
                "proxy" => proxy(directive, &mut warnings),
                _ => {}
            }
            true
        });
    }
    warnings.0
}

struct Warnings(Vec<String>);

impl Warnings {
    fn at(&mut self, token: &Token, what: &str) {
        let Token { file, line, .. } = token;
        self.0.push(format!("{file}:{line} - {what}"));
    }

    fn ignored(&mut self, token: &Token, instead: &str) {
        self.at(token, &format!("old '{token}' is ignored: {instead}"));
    }
}

fn kubernetes(directive: &mut Directive, warnings: &mut Warnings) {
    directive.block.retain(|line| {
        let instead = match line.name.as_str() {
            "upstream" => "targets of external names are looked up through this server itself",
            "resyncperiod" => "the watch keeps the records current",
            "federation" => "clusters share services by the multicluster API (ServiceImport) now",
            _ => return true,
        };
        warnings.ignored(&line.name, instead);
        false
    });
}

fn proxy(directive: &mut Directive, warnings: &mut Warnings) {
    warnings.at(&directive.name, "old 'proxy' is read as 'forward'");
    "forward".clone_into(&mut directive.name.text);
    directive
        .block
        .retain_mut(|line| proxy_option(line, warnings));
}

/// Rewrites an option of `proxy` to that of `forward`. Whether there is one.
fn proxy_option(line: &mut Line, warnings: &mut Warnings) -> bool {
    let name = line.name.clone();
    match (name.as_str(), line.args.as_mut_slice()) {
        ("policy", [policy]) => {
            let (now, why) = match policy.as_str() {
                "first" => (
                    "sequential",
                    "old 'policy first' is read as 'policy sequential'",
                ),
                "least_conn" => (
                    "random",
                    "old 'policy least_conn' is read as 'policy random'",
                ),
                _ => return true,
            };
            warnings.at(policy, why);
            now.clone_into(&mut policy.text);
            true
        }
        // The address of an HTTP endpoint, then an interval; `forward` asks for `. NS` instead.
        ("health_check", [endpoint, ..]) if endpoint.as_str().contains(['/', ':']) => {
            line.args.remove(0);
            if line.args.is_empty() {
                warnings.ignored(
                    &name,
                    "'forward' checks upstreams by DNS queries, 'health_check INTERVAL' says how often",
                );
            } else {
                warnings.at(
                    &name,
                    "old 'health_check' is read as its interval: 'forward' checks upstreams by DNS queries",
                );
            }
            !line.args.is_empty()
        }
        ("fail_timeout", _) => {
            warnings.ignored(
                &name,
                "'forward' uses an upstream again when a 'health_check' succeeds",
            );
            false
        }
        ("spray", _) => {
            warnings.ignored(
                &name,
                "'forward' asks a random upstream when all are down, unless 'failfast_all_unhealthy_upstreams'",
            );
            false
        }
        ("protocol", [dns]) if dns.as_str() == "dns" => {
            warnings.ignored(
                &name,
                "'forward' speaks DNS unless an upstream is 'tls://…'",
            );
            false
        }
        ("protocol", [dns, tcp]) if dns.as_str() == "dns" && tcp.as_str() == "force_tcp" => {
            warnings.at(&name, "old 'protocol dns force_tcp' is read as 'force_tcp'");
            line.name = tcp.clone();
            line.args.clear();
            true
        }
        _ => true,
    }
}
