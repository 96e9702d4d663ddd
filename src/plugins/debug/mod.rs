#![doc = include_str!("README.md")]

use crate::corefile::Error;
use crate::plugin::Setup;

/// Turns debug lines on. Queries do not pass it.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    for directive in setup.directives {
        directive.exactly::<0>()?;
        directive.no_block()?;
    }
    setup.block.debug = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::plugins::testing::{Rig, setup_error};

    #[test]
    fn configuration() {
        let mut rig = Rig::new();
        rig.setup("debug").unwrap();
        assert!(rig.block.debug && rig.plugins.is_empty());
        assert_eq!(
            setup_error("debug on"),
            "plugin/debug: Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after 'on'"
        );
    }
}
