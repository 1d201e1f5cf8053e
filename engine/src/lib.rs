//! A log-structured storage engine to embed in other databases.
//!
//! ```
//! use logwood::{Database, Options};
//!
//! # let directory = tempfile::tempdir()?;
//! let db = Database::open(directory.path(), Options::new())?;
//! let ks = db.ensure_keyspace("default")?;
//! ks.put(b"key", b"value")?;
//! assert_eq!(ks.get(b"key")?.as_deref(), Some(&b"value"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One write-ahead log is the database; one B-tree per keyspace is a cache of it that happens to be on disk. What the
//! engine promises, and what it does not, stands in the README; the life of a write in `commit.rs`, of opening in
//! `recovery.rs`.
//!
//! | to | see |
//! |---|---|
//! | open, create keyspaces, commit, take snapshots | [`Database`], [`Options`] |
//! | read and write one keyspace | [`Keyspace`], [`Range`] |
//! | write several things at once | [`Batch`], [`Ticket`] |
//! | write more at once than memory holds | [`Database::bulk_write`], [`BulkWrite`] |
//! | write and read long values piece by piece | [`Batch::put_stream`], [`Keyspace::value_reader`], [`ValueReader`] |
//! | read several things of one moment | [`Snapshot`] |
//! | copy the database while it is in use | [`Database::backup`], [`BackupOptions`] |
//! | follow every commit, in order | [`Database::changes`], [`Changes`], [`ChangeSet`] |
//! | read, decide and write as if alone | [`Transaction`], [`Database::transact`] |
//! | write one key if a condition holds | [`Keyspace::put_if`], [`Condition`] |
//! | use numbers, strings and tuples as keys, and types of your own | [`typed`] |
//! | look at a directory without opening it | [`inspect`] |
//! | keep the log in an object store, and restore any point of it (feature `archive`) | `archive` |
//! | keep a replica's log without its data | [`LogOnly`] |
//! | read the log's entries | [`entry`] |
//!
//! # Threads
//! All calls block, none needs a runtime. Commits are grouped by the threads that wait for them. Background work,
//! checkpoints and cleaning, runs on threads of the [`Environment`]'s spawner.
//!
//! # Errors
//! [`Error`] is sorted by what to do about it. After a failed write or sync every later write answers `Poisoned`;
//! reads go on. A full disk does not poison. Damage to a page is an error for the keys that it held, and for no
//! other.

#[cfg(feature = "archive")]
pub mod archive;
pub mod entry;
pub mod inspect;
pub mod typed;

mod ahead;
mod apply;
mod backup;
mod batch;
mod bulk;
mod catalog;
mod changes;
mod checkpointing;
mod cleaning;
mod commit;
mod condition;
mod core;
mod database;
mod directory;
mod fragments;
mod keyspace;
mod log_only;
mod options;
mod pace;
#[cfg(not(logwood_planted))]
mod planted;
#[cfg(logwood_planted)]
pub mod planted;
mod poison;
mod publish;
mod range;
mod recovery;
mod runs;
mod seed;
mod snapshot;
mod state;
mod statistics;
mod stream;
#[cfg(test)]
mod tests;
mod ticket;
mod transaction;
mod verification;

pub use backup::{BackupOptions, BackupProgress, BackupReport};
pub use batch::Batch;
pub use bulk::{BulkOptions, BulkWrite};
pub use changes::{Change, ChangeSet, Changes, ChangesOptions, Ready};
pub use condition::{Condition, Conditional, ConditionalTicket};
pub use database::Database;
pub use keyspace::Keyspace;
pub use log_only::{LogOnly, LogOnlyStatistics};
pub use options::{Options, ProgressCallback, RecoveryProgress, RecoveryStep};
pub use range::Range;
pub use seed::{Origin, OriginKind};
pub use snapshot::Snapshot;
pub use statistics::{BulkStatistics, RecoveryReport, Statistics, TransactionStatistics, Watermarks};
pub use ticket::Ticket;
pub use transaction::{TransactOptions, Transaction, TransactionRange};
pub use verification::{VerifyProgress, VerifyReport};

pub use logwood_base::digest::Digest;
pub use logwood_base::{
    ArchiveDamage, Changed, Conflict, Corruption, DatabaseId, Environment, Error, GroupId, KeyspaceId,
    LineageId, LogId, Lsn, NodeId, Result, Term,
};
pub use logwood_btree::verify::Damage;
pub use logwood_btree::{ForestStatistics, RangeSize, Value, ValueReader};
pub use logwood_wal::{Append, BaseState, Durability, Hold, Statistics as LogStatistics, Tail};

/// The README's example compiles with this crate, or this fails.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct ReadmeExample;

/// As the README's, for the guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/transactions.md")]
pub struct TransactionsGuide;

/// As the README's, for the guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/first-steps.md")]
#[doc = include_str!("../../docs/guide/durability.md")]
pub struct FirstSteps;

/// As the README's, for the guide.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/large-data.md")]
#[doc = include_str!("../../docs/guide/changes-and-backup.md")]
pub struct LargeDataGuide;

/// As the README's, for the guide.
#[cfg(all(doctest, feature = "archive"))]
#[doc = include_str!("../../docs/guide/restore.md")]
pub struct RestoreGuide;
