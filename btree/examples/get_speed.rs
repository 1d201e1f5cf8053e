//! How fast point reads and batches are in memory: 5 million records of 24 + 150 bytes by default.
//!
//! `cargo run --release -p logwood-btree --example get_speed -- [RECORDS] [LEAF_BYTES]`
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use logwood_base::disk::simulated::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, Lsn, Result};
use logwood_btree::{At, Change, ChangeKind, Forest, ForestOptions, Identity};

const KEYSPACE: KeyspaceId = KeyspaceId(1);

/// The n-th key: 24 bytes that look random.
fn key(n: u64) -> [u8; 24] {
    let mut key = [0u8; 24];
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for chunk in key.chunks_mut(8) {
        x ^= x >> 30;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
        chunk.copy_from_slice(&x.to_be_bytes());
    }
    key
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let records = arguments.next().unwrap_or(5_000_000) as u64;
    let leaf_bytes = arguments.next().unwrap_or(8192);
    let environment = Environment {
        disk: Arc::new(SimulatedDisk::new(1)),
        clock: Arc::new(ManualClock::new(0)),
        random: Arc::new(SeededRandom::new(1)),
        spawner: Arc::new(ManualSpawner::new()),
    };
    let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    let options = ForestOptions { leaf_bytes, cache_bytes: 8 << 30, ..ForestOptions::default() };
    let forest = Forest::create(&environment, "/db".as_ref(), identity, options)?;
    let tree = forest.create_tree(Lsn(1), KEYSPACE)?;
    let value = [7u8; 150];
    let start = Instant::now();
    let mut lsn = 1;
    for from in (0..records).step_by(1000) {
        let keys: Vec<[u8; 24]> = (from..(from + 1000).min(records)).map(key).collect();
        let changes: Vec<Change<'_>> = keys
            .iter()
            .map(|key| Change { keyspace: KEYSPACE, kind: ChangeKind::Put { key, value: &value } })
            .collect();
        lsn += 1;
        forest.apply(Lsn(lsn), &changes)?;
        forest.publish(Lsn(lsn));
    }
    let ns = start.elapsed().as_nanos() as u64 / records;
    println!("load: {ns} ns per key in random batches of 1,000");
    let start = Instant::now();
    let overwrites = records.min(500_000);
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..overwrites {
        let key = key(rng.u64(0..records));
        lsn += 1;
        let change = Change { keyspace: KEYSPACE, kind: ChangeKind::Put { key: &key, value: &value } };
        forest.apply(Lsn(lsn), &[change])?;
        forest.publish(Lsn(lsn));
    }
    let ns = start.elapsed().as_nanos() as u64 / overwrites;
    println!("overwrite: {ns} ns per entry of one key");
    for round in 0..3 {
        let reads = 1_000_000u64;
        let mut rng = fastrand::Rng::with_seed(round);
        let start = Instant::now();
        for _ in 0..reads {
            let key = key(rng.u64(0..records));
            tree.get_with(&key, At::Latest, |value| {
                let value = value.unwrap_or_default();
                black_box((value.first(), value.last()));
            })?;
        }
        println!("get_with: {} ns", start.elapsed().as_nanos() as u64 / reads);
        let start = Instant::now();
        for _ in 0..reads {
            black_box(tree.get(&key(rng.u64(0..records)), At::Latest)?);
        }
        println!("get: {} ns", start.elapsed().as_nanos() as u64 / reads);
    }
    let snapshot = forest.snapshot();
    let start = Instant::now();
    let ranges = 300_000u64;
    for _ in 0..ranges {
        let from = key(rng.u64(0..records));
        let bounds = (std::ops::Bound::Included(&from[..]), std::ops::Bound::Unbounded);
        let mut cursor = tree.cursor(bounds, &snapshot);
        for _ in 0..10 {
            black_box(cursor.next()?);
        }
    }
    println!("range of 10: {} ns", start.elapsed().as_nanos() as u64 / ranges);
    println!("{:?}", forest.statistics());
    Ok(())
}
