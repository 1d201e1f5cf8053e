//! The bodies of logwood's fuzz targets: plain functions over bytes, one module each.
//!
//! | target | what it holds |
//! |---|---|
//! | [`codec`] | whatever the reader accepts, the writer writes back byte for byte |
//! | [`page`] | bodies of leaves, inner pages, deltas, references, envelopes: what passes the check reads alike by every way, and what a builder wrote comes back |
//! | [`page_segment`] | a page segment among sound files: damage is found, and verifying never fails otherwise |
//! | [`manifest`] | a copy that decodes is the one encoding of what it says; a store opens what decodes, or names the damage |
//! | [`archived`] | an object of an archive that decodes is the one encoding of what it says, and has the entries it states |
//! | [`log_segment`] | every entry that a log answers stands in its file; a second opening answers the same |
//! | [`log_history`] | a script on two groups of a log with crashes, faults, flipped bits: nothing acknowledged is lost, no state is mixed |
//! | [`api`] | a script on a database with crashes, faults, flipped bits, against a model |
//! | [`load`] | records read alike through any buffer, and print and read back as they were |
//!
//! Checksums would keep a fuzzer out of everything behind them, so targets run twice: over the bytes as they are, and
//! over the same bytes with lengths and checksums mended ([`mend`]). A target fails by panicking. All of them count
//! what they allocate ([`allocation`]).
//!
//! `tests/corpora.rs` runs every target over its corpus with the stable compiler; `examples/corpora.rs` wrote the
//! corpora; the binaries under `fuzz_targets/` are libfuzzer's entries. How to run: `README.md`.

pub mod allocation;
pub mod api;
pub mod archived;
pub mod codec;
pub mod load;
pub mod log_history;
pub mod log_segment;
pub mod manifest;
pub mod mend;
pub mod mutation;
pub mod page;
pub mod page_segment;
pub mod samples;

/// A target: its name, which is also that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("codec", codec::run),
    ("page", page::run),
    ("page_segment", page_segment::run),
    ("manifest", manifest::run),
    ("archived", archived::run),
    ("load", load::run),
    ("log_segment", log_segment::run),
    ("log_history", log_history::run),
    ("api", api::run),
];
