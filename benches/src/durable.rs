//! Commits: alone, from many threads, buffered, in batches.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use logwood::{Database, Durability, Keyspace, Options};
use logwood_base::Environment;
use logwood_base::limits::BLOCK_BYTES;

use crate::Setting;
use crate::device::{lone_block_us, recycled_file, writes_per_second};
use crate::measure::{interleave, median_us, record, report, seconds};
use crate::watched::{WatchedDisk, Writes};

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

/// 32 threads, one put a commit, durable; beside the device when it is given as many writes at a time as we give it,
/// of the same size, each of which carries as many commits as ours did. How many share a write is for us to choose: so
/// the older row, eight writers of 4 KiB times our commits a write, is printed too, and so are the plain figures.
pub fn many_threads(setting: &Setting) {
    const COMMITS: u64 = 80_000;
    const THREADS: u64 = 32;
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let system = Environment::system().expect("finds the machine");
    let (disk, counts) = WatchedDisk::new(Arc::clone(&system.disk));
    let options = Options::default().environment(Environment { disk, ..system });
    let db = Database::open(dir.path().join("db"), options).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    let raw = recycled_file(dir.path(), "raw");
    let number = AtomicU64::new(0);
    let latencies = Mutex::new(Vec::new());
    let (round, all) = (Cell::new(Writes::default()), RefCell::new(Vec::new()));
    let commits_a_write = || COMMITS as f64 / round.get().writes.max(1) as f64;
    let series = interleave(
        setting.rounds,
        &mut [
            ("logwood", &mut || {
                counts.take();
                let elapsed = seconds(|| {
                    std::thread::scope(|scope| {
                        for _ in 0..THREADS {
                            scope.spawn(|| {
                                let mut own = Vec::with_capacity((COMMITS / THREADS) as usize);
                                for _ in 0..COMMITS / THREADS {
                                    let (key, value) = record(number.fetch_add(1, Ordering::Relaxed));
                                    let start = Instant::now();
                                    keyspace.put(&key, &value).expect("commits");
                                    own.push(start.elapsed());
                                }
                                latencies.lock().expect("no panics").append(&mut own);
                            });
                        }
                    });
                });
                round.set(counts.take());
                all.borrow_mut().push(round.get());
                COMMITS as f64 / elapsed
            }),
            ("device, as deep and large", &mut || {
                let (depth, bytes) = (round.get().depth(), round.get().bytes_each());
                let bytes = (bytes as usize).next_multiple_of(BLOCK_BYTES);
                writes_per_second(&raw, depth.ceil() as usize, bytes, 20_000) * commits_a_write()
            }),
            ("device, 8 writers of 4 KiB", &mut || {
                writes_per_second(&raw, 8, 4096, 20_000) * commits_a_write()
            }),
        ],
    );
    let mut latencies = latencies.into_inner().expect("no panics");
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000].as_secs_f64() * 1e6;
    report("32 committing threads", "commits/s", ">= 0.9", &series);
    println!("    beside 8 writers of 4 KiB: {:.3}", series[0].median() / series[2].median());
    for writes in all.into_inner() {
        println!(
            "    {:.1} commits, {:.0} bytes a durable write; {:.2} in flight",
            COMMITS as f64 / writes.writes as f64,
            writes.bytes_each(),
            writes.depth()
        );
    }
    println!("    latency us: p50 {:.0}, p99 {:.0}, p99.9 {:.0}", at(500), at(990), at(999));
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
