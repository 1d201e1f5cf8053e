//! Random overwrites of data that is ten times the cache: how fast, and what each of them makes the process write.

use logwood::{Database, Durability, Options};

use crate::Setting;
use crate::measure::{Draw, record, seconds};

const CACHE_BYTES: usize = 32 << 20;
/// Overwrites of a round.
const UPDATES: u64 = 200_000;
const BATCH: u64 = 100;

/// Loads ten times what the cache holds, then overwrites records at random in batches, with the checkpoints and the
/// cleaning that this causes. A round ends with a checkpoint, so that nothing is owed.
pub fn updates(setting: &Setting) {
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let path = dir.path().join("db");
    let records = 10 * CACHE_BYTES as u64 / 174;
    let db = Database::open(&path, Options::default().cache_bytes(2 << 30)).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    for first in (0..records).step_by(1_000) {
        let mut batch = db.batch();
        for number in first..(first + 1_000).min(records) {
            let (key, value) = record(number);
            batch.put(&keyspace, &key, &value).expect("fits");
        }
        db.commit(batch, Durability::Buffered).expect("commits");
    }
    db.checkpoint().expect("writes a checkpoint");
    drop((db, keyspace));

    let db = Database::open(&path, Options::default().cache_bytes(CACHE_BYTES)).expect("opens");
    let keyspace = db.keyspace("default").expect("finds it");
    let mut draw = Draw(9);
    let (mut rates, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        let before = written_bytes();
        let took = seconds(|| {
            for _ in 0..UPDATES / BATCH {
                let mut batch = db.batch();
                for _ in 0..BATCH {
                    let (key, _) = record(draw.next() % records);
                    let mut value = [0; 150];
                    draw.fill(&mut value);
                    batch.put(&keyspace, &key, &value).expect("fits");
                }
                db.commit(batch, Durability::Buffered).expect("commits");
            }
            db.checkpoint().expect("writes a checkpoint");
        });
        rates.push(UPDATES as f64 / took);
        bytes.push((written_bytes() - before) as f64 / UPDATES as f64);
    }
    let show = |figures: &[f64]| figures.iter().map(|one| format!("{one:.0}")).collect::<Vec<_>>().join(" ");
    let median = |figures: &[f64]| {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    println!(
        "updates: {records} records, cache {} MiB, {UPDATES} random overwrites a round",
        CACHE_BYTES >> 20
    );
    println!("    updates a second: median {:.0}   rounds {}", median(&rates), show(&rates));
    println!("    bytes written an update: median {:.0}   rounds {}", median(&bytes), show(&bytes));
    println!("    {:?}", db.statistics());
}

/// What this process has given to the storage layer so far.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux shows what a process writes");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("has a line for it");
    line.trim().parse().expect("has a number")
}
