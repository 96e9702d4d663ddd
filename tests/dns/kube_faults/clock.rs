//! Clock steps.
