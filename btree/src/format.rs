//! The bytes of every file that the trees keep: pages, page segments, manifests.
//!
//! | module | what it holds |
//! |---|---|
//! | [`page`] | where a page stands, what proves it, its two-byte envelope, compression |
//! | [`leaf`] | sorted records of one leaf: dense, or front-coded with restart points |
//! | [`delta`] | changes of one leaf since its last image |
//! | [`inner`] | children of one inner node |
//! | [`child`] | the parent's entry for a child |
//! | [`overflow`] | references to values that are too long to stand in a leaf |
//! | [`segment`] | header, index and trailer of a page segment |
//! | [`manifest`] | one copy of a manifest |
//!
//! Everything here is a pure function over bytes: no files, no locks. Each module opens with its byte table. All
//! numbers are little-endian; "varint" is the shortest LEB128 form ([`logwood_base::codec`]). Decoders accept any
//! bytes: they answer [`CodecError`](logwood_base::codec::CodecError), never panic, and bound every length before
//! they allocate.

pub mod child;
pub mod delta;
pub mod inner;
pub mod leaf;
pub mod manifest;
pub mod overflow;
pub mod page;
mod records;
pub mod segment;

/// The greatest number of a page segment and of a generation of the manifest: far above what can ever be written, and
/// far below where adding overflows.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod samples;
