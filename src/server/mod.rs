//! The server: configuration to running listeners, zone to chain, start, reload, drain.
