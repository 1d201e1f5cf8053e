//! What a commit, a read and a replay cost on this machine: `cargo run --release -p logwood --example commit_costs`,
//! with the parent of a new directory to work in, if not the system's.
//!
//! A quick look while working on the commit path; the measured comparison with the device and with other engines is
//! in `benches/`.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures and prints")]

use std::time::{Duration, Instant};

use logwood::{Database, Durability, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = match std::env::args().nth(1) {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let db = Database::open(home.path(), Options::new())?;
    let ks = db.ensure_keyspace("default")?;
    let value = [7u8; 150];

    report("durable commit", 2_000, |n| ks.put(&key(n), &value).map(drop))?;
    let raw = std::fs::File::create(home.path().join("raw"))?;
    let bytes = [7u8; 230];
    report("one pwrite of the same bytes", 200_000, |n| {
        let written = std::os::unix::fs::FileExt::write_all_at(&raw, &bytes, n * bytes.len() as u64);
        written.map_err(|error| logwood::Error::Internal(error.to_string()))
    })?;
    report("buffered commit", 200_000, |n| ks.put_with(&key(n), &value, Durability::Buffered).map(drop))?;
    report("durable batch of 1,000", 200, |n| {
        let mut batch = db.batch();
        for part in 0..1000 {
            batch.put(&ks, &key(n * 1000 + part), &value)?;
        }
        db.commit(batch, Durability::Durable).map(drop)
    })?;
    report("point read", 1_000_000, |n| {
        ks.get_with(&key(n * 7919 % 200_000), |value| assert!(value.is_some()))
    })?;
    let entries = db.statistics().watermarks.visible;
    drop((ks, db));

    let started = Instant::now();
    let db = Database::open(home.path(), Options::new())?;
    let recovery = db.statistics().recovery;
    println!("opened after {entries} entries in {:?}: {recovery:?}", started.elapsed());
    Ok(())
}

fn key(n: u64) -> [u8; 24] {
    let mut key = [b'k'; 24];
    // Spread, so that neighbours in time are not neighbours in the tree.
    key[..8].copy_from_slice(&(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
    key
}

fn report(what: &str, count: u64, mut work: impl FnMut(u64) -> logwood::Result<()>) -> logwood::Result<()> {
    let mut times = Vec::with_capacity(count as usize);
    let started = Instant::now();
    for n in 0..count {
        let began = Instant::now();
        work(n)?;
        times.push(began.elapsed());
    }
    let total = started.elapsed();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000];
    let mean = total / u32::try_from(count).unwrap_or(u32::MAX);
    let (p50, p99, p999): (Duration, Duration, Duration) = (at(500), at(990), at(999));
    println!("{what}: mean {mean:?}, p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}");
    Ok(())
}
