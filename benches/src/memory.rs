//! Anonymous memory of the process, beside the cache that was asked for.

use logwood::{Database, Durability, Options};

use crate::Setting;
use crate::measure::{Draw, key, record};

const CACHE_BYTES: usize = 64 << 20;

/// Loads four times what the cache holds, overwrites, reads at random; shows the most anonymous memory seen.
///
/// Run alone (`ratios memory`): other rows leave memory with the allocator.
pub fn memory(setting: &Setting) {
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let before = anonymous_bytes();
    let db =
        Database::open(dir.path().join("db"), Options::default().cache_bytes(CACHE_BYTES)).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    let records = 4 * CACHE_BYTES as u64 / 174;
    let mut most = 0;
    let mut draw = Draw(7);
    for pass in 0..2 {
        for _ in (0..records).step_by(1_000) {
            let mut batch = db.batch();
            for _ in 0..1_000 {
                let (key, value) = record(draw.next() % records);
                batch.put(&keyspace, &key, &value).expect("fits");
            }
            db.commit(batch, Durability::Buffered).expect("commits");
            most = most.max(anonymous_bytes());
        }
        for _ in 0..200_000 {
            keyspace.get(&key(draw.next() % records)).expect("reads");
        }
        most = most.max(anonymous_bytes());
        println!("    pass {pass}: {} MiB anonymous now", anonymous_bytes() >> 20);
    }
    println!(
        "memory: {} MiB anonymous at most, with a cache of {} MiB (reach <= cache + 64 MiB)",
        most.saturating_sub(before) >> 20,
        CACHE_BYTES >> 20
    );
    println!("    {:?}", db.statistics());
}

/// `RssAnon` of this process.
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux shows the memory of a process");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("has a line for it");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("has a number");
    kib << 10
}
