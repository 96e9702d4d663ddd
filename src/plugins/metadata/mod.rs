#![doc = include_str!("README.md")]

use crate::corefile::{Error, value};
use crate::plugin::Setup;

/// Lets the queries of some zones have labels. Queries do not pass it: the chain tells the labels
/// ([`crate::plugin::Chain::metadata`]).
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    if let [_, second, ..] = setup.directives {
        return Err(second.name.arg_error());
    }
    let directive = setup.only_one()?;
    if let Some(line) = directive.block.first() {
        return Err(line.name.arg_error());
    }
    setup.block.metadata = value::zones_or(&directive.args, &setup.block.zones)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::plugins::testing::{Rig, setup_error};

    #[test]
    fn configuration() {
        let zones = |text: &str| {
            let mut rig = Rig::new().zones(&["a.example", "b.example"]);
            rig.setup(text).unwrap();
            assert!(rig.plugins.is_empty());
            let zones = rig.block.metadata.iter().map(ToString::to_string);
            zones.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(zones("debug"), "");
        assert_eq!(zones("metadata"), "a.example. b.example.");
        assert_eq!(zones("metadata c.example"), "c.example.");
        let error = |text: &str| setup_error(text);
        let text = "Error during parsing: Wrong argument count or unexpected line ending after";
        assert_eq!(
            error("metadata {\n x y\n}"),
            format!("plugin/metadata: Corefile:2 - {text} 'x'")
        );
        assert_eq!(
            error("metadata\nmetadata a.example"),
            format!("plugin/metadata: Corefile:2 - {text} 'metadata'")
        );
    }
}
