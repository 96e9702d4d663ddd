//! Rules of the plugin as tables.
