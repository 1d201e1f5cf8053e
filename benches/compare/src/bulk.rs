//! What one contestant does, alone in its process. It prints `figure value` lines for the parent.

use std::path::Path;

use crate::Setting;
use crate::measure::{key, record, seconds};
use crate::memory::Watch;
use crate::stores::{self, Store};

/// Records of the rows, unless told otherwise.
pub const RANDOM_RECORDS: u64 = 5_000_000;
pub const SORTED_RECORDS: u64 = 1_000_000;

/// Runs one contestant of a row.
pub fn run(row: &str, contestant: &str, setting: &Setting) {
    let dir = tempfile::tempdir_in(&setting.dir).expect("makes a directory");
    let store = stores::open(contestant, dir.path(), setting.cache_bytes);
    match row {
        "random" => random(store, dir.path(), setting.records_or(RANDOM_RECORDS)),
        "sorted" => sorted(store, setting.records_or(SORTED_RECORDS)),
        other => panic!("no row {other} has contestants"),
    }
}

fn tell(figure: &str, value: f64) {
    println!("{figure} {value}");
}

fn random(mut store: Box<dyn Store>, dir: &Path, records: u64) {
    let watch = Watch::begin();
    tell("load", seconds(|| store.load(&mut (0..records).map(record))));
    tell("load-memory", watch.end() as f64 / f64::from(1 << 20));
    tell("settle", seconds(|| store.settle()));
    tell("remove", seconds(|| store.remove(&mut (0..records).step_by(2).map(key))));
    assert_eq!(store.count(), records / 2, "half of the records are left");
    tell("size-before", allocated_mib(dir));
    tell("compact", seconds(|| store.compact()));
    assert_eq!(store.count(), records / 2, "and nothing went with the space");
    store.close();
    tell("size-after", allocated_mib(dir));
}

fn sorted(mut store: Box<dyn Store>, records: u64) {
    let mut sorted: Vec<([u8; 24], [u8; 150])> = (0..records).map(record).collect();
    sorted.sort_unstable();
    let watch = Watch::begin();
    tell("load", seconds(|| store.load_sorted(&mut sorted.iter().copied())));
    tell("load-memory", watch.end() as f64 / f64::from(1 << 20));
    assert_eq!(store.count(), records);
    store.close();
}

/// What the file system has given to the files of a directory.
fn allocated_mib(dir: &Path) -> f64 {
    fn bytes(dir: &Path) -> u64 {
        let entries = std::fs::read_dir(dir).expect("lists the directory");
        entries
            .map(|entry| {
                use std::os::unix::fs::MetadataExt;
                let entry = entry.expect("lists the directory");
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
                    Ok(metadata) => metadata.blocks() * 512,
                    // Removed by the store's background work meanwhile.
                    Err(_) => 0,
                }
            })
            .sum()
    }
    bytes(dir) as f64 / f64::from(1 << 20)
}
