//! Anonymous memory of the process, beside the cache that was asked for.

use std::time::Instant;

use logwood::{Database, Durability, Options};

use crate::Setting;
use crate::measure::{Draw, key, record};

const CACHE_BYTES: usize = 64 << 20;

/// Tells the process that runs the row from the one that was asked to.
const INSIDE: &str = "LOGWOOD_BENCH_MEMORY";

/// Loads four times what the cache holds in random order, overwrites a quarter of it, reads at random after each; shows
/// the most anonymous memory seen.
///
/// Runs in a process of its own: other rows leave memory with the allocator. There the allocator takes no huge pages:
/// with them it holds about 40 MiB on top, which says nothing of the database.
pub fn memory(setting: &Setting) {
    if std::env::var_os(INSIDE).is_some() {
        return run(setting);
    }
    let program = std::env::current_exe().expect("knows itself");
    let mut command = std::process::Command::new(program);
    command.arg("memory").arg("--dir").arg(&setting.dir);
    let ended = command.env(INSIDE, "1").env("MIMALLOC_ALLOW_THP", "0").status().expect("starts");
    assert!(ended.success(), "the row ends well");
}

fn run(setting: &Setting) {
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let before = anonymous_bytes();
    let db =
        Database::open(dir.path().join("db"), Options::default().cache_bytes(CACHE_BYTES)).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    let records = 4 * CACHE_BYTES as u64 / 174;
    let (mut most, mut most_known) = (Most::default(), 0);
    let mut draw = Draw(7);
    let start = Instant::now();
    for (pass, puts) in [("load", records), ("overwrite", records / 4)] {
        for first in (0..puts).step_by(1_000) {
            let mut batch = db.batch();
            for number in first..first + 1_000 {
                let number = if pass == "load" { number } else { draw.next() % records };
                let (key, value) = record(number);
                batch.put(&keyspace, &key, &value).expect("fits");
            }
            db.commit(batch, Durability::Buffered).expect("commits");
            most.see(&db);
            most_known = most_known.max(db.statistics().memory_bytes);
        }
        for _ in 0..200_000 {
            keyspace.get(&key(draw.next() % records)).expect("reads");
        }
        most.see(&db);
        let (now, seconds) = (anonymous_bytes() >> 20, start.elapsed().as_secs());
        println!("    {pass}: {now} MiB anonymous now, after {seconds} s");
    }
    println!(
        "memory: {} MiB anonymous at most, with a cache of {} MiB (reach <= cache + 64 MiB)",
        most.bytes.saturating_sub(before) >> 20,
        CACHE_BYTES >> 20
    );
    println!("    then: {}", most.parts);
    println!("    {} MiB at most as its statistics count it", most_known >> 20);
    println!("    {:?}", db.statistics());
}

/// The most anonymous memory that was seen, and what the statistics counted then.
#[derive(Default)]
struct Most {
    bytes: usize,
    parts: String,
}

impl Most {
    fn see(&mut self, db: &Database) {
        let bytes = anonymous_bytes();
        if bytes <= self.bytes {
            return;
        }
        self.bytes = bytes;
        let found = db.statistics();
        let parts = [
            ("counted", found.memory_bytes),
            ("held for leaves", found.trees.held_bytes),
            ("clean", found.trees.clean_bytes),
            ("dirty", found.trees.dirty_bytes),
            ("versions", found.trees.version_bytes),
            ("retired", found.trees.retired_bytes),
            ("inner nodes", found.trees.inner_bytes),
            ("open segments", found.trees.store.open_bytes as usize),
            ("recent entries", found.log.recent_bytes),
            ("log buffers", found.log.buffer_bytes),
        ];
        let parts = parts.map(|(name, bytes)| format!("{name} {:.1}", bytes as f64 / f64::from(1 << 20)));
        self.parts = parts.join(", ") + " MiB";
    }
}

/// `RssAnon` of this process.
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux shows the memory of a process");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("has a line for it");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("has a number");
    kib << 10
}
