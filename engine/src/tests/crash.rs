//! A scripted run is cut off at every changing call of the disk, by a power cut and by a kill, and opened again.
//!
//! After each: one state between what was acknowledged and what was begun is there; all files verify; writes go on;
//! and opening once more finds the same.
//!
//! Which call is cut off, filled up and failed where:
//!
//! | call | power cut and kill at every changing call | failing syncs, writes and reads; full disk | random lives |
//! |---|---|---|---|
//! | put, delete, batch, range delete | here | `faults.rs` | `model.rs`, `sim`, `fuzz` |
//! | transaction, in fragments too, with a range delete; conflict; conditional write | here | `faults.rs` | `model.rs`, `sim`, `fuzz` |
//! | create and drop a keyspace | here | `faults.rs` | `model.rs`, `sim`, `fuzz` |
//! | changes, with a hold until released | `changes/crashes.rs` | `changes.rs` | `changes.rs`, `sim`, `fuzz` |
//! | first and incremental backup, and the opening that finishes one | here, `backup.rs` | `backup.rs` | `model.rs`, `sim`, `fuzz` |
//! | checkpoint, compact, cleaning | here | `faults.rs` | `model.rs`, `sim`, `fuzz` |
//! | sizes, split keys, many keys at once: reads that must agree with the rest | here, after each step | `faults.rs` | `btree/src/tests/` |
//! | held snapshots | here | `faults.rs` | `model.rs`, `sim`, `fuzz`, `space.rs` |
//! | the archiver and restores | `archive/tests/crashes.rs`, `archive/restore/tests/crashes.rs` | there | there |

use super::world::{Step, World, scale};
use crate::Error;

/// Touches everything that writes: all kinds of entries, a transaction larger than one entry, checkpoints, cleaning,
/// rolls of the log, drops and re-creations.
pub(super) fn script() -> Vec<Step> {
    let put = |key: u8, bytes: u16, durable: bool| Step::Put { keyspace: key, key, bytes, durable };
    let batch = |from: u8, durable: bool| Step::Batch {
        operations: (from..from + 24)
            .map(|key| (key, key, (key % 5 != 0).then_some(u16::from(key))))
            .collect(),
        durable,
    };
    let transact = |from: u8, meddles: bool, durable: bool| Step::Transact {
        guard: (1, from),
        operations: (from..from + 12)
            .map(|key| (key % 2, key, (key % 5 != 0).then_some(u16::from(key))))
            .collect(),
        meddles,
        durable,
    };
    let bulk = |from: u8, ends: bool, durable: bool| Step::Bulk {
        // Backwards, with some of tens of kilobytes: sorted, and spilled several times.
        operations: (from..from + 30)
            .rev()
            .map(|key| (key % 2, key, (key % 5 != 0).then_some(u16::from(key) * 8)))
            .collect(),
        between: Some((1, from + 3, 30)),
        ends,
        durable,
    };
    let put_if = |key: u8, holds: bool| Step::PutIf { keyspace: 1, key, bytes: 30, holds };
    vec![
        Step::Create { keyspace: 0 },
        Step::Create { keyspace: 1 },
        put(0, 30, true),
        put(1, 40, false),
        batch(3, true),
        transact(5, false, true),
        transact(7, true, false),
        put_if(5, true),
        put_if(6, false),
        Step::Background { steps: 4 },
        put(4, 64, true), // tens of kilobytes: fragments, overflow pages
        Step::Checkpoint,
        Step::Delete { keyspace: 0, key: 3 },
        Step::DeleteRange { keyspace: 1, from: 4, to: 60 },
        Step::TransactRange { keyspace: 0, from: 8, to: 20, key: 12, durable: true },
        Step::Create { keyspace: 2 },
        batch(30, false),
        Step::Drop { keyspace: 0 },
        Step::Pass { ms: 20 },
        Step::Background { steps: 20 },
        Step::Checkpoint,
        Step::Create { keyspace: 0 },
        put(0, 128, false),
        batch(60, true),
        Step::Reopen,
        put(3, 30, true),
        Step::Backup,
        Step::Compact,
        batch(10, true),
        // Larger than an entry: a transaction in fragments.
        transact(64, false, true),
        bulk(16, true, true),
        bulk(40, false, true),
        bulk(50, true, false),
        Step::TakeSnapshot,
        Step::Background { steps: 20 },
        put(2, 8, true),
        // The second one adds what is new.
        Step::Backup,
        Step::TransactRange { keyspace: 2, from: 10, to: 80, key: 5, durable: false },
        Step::DeleteRange { keyspace: 2, from: 0, to: 95 },
        Step::Drop { keyspace: 1 },
        Step::Checkpoint,
        Step::DropSnapshot,
        put(0, 8, true),
    ]
}

/// How the run ends.
#[derive(Clone, Copy, Debug)]
enum End {
    PowerCut,
    Kill,
}

/// Runs the script until the disk stops at the `n`-th changing call. Answers false when it ran to its end.
fn run_to(world: &mut World, n: u64, end: End) -> bool {
    match end {
        End::PowerCut => world.disk.crash_at(n),
        End::Kill => world.disk.kill_at(n),
    }
    let outcome = world.open(0).and_then(|()| script().iter().try_for_each(|step| world.step(step)));
    let stopped = world.disk.is_stopped();
    world.disk.cancel_stop();
    match outcome {
        Ok(()) => {}
        Err(error @ (Error::Corruption(_) | Error::Internal(_))) => panic!("at {n}: {error}"),
        Err(_) => assert!(stopped),
    }
    stopped
}

fn check_after(world: &mut World, end: End, seed: u64) {
    match end {
        End::PowerCut => world.power_cut(seed).unwrap(),
        End::Kill => {
            world.kill().unwrap();
            world.disk.land_late_writes(&mut fastrand::Rng::with_seed(seed));
        }
    }
    world.check().unwrap();
    world.verify_clean();
    for step in [
        Step::Create { keyspace: 1 },
        Step::Put { keyspace: 1, key: 9, bytes: 20, durable: true },
        Step::Checkpoint,
        Step::Put { keyspace: 1, key: 10, bytes: 20, durable: false },
        Step::Reopen,
        Step::PowerCut { seed },
    ] {
        world.step(&step).unwrap();
    }
    world.check().unwrap();
    world.verify_clean();
}

fn cut_everywhere(end: End, stride: u64) {
    let mut n = 1;
    loop {
        let mut world = World::new(n);
        if !run_to(&mut world, n, end) {
            assert!(n > 100, "the script writes: {n}");
            return;
        }
        for seed in 0..scale().min(8) {
            let copy = world.fork();
            let mut next = std::mem::replace(&mut world, copy);
            check_after(&mut next, end, n + seed);
        }
        n += stride;
    }
}

#[test]
pub(super) fn a_power_cut_at_every_write_leaves_what_was_acknowledged() {
    cut_everywhere(End::PowerCut, 1);
}

#[test]
pub(super) fn a_kill_at_every_write_leaves_what_was_acknowledged() {
    cut_everywhere(End::Kill, 1);
}

#[test]
pub(super) fn a_power_cut_in_recovery_leaves_what_was_acknowledged() {
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..40 * scale() {
        let mut world = World::new(round);
        if !run_to(&mut world, rng.u64(1..400), End::PowerCut) {
            continue;
        }
        for _depth in 0..3 {
            world.disk.crash(&mut rng);
            world.drop_all();
            world.disk.crash_at(rng.u64(1..60));
            let reopened = world.open(world.durable);
            let stopped = world.disk.is_stopped();
            world.disk.cancel_stop();
            assert!(reopened.is_ok() || stopped, "{reopened:?}");
        }
        check_after(&mut world, End::PowerCut, round);
    }
}

#[test]
pub(super) fn opening_closing_and_killing_a_hundred_times_changes_nothing() {
    let mut world = World::new(3);
    world.open(0).unwrap();
    script().iter().for_each(|step| world.step(step).unwrap());
    let mut files = Vec::new();
    for round in 0..100u64 {
        match round % 3 {
            0 => world.step(&Step::Reopen).unwrap(),
            1 => world.step(&Step::Kill).unwrap(),
            _ => world.step(&Step::PowerCut { seed: round }).unwrap(),
        }
        files.push(world.disk.paths().len());
    }
    world.check().unwrap();
    world.verify_clean();
    let most = files[50..].iter().max().unwrap();
    assert!(*most <= files[3] + 8, "a crash loop holds a bounded number of files: {files:?}");
}
