//! The log in an object store: what outlives the machine, and any point in time back from there.
//!
//! An archive holds the log's entries in one chain of objects that are created and never overwritten, and now and then a
//! snapshot. Nothing in it is believed before it is proven.
//!
//! | module | what it does |
//! |---|---|
//! | [`layout`] | the keys of all objects |
//! | [`object`] | BYTES of the objects, and what makes them valid |
//! | [`read`] | an archive as whoever restores from it sees it: listing, views of one point |
//! | [`restore`] | a database, or a part of one, into a new directory |
//! | [`store`] | the object store as the archive sees it; directory, memory, S3 |
//! | [`chain`] | walking a chain by key, proving each link |
//! | `lineage` | BYTES of `DIR/LINEAGE`: which history this directory writes |
//!
//! The picture, the rules and the crash stories: `docs/format/archive.md`.

pub mod chain;
pub mod layout;
pub mod object;
pub mod read;
pub mod restore;
pub mod store;

#[allow(dead_code, reason = "used by the archiver and by restoring, which come next")]
mod lineage;

#[cfg(test)]
mod tests;

pub use chain::Chain;
pub use logwood_base::{ArchiveDamage, LineageId};
pub use read::{Archive, ArchivedDatabase, Hole, Interval, LineageListing, Listing, Point, SnapshotListing};
pub use restore::{RestoreOptions, RestoreProgress, RestoreReport, RestoreStep};
pub use store::{Client, Put, Store, StoreOptions};
