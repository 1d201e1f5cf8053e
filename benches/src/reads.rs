//! Point reads in cache: beside LMDB, and many at once beside one by one.

use std::hint::black_box;

use heed::types::Bytes;
use logwood::{Database, Durability, Options};

use crate::Setting;
use crate::measure::{Draw, interleave, key, record, report, seconds};

const READS: u64 = 1_000_000;

/// Random gets of many keys at once and one by one, from records of 24 + 150 bytes that are all in memory, one thread.
pub fn many_reads(setting: &Setting) {
    const KEYS: usize = 100;
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let options = Options::default().cache_bytes(4 << 30);
    let db = Database::open(dir.path().join("db"), options).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    load(&db, setting.records);
    let snapshot = db.snapshot();
    let mut draws = [Draw(42), Draw(42)];
    let mut batches = draws.each_mut().map(|draw| {
        move || -> Vec<[u8; 24]> { (0..KEYS).map(|_| key(draw.next() % setting.records)).collect() }
    });
    let [many, single] = &mut batches;
    let look = |value: &[u8]| black_box((value[0], value[149]));
    let per_key = |elapsed: f64| elapsed / READS as f64 * 1e9;
    let series = interleave(
        setting.rounds,
        &mut [
            ("get_many of 100", &mut || {
                per_key(seconds(|| {
                    for _ in 0..READS as usize / KEYS {
                        let keys = many();
                        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                        for value in snapshot.get_many(&keyspace, &keys).expect("reads") {
                            look(&value.expect("is there"));
                        }
                    }
                }))
            }),
            ("get, 100 times", &mut || {
                per_key(seconds(|| {
                    for _ in 0..READS as usize / KEYS {
                        let keys = single();
                        for key in &keys {
                            look(&snapshot.get(&keyspace, key).expect("reads").expect("is there"));
                        }
                    }
                }))
            }),
        ],
    );
    report("reads of 100 keys at once", "ns a key", "<= 0.77", &series);
}

/// Puts records in batches of 1,000, and writes a checkpoint.
pub fn load(db: &Database, records: u64) {
    let keyspace = db.keyspace("default").expect("is there");
    for first in (0..records).step_by(1_000) {
        let mut batch = db.batch();
        for number in first..(first + 1_000).min(records) {
            let (key, value) = record(number);
            batch.put(&keyspace, &key, &value).expect("fits");
        }
        db.commit(batch, Durability::Buffered).expect("commits");
    }
    db.checkpoint().expect("checkpoints");
}

/// Random gets of records of 24 + 150 bytes, all in memory, one thread, through the public calls.
pub fn point_reads(setting: &Setting) {
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let options = Options::default().cache_bytes(4 << 30);
    let db = Database::open(dir.path().join("db"), options).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    let lmdb_dir = dir.path().join("lmdb");
    std::fs::create_dir(&lmdb_dir).expect("makes a directory");
    #[allow(unsafe_code, reason = "heed asks for the promise that nobody else maps these files")]
    let environment = unsafe {
        // SAFETY: the directory was just made and is used by this process alone.
        heed::EnvOpenOptions::new().map_size(16 << 30).open(&lmdb_dir).expect("opens LMDB")
    };
    let mut transaction = environment.write_txn().expect("begins");
    let table: heed::Database<Bytes, Bytes> =
        environment.create_database(&mut transaction, None).expect("makes a table");
    let load_lmdb = seconds(|| {
        for number in 0..setting.records {
            let (key, value) = record(number);
            table.put(&mut transaction, &key, &value).expect("puts");
        }
        transaction.commit().expect("commits");
    });
    let load = seconds(|| load(&db, setting.records));
    println!("    loaded {} records: logwood {load:.1} s, LMDB {load_lmdb:.1} s", setting.records);
    println!("    {:?}", db.statistics());

    let mut draw = Draw(42);
    let reader = environment.read_txn().expect("begins");
    let mut other = draw.clone();
    let series = interleave(
        setting.rounds,
        &mut [
            ("logwood, get", &mut || {
                let elapsed = seconds(|| {
                    for _ in 0..READS {
                        let key = key(draw.next() % setting.records);
                        let value = keyspace.get(&key).expect("reads").expect("is there");
                        black_box((value[0], value[149]));
                    }
                });
                elapsed / READS as f64 * 1e9
            }),
            ("LMDB, get", &mut || {
                let elapsed = seconds(|| {
                    for _ in 0..READS {
                        let key = key(other.next() % setting.records);
                        let value = table.get(&reader, &key).expect("reads").expect("is there");
                        black_box((value[0], value[149]));
                    }
                });
                elapsed / READS as f64 * 1e9
            }),
        ],
    );
    report("point read in cache", "ns", "<= 0.6", &series);
}
