//! Reads, writes and syncs that fail, and disks that are full: an error, and nothing acknowledged is lost.

use std::path::PathBuf;

use fastrand::Rng;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::{Access, Disk, Error, Lsn, NodeId, Term};

use super::damage::{closed_log, log_files};
use super::hooked::HookedDisk;
use super::model::reopen;
use super::world::{GROUP, World, append_at, commit, contents, small};
use crate::Durability;

#[test]
fn a_read_error_surfaces_at_every_read() {
    let (world, expected) = closed_log(60);
    for n in 1.. {
        let copy = World::over(world.disk.snapshot(), 1);
        copy.disk.set_fault(Fault::new(Operation::READS, Outcome::Io).nth(n));
        match reopen(&copy, small()) {
            Err(Error::Io { .. }) => {}
            Err(error) => panic!("read {n}: {error}"),
            Ok((log, _)) => {
                copy.disk.clear_faults();
                assert_eq!(contents(&log.group(GROUP).unwrap(), 300), expected);
                break;
            }
        }
    }
}

/// A log with an unanswered batch at its end, and the offset of that.
fn with_a_batch_in_flight() -> (World, Vec<(Lsn, Term)>, PathBuf, u64) {
    let (world, _) = closed_log(60);
    let (log, _) = reopen(&World::over(world.disk.clone(), 2), small()).unwrap();
    let group = log.group(GROUP).unwrap();
    commit(&group, 9, 300).unwrap();
    commit(&group, 9, 300).unwrap();
    let expected = contents(&group, 300);
    let state = log.shared.state.lock();
    let (path, tail) = (state.current().file.path().to_owned(), u64::from(state.tail));
    drop(state);
    world.disk.set_fault(Fault::new(&[Operation::WriteDurable], Outcome::Io));
    assert!(commit(&group, 9, 300).is_err());
    drop((log, group));
    world.disk.clear_faults();
    world.disk.kill_process();
    (world, expected, path, tail)
}

fn files(world: &World) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let logs = world.disk.paths().into_iter().filter(|path| !path.ends_with("LOCK"));
    logs.map(|path| (path.clone(), world.disk.read_file(&path))).collect()
}

/// An error is no evidence of a torn write, in the very last batch neither.
#[test]
fn an_unreadable_block_is_an_error_that_names_it_and_nothing_is_changed_or_cut_off() {
    let (world, expected, newest, tail) = with_a_batch_in_flight();
    let before = files(&world);
    let mut refused = 0;
    for path in log_files(&world) {
        let bytes = world.disk.read_file(&path).unwrap().len() as u64;
        for offset in (0..bytes).step_by(4096) {
            let mut copy = World::over(world.disk.snapshot(), 1);
            copy.env.disk = HookedDisk::with_an_unreadable_block(&copy.disk, &path, offset);
            match reopen(&copy, small()) {
                Err(error @ Error::Io { .. }) => {
                    let told = error.to_string();
                    assert!(told.contains(&format!("offset {offset}")), "{told}");
                    assert!(told.contains(path.file_name().unwrap().to_str().unwrap()), "{told}");
                    assert_eq!(files(&copy), before, "{told}");
                    refused += 1;
                }
                Err(error) => panic!("{} at {offset}: {error}", path.display()),
                // Nobody reads it: it lies behind the end of an older segment.
                Ok(_) => {
                    assert!(!path.ends_with(newest.file_name().unwrap()), "{} at {offset}", path.display())
                }
            }
        }
    }
    assert!(refused > 60, "{refused}");

    // Written over with zeros, the batch on its way is a torn one; one that a later one proves is damage.
    for (offset, opens) in [(tail, true), (tail - 8192, false)] {
        let copy = World::over(world.disk.snapshot(), 1);
        let file = copy.disk.open(&newest, Access::ReadWrite).unwrap();
        file.write_durable(offset, &[0; 4096]).unwrap();
        drop(file);
        match reopen(&copy, small()) {
            Ok((log, _)) => assert_eq!(contents(&log.group(GROUP).unwrap(), 300), expected),
            Err(error) => assert!(!opens && error.corruption().is_some(), "{error}"),
        }
    }
}

#[test]
fn a_failed_sync_stops_the_log_and_loses_nothing_acknowledged() {
    for n in 1.. {
        let world = World::new(n);
        let (log, group) = world.create(small()).unwrap();
        world.disk.set_fault(Fault::new(&[Operation::WriteDurable, Operation::Sync], Outcome::Io).nth(n));
        let mut acknowledged = 0;
        let mut failed = false;
        for lsn in 1..=60u64 {
            let durability = if lsn % 5 == 0 { Durability::Buffered } else { Durability::Durable };
            let appended = append_at(&group, Lsn(lsn), Term(1), 1, 300, durability);
            match appended.and_then(|ticket| ticket.wait()) {
                Ok(()) if durability == Durability::Durable => {
                    assert!(!failed, "sync {n}: acknowledged after the failure");
                    acknowledged = lsn;
                }
                Ok(()) => assert!(!failed),
                Err(_) => failed = true,
            }
        }
        if world.disk.struck().is_empty() {
            assert!(n > 50, "{n} syncs");
            return;
        }
        assert!(failed, "sync {n} failed unseen: {:?}", world.disk.struck());
        drop((log, group));
        world.spawner.kill_all();
        for power in [false, true] {
            let disk = world.disk.snapshot();
            if power {
                disk.crash(&mut Rng::with_seed(n))
            } else {
                disk.kill_process()
            }
            let again = World::over(disk.clone(), 1);
            let (log, _) = reopen(&again, small()).unwrap_or_else(|error| panic!("sync {n}: {error}"));
            let served = contents(&log.group(GROUP).unwrap(), 300);
            assert!(served.len() as u64 >= acknowledged, "sync {n}: {} of {acknowledged}", served.len());
            drop(log);
            again.spawner.kill_all();
            // What was served once must not be gone after the next power cut.
            disk.crash(&mut Rng::with_seed(n + 1));
            let again = World::over(disk, 1);
            let (log, _) = reopen(&again, small()).unwrap_or_else(|error| panic!("sync {n}: {error}"));
            assert_eq!(contents(&log.group(GROUP).unwrap(), 300), served, "sync {n}");
        }
    }
}

#[test]
fn a_full_disk_refuses_appends_and_lets_them_go_on_later() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    world.disk.set_capacity(Some(world.disk.used_bytes() + 100_000));
    let mut refused = 0;
    for _ in 0..100 {
        match commit(&group, 1, 300) {
            Ok(_) => assert_eq!(refused, 0),
            Err(Error::DiskFull { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 10);
    let before = contents(&group, 300).len();
    assert_eq!(group.last().0, Lsn(before as u64), "what was refused was not numbered");
    world.disk.set_capacity(None);
    commit(&group, 1, 300).unwrap();
    let expected = contents(&group, 300);
    drop((log, group));
    world.spawner.kill_all();
    world.disk.crash(&mut Rng::with_seed(2));
    let again = World::over(world.disk.clone(), 1);
    let (log, _) = reopen(&again, small()).unwrap();
    assert_eq!(contents(&log.group(GROUP).unwrap(), 300), expected);
}

#[test]
fn an_enospc_at_any_growing_call_loses_nothing_acknowledged() {
    for n in 1.. {
        let world = World::new(n);
        let (log, group) = world.create(small()).unwrap();
        world.disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).nth(n));
        let mut acknowledged = 0;
        let mut outcomes = Vec::new();
        for _ in 0..40 {
            let outcome = commit(&group, 1, 300);
            acknowledged = outcome.as_ref().map_or(acknowledged, |lsn| lsn.0);
            outcomes.push(outcome);
        }
        let struck = world.disk.struck();
        let failed: Vec<_> = outcomes.iter().skip_while(|outcome| outcome.is_ok()).collect();
        match &struck[..] {
            // Behind the last one.
            [] => {
                assert!(failed.is_empty() && n > 50, "{n}: {failed:?}");
                return;
            }
            // A batch goes into room that was written before: that there is none is a failed write, and final.
            [(Operation::WriteDurable, _)] => {
                assert!(!failed.is_empty(), "{n}: {struck:?} is not answered");
                assert!(
                    failed.iter().all(|outcome| matches!(outcome, Err(Error::Poisoned { .. }))),
                    "{n}: {failed:?}"
                );
            }
            // What takes room is refused once, and not before it is needed; then the log goes on.
            [_] => {
                let (refusal, later) = failed.split_first().expect("a segment is needed");
                assert!(matches!(refusal, Err(Error::DiskFull { .. })), "{n}: {struck:?}: {refusal:?}");
                assert!(later.iter().all(|outcome| outcome.is_ok()), "{n}: {struck:?}: {failed:?}");
            }
            more => panic!("a fault that strikes once has struck {more:?}"),
        }
        drop((log, group));
        world.spawner.kill_all();
        world.disk.clear_faults();
        world.disk.crash(&mut Rng::with_seed(n));
        let again = World::over(world.disk.clone(), 1);
        let (log, _) = reopen(&again, small()).unwrap_or_else(|error| panic!("call {n}: {error}"));
        assert!(contents(&log.group(GROUP).unwrap(), 300).len() as u64 >= acknowledged, "call {n}");
    }
}

#[test]
fn a_misdirected_or_lost_vote_is_noticed_before_it_is_answered() {
    for outcome in [Outcome::Lost, Outcome::Misdirected(8192)] {
        let world = World::new(1);
        let (_log, group) = world.create(small()).unwrap();
        world.disk.set_fault(Fault::new(&[Operation::WriteDurable], outcome).nth(1));
        let error = group.set_vote(Term(2), NodeId(1)).unwrap_err();
        assert!(error.corruption().is_some(), "{error}");
        assert!(commit(&group, 1, 10).is_err(), "and the log stops");
    }
}
