//! logwood.

use std::path::Path;

use logwood::{BulkOptions, Database, Durability, Keyspace, Options};

use super::{Record, Store};

pub struct Logwood {
    db: Database,
    keyspace: Keyspace,
}

impl Logwood {
    pub fn open(dir: &Path, cache_bytes: usize) -> Self {
        let options = Options::new().cache_bytes(cache_bytes).batch_bytes_max(1 << 30);
        let db = Database::open(dir.join("logwood"), options).expect("opens");
        let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
        Self { db, keyspace }
    }
}

impl Store for Logwood {
    fn load(&mut self, records: &mut dyn Iterator<Item = Record>) {
        let mut bulk = self.db.bulk_write(BulkOptions::new()).expect("begins");
        for (key, value) in records {
            bulk.put(&self.keyspace, &key, &value).expect("takes any number");
        }
        bulk.commit(Durability::Durable).expect("commits");
    }

    fn remove(&mut self, keys: &mut dyn Iterator<Item = [u8; 24]>) {
        let mut batch = self.db.batch();
        for key in keys {
            batch.delete(&self.keyspace, &key).expect("fits");
        }
        self.db.commit(batch, Durability::Durable).expect("commits");
    }

    fn settle(&mut self) {
        self.db.checkpoint().expect("checkpoints");
    }

    fn compact(&mut self) {
        self.db.compact().expect("compacts");
    }

    fn count(&mut self) -> u64 {
        self.keyspace.count_all().expect("counts")
    }

    fn close(self: Box<Self>) {
        self.db.close().expect("closes");
    }
}
