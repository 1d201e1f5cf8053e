//! No bytes make reading a log allocate without bound: at most twice the input and one MiB, also when their checksums
//! hold.

use std::path::Path;
use std::sync::Arc;

use logwood_base::checksum::{Seed, checksum};
use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{DatabaseId, Environment, GroupId, LogId, Lsn, NodeId, Term};
use logwood_wal::{Append, BaseState, Durability, Expect, Hole, Log, LogOptions};

#[path = "../../fuzz/src/allocation.rs"]
#[allow(dead_code, unreachable_pub, reason = "the fuzz targets, whose module it is, use all of it")]
mod allocation;

/// The most bytes that `work` held at once beyond what was held before.
fn most_held(work: impl FnOnce()) -> usize {
    allocation::peak(work).1
}

fn environment(disk: &SimulatedDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(0)),
        random: Arc::new(SeededRandom::new(1)),
        spawner: Arc::new(ManualSpawner::new()),
    }
}

/// A log with batches of every kind, in two segments at least.
fn some_log() -> (SimulatedDisk, LogId) {
    let disk = SimulatedDisk::new(1);
    let options = LogOptions { segment_bytes: 64 << 10, batch_bytes_max: 8 << 10, ..LogOptions::default() };
    let log = Log::create(&environment(&disk), Path::new("log"), DatabaseId(7), options).unwrap();
    let base = BaseState { membership: b"members".to_vec(), ..BaseState::default() };
    let group = log.create_group(GroupId(1), base).unwrap();
    for lsn in 1..=30 {
        let entries = [(Term(1), &[lsn as u8; 900][..]), (Term(1), b"more")];
        let append = Append {
            term: Term(1),
            previous: None,
            first_lsn: Lsn(2 * lsn - 1),
            entries: &entries,
            durability: Durability::Durable,
        };
        group.append(append).unwrap().wait().unwrap();
    }
    group.set_vote(Term(2), NodeId(1)).unwrap();
    group.set_committed(Lsn(40));
    group.set_base(Lsn(7), Term(1), b"others").unwrap();
    log.close().unwrap();
    let id = log.id();
    drop((log, group));
    disk.kill_process();
    (disk, id)
}

/// Whether bytes at this place of a segment pass for a header or batch: then their checksum is made to hold.
fn seal_again(bytes: &mut [u8], log: LogId, segment: u64, at: usize) {
    let Some(part) = bytes.get_mut(at..) else { return };
    let Some(length) = part.get(4..8).map(|length| u32::from_le_bytes(length.try_into().unwrap())) else {
        return;
    };
    let Some(body) = part.get(4..length as usize) else { return };
    let crc = checksum(Seed::new().u128(log.0).u64(segment).u64(at as u64), body);
    part[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Opens, and mends with nothing, a copy of a disk: an answer of some kind, no panic.
fn heal(disk: &SimulatedDisk) {
    let env = environment(&disk.snapshot());
    let nothing = &mut |_: &Hole| Ok(Vec::new());
    let (expect, options) = (Expect::default(), LogOptions::default());
    let options = LogOptions { segment_bytes: 64 << 10, batch_bytes_max: 8 << 10, ..options };
    drop(Log::heal(&env, Path::new("log"), expect, options, &mut |_| {}, nothing));
}

#[test]
fn hostile_bytes_whose_checksums_hold_make_no_room() {
    let (disk, log) = some_log();
    let files: Vec<_> = disk.paths().into_iter().filter(|path| path.extension().is_some()).collect();
    let total: usize = files.iter().map(|path| disk.read_file(path).unwrap().len()).sum();
    let mut read = 0;
    for path in &files {
        let whole = disk.read_file(path).unwrap();
        let segment: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let meant = |block: &usize| whole[*block..*block + 72].iter().any(|byte| *byte != 0);
        for block in (0..whole.len()).step_by(4096).filter(meant) {
            // Fields are 1 to 8 bytes wide: what their bytes say together is a lie of every size.
            for at in 4..180 {
                for lie in [0x00, 0x01, 0x7f, 0xff] {
                    let width = match lie {
                        0x01 => 1,
                        0xff if at % 8 == 0 => 8,
                        _ => 4,
                    };
                    let mut bytes = whole.clone();
                    bytes[block + at..block + at + width].fill(lie);
                    seal_again(&mut bytes, log, segment, block);
                    disk.write_file(path, &bytes);
                    let env = environment(&disk);
                    let held = most_held(|| {
                        if let Ok(report) = Log::inspect(&env, Path::new("log"), &mut |_| {}) {
                            read += 1;
                            let _ = report.entries(GroupId(1), Lsn(1), |_| true);
                        }
                    });
                    let bound = 2 * total + (1 << 20);
                    assert!(held <= bound, "{held} bytes held: {} at {block} + {at}", path.display());
                    if at % 8 == 0 {
                        heal(&disk);
                    }
                }
            }
        }
        disk.write_file(path, &whole);
    }
    assert!(read > 1_000, "most of it can be reported on: {read}");
}
