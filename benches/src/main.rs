//! The table of BENCHMARKS.md: every figure as a ratio to the raw device or to a peer in the same run.
//!
//! `cargo run --release --bin ratios -- [ROW…] [--dir DIR] [--rounds N] [--records N]` runs the rows named, or all.
//! See [`measure`] for how a figure is made.
#![allow(clippy::print_stdout, reason = "a program")]

mod archive;
mod device;
mod durable;
mod measure;
mod memory;
mod reads;
mod replay;
mod restore;
mod updates;
mod watched;

use std::path::PathBuf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where and how much to measure.
pub struct Setting {
    pub dir: PathBuf,
    pub rounds: usize,
    pub records: u64,
}

type Row = (&'static str, fn(&Setting));

const ROWS: &[Row] = &[
    ("device", device::methods),
    ("lone-durable", durable::lone),
    ("durable-32-threads", durable::many_threads),
    ("buffered", durable::buffered),
    ("durable-batches", durable::batches),
    ("point-reads", reads::point_reads),
    ("many-reads", reads::many_reads),
    ("replay", replay::replay),
    ("memory", memory::memory),
    ("updates", updates::updates),
    ("restore", restore::restore),
    ("archive", archive::archive),
    ("archive-lag", archive::lag),
];

fn main() {
    let mut setting = Setting { dir: std::env::temp_dir(), rounds: 5, records: 5_000_000 };
    let mut rows: Vec<String> = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--dir" => setting.dir = value().into(),
            "--rounds" => setting.rounds = value().parse().expect("a number of rounds"),
            "--records" => setting.records = value().parse().expect("a number of records"),
            row => rows.push(row.to_owned()),
        }
    }
    for row in &rows {
        let names: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
        assert!(names.contains(&row.as_str()), "no row {row}; there are {names:?}");
    }
    for (name, run) in ROWS.iter().copied() {
        if rows.is_empty() || rows.iter().any(|row| row == name) {
            run(&setting);
        }
    }
}
