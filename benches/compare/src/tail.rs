//! How long durable commits take while checkpoints are written and space is cleaned, and while they are not.
//!
//! One database, two kinds of seconds in turn: in the quiet ones nothing but the commits goes on; in the busy ones a
//! thread asks for one checkpoint after the other, so that leaves are written all the time, the pages that they
//! replace die, and cleaning moves what is left of their segments.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use logwood::{Database, Durability, Keyspace, Options};

use crate::Setting;
use crate::measure::{Draw, Series, record};

const COMMITS: usize = 20_000;

/// Latencies of one kind of seconds: every commit of all rounds.
#[derive(Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn at(&mut self, share: usize) -> f64 {
        self.0.sort_unstable();
        self.0[(self.0.len() - 1) * share / 1000].as_secs_f64() * 1e6
    }
}

/// p99.9 of durable commits, beside themselves.
pub fn tail(setting: &Setting) {
    let records = setting.records_or(500_000);
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    // No checkpoint begins by itself.
    let options = Options::new().cache_bytes(setting.cache_bytes).recovery_log_bytes_max(4 << 30);
    let db = Database::open(dir.path().join("db"), options).expect("opens");
    let keyspace = db.ensure_keyspace("default").expect("makes a keyspace");
    for first in (0..records).step_by(1_000) {
        let mut batch = db.batch();
        for number in first..(first + 1_000).min(records) {
            let (key, value) = record(number);
            batch.put(&keyspace, &key, &value).expect("fits");
        }
        db.commit(batch, Durability::Buffered).expect("commits");
    }
    db.checkpoint().expect("checkpoints");
    println!("tail: {records} records, {COMMITS} durable commits of one thread a round and kind");
    for threads in [1, 8] {
        let (mut quiet, mut busy) = (Latencies::default(), Latencies::default());
        let mut rounds = [Vec::new(), Vec::new()];
        let (mut checkpoints, mut moved) = (0, 0);
        for round in 0..setting.rounds as u64 {
            let one = commit_all(&keyspace, records, threads, round * 2);
            rounds[0].push(p999(&one));
            quiet.0.extend(one);
            let before = db.statistics();
            let one = beside_checkpoints(&db, || commit_all(&keyspace, records, threads, round * 2 + 1));
            let after = db.statistics();
            checkpoints += after.checkpoints - before.checkpoints;
            moved += u64::from(after.trees.store.segments < before.trees.store.segments);
            rounds[1].push(p999(&one));
            busy.0.extend(one);
            // What the busy seconds left is done before the next quiet ones.
            db.checkpoint().expect("checkpoints");
        }
        let [quiet_rounds, busy_rounds] = rounds;
        let series = [
            Series { name: "with checkpoints".to_owned(), figures: busy_rounds },
            Series { name: "without".to_owned(), figures: quiet_rounds },
        ];
        let words = format!("p99.9 of durable commits, {threads} threads, checkpoints and cleaning");
        crate::measure::report(&words, "us", "<= 2", &series);
        for (name, latencies) in [("with checkpoints", &mut busy), ("without", &mut quiet)] {
            let [p50, p99, p999, most] = [500, 990, 999, 1000].map(|share| latencies.at(share));
            println!("    {name:<18} p50 {p50:.0}, p99 {p99:.0}, p99.9 {p999:.0}, max {most:.0} us");
        }
        println!("    {checkpoints} checkpoints; fewer segments after {moved} of the rounds than before");
    }
}

fn p999(latencies: &[Duration]) -> f64 {
    Latencies(latencies.to_vec()).at(999)
}

/// Overwrites random records, durably, on so many threads.
fn commit_all(keyspace: &Keyspace, records: u64, threads: usize, seed: u64) -> Vec<Duration> {
    std::thread::scope(|scope| {
        let committing: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut draw = Draw(seed * 64 + thread as u64 + 1);
                    let commit = |_| {
                        let (key, value) = record(draw.next() % records);
                        let start = Instant::now();
                        keyspace.put_with(&key, &value, Durability::Durable).expect("commits");
                        start.elapsed()
                    };
                    (0..COMMITS / threads).map(commit).collect::<Vec<_>>()
                })
            })
            .collect();
        committing.into_iter().flat_map(|thread| thread.join().expect("commits")).collect()
    })
}

/// Runs `work` while checkpoints are written one after the other.
fn beside_checkpoints<R>(db: &Database, work: impl FnOnce() -> R) -> R {
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                db.checkpoint().expect("checkpoints");
            }
        });
        let result = work();
        ends.store(true, Ordering::Relaxed);
        result
    })
}
