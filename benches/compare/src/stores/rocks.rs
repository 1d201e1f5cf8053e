//! RocksDB.

use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, CompactOptions, DB, DBCompressionType, IteratorMode,
    Options, SstFileWriter, WriteBatch, WriteOptions,
};

use super::{Record, Store};

pub struct Rocks {
    db: DB,
    options: Options,
    input: PathBuf,
}

impl Rocks {
    pub fn open(dir: &Path, cache_bytes: usize) -> Self {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(cache_bytes));
        tables.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&tables);
        options.set_compression_type(DBCompressionType::None);
        options.increase_parallelism(2);
        options.set_write_buffer_size(64 << 20);
        let db = DB::open(&options, dir.join("rocksdb")).expect("opens");
        Self { db, options, input: dir.join("input.sst") }
    }

    fn write(&self, batch: WriteBatch) {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        self.db.write_opt(batch, &durable).expect("commits");
    }
}

impl Store for Rocks {
    fn load(&mut self, records: &mut dyn Iterator<Item = Record>) {
        let mut batch = WriteBatch::default();
        for (key, value) in records {
            batch.put(key, value);
        }
        self.write(batch);
    }

    fn load_sorted(&mut self, records: &mut dyn Iterator<Item = Record>) {
        let mut writer = SstFileWriter::create(&self.options);
        writer.open(&self.input).expect("opens");
        for (key, value) in records {
            writer.put(key, value).expect("writes");
        }
        writer.finish().expect("finishes");
        self.db.ingest_external_file(vec![&self.input]).expect("takes the file in");
    }

    fn remove(&mut self, keys: &mut dyn Iterator<Item = [u8; 24]>) {
        let mut batch = WriteBatch::default();
        for key in keys {
            batch.delete(key);
        }
        self.write(batch);
    }

    fn settle(&mut self) {
        self.db.flush().expect("flushes");
    }

    fn compact(&mut self) {
        self.settle();
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
    }

    fn count(&mut self) -> u64 {
        self.db.iterator(IteratorMode::Start).map(|record| record.expect("reads")).count() as u64
    }

    fn close(self: Box<Self>) {}
}
