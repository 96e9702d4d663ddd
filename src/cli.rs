//! The command line: each flag declared once, from which parsing and `-help` come (spec §1.7).

use std::path::PathBuf;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `-conf`: the Corefile; `stdin` is standard input.
    pub conf: Option<PathBuf>,
    /// `-dns.port`, `-p`: the port of keys without one.
    pub port: u16,
    /// `-pidfile`: where to write the process id.
    pub pidfile: Option<PathBuf>,
    /// `-quiet`: no banner.
    pub quiet: bool,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Check the Corefile and end.
    Check,
    /// Say how to use the program.
    Help,
    /// List the plugins.
    Plugins,
    /// Serve.
    #[default]
    Serve,
    /// Say the version.
    Version,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            conf: None,
            port: 53,
            pidfile: None,
            quiet: false,
            action: Action::Serve,
        }
    }
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// A word that is no flag.
    #[error("extra command line arguments: [{0}]")]
    Extra(String),
    /// A flag's value is missing.
    #[error("flag needs an argument: -{0}")]
    MissingValue(&'static str),
    /// A flag's value makes no sense.
    #[error("invalid value {value:?} for flag -{flag}: {why}")]
    BadValue {
        /// The flag.
        flag: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A flag that there is not.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
}

enum Apply {
    Switch(fn(&mut Options, bool)),
    Value(
        &'static str,
        fn(&mut Options, &str) -> Result<(), &'static str>,
    ),
}

struct Flag {
    names: &'static [&'static str],
    help: &'static str,
    apply: Apply,
}

const FLAGS: &[Flag] = &[
    Flag {
        names: &["conf"],
        help: "Corefile to load; 'stdin' reads standard input (default: ./Corefile)",
        apply: Apply::Value("FILE", |options, value| {
            options.conf = Some(value.into());
            Ok(())
        }),
    },
    Flag {
        names: &["check"],
        help: "parse and build the Corefile, print what would run or every error, and exit",
        apply: Apply::Switch(|options, on| options.set(Action::Check, on)),
    },
    Flag {
        names: &["dns.port", "p"],
        help: "port for keys of the dns scheme that have none (default 53)",
        apply: Apply::Value("PORT", |options, value| {
            options.port = value.parse().map_err(|_| "not a port")?;
            Ok(())
        }),
    },
    Flag {
        names: &["pidfile"],
        help: "file to write the process id to",
        apply: Apply::Value("FILE", |options, value| {
            options.pidfile = Some(value.into());
            Ok(())
        }),
    },
    Flag {
        names: &["plugins"],
        help: "list the plugins in the order in which queries pass them, and exit",
        apply: Apply::Switch(|options, on| options.set(Action::Plugins, on)),
    },
    Flag {
        names: &["quiet"],
        help: "do not print zones and version at start",
        apply: Apply::Switch(|options, on| options.quiet = on),
    },
    Flag {
        names: &["version"],
        help: "print the version and exit",
        apply: Apply::Switch(|options, on| options.set(Action::Version, on)),
    },
    Flag {
        names: &["help", "h"],
        help: "print this help and exit",
        apply: Apply::Switch(|options, on| options.set(Action::Help, on)),
    },
];

impl Options {
    /// Reads the arguments behind the program's name. One dash or two; `-flag value` or
    /// `-flag=value`.
    ///
    /// # Errors
    /// The first argument that makes no sense.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let stripped = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
            let Some(word) = stripped.filter(|word| !word.is_empty()) else {
                let extra: Vec<_> = [arg].into_iter().chain(args).collect();
                return Err(UsageError::Extra(extra.join(" ")));
            };
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word, None),
            };
            let flag = FLAGS.iter().find(|flag| flag.names.contains(&name));
            let flag = flag.ok_or_else(|| UsageError::Unknown(name.to_owned()))?;
            let known = flag.names[0];
            let bad = |value: String, why| UsageError::BadValue {
                flag: known,
                value,
                why,
            };
            match &flag.apply {
                Apply::Switch(apply) => match inline.as_deref() {
                    None | Some("true" | "1") => apply(&mut options, true),
                    Some("false" | "0") => apply(&mut options, false),
                    Some(value) => return Err(bad(value.to_owned(), "not true or false")),
                },
                Apply::Value(_, apply) => {
                    let value = inline.or_else(|| args.next());
                    let value = value.ok_or(UsageError::MissingValue(known))?;
                    apply(&mut options, &value).map_err(|why| bad(value, why))?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, action: Action, on: bool) {
        if on {
            self.action = action;
        }
    }
}

/// Prints to standard output; a reader that has gone away has read enough.
pub fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The text of `-help`.
pub fn help() -> String {
    let mut out = String::from(
        "Portolan, a DNS server for Kubernetes clusters.\n\nUsage: portolan [FLAGS]\n\nFlags:\n",
    );
    for flag in FLAGS {
        let names: Vec<_> = flag.names.iter().map(|name| format!("-{name}")).collect();
        let value = match flag.apply {
            Apply::Switch(_) => String::new(),
            Apply::Value(value, _) => format!(" {value}"),
        };
        out.push_str(&format!(
            "  {:<22} {}\n",
            names.join(", ") + &value,
            flag.help
        ));
    }
    out.push_str(
        "\nSignals: TERM and INT stop the server, QUIT ends it at once, USR1 reloads the Corefile.\n\
         Example: portolan -conf Corefile.example\n",
    );
    out
}

/// The version as `-version` and the banner print it.
pub fn version() -> String {
    let commit = match env!("PORTOLAN_COMMIT") {
        "" => "unknown",
        commit => commit,
    };
    format!(
        "Portolan-{}\n{}/{}, {}, {commit}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        env!("PORTOLAN_RUSTC"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, UsageError> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_as_coredns_takes_them() {
        let options =
            parse("-conf /etc/coredns/Corefile --dns.port=1053 -quiet -pidfile p").unwrap();
        assert_eq!(
            options.conf.as_deref(),
            Some("/etc/coredns/Corefile".as_ref())
        );
        assert_eq!((options.port, options.quiet), (1053, true));
        assert_eq!(parse("-p 5300").unwrap().port, 5300);
        assert_eq!(parse("-check -conf x").unwrap().action, Action::Check);
        assert_eq!(parse("-quiet=false").unwrap(), Options::default());
    }

    #[test]
    fn nonsense_is_named() {
        let text = |line| parse(line).unwrap_err().to_string();
        assert_eq!(text("-nope"), "flag provided but not defined: -nope");
        assert_eq!(text("-conf"), "flag needs an argument: -conf");
        assert_eq!(text("a b"), "extra command line arguments: [a b]");
        assert_eq!(
            text("-p x"),
            "invalid value \"x\" for flag -dns.port: not a port"
        );
        assert_eq!(
            text("-quiet=x"),
            "invalid value \"x\" for flag -quiet: not true or false"
        );
    }

    #[test]
    fn help_names_every_flag() {
        let text = help();
        for flag in FLAGS {
            assert!(text.contains(flag.help), "{text}");
        }
    }
}
