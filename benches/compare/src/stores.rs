//! One trait over all stores, and each of them behind it.
//!
//! Everybody gets the same records and the same bound of memory where it can be told, acknowledges when a power cut
//! cannot take the data away, and compresses nothing.

use std::path::Path;

mod fjall_store;
mod lmdb;
mod logwood_store;
mod redb_store;
#[cfg(feature = "rocksdb")]
mod rocks;
mod sqlite;

/// A record of the benchmarks.
pub type Record = ([u8; 24], [u8; 150]);

/// What a contestant can do.
pub trait Store {
    /// Puts all records in one transaction. Durable when it returns.
    fn load(&mut self, records: &mut dyn Iterator<Item = Record>);

    /// Puts records that come in the order of their keys into the empty store, all or none, in the way that is made for
    /// it. Durable when it returns.
    fn load_sorted(&mut self, records: &mut dyn Iterator<Item = Record>) {
        self.load(records);
    }

    /// Removes keys in one transaction. Durable when it returns.
    fn remove(&mut self, keys: &mut dyn Iterator<Item = [u8; 24]>);

    /// Does now what would be done in the background, or at the next commits.
    fn settle(&mut self);

    /// Makes the store as small as it gets while it is in use.
    fn compact(&mut self);

    /// How many records there are.
    fn count(&mut self) -> u64;

    /// Closes it.
    fn close(self: Box<Self>);
}

/// The contestants.
pub const NAMES: &[&str] = &[
    "logwood",
    "redb",
    "lmdb",
    "fjall",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
    "sqlite",
];

/// Opens an empty store in a directory.
pub fn open(name: &str, dir: &Path, cache_bytes: usize) -> Box<dyn Store> {
    match name {
        "logwood" => Box::new(logwood_store::Logwood::open(dir, cache_bytes)),
        "redb" => Box::new(redb_store::Redb::open(dir, cache_bytes)),
        "lmdb" => Box::new(lmdb::Lmdb::open(dir)),
        "fjall" => Box::new(fjall_store::Fjall::open(dir, cache_bytes)),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Box::new(rocks::Rocks::open(dir, cache_bytes)),
        "sqlite" => Box::new(sqlite::Sqlite::open(dir, cache_bytes)),
        other => panic!("no store {other}"),
    }
}
