//! What loading many records in one bulk write takes: 5 million records of 24 + 150 bytes by default, in random order or, with
//! `sorted`, in the order of their keys; then a second one that overwrites a fifth of them; and opening again.
//!
//! `cargo run --release -p logwood --example bulk_load -- DIRECTORY [RECORDS] [sorted]`
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::path::Path;
use std::time::Instant;

use logwood::{BulkOptions, Database, Durability, Options, Result};

/// The n-th key: 24 bytes that look random, or ascend.
fn key(n: u64, sorted: bool) -> [u8; 24] {
    let mut key = [0u8; 24];
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for chunk in key.chunks_mut(8) {
        x ^= x >> 30;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
        chunk.copy_from_slice(&x.to_be_bytes());
    }
    if sorted {
        key[..8].copy_from_slice(&n.to_be_bytes());
    }
    key
}

/// The most memory that this process has had resident so far, in MiB.
fn most_resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
}

fn load(db: &Database, numbers: impl Iterator<Item = u64>, sorted: bool, what: &str) -> Result<()> {
    let ks = db.ensure_keyspace("records")?;
    let start = Instant::now();
    let mut bulk = db.bulk_write(BulkOptions::new())?;
    for n in numbers {
        let mut value = [7u8; 150];
        value[..24].copy_from_slice(&key(n ^ 0x5555, false));
        bulk.put(&ks, &key(n, sorted), &value)?;
    }
    let (records, gathered) = (bulk.len(), start.elapsed());
    bulk.commit(Durability::Durable)?;
    let took = start.elapsed();
    println!(
        "{what}: {records} records in {:.2} s, {:.2} s of it while others wait; at most {} MiB resident",
        took.as_secs_f64(),
        took.saturating_sub(gathered).as_secs_f64(),
        most_resident()
    );
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(directory) = arguments.first() else {
        println!("usage: bulk_load DIRECTORY [RECORDS] [sorted]");
        return Ok(());
    };
    let records = arguments.get(1).and_then(|records| records.parse().ok()).unwrap_or(5_000_000);
    let sorted = arguments.iter().any(|argument| argument == "sorted");
    let open = || Database::open(Path::new(directory), Options::new());
    let db = open()?;
    load(&db, 0..records, sorted, "into an empty keyspace")?;
    load(&db, (0..records).step_by(5), sorted, "over a fifth of it")?;
    let start = Instant::now();
    db.checkpoint()?;
    println!("checkpoint: {:.2} s", start.elapsed().as_secs_f64());
    drop(db);
    let start = Instant::now();
    let db = open()?;
    let count = db.keyspace("records")?.count_all()?;
    println!("opened and counted {count} records in {:.3} s", start.elapsed().as_secs_f64());
    db.close()
}
