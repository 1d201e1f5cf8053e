//! SQLite, with a write-ahead log.

use std::path::Path;

use rusqlite::Connection;

use super::{Record, Store};

pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub fn open(dir: &Path, cache_bytes: usize) -> Self {
        let connection = Connection::open(dir.join("sqlite")).expect("opens");
        let settings = format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -{};
             CREATE TABLE records (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID;",
            cache_bytes >> 10
        );
        connection.execute_batch(&settings).expect("sets up");
        Self { connection }
    }
}

impl Store for Sqlite {
    fn load(&mut self, records: &mut dyn Iterator<Item = Record>) {
        let transaction = self.connection.transaction().expect("begins");
        {
            let mut put = transaction.prepare("INSERT INTO records VALUES (?, ?)").expect("prepares");
            for (key, value) in records {
                put.execute((key, value)).expect("writes");
            }
        }
        transaction.commit().expect("commits");
    }

    fn remove(&mut self, keys: &mut dyn Iterator<Item = [u8; 24]>) {
        let transaction = self.connection.transaction().expect("begins");
        {
            let mut delete = transaction.prepare("DELETE FROM records WHERE key = ?").expect("prepares");
            for key in keys {
                delete.execute((key,)).expect("removes");
            }
        }
        transaction.commit().expect("commits");
    }

    fn settle(&mut self) {
        self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("checkpoints");
    }

    fn compact(&mut self) {
        self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").expect("compacts");
    }

    fn count(&mut self) -> u64 {
        let row = self.connection.query_row("SELECT count(*) FROM records", (), |row| row.get::<_, i64>(0));
        row.expect("counts") as u64
    }

    fn close(self: Box<Self>) {}
}
