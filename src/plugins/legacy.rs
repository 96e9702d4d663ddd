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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::corefile::{Error, load, parse};
    use std::path::PathBuf;

    fn field(name: &str) -> Corefile {
        let file = format!("tests/corefiles/{name}.Corefile");
        load(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
    }

    fn words(name: &Token, args: &[Token]) -> String {
        let words: Vec<&str> = [name].into_iter().chain(args).map(Token::as_str).collect();
        words.join(" ")
    }

    /// A block's directives, each as its words and those of its options.
    fn tree(corefile: &Corefile) -> Vec<(String, Vec<String>)> {
        let directives = corefile.blocks.iter().flat_map(|block| &block.directives);
        directives
            .map(|directive| {
                let options = directive.block.iter();
                (
                    words(&directive.name, &directive.args),
                    options.map(|line| words(&line.name, &line.args)).collect(),
                )
            })
            .collect()
    }

    fn read(text: &str) -> Corefile {
        parse("Corefile", text, &|_| None).unwrap()
    }

    fn modern(text: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
        let mut corefile = read(text);
        let warnings = modernise(&mut corefile);
        (tree(&corefile), warnings)
    }

    #[test]
    fn kubernetes_1_11_becomes_modern() {
        let (expected, none) = modern(
            ".:53 {
                errors
                health
                kubernetes cluster.local in-addr.arpa ip6.arpa {
                    pods insecure
                    fallthrough in-addr.arpa ip6.arpa
                }
                prometheus :9153
                forward . /etc/resolv.conf
                cache 30
                reload
            }",
        );
        assert!(none.is_empty());
        for name in ["kubeadm-1.9", "kubeadm-1.11"] {
            let mut corefile = field(name);
            let warnings = modernise(&mut corefile);
            assert_eq!(tree(&corefile), expected, "{name}");
            let path = corefile.blocks[0].keys[0].file.to_string();
            assert_eq!(
                warnings,
                [
                    format!(
                        "{path}:6 - old 'upstream' is ignored: targets of external names are looked up through this server itself"
                    ),
                    format!("{path}:10 - old 'proxy' is read as 'forward'"),
                ]
            );
            assert!(modernise(&mut corefile).is_empty());
        }
    }

    #[test]
    fn every_corefile_of_the_field_names_known_directives() {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corefiles");
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_none_or(|extension| extension != "Corefile")
            {
                continue;
            }
            let mut corefile = load(&path).unwrap();
            let warnings = modernise(&mut corefile);
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let old = [
                "kubeadm-1.9",
                "kubeadm-1.11",
                "kubeadm-1.12",
                "kubeadm-1.14",
                "eks-old",
            ];
            assert_eq!(
                !warnings.is_empty(),
                old.contains(&stem),
                "{stem}: {warnings:?}"
            );
            for directive in corefile.blocks.iter().flat_map(|block| &block.directives) {
                let known = |name| crate::plugins::TABLE.iter().any(|entry| entry.name == name);
                assert!(known(directive.name.as_str()), "{stem}: {directive:?}");
            }
        }
    }

    #[test]
    fn options_of_proxy() {
        for (old, new, warning) in [
            ("policy random", Some("policy random"), None),
            ("policy round_robin", Some("policy round_robin"), None),
            (
                "policy first",
                Some("policy sequential"),
                Some("old 'policy first' is read as 'policy sequential'"),
            ),
            (
                "policy least_conn",
                Some("policy random"),
                Some("old 'policy least_conn' is read as 'policy random'"),
            ),
            ("except a.org b.org", Some("except a.org b.org"), None),
            ("max_fails 3", Some("max_fails 3"), None),
            (
                "health_check /health:8080 5s",
                Some("health_check 5s"),
                Some(
                    "old 'health_check' is read as its interval: 'forward' checks upstreams by DNS queries",
                ),
            ),
            (
                "health_check /health:8080",
                None,
                Some(
                    "old 'health_check' is ignored: 'forward' checks upstreams by DNS queries, 'health_check INTERVAL' says how often",
                ),
            ),
            ("health_check 5s", Some("health_check 5s"), None),
            (
                "fail_timeout 10s",
                None,
                Some(
                    "old 'fail_timeout' is ignored: 'forward' uses an upstream again when a 'health_check' succeeds",
                ),
            ),
            (
                "spray",
                None,
                Some(
                    "old 'spray' is ignored: 'forward' asks a random upstream when all are down, unless 'failfast_all_unhealthy_upstreams'",
                ),
            ),
            (
                "protocol dns",
                None,
                Some(
                    "old 'protocol' is ignored: 'forward' speaks DNS unless an upstream is 'tls://…'",
                ),
            ),
            (
                "protocol dns force_tcp",
                Some("force_tcp"),
                Some("old 'protocol dns force_tcp' is read as 'force_tcp'"),
            ),
            // These would send in the clear what was encrypted: left for `forward` to refuse.
            (
                "protocol grpc insecure",
                Some("protocol grpc insecure"),
                None,
            ),
            ("protocol https_google", Some("protocol https_google"), None),
            ("nonsense", Some("nonsense"), None),
        ] {
            let (tree, warnings) = modern(&format!(". {{\nproxy . 10.0.0.1 {{\n{old}\n}}\n}}"));
            let options = new.map(str::to_owned).into_iter().collect();
            assert_eq!(tree, [("forward . 10.0.0.1".to_owned(), options)], "{old}");
            let mut expected = vec!["Corefile:2 - old 'proxy' is read as 'forward'".to_owned()];
            expected.extend(warning.map(|warning| format!("Corefile:3 - {warning}")));
            assert_eq!(warnings, expected, "{old}");
        }
    }

    #[test]
    fn options_of_kubernetes_and_federation() {
        let (tree, warnings) = modern(
            ".:53 {
                kubernetes cluster.local {
                    resyncperiod 5m
                    upstream 8.8.8.8
                    federation a b.org
                    cidrs 10.0.0.0/8
                }
                federation cluster.local {
                    upstream
                }
                startup x
                reverse 10.0.0.0/8
            }",
        );
        let shown: Vec<(&str, usize)> = tree
            .iter()
            .map(|(words, options)| (words.as_str(), options.len()))
            .collect();
        assert_eq!(
            shown,
            [
                ("kubernetes cluster.local", 1),
                ("startup x", 0),
                ("reverse 10.0.0.0/8", 0)
            ]
        );
        let places = warnings.iter().map(|w| w.split_once(" - ").unwrap().0);
        assert_eq!(
            places.collect::<Vec<_>>(),
            ["Corefile:3", "Corefile:4", "Corefile:5", "Corefile:8"]
        );
    }

    /// What an option still says when `forward` refuses it points at the place of the old file.
    #[test]
    fn places_survive() {
        let mut corefile = read(". {\n\nproxy . 10.0.0.1 {\n\npolicy first\n}\n}");
        modernise(&mut corefile);
        let forward = &corefile.blocks[0].directives[0];
        let error: Error = forward.block[0].unknown();
        assert_eq!(
            error.to_string(),
            "Corefile:5 - Error during parsing: unknown property 'policy'"
        );
        assert_eq!(forward.name.line, 3);
    }
}
