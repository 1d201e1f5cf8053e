//! LMDB, through heed. It has no cache to bound: it maps its file.

use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{CompactionOption, Database, Env, EnvOpenOptions, PutFlags};

use super::{Record, Store};

const MAP_BYTES: usize = 32 << 30;

pub struct Lmdb {
    env: Env,
    table: Database<Bytes, Bytes>,
    dir: PathBuf,
}

impl Lmdb {
    pub fn open(dir: &Path) -> Self {
        #[allow(unsafe_code, reason = "heed asks for the promise that nobody else maps these files")]
        let env = unsafe {
            // SAFETY: the directory was just made and is used by this process alone.
            EnvOpenOptions::new().map_size(MAP_BYTES).open(dir).expect("opens")
        };
        let mut transaction = env.write_txn().expect("begins");
        let table = env.create_database(&mut transaction, None).expect("makes a table");
        transaction.commit().expect("commits");
        Self { env, table, dir: dir.to_owned() }
    }

    fn put_all(&self, flags: PutFlags, records: &mut dyn Iterator<Item = Record>) {
        let mut transaction = self.env.write_txn().expect("begins");
        for (key, value) in records {
            self.table.put_with_flags(&mut transaction, flags, &key, &value).expect("writes");
        }
        transaction.commit().expect("commits");
    }
}

impl Store for Lmdb {
    fn load(&mut self, records: &mut dyn Iterator<Item = Record>) {
        self.put_all(PutFlags::empty(), records);
    }

    fn load_sorted(&mut self, records: &mut dyn Iterator<Item = Record>) {
        self.put_all(PutFlags::APPEND, records);
    }

    fn remove(&mut self, keys: &mut dyn Iterator<Item = [u8; 24]>) {
        let mut transaction = self.env.write_txn().expect("begins");
        for key in keys {
            self.table.delete(&mut transaction, &key).expect("removes");
        }
        transaction.commit().expect("commits");
    }

    fn settle(&mut self) {}

    /// LMDB gives nothing back in place: a packed copy takes the place of the file.
    fn compact(&mut self) {
        let packed = self.dir.join("packed.mdb");
        let copy = self.env.copy_to_path(&packed, CompactionOption::Enabled).expect("copies");
        copy.sync_all().expect("syncs");
        std::fs::remove_file(self.dir.join("data.mdb")).expect("removes");
    }

    fn count(&mut self) -> u64 {
        let transaction = self.env.read_txn().expect("begins");
        self.table.len(&transaction).expect("counts")
    }

    fn close(self: Box<Self>) {}
}
