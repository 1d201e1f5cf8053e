//! Power cuts and kills at every changing call, in recovery too.

use fastrand::Rng;
use logwood_base::Error;
use logwood_base::disk::SimulatedDisk;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::model::{Model, reopen, run};
use super::world::{World, small};
use crate::LogOptions;

/// How often more the sampled tests sample.
pub(crate) fn scale() -> u64 {
    std::env::var("LOGWOOD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// Runs a script and cuts it off at the n-th changing call. Answers the disk, the model, and whether it was cut off.
fn cut_off(seed: u64, n: u64, steps: usize, kill: bool, options: &LogOptions) -> (World, Model, bool) {
    let world = World::new(seed);
    let mut model = Model::default();
    let (log, _group) = world.create(options.clone()).unwrap();
    let begun = super::model::GroupModel {
        changes: vec![super::model::Change::Begin],
        durable: 1,
        acknowledged: 1,
        term: 1,
        ..Default::default()
    };
    model.groups.insert(super::world::GROUP, begun);
    if kill {
        world.disk.kill_at(n)
    } else {
        world.disk.crash_at(n)
    }
    let mut rng = Rng::with_seed(seed);
    let _ = run(&world, &log, &mut model, &mut rng, steps);
    let stopped = world.disk.is_stopped();
    world.disk.cancel_stop();
    drop(log);
    world.spawner.kill_all();
    (world, model, stopped)
}

/// Opens, with crashes in recovery to the given depth, checks, goes on for a while, and checks again.
fn survive(
    disk: &SimulatedDisk,
    model: &Model,
    rng: &mut Rng,
    depth: u32,
    power: bool,
    options: &LogOptions,
    context: &str,
) {
    let world = World::over(disk.clone(), rng.u64(..));
    if depth > 0 {
        let n = rng.u64(1..14);
        world.disk.crash_at(n);
        let opened = reopen(&world, options.clone());
        if world.disk.is_stopped() {
            drop(opened);
            world.spawner.kill_all();
            world.disk.crash(rng);
            let context = format!("{context}, then in recovery at {n}");
            return survive(disk, model, rng, depth - 1, true, options, &context);
        }
        world.disk.cancel_stop();
        drop(opened);
        world.spawner.kill_all();
        world.disk.kill_process();
    }
    let mut model = model.clone();
    let opened = reopen(&world, options.clone());
    let (log, _) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
    model.check(&log, power, context);
    let went_on = run(&world, &log, &mut model, rng, 6);
    went_on.unwrap_or_else(|error| panic!("{context}: going on: {error}"));
    drop(log);
    world.spawner.kill_all();
    world.disk.crash(rng);
    let world = World::over(disk.clone(), 3);
    let opened = reopen(&world, options.clone());
    let (log, _) = opened.unwrap_or_else(|error| panic!("{context}, second: {error}"));
    model.check(&log, true, &format!("{context}, second"));
}

/// Cuts the power at every call of scripted runs; several futures of each.
pub(crate) fn power_cuts(
    seeds: std::ops::Range<u64>,
    steps: usize,
    futures: u64,
    stride: u64,
    options: &LogOptions,
) {
    for seed in seeds {
        for n in (1 + seed % stride..).step_by(stride as usize) {
            let (world, model, stopped) = cut_off(seed, n, steps, false, options);
            for future in 0..futures {
                let mut rng = Rng::with_seed(seed * 1_000_000 + n * 100 + future);
                let disk = world.disk.snapshot();
                disk.crash(&mut rng);
                let context = format!("seed {seed}, power cut at {n}, future {future}");
                let depth = u32::from(future % 2 == 1) * rng.u32(1..4);
                survive(&disk, &model, &mut rng, depth, true, options, &context);
            }
            if !stopped {
                break;
            }
        }
    }
}

#[test]
fn every_acknowledged_entry_survives_a_power_cut_at_every_call() {
    power_cuts(0..4 * scale(), 60, 3, 1, &small());
}

#[test]
fn every_acknowledged_entry_survives_a_power_cut_where_compaction_goes_on_in_a_small_segment() {
    let options = LogOptions { segment_bytes: 256 << 10, ..small() };
    power_cuts(500..500 + 2 * scale(), 60, 2, 1, &options);
}

#[test]
fn two_thousand_crashes_inside_of_recovery_lose_nothing() {
    let wanted = 2_000 * scale();
    let mut cut = 0;
    for seed in 300.. {
        let mut rng = Rng::with_seed(seed);
        let (world, model, _) = cut_off(seed, rng.u64(20..120), 60, false, &small());
        world.disk.crash(&mut rng);
        // Every changing call of this recovery, and several futures of each.
        for call in 1.. {
            let before = cut;
            for future in 0..4 {
                let disk = world.disk.snapshot();
                let recovering = World::over(disk.clone(), seed);
                disk.crash_at(call);
                drop(reopen(&recovering, small()));
                recovering.spawner.kill_all();
                if !disk.is_stopped() {
                    break;
                }
                disk.cancel_stop();
                disk.crash(&mut Rng::with_seed(seed * 1_000 + call * 10 + future));
                cut += 1;
                let context = format!("seed {seed}, recovery cut off at {call}, future {future}");
                survive(&disk, &model, &mut rng, 0, true, &small(), &context);
            }
            if cut == before {
                break;
            }
        }
        if cut >= wanted {
            return;
        }
    }
}

/// A log that a power cut ended, and that was opened since: there is a seal that names the newest segment, and nothing but
/// votes in that one.
fn cut_off_and_opened(seed: u64) -> (World, Model, Rng) {
    let mut rng = Rng::with_seed(seed);
    let (world, model, _) = cut_off(seed, rng.u64(20..120), 60, false, &small());
    world.disk.crash(&mut rng);
    let opened = World::over(world.disk.clone(), seed);
    drop(reopen(&opened, small()).unwrap());
    opened.spawner.kill_all();
    (world, model, rng)
}

#[test]
fn an_opening_whose_seal_behind_the_predecessor_cannot_be_written_goes_on_without_it() {
    let seeds = 600..604 + scale();
    for (seed, outcome) in seeds.flat_map(|seed| [(seed, Outcome::Io), (seed, Outcome::DiskFull)]) {
        let context = format!("seed {seed}, {outcome:?}");
        // It has no tail to write anew: its first durable write is the header, its second one the seal.
        let (world, model, mut rng) = cut_off_and_opened(seed);
        world.disk.set_fault(Fault::new(&[Operation::WriteDurable], outcome).nth(2));
        let opened = World::over(world.disk.clone(), seed);
        let (log, _) = reopen(&opened, small()).unwrap_or_else(|error| panic!("{context}: {error}"));
        world.disk.clear_faults();
        drop(log);
        opened.spawner.kill_all();
        world.disk.crash(&mut rng);
        survive(&world.disk, &model, &mut rng, 0, true, &small(), &context);
    }
}

/// A write of an opening fails, and the cache hides what of it the disk does not have; then the next opening is cut off.
/// `world_of` makes the machine that both run on. Answers how many were cut off.
fn fail_then_cut_off(seeds: std::ops::Range<u64>, world_of: fn(SimulatedDisk, u64) -> World) -> u64 {
    let mut cut = 0;
    for seed in seeds {
        let (world, model, mut rng) = cut_off_and_opened(seed);
        for failing in 1..12 {
            let disk = world.disk.snapshot();
            let operations = [Operation::WriteDurable, Operation::Sync, Operation::SyncDir];
            disk.set_fault(Fault::new(&operations, Outcome::Io).nth(failing));
            let failed = world_of(disk.clone(), seed);
            drop(reopen(&failed, small()));
            failed.spawner.kill_all();
            disk.clear_faults();
            disk.kill_process();
            for call in 1.. {
                let disk = disk.snapshot();
                let recovering = world_of(disk.clone(), seed);
                disk.crash_at(call);
                drop(reopen(&recovering, small()));
                recovering.spawner.kill_all();
                let stopped = disk.is_stopped();
                disk.cancel_stop();
                disk.crash(&mut Rng::with_seed(seed * 1_000 + call));
                cut += u64::from(stopped);
                let context = format!("seed {seed}, call {failing} failed, recovery cut off at {call}");
                survive(&disk, &model, &mut rng, 0, true, &small(), &context);
                if !stopped {
                    break;
                }
            }
        }
    }
    cut
}

#[test]
fn an_opening_that_fails_and_one_that_is_cut_off_behind_it_lose_nothing() {
    let cut = fail_then_cut_off(500..504 + scale(), World::over);
    assert!(cut > 400, "{cut}");
}

#[test]
fn where_the_cache_cannot_be_passed_a_failed_opening_and_one_cut_off_behind_it_lose_nothing() {
    let cut = fail_then_cut_off(500..504 + scale(), World::without_direct_reads);
    assert!(cut > 400, "{cut}");
}

#[test]
fn long_runs_with_rolls_survive_power_cuts() {
    power_cuts(100..102 + 2 * scale(), 400, 2, 9, &small());
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged_even_buffered() {
    for seed in 0..6 * scale() {
        for n in (1 + seed % 5..).step_by(5) {
            let (world, model, stopped) = cut_off(seed, n, 80, true, &small());
            for future in 0..2 {
                let mut rng = Rng::with_seed(seed * 1_000_000 + n * 100 + future);
                let disk = world.disk.snapshot();
                disk.kill_process();
                let context = format!("seed {seed}, killed at {n}");
                let late = World::over(disk.clone(), 1);
                let (log, _) = reopen(&late, small()).unwrap_or_else(|error| panic!("{context}: {error}"));
                // What the killed process had under way lands only now, behind the new header.
                disk.land_late_writes(&mut rng);
                let mut model = model.clone();
                model.check(&log, false, &context);
                run(&late, &log, &mut model, &mut rng, 5).unwrap();
                drop(log);
                late.spawner.kill_all();
                disk.crash(&mut rng);
                let again = World::over(disk.clone(), 2);
                let (log, _) =
                    reopen(&again, small()).unwrap_or_else(|error| panic!("{context}, again: {error}"));
                model.check(&log, true, &format!("{context}, again"));
            }
            if !stopped {
                break;
            }
        }
    }
}

#[test]
fn a_crash_while_a_log_is_created_leaves_a_place_where_it_can_be_created() {
    for n in 1..20 {
        for future in 0..20 {
            let world = World::new(future);
            world.disk.crash_at(n);
            let created = world.create(small());
            let done = created.is_ok();
            drop(created);
            world.spawner.kill_all();
            world.disk.cancel_stop();
            world.disk.crash(&mut Rng::with_seed(n * 100 + future));
            let world = World::over(world.disk.clone(), 1);
            match reopen(&world, small()) {
                Ok((log, _)) => assert!(!done || log.groups().len() == 1),
                Err(Error::NotFound { .. }) => {
                    assert!(!done, "call {n}");
                    world.create(small()).unwrap_or_else(|error| panic!("call {n}: {error}"));
                }
                Err(error) => panic!("call {n}: {error}"),
            }
        }
    }
}

/// What fails is the only header of a log: it stands in the cache alone, perhaps, and who opens the log believes it.
#[test]
fn an_opening_behind_a_creation_that_failed_is_cut_off_and_the_place_can_be_used() {
    for world_of in [World::over as fn(_, _) -> _, World::without_direct_reads] {
        for (call, future) in (1..24).flat_map(|call| (0..8).map(move |future| (call, future))) {
            let context = format!("call {call}, future {future}");
            let disk = SimulatedDisk::new(future);
            disk.set_fault(Fault::new(&[Operation::WriteDurable], Outcome::Io));
            assert!(world_of(disk.clone(), 1).create(small()).is_err(), "{context}");
            disk.crash_at(call);
            let opened = world_of(disk.clone(), 1);
            let outcome = reopen(&opened, small());
            assert!(outcome.is_ok() || disk.is_stopped(), "{context}: {:?}", outcome.err());
            drop(outcome);
            opened.spawner.kill_all();
            disk.cancel_stop();
            disk.crash(&mut Rng::with_seed(call * 100 + future));
            let again = world_of(disk, 1);
            match reopen(&again, small()) {
                Ok((log, _)) => assert_eq!(log.groups(), [], "{context}"),
                Err(Error::NotFound { .. }) => {
                    again.create(small()).unwrap_or_else(|error| panic!("{context}: {error}"));
                }
                Err(error) => panic!("{context}: {error}"),
            }
        }
    }
}

#[test]
fn opening_closing_and_killing_changes_nothing() {
    let world = World::new(5);
    let mut model = Model::default();
    let (log, _) = world.create(small()).unwrap();
    model.groups.clear();
    run(&world, &log, &mut model, &mut Rng::with_seed(5), 0).unwrap();
    let group = log.group(super::world::GROUP).unwrap();
    for _ in 0..100 {
        super::world::commit(&group, 1, 300).unwrap();
    }
    let expected = super::world::contents(&group, 300);
    log.close().unwrap();
    drop((log, group));
    let mut files = 0;
    for n in 0..100u64 {
        world.spawner.kill_all();
        world.disk.kill_process();
        let world = World::over(world.disk.clone(), n);
        let (log, recovered) = reopen(&world, small()).unwrap();
        assert_eq!(super::world::contents(&log.group(super::world::GROUP).unwrap(), 300), expected);
        assert_eq!(recovered.dropped_batches, 0);
        if n % 3 == 0 {
            log.close().unwrap();
        }
        drop(log);
        world.spawner.kill_all();
        let now = world.disk.paths().len();
        assert!(n < 5 || now <= files, "files grow: {now} after {n} openings");
        files = files.max(now);
    }
}
