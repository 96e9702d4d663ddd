//! `kubernetes`: answers for services and pods of the cluster.

pub mod object;
pub mod source;

use crate::corefile::Error;
use crate::plugin::Setup;

/// Builds the plugin from its occurrences in a server block.
///
/// # Errors
/// Points at what is wrong in the Corefile.
pub fn setup(setup: &mut Setup<'_>) -> Result<(), Error> {
    Err(setup.directives[0].error("not built yet"))
}
