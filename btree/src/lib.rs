//! The B-tree of logwood: multi-version memory form, log-structured checksummed disk form.
