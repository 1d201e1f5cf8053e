//! logwood beside the engines that one would take otherwise, in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/compare/Cargo.toml --features rocksdb -- \
//!     [ROW…] [--records N] [--rounds R] [--cache MIB] [--store NAME]… [--dir DIR]
//! ```
//!
//! | row | what is timed |
//! |---|---|
//! | `random` | random records in one transaction; then half of them removed in one; then all packed; memory and space beside |
//! | `sorted` | sorted records, the way that each store does it best |
//! | `transactions` | four operations each, 1 and 8 threads, without and with conflicts |
//! | `tail` | durable commits of logwood while it writes checkpoints and cleans, and while it does not |
//!
//! In `random` and `sorted` every contestant runs in a process of its own, so that nobody begins with memory, threads
//! or caches that another one left; the parent starts them in turn, round after round, and compares medians.
#![allow(clippy::print_stdout, reason = "a program")]
#![allow(clippy::disallowed_methods, reason = "measures the real machine")]

mod bulk;
mod contest;
#[path = "../../src/measure.rs"]
#[allow(dead_code, reason = "shared with the rows beside the raw device")]
mod measure;
mod memory;
mod stores;
mod tail;
mod transactions;

use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where and how much to measure.
#[derive(Clone)]
pub struct Setting {
    pub dir: PathBuf,
    pub rounds: usize,
    /// 0: what the row takes by itself.
    pub records: u64,
    /// What each store may keep in memory, where it can be told.
    pub cache_bytes: usize,
    pub stores: Vec<String>,
}

impl Setting {
    /// How many records a row works on.
    pub fn records_or(&self, otherwise: u64) -> u64 {
        if self.records == 0 { otherwise } else { self.records }
    }
}

type Row = (&'static str, fn(&Setting));

const ROWS: &[Row] = &[
    ("random", contest::random),
    ("sorted", contest::sorted),
    ("transactions", transactions::transactions),
    ("tail", tail::tail),
];

fn main() {
    let mut setting = Setting {
        dir: std::env::temp_dir(),
        rounds: 3,
        records: 0,
        cache_bytes: 1 << 30,
        stores: Vec::new(),
    };
    let mut rows: Vec<String> = Vec::new();
    let mut child = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--dir" => setting.dir = value().into(),
            "--rounds" => setting.rounds = value().parse().expect("a number of rounds"),
            "--records" => setting.records = value().parse().expect("a number of records"),
            "--cache" => setting.cache_bytes = value().parse::<usize>().expect("a number of MiB") << 20,
            "--store" => setting.stores.push(value()),
            // How the parent starts a contestant.
            "--contestant" => child = Some(value()),
            row => rows.push(row.to_owned()),
        }
    }
    let names: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
    for row in &rows {
        assert!(names.contains(&row.as_str()), "no row {row}; there are {names:?}");
    }
    for store in &setting.stores {
        assert!(stores::NAMES.contains(&store.as_str()), "no store {store}; there are {:?}", stores::NAMES);
    }
    if let Some(contestant) = child {
        return bulk::run(&rows[0], &contestant, &setting);
    }
    for (peer, version) in versions() {
        println!("{peer} {version}");
    }
    for (name, run) in ROWS.iter().copied() {
        if rows.is_empty() || rows.iter().any(|row| row == name) {
            run(&setting);
        }
    }
}

/// The stores' versions, as the lock file that this was built from has them.
fn versions() -> Vec<(&'static str, &'static str)> {
    const LOCK: &str = include_str!("../Cargo.lock");
    const PACKAGES: [&str; 9] = [
        "logwood",
        "redb",
        "heed",
        "lmdb-master-sys",
        "fjall",
        "rocksdb",
        "librocksdb-sys",
        "rusqlite",
        "libsqlite3-sys",
    ];
    let quoted = |line: &'static str, field: &str| line.strip_prefix(field)?.strip_suffix('"');
    let lines: Vec<&str> = LOCK.lines().collect();
    let pairs = lines
        .windows(2)
        .filter_map(|pair| Some((quoted(pair[0], "name = \"")?, quoted(pair[1], "version = \"")?)));
    pairs.filter(|(name, _)| PACKAGES.contains(name)).collect()
}
