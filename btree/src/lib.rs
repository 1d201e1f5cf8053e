//! The B-tree of logwood: multi-version memory form, log-structured checksummed disk form.
//!
//! A [`Forest`] holds all trees of a database over one page store and one chain of manifests. One writer at a time
//! applies the entries of a log in LSN order; any number of readers read at the latest visible LSN or at a
//! [`Snapshot`], without locks. A checkpoint writes exactly the state at one LSN, beside the writer.
//!
//! | module | what it holds |
//! |---|---|
//! | [`forest`] | the public face of all trees together |
//! | [`tree`] | the public face of one tree: point reads |
//! | [`cursor`] | ranges, in both directions |
//! | `sums`, `sizes` | count and digest of ranges; about how large they are, and where to cut them |
//! | `snapshot`, `version` | LSNs that are read at; versions of leaves and who needs them |
//! | `node` | the memory form of leaves and inner nodes |
//! | `descent` | the way from a root to a leaf |
//! | `apply` | changes: append to a leaf, rebuild, split, merge |
//! | `load`, `cache` | pages into memory, and leaves out of it |
//! | `overflow`, `value_reader` | long values, whole or piece by piece |
//! | `checkpoint` | the state at one LSN, written bottom-up beside the writer |
//! | `clean` | giving back the space of page segments that are mostly dead |
//! | `audit`, [`verify`] | every tree re-derived, every byte of every file |
//! | [`mod@format`], [`manifest`], [`store`] | the bytes of pages, segments and manifests; the page store |
//!
//! ```
//! use std::sync::Arc;
//! use logwood_base::{Environment, KeyspaceId, Lsn};
//! use logwood_btree::{At, Change, ChangeKind, Forest, ForestOptions, Identity};
//! # use logwood_base::disk::simulated::SimulatedDisk;
//! # use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
//! # use logwood_base::{DatabaseId, LogId};
//! # let disk = SimulatedDisk::new(1);
//! # let environment = Environment {
//! #     disk: Arc::new(disk), clock: Arc::new(ManualClock::new(0)),
//! #     random: Arc::new(SeededRandom::new(1)), spawner: Arc::new(ManualSpawner::new()),
//! # };
//! let identity = Identity { database: DatabaseId(1), log: LogId(2) };
//! let forest = Forest::create(&environment, "/db".as_ref(), identity, ForestOptions::default())?;
//! let tree = forest.create_tree(Lsn(1), KeyspaceId(1))?;
//! let put = ChangeKind::Put { key: b"key", value: b"value" };
//! forest.apply(Lsn(2), &[Change { keyspace: KeyspaceId(1), kind: put }])?;
//! assert!(tree.get(b"key", At::Latest)?.is_none(), "applied, but not published yet");
//! forest.publish(Lsn(2));
//! assert_eq!(tree.get(b"key", At::Latest)?.unwrap(), &b"value"[..]);
//! # Ok::<(), logwood_base::Error>(())
//! ```

mod account;
mod apply;
mod audit;
mod cache;
mod checkpoint;
mod clean;
pub mod cursor;
mod descent;
pub mod forest;
pub mod format;
mod give_back;
mod load;
pub mod manifest;
mod node;
mod overflow;
#[cfg(test)]
mod planted;
mod preparation;
mod shared;
mod sizes;
mod snapshot;
pub mod store;
mod sums;
#[cfg(test)]
mod tests;
pub mod tree;
mod value;
mod value_reader;
pub mod verify;
mod version;

pub use account::PageWrites;
pub use apply::{Change, ChangeKind, SortedChanges, in_order};
pub use audit::{VerifyReport, verify_directory, verify_directory_with};
pub use checkpoint::{Checkpoint, CheckpointJob, CheckpointReport, Progress};
pub use clean::Cleaned;
pub use cursor::Cursor;
pub use forest::{Forest, ForestOptions, ForestStatistics, Opened};
pub use manifest::ManifestSummary;
pub use preparation::Preparation;
pub use sizes::RangeSize;
pub use snapshot::{At, Snapshot};
pub use store::{Beginning, Compression, Identity};
pub use tree::Tree;
pub use value::Value;
pub use value_reader::ValueReader;
