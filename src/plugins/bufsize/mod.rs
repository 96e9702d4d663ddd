#![doc = include_str!("README.md")]

use crate::corefile::Error;
use crate::dns::Reply;
use crate::plugin::{Context, Plugin, Setup, Step};

/// The limit that avoids fragments on nearly every path (DNS flag day 2020).
const DEFAULT: u16 = 1232;

/// Builds the plugin from its occurrence in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    let directive = setup.only_one()?;
    let limit = match directive.args.as_slice() {
        [] => DEFAULT,
        [size] => {
            let number = size.text.parse().ok().filter(|n| (512..=4096).contains(n));
            number.ok_or_else(|| {
                size.error(format!("size must be a number from 512 to 4096: '{size}'"))
            })?
        }
        [.., last] => return Err(last.arg_error()),
    };
    directive.no_block()?;
    setup.add(Bufsize { limit });
    Ok(())
}

/// Lowers the UDP payload size of queries.
struct Bufsize {
    limit: u16,
}

impl Plugin for Bufsize {
    fn name(&self) -> &'static str {
        "bufsize"
    }

    fn query(&self, cx: &mut Context<'_>, _: &mut Reply) -> Step {
        cx.query.cap_udp_size(self.limit);
        Step::Next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::dns::RecordType;
    use crate::plugin::Outcome;
    use crate::plugins::testing::{Rig, Terminal, ask, setup_error};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// The size that the plugins below see for one that a client offers.
    fn seen(config: &str, offered: Option<u16>) -> usize {
        let mut rig = Rig::new();
        rig.setup(config).unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let out = Arc::clone(&seen);
        let chain = rig.chain(Terminal(move |cx: &mut Context<'_>, _: &mut Reply| {
            out.store(cx.query.udp_limit(), Relaxed);
            Outcome::Written
        }));
        let ask = ask("a.example", RecordType::A);
        match offered {
            Some(size) => ask.edns(size, false).of(&chain),
            None => ask.of(&chain),
        };
        seen.load(Relaxed)
    }

    #[test]
    fn lowers_and_never_raises() {
        for (config, offered, expected) in [
            ("bufsize", Some(4096), 1232),
            ("bufsize", Some(1232), 1232),
            ("bufsize", Some(600), 600),
            ("bufsize", None, 512),
            ("bufsize 4096", Some(65_535), 4096),
            ("bufsize 512", Some(4096), 512),
        ] {
            assert_eq!(seen(config, offered), expected, "{config} {offered:?}");
        }
    }

    #[test]
    fn configuration_errors() {
        for (text, error) in [
            (
                "bufsize 511",
                "size must be a number from 512 to 4096: '511'",
            ),
            (
                "bufsize 4097",
                "size must be a number from 512 to 4096: '4097'",
            ),
            ("bufsize x", "size must be a number from 512 to 4096: 'x'"),
            (
                "bufsize 512 1",
                "Wrong argument count or unexpected line ending after '1'",
            ),
        ] {
            assert_eq!(
                setup_error(text),
                format!("plugin/bufsize: Corefile:1 - Error during parsing: {error}")
            );
        }
    }
}
