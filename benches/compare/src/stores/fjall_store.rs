//! fjall.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Record, Store};

pub struct Fjall {
    db: Database,
    keyspace: Keyspace,
}

impl Fjall {
    pub fn open(dir: &Path, cache_bytes: usize) -> Self {
        let builder = Database::builder(dir.join("fjall")).cache_size(cache_bytes as u64);
        let db = builder.open().expect("opens");
        let keyspace = db.keyspace("default", KeyspaceCreateOptions::default).expect("makes a keyspace");
        Self { db, keyspace }
    }
}

impl Store for Fjall {
    fn load(&mut self, records: &mut dyn Iterator<Item = Record>) {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        for (key, value) in records {
            batch.insert(&self.keyspace, key, value);
        }
        batch.commit().expect("commits");
    }

    fn load_sorted(&mut self, records: &mut dyn Iterator<Item = Record>) {
        let mut ingestion = self.keyspace.start_ingestion().expect("begins");
        for (key, value) in records {
            ingestion.write(key, value).expect("writes");
        }
        ingestion.finish().expect("finishes");
    }

    fn remove(&mut self, keys: &mut dyn Iterator<Item = [u8; 24]>) {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        for key in keys {
            batch.remove(&self.keyspace, key);
        }
        batch.commit().expect("commits");
    }

    fn settle(&mut self) {
        self.keyspace.rotate_memtable_and_wait().expect("flushes");
    }

    fn compact(&mut self) {
        self.settle();
        self.keyspace.major_compact().expect("compacts");
    }

    fn count(&mut self) -> u64 {
        self.keyspace.len().expect("counts") as u64
    }

    fn close(self: Box<Self>) {}
}
