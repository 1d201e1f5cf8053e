//! The B-tree of logwood: multi-version memory form, log-structured checksummed disk form.

pub mod format;
pub mod manifest;
pub mod store;
pub mod verify;
