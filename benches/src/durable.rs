//! Commits: alone, from many threads, buffered, in batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use logwood::{Database, Durability, Keyspace, Options};

use crate::Setting;
use crate::device::{lone_block_us, recycled_file, writes_per_second};
use crate::measure::{interleave, median_us, record, report, seconds};

fn database(setting: &Setting) -> (tempfile::TempDir, Database, Keyspace) {
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let db = Database::open(dir.path().join("db"), Options::default()).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    (dir, db, keyspace)
}

/// One thread, one put of 150 bytes a commit, durable; beside one durable 4 KiB write.
pub fn lone(setting: &Setting) {
    const COMMITS: usize = 2_000;
    let (dir, _db, keyspace) = database(setting);
    let raw = recycled_file(dir.path(), "raw");
    let mut number = 0;
    let series = interleave(
        setting.rounds,
        &mut [
            ("logwood, durable put", &mut || {
                median_us(COMMITS, |_| {
                    number += 1;
                    let (key, value) = record(number);
                    keyspace.put(&key, &value).expect("commits");
                })
            }),
            ("raw 4 KiB, direct+dsync", &mut || lone_block_us(&*raw, COMMITS)),
        ],
    );
    report("lone durable commit, p50", "us", "<= 1.10", &series);
}

/// 32 threads, one put a commit, durable; beside the device with writes of the same size and depth.
pub fn many_threads(setting: &Setting) {
    const COMMITS: u64 = 40_000;
    const THREADS: u64 = 32;
    let (dir, db, keyspace) = database(setting);
    let raw = recycled_file(dir.path(), "raw");
    let number = AtomicU64::new(0);
    let before = db.statistics();
    let mut series = interleave(
        setting.rounds,
        &mut [
            ("logwood", &mut || {
                let elapsed = seconds(|| {
                    std::thread::scope(|scope| {
                        for _ in 0..THREADS {
                            scope.spawn(|| {
                                for _ in 0..COMMITS / THREADS {
                                    let (key, value) = record(number.fetch_add(1, Ordering::Relaxed));
                                    keyspace.put(&key, &value).expect("commits");
                                }
                            });
                        }
                    });
                });
                COMMITS as f64 / elapsed
            }),
            ("device, same batches in flight", &mut || writes_per_second(&raw, 8, 4096, 20_000)),
        ],
    );
    // The device writes batches; each carries as many commits as ours did on average.
    let after = db.statistics();
    let writes = after.log.durable_writes - before.log.durable_writes;
    let commits_a_write = (COMMITS * setting.rounds as u64) as f64 / writes.max(1) as f64;
    series[1].figures.iter_mut().for_each(|figure| *figure *= commits_a_write);
    println!("    {commits_a_write:.1} commits a durable write");
    report("32 committing threads", "commits/s", ">= 0.9", &series);
}

/// One thread, buffered; beside one `pwrite` of the same bytes.
pub fn buffered(setting: &Setting) {
    const COMMITS: usize = 50_000;
    let (dir, _db, keyspace) = database(setting);
    let raw_file = recycled_file(dir.path(), "raw");
    let mut number = 0;
    let mut offset = 0;
    let bytes = [7u8; 24 + 150 + 64];
    let series = interleave(
        setting.rounds,
        &mut [
            ("logwood, buffered put", &mut || {
                let elapsed = seconds(|| {
                    for _ in 0..COMMITS {
                        number += 1;
                        let (key, value) = record(number);
                        keyspace.put_with(&key, &value, Durability::Buffered).expect("commits");
                    }
                });
                elapsed / COMMITS as f64 * 1e6
            }),
            ("raw pwrite of 238 bytes", &mut || {
                let elapsed = seconds(|| {
                    for _ in 0..COMMITS {
                        raw_file.write_at(offset % (15 << 20), &bytes).expect("writes");
                        offset += bytes.len() as u64;
                    }
                });
                elapsed / COMMITS as f64 * 1e6
            }),
        ],
    );
    report("buffered commit", "us", "<= 1.5", &series);
}

/// 1,000 puts a commit, durable; beside fjall with its journal synced.
pub fn batches(setting: &Setting) {
    const BATCHES: usize = 100;
    let (dir, db, keyspace) = database(setting);
    let fjall_db = fjall::Database::builder(dir.path().join("fjall")).open().expect("opens fjall");
    let fjall_keyspace =
        fjall_db.keyspace("default", fjall::KeyspaceCreateOptions::default).expect("makes a keyspace");
    let (mut ours, mut theirs) = (0, 0);
    let series = interleave(
        setting.rounds,
        &mut [
            ("logwood", &mut || {
                let start = Instant::now();
                for _ in 0..BATCHES {
                    let mut batch = db.batch();
                    for _ in 0..1_000 {
                        ours += 1;
                        let (key, value) = record(ours);
                        batch.put(&keyspace, &key, &value).expect("fits");
                    }
                    db.commit(batch, Durability::Durable).expect("commits");
                }
                start.elapsed().as_secs_f64() * 1e3
            }),
            ("fjall 3, SyncAll", &mut || {
                let start = Instant::now();
                for _ in 0..BATCHES {
                    let mut batch = fjall_db.batch().durability(Some(fjall::PersistMode::SyncAll));
                    for _ in 0..1_000 {
                        theirs += 1;
                        let (key, value) = record(theirs);
                        batch.insert(&fjall_keyspace, key, value);
                    }
                    batch.commit().expect("commits");
                }
                start.elapsed().as_secs_f64() * 1e3
            }),
        ],
    );
    report("100 durable batches of 1,000", "ms", "<= 1.0", &series);
}
