//! redb.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};

use super::{Record, Store};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("default");

pub struct Redb {
    db: Database,
}

impl Redb {
    pub fn open(dir: &Path, cache_bytes: usize) -> Self {
        let mut builder = Database::builder();
        let db = builder.set_cache_size(cache_bytes).create(dir.join("redb")).expect("opens");
        Self { db }
    }
}

impl Store for Redb {
    fn load(&mut self, records: &mut dyn Iterator<Item = Record>) {
        let transaction = self.db.begin_write().expect("begins");
        {
            let mut table = transaction.open_table(TABLE).expect("makes a table");
            for (key, value) in records {
                table.insert(&key[..], &value[..]).expect("writes");
            }
        }
        transaction.commit().expect("commits");
    }

    fn remove(&mut self, keys: &mut dyn Iterator<Item = [u8; 24]>) {
        let transaction = self.db.begin_write().expect("begins");
        {
            let mut table = transaction.open_table(TABLE).expect("opens a table");
            for key in keys {
                table.remove(&key[..]).expect("removes");
            }
        }
        transaction.commit().expect("commits");
    }

    fn settle(&mut self) {}

    fn compact(&mut self) {
        while self.db.compact().expect("compacts") {}
    }

    fn count(&mut self) -> u64 {
        let transaction = self.db.begin_read().expect("begins");
        transaction.open_table(TABLE).expect("opens a table").len().expect("counts")
    }

    fn close(self: Box<Self>) {}
}
