//! The log in an object store: what outlives the machine, and any point in time back from there.
//!
//! An [`Archiver`] works beside an open [`Database`](crate::Database) or [`LogOnly`](crate::LogOnly). It puts the log's
//! entries, as they are decided and durable, into one chain of objects that are created and never overwritten, and now
//! and then a snapshot. Commits never wait for it. Nothing in an archive is believed before it is proven.
//!
//! | module | what it does |
//! |---|---|
//! | [`layout`] | the keys of all objects |
//! | [`object`] | BYTES of the objects, and what makes them valid |
//! | [`read`] | an archive as whoever restores from it sees it: listing, views of one point |
//! | [`restore`] | a database, or a part of one, into a new directory |
//! | [`store`] | the object store as the archive sees it; directory, memory, S3 |
//! | `options`, `archiver`, `status` | the public face |
//! | `attach`, `walk`, `compare` | finding one's place in the chain; whether what stands there is of this history |
//! | `uploader`, `putting`, `other`, `snapshot`, `gap` | the log's way into the chain; what others put there; checkpoints; gaps |
//! | `retention`, `hold` | deleting what no promised point needs; keeping it away from what is in use |
//! | `order` | which of several histories is the later one |
//! | `utc` | times as people read them |
//! | `gate`, `source` | what commits and archiver share; what is archived |
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

mod archiver;
mod attach;
mod compare;
mod gap;
pub(crate) mod gate;
mod hold;
pub(crate) mod lineage;
mod options;
pub(crate) mod order;
mod other;
mod putting;
mod retention;
mod snapshot;
pub(crate) mod source;
mod status;
mod uploader;
mod utc;
mod walk;

#[cfg(test)]
mod tests;

pub use archiver::Archiver;
pub use chain::Chain;
pub use hold::PlacedHold;
pub use logwood_base::{ArchiveDamage, LineageId};
pub use options::ArchiveOptions;
pub use read::{Archive, ArchivedDatabase, Hole, Interval, LineageListing, Listing, Point, SnapshotListing};
pub use restore::{RestoreOptions, RestoreProgress, RestoreReport, RestoreStep};
pub use retention::{HOLD_AGE_MAX, RUN_AGE_MAX, RetentionOptions, RetentionReport, retention};
pub use status::ArchiveStatus;
pub use store::{Client, Put, Store, StoreOptions};
pub use utc::utc;
