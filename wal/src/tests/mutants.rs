//! Planted bugs must be found: each is planted alone, and a scenario that passes without it must fail with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::{Lsn, NodeId, Term};

use super::crashes::power_cuts;
use super::model::reopen;
use super::world::{GROUP, World, append_at, commit, contents, small, vote};
use crate::mutants::Mutant;
use crate::{Durability, LogOptions};

fn planted(mutant: Mutant) -> LogOptions {
    LogOptions { mutant, ..small() }
}

/// The scenario passes unplanted and fails planted.
fn kills(mutant: Mutant, scenario: impl Fn(&LogOptions)) {
    scenario(&small());
    let survived = catch_unwind(AssertUnwindSafe(|| scenario(&planted(mutant)))).is_ok();
    assert!(!survived, "{mutant:?} was not found");
}

fn cuts(options: &LogOptions) {
    power_cuts(0..3, 60, 3, 2, options);
}

#[test]
fn skipping_the_directory_sync_is_found() {
    kills(Mutant::SkipDirectorySync, |options| {
        // The header's chain names a file whose name a power cut may take.
        for seed in 0..20 {
            let world = World::new(seed);
            let (log, group) = world.create(options.clone()).unwrap();
            for _ in 0..40 {
                commit(&group, 1, 300).unwrap();
            }
            drop((log, group));
            world.spawner.kill_all();
            world.disk.crash(&mut Rng::with_seed(seed));
            let again = World::over(world.disk.clone(), 1);
            let (log, _) = reopen(&again, options.clone()).unwrap();
            assert_eq!(contents(&log.group(GROUP).unwrap(), 300).len(), 40);
        }
    });
}

#[test]
fn acknowledging_before_the_sync_is_found() {
    kills(Mutant::AcknowledgeBeforeSync, cuts);
}

#[test]
fn retrying_a_failed_sync_is_found() {
    kills(Mutant::RetryFailedSync, |options| {
        for n in 3..30 {
            let world = World::new(n);
            let (log, group) = world.create(options.clone()).unwrap();
            world.disk.set_fault(Fault::new(&[Operation::WriteDurable], Outcome::Io).nth(n));
            let acknowledged = (0..40).take_while(|_| commit(&group, 1, 300).is_ok()).count();
            drop((log, group));
            world.spawner.kill_all();
            world.disk.crash(&mut Rng::with_seed(n));
            let (log, _) = reopen(&World::over(world.disk.clone(), 1), options.clone()).unwrap();
            assert!(contents(&log.group(GROUP).unwrap(), 300).len() >= acknowledged);
        }
    });
}

#[test]
fn stopping_at_the_first_bad_batch_is_found() {
    kills(Mutant::StopAtFirstBadBatch, rot_in_the_newest_segment);
}

#[test]
fn batches_without_a_durable_end_are_found() {
    kills(Mutant::NoDurableEnd, rot_in_the_newest_segment);
}

/// An acknowledged batch rots in the segment that is being written; later ones are whole.
fn rot_in_the_newest_segment(options: &LogOptions) {
    let world = World::new(1);
    let (log, group) = world.create(options.clone()).unwrap();
    for _ in 0..9 {
        commit(&group, 1, 300).unwrap();
    }
    drop((log, group));
    world.spawner.kill_all();
    world.disk.kill_process();
    world.disk.flip_bit(
        &world.dir.join(crate::format::file_name(logwood_base::SegmentNo(1))),
        4 * 4096 + 90,
        1,
    );
    match reopen(&World::over(world.disk.clone(), 1), options.clone()) {
        Ok((log, _)) => assert_eq!(contents(&log.group(GROUP).unwrap(), 300).len(), 9),
        Err(error) => assert!(error.corruption().is_some()),
    }
}

#[test]
fn an_unseeded_checksum_is_found() {
    kills(Mutant::UnseededChecksum, |options| {
        // A batch lands in another place, where it must not pass for the one that belongs there.
        let world = World::new(1);
        let (log, group) = world.create(options.clone()).unwrap();
        for _ in 0..9 {
            commit(&group, 1, 300).unwrap();
        }
        drop((log, group));
        world.spawner.kill_all();
        world.disk.kill_process();
        let path = world.dir.join(crate::format::file_name(logwood_base::SegmentNo(1)));
        let mut bytes = world.disk.read_file(&path).unwrap();
        bytes.copy_within(2 * 4096..3 * 4096, 12 * 4096);
        world.disk.write_file(&path, &bytes);
        let found = crate::Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
        let strange = crate::walk::SegmentBytes {
            bytes: &bytes,
            seed: crate::format::segment_seed(found.log, logwood_base::SegmentNo(1)),
            unseeded: options.mutant == Mutant::UnseededChecksum,
        };
        assert!(strange.batch_at(12 * 4096).is_none());
    });
}

#[test]
fn one_copy_of_a_vote_is_found() {
    kills(Mutant::OneCopyOfVote, |options| {
        let world = World::new(1);
        let (log, group) = world.create(options.clone()).unwrap();
        let place = vote(&log, Term(4), NodeId(2))[0];
        drop((log, group));
        world.spawner.kill_all();
        world.disk.kill_process();
        let path = world.dir.join(crate::format::file_name(place.segment));
        world.disk.flip_bit(&path, u64::from(place.offset) + 75, 1);
        match reopen(&World::over(world.disk.clone(), 1), options.clone()) {
            Ok((log, _)) => assert_eq!(log.group(GROUP).unwrap().vote(), (Term(4), NodeId(2))),
            Err(error) => assert!(error.corruption().is_some()),
        }
    });
}

#[test]
fn going_on_in_a_block_with_durable_bytes_is_found() {
    kills(Mutant::NoFreshBlock, |options| {
        for seed in 0..200 {
            let world = World::new(seed);
            let (log, group) = world.create(options.clone()).unwrap();
            for _ in 0..4 {
                commit(&group, 1, 300).unwrap();
            }
            let state = log.shared.state.lock();
            assert!(state.tail.is_multiple_of(4096), "a block with durable bytes would be written again");
        }
    });
}

#[test]
fn a_durable_acknowledgement_over_unsynced_buffered_bytes_is_found() {
    kills(Mutant::SkipSyncOfBuffered, cuts);
}

#[test]
fn trusting_the_cache_after_a_failed_sync_is_found() {
    kills(Mutant::TrustCachedTail, |options| {
        for seed in 0..40 {
            let world = World::new(seed);
            let (log, group) = world.create(options.clone()).unwrap();
            commit(&group, 1, 300).unwrap();
            append_at(&group, Lsn(2), Term(1), 1, 300, Durability::Buffered).unwrap().wait().unwrap();
            world.disk.set_fault(Fault::new(&[Operation::Sync], Outcome::Io).nth(1));
            assert!(log.sync().is_err());
            drop((log, group));
            world.spawner.kill_all();
            world.disk.kill_process();
            let (log, _) = reopen(&World::over(world.disk.clone(), 1), options.clone()).unwrap();
            let served = contents(&log.group(GROUP).unwrap(), 300).len();
            drop(log);
            world.disk.crash(&mut Rng::with_seed(seed));
            let (log, _) = reopen(&World::over(world.disk.clone(), 1), options.clone()).unwrap();
            assert_eq!(contents(&log.group(GROUP).unwrap(), 300).len(), served, "served, and gone");
        }
    });
}

#[test]
fn taking_a_hold_where_nothing_is_freed_by_it_is_found() {
    kills(Mutant::RevokeForNothing, |options| {
        let world = World::new(1);
        let (_log, group) = world.create(options.clone()).unwrap();
        commit(&group, 1, 3_000).unwrap();
        let unbounded = group.hold("replica", Lsn(1)).unwrap();
        let bounded = group.hold_bounded("view", Lsn(1), 2 * (64 << 10)).unwrap();
        for n in 2..=100u64 {
            commit(&group, 1, 3_000).unwrap();
            group.release(Lsn(n - 1));
            world.rest();
        }
        assert!(!bounded.is_lost(), "the other one keeps the same");
        drop(unbounded);
        world.rest();
        assert!(bounded.is_lost() && group.first_lsn() > Lsn(50));
    });
}

#[test]
fn removing_a_segment_before_what_replaces_it_is_durable_is_found() {
    kills(Mutant::RemoveBeforeDurable, |options| {
        // A buffered override makes whole segments unneeded; the power cut takes the override, and nothing of them.
        for seed in 0..20 {
            let world = World::new(seed);
            let (log, group) = world.create(options.clone()).unwrap();
            while log.statistics().rolls < 2 {
                commit(&group, 1, 300).unwrap();
            }
            let acknowledged = contents(&group, 300);
            let before = log.statistics().segments;
            append_at(&group, Lsn::FIRST, Term(2), 1, 300, Durability::Buffered).unwrap().wait().unwrap();
            log.maintain().unwrap();
            assert!(log.statistics().segments < before, "a segment went");
            drop((log, group));
            world.spawner.kill_all();
            world.disk.crash(&mut Rng::with_seed(seed));
            let (log, _) = reopen(&World::over(world.disk.clone(), 1), options.clone()).unwrap();
            let found = contents(&log.group(GROUP).unwrap(), 300);
            assert!(found == acknowledged || found == [(Lsn::FIRST, Term(2))], "{found:?}");
        }
    });
}
