//! Rot, lost and misplaced writes, missing and foreign files: a named error or the right data, never a shorter log.

use std::path::PathBuf;

use fastrand::Rng;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::{Access, Disk, Error, GroupId, Lsn, NodeId, Term};

use super::crashes::scale;
use super::model::reopen;
use super::world::{GROUP, World, append_at, commit, contents, payload, small, vote};
use crate::format::header::{HeaderRead, SegmentHeader};
use crate::format::parse_file_name;
use crate::{BaseState, Durability, Entry, Expect, Hole, Log, LogOptions};

/// A closed log of some segments with two groups, and what group 1 holds.
fn closed_log(entries: usize) -> (World, Vec<(Lsn, Term)>) {
    let world = World::new(9);
    let (log, group) = world.create(small()).unwrap();
    let other = log.create_group(GroupId(2), BaseState::default()).unwrap();
    for n in 0..entries {
        commit(&group, 1 + n as u64 / 50, 300).unwrap();
        if n % 10 == 0 {
            commit(&other, 1, 300).unwrap();
            group.set_committed(group.last().0);
        }
    }
    let expected = contents(&group, 300);
    log.close().unwrap();
    drop((log, group, other));
    world.spawner.kill_all();
    world.disk.kill_process();
    (world, expected)
}

fn log_files(world: &World) -> Vec<PathBuf> {
    world.disk.paths().into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect()
}

/// The segment that was written last; files behind it are prepared.
fn newest_file(world: &World) -> PathBuf {
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    report.segments.last().unwrap().path.clone()
}

/// Opens a copy of the disk: the right data, or an error that names a file.
fn right_or_named(world: &World, expected: &[(Lsn, Term)], context: &str) -> bool {
    let copy = World::over(world.disk.snapshot(), 1);
    let report = Log::inspect(&copy.env, &copy.dir, &mut |_| {});
    match reopen(&copy, small()) {
        Ok((log, _)) => {
            assert_eq!(contents(&log.group(GROUP).unwrap(), 300), expected, "{context}");
            assert!(report.unwrap().damage.is_empty(), "{context}: reported, yet opened");
            true
        }
        Err(Error::Corruption(corruption)) => {
            assert!(corruption.path.starts_with("log"), "{context}");
            assert!(report.map_or(true, |report| !report.damage.is_empty()), "{context}: not reported");
            false
        }
        Err(error) => panic!("{context}: {error}"),
    }
}

#[test]
fn a_torn_last_batch_is_dropped_but_a_torn_middle_batch_is_refused() {
    let (world, expected) = closed_log(20);
    let path = log_files(&world)[0].clone();
    // Each entry of this log is one batch in one block; two batches made the groups.
    let mut refused = 0;
    for block in 1..14u64 {
        let damaged = World::over(world.disk.snapshot(), 1);
        damaged.disk.flip_bit(&path, block * 4096 + 60, 0x10);
        refused += u32::from(!right_or_named(&damaged, &expected, &format!("block {block}")));
    }
    assert_eq!(refused, 13, "the seal at the end proves every acknowledged batch");
}

#[test]
fn the_newest_segment_cut_short_behind_its_header_is_named() {
    let (world, expected) = closed_log(20);
    let path = &newest_file(&world);
    let bytes = world.disk.read_file(path).unwrap().len() as u64;
    for size in [4096, 5 * 4096, 9 * 4096 + 200, 12 * 4096, bytes - 4096, bytes - 1] {
        let damaged = World::over(world.disk.snapshot(), 1);
        damaged.disk.truncate(path, size);
        assert!(!right_or_named(&damaged, &expected, &format!("cut to {size} bytes")), "{size} bytes opened");
    }
}

#[test]
fn a_segment_that_a_seal_names_is_missed_when_even_its_header_is_cut_off() {
    let (world, expected) = closed_log(150);
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    assert!(report.segments.len() > 2 && report.segments[report.segments.len() - 2].sealed);
    let newest = &report.segments[report.segments.len() - 1].path;
    for size in [0, 1, 100, 4095] {
        let damaged = World::over(world.disk.snapshot(), 1);
        damaged.disk.truncate(newest, size);
        assert!(!right_or_named(&damaged, &expected, &format!("cut to {size} bytes")), "{size} bytes opened");
    }
}

#[test]
fn every_damaged_or_zeroed_acknowledged_batch_is_named() {
    let (world, expected) = closed_log(150);
    let mut rng = Rng::with_seed(4);
    for path in log_files(&world) {
        let bytes = world.disk.read_file(&path).unwrap();
        for block in (0..bytes.len() / 4096).step_by(3) {
            for zero in [false, true] {
                let damaged = World::over(world.disk.snapshot(), 1);
                let at = block * 4096;
                if zero {
                    let mut zeroed = bytes.clone();
                    zeroed[at..at + 4096].fill(0);
                    damaged.disk.write_file(&path, &zeroed);
                } else {
                    damaged.disk.flip_bit(&path, (at + rng.usize(..360)) as u64, 1 << rng.u8(..8));
                }
                right_or_named(&damaged, &expected, &format!("{} block {block}", path.display()));
            }
        }
    }
}

#[test]
fn a_deleted_shortened_swapped_or_older_sealed_segment_is_named() {
    let (world, expected) = closed_log(150);
    let files = log_files(&world);
    let older = {
        let (shorter, _) = closed_log(40);
        shorter.disk.read_file(&files[2]).unwrap()
    };
    let newest = newest_file(&world);
    for at in 0..files.len() - 1 {
        let path = &files[at];
        let bytes = world.disk.read_file(path).unwrap();
        let next = world.disk.read_file(&files[at + 1]).unwrap();
        let holds_batches = bytes[4096..8192].iter().any(|byte| *byte != 0);
        let damages: [(&str, Option<Vec<u8>>); 4] = [
            ("deleted", None),
            ("shortened", Some(bytes[..9_000].to_vec())),
            ("swapped", Some(next)),
            ("older", Some(older.clone())),
        ];
        // Whole other bytes in place of a prepared segment are what one may hold.
        let only = if path.file_name() <= newest.file_name() { damages.len() } else { 2 };
        for (what, content) in damages.into_iter().take(only) {
            let damaged = World::over(world.disk.snapshot(), 1);
            match content {
                Some(content) => damaged.disk.write_file(path, &content),
                None => assert!(damaged.disk.remove_file(path)),
            }
            let right = right_or_named(&damaged, &expected, &format!("{} {what}", path.display()));
            assert!(!right || !holds_batches || what == "older", "{} {what}", path.display());
        }
    }
}

#[test]
fn one_damage_is_told_once_and_says_whom_it_concerns() {
    let (world, _) = closed_log(150);
    for path in log_files(&world) {
        let bytes = world.disk.read_file(&path).unwrap();
        for block in (0..bytes.len() / 4096).filter(|block| bytes[block * 4096] != 0) {
            let damaged = World::over(world.disk.snapshot(), 1);
            damaged.disk.flip_bit(&path, block as u64 * 4096 + 30, 1);
            let report = Log::inspect(&damaged.env, &damaged.dir, &mut |_| {}).unwrap();
            assert!(report.damage.len() <= 1, "{} block {block}: {:#?}", path.display(), report.damage);
            for damage in &report.damage {
                assert_ne!(damage.affects.as_deref(), Some(""), "{damage}");
                assert_eq!(report.dropped_batches, 0, "{damage}");
            }
        }
    }
}

/// Whatever becomes of the newest segment once something in it was acknowledged, the next opening tells: its predecessor
/// knows of it, though both were opened and closed in peace.
#[test]
fn the_newest_segment_of_a_closed_log_is_missed_whatever_takes_it() {
    for (idle_opens, rolls) in [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (1, 2)] {
        let (world, _) = closed_log(30);
        let once_more = |rolls: u64, commits: u64| {
            let (log, _) = reopen(&World::over(world.disk.clone(), 1), small()).unwrap();
            let group = log.group(GROUP).unwrap();
            while log.statistics().rolls < rolls {
                commit(&group, 1, 300).unwrap();
            }
            for _ in 0..commits {
                commit(&group, 1, 300).unwrap();
            }
            let held = contents(&group, 300);
            log.close().unwrap();
            held
        };
        once_more(0, 1);
        (0..idle_opens).for_each(|_| drop(once_more(0, 0)));
        let expected = once_more(rolls, 3);
        assert!(right_or_named(&world, &expected, "as it was"));
        let (newest, others) = (newest_file(&world), log_files(&world));
        let older = others.iter().rfind(|path| path.file_name() < newest.file_name()).unwrap();
        let new = world.disk.read_file(&newest).unwrap();
        let old = world.disk.read_file(older).unwrap();
        // What becomes of the newest file, and of the one before it.
        let fates = [
            ("removed", None, &old),
            ("emptied", Some(Vec::new()), &old),
            ("cut to its first bytes", Some(new[..100].to_vec()), &old),
            ("zeroed", Some(vec![0; new.len()]), &old),
            ("replaced by the one before", Some(old.clone()), &old),
            ("swapped with the one before", Some(old.clone()), &new),
        ];
        for (fate, becomes, before) in fates {
            let copy = World::over(world.disk.snapshot(), 1);
            match becomes {
                Some(bytes) => copy.disk.write_file(&newest, &bytes),
                None => assert!(copy.disk.remove_file(&newest)),
            }
            copy.disk.write_file(older, before);
            let right = right_or_named(&copy, &expected, fate);
            assert!(!right, "{fate}, {idle_opens} idle opens, {rolls} rolls: not named");
        }
    }
}

#[test]
fn hostile_bytes_give_right_data_or_a_named_error() {
    let (world, expected) = closed_log(30);
    let mut rng = Rng::with_seed(1);
    for path in log_files(&world) {
        let bytes = world.disk.read_file(&path).unwrap();
        for _ in 0..150 * scale() {
            // Mostly in the bytes that mean something.
            let block = rng.usize(..bytes.len() / 4096);
            let at = block * 4096 + if rng.bool() { rng.usize(..120) } else { rng.usize(..4096) };
            let value = [0x00, 0xff, bytes[at] ^ 1][rng.usize(..3)];
            let damaged = World::over(world.disk.snapshot(), 1);
            damaged.disk.flip_bit(&path, at as u64, bytes[at] ^ value);
            right_or_named(&damaged, &expected, &format!("{} byte {at} = {value}", path.display()));
        }
    }
}

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

#[test]
fn a_failed_sync_stops_the_log_and_loses_nothing_acknowledged() {
    for n in 1..60 {
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
        assert!(failed || n > 50, "sync {n} did not fail");
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
    for n in 1..80 {
        let world = World::new(n);
        let (log, group) = world.create(small()).unwrap();
        world.disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).nth(n));
        let mut acknowledged = 0;
        for _ in 0..40 {
            acknowledged = commit(&group, 1, 300).map_or(acknowledged, |lsn| lsn.0);
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
fn a_vote_survives_rot_of_one_copy() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    commit(&group, 1, 300).unwrap();
    let places = vote(&log, Term(5), NodeId(3));
    assert_eq!(places.len(), 2, "two copies");
    assert_ne!(places[0].offset / 4096, places[1].offset / 4096, "in two blocks");
    drop((log, group));
    world.spawner.kill_all();
    world.disk.kill_process();
    for place in &places {
        let copy = World::over(world.disk.snapshot(), 1);
        copy.disk.flip_bit(&log_files(&copy)[0], u64::from(place.offset) + 80, 1);
        match reopen(&copy, small()) {
            Ok((log, _)) => assert_eq!(log.group(GROUP).unwrap().vote(), (Term(5), NodeId(3))),
            Err(error) => assert!(error.corruption().is_some(), "{error}"),
        }
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

/// Point 11 of docs/decisions/0003-where-the-log-ends.md, with W = 1.
#[test]
fn a_misdirected_last_write_hides_two_acknowledged_batches_and_no_more() {
    for blocks in 1..6 {
        let world = World::new(1);
        let (log, group) = world.create(LogOptions { batches_in_flight_max: 1, ..small() }).unwrap();
        for _ in 0..9 {
            commit(&group, 1, 300).unwrap();
        }
        world
            .disk
            .set_fault(Fault::new(&[Operation::WriteDurable], Outcome::Misdirected(-4096 * blocks)).nth(1));
        commit(&group, 1, 300).unwrap();
        drop((log, group));
        world.spawner.kill_all();
        world.disk.clear_faults();
        world.disk.crash(&mut Rng::with_seed(1));
        match reopen(&World::over(world.disk.clone(), 1), small()) {
            Ok((log, _)) => {
                assert_eq!(blocks, 1, "a batch further back has a witness behind it");
                assert_eq!(contents(&log.group(GROUP).unwrap(), 300).len(), 8);
            }
            Err(error) => {
                assert!(blocks > 1 && error.corruption().is_some(), "{blocks} blocks back: {error}");
            }
        }
    }
}

#[test]
fn a_header_whose_table_lacks_a_group_that_was_known_is_damage_that_names_it() {
    let (world, expected) = closed_log(60);
    let path = newest_file(&world);
    let bytes = world.disk.read_file(&path).unwrap();
    let number = parse_file_name(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let HeaderRead::Valid(header, _) = SegmentHeader::decode(&bytes, number) else {
        panic!("a valid header")
    };
    assert_eq!(header.groups.len(), 2);
    for lacking in [GroupId(1), GroupId(2)] {
        let copy = World::over(world.disk.snapshot(), 1);
        let groups = header.groups.iter().filter(|(id, _)| *id != lacking).cloned().collect();
        let (forged, _) = SegmentHeader { groups, ..header.clone() }.encode();
        // What is behind the header does not follow this one, which is damage too: the group must be named besides.
        let mut changed = bytes.clone();
        changed[..forged.len()].copy_from_slice(&forged);
        copy.disk.write_file(&path, &changed);
        let damage = Log::inspect(&copy.env, &copy.dir, &mut |_| {}).unwrap().damage;
        let named = damage.iter().any(|one| {
            one.check == "group in table"
                && one.path.file_name() == path.file_name()
                && one.affects == Some(format!("group {lacking}"))
        });
        assert!(named, "{damage:?}");
        assert!(!right_or_named(&copy, &expected, &format!("without group {lacking}")));
    }
}

#[test]
fn a_position_from_a_manifest_beyond_the_end_is_damage() {
    let (world, _) = closed_log(20);
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    let beyond = logwood_base::LogPosition::new(report.end.segment, report.end.offset + 1);
    for (durable_end, opens) in [(report.end, true), (beyond, false)] {
        let copy = World::over(world.disk.snapshot(), 1);
        let expect = Expect { durable_end, ..Expect::default() };
        let opened = Log::open(&copy.env, &copy.dir, expect, small(), &mut |_| {});
        assert_eq!(opened.is_ok(), opens);
    }
}

#[test]
fn inspecting_changes_nothing() {
    let (world, expected) = closed_log(40);
    let files: Vec<_> =
        world.disk.paths().into_iter().map(|path| (world.disk.read_file(&path), path)).collect();
    let operations = world.disk.operations();
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    let mut found = Vec::new();
    report
        .entries(GROUP, Lsn(1), |entry| {
            found.push((entry.lsn, entry.term));
            true
        })
        .unwrap();
    assert_eq!(found, expected);
    assert_eq!(world.disk.operations(), operations);
    for (content, path) in files {
        assert_eq!(world.disk.read_file(&path), content);
    }
}

/// Gives back what these tests wrote.
fn give(hole: &Hole, expected: &[(Lsn, Term)]) -> Vec<Entry> {
    let last = hole.last.map_or(Lsn::MAX, |(lsn, _)| lsn);
    let wanted = expected.iter().filter(|(lsn, _)| *lsn >= hole.first && *lsn <= last);
    wanted
        .map(|(lsn, term)| Entry { lsn: *lsn, term: *term, payload: payload(*lsn, *term, 300).into() })
        .collect()
}

#[test]
fn a_hole_anywhere_heals_and_stays_healed() {
    let (world, expected) = closed_log(150);
    let second: Vec<_> = (1..=15).map(|lsn| (Lsn(lsn), Term(1))).collect();
    let mut healed = 0;
    for path in log_files(&world) {
        let blocks = world.disk.read_file(&path).unwrap().len() / 4096;
        for block in 1..blocks {
            let damaged = World::over(world.disk.snapshot(), block as u64);
            damaged.disk.flip_bit(&path, block as u64 * 4096 + 70, 1);
            if reopen(&World::over(damaged.disk.snapshot(), 1), small()).is_ok() {
                continue;
            }
            healed += 1;
            let opened =
                Log::heal(&damaged.env, &damaged.dir, Expect::default(), small(), &mut |_| {}, &mut |hole| {
                    Ok(give(hole, if hole.group == GROUP { &expected } else { &second }))
                });
            let (log, recovered) =
                opened.unwrap_or_else(|error| panic!("{} block {block}: {error}", path.display()));
            assert!(!recovered.healed.is_empty());
            assert_eq!(
                contents(&log.group(GROUP).unwrap(), 300),
                expected,
                "{} block {block}",
                path.display()
            );
            assert_eq!(
                contents(&log.group(GroupId(2)).unwrap(), 300),
                second,
                "{} block {block}",
                path.display()
            );
            commit(&log.group(GROUP).unwrap(), 9, 300).unwrap();
            drop(log);
            damaged.spawner.kill_all();
            damaged.disk.crash(&mut Rng::with_seed(block as u64));
            let again = World::over(damaged.disk.clone(), 1);
            let (log, _) = reopen(&again, small()).unwrap();
            assert_eq!(log.group(GROUP).unwrap().last(), (Lsn(151), Term(9)));
        }
    }
    assert!(healed > 100, "{healed}");
}

#[test]
fn a_crash_anywhere_in_healing_leaves_it_to_be_done_again() {
    let (world, expected) = closed_log(150);
    let second: Vec<_> = (1..=15).map(|lsn| (Lsn(lsn), Term(1))).collect();
    world.disk.flip_bit(&log_files(&world)[1], 5 * 4096 + 70, 1);
    let heal = |world: &World| {
        Log::heal(&world.env, &world.dir, Expect::default(), small(), &mut |_| {}, &mut |hole| {
            Ok(give(hole, if hole.group == GROUP { &expected } else { &second }))
        })
    };
    for n in 1..60 {
        for future in 0..3 {
            let damaged = World::over(world.disk.snapshot(), n);
            damaged.disk.crash_at(n);
            drop(heal(&damaged));
            damaged.spawner.kill_all();
            let stopped = damaged.disk.is_stopped();
            damaged.disk.cancel_stop();
            damaged.disk.crash(&mut Rng::with_seed(n * 10 + future));
            let again = World::over(damaged.disk.clone(), 1);
            let (log, _) = heal(&again).unwrap_or_else(|error| panic!("call {n}: {error}"));
            assert_eq!(contents(&log.group(GROUP).unwrap(), 300), expected, "call {n}");
            assert!(stopped || n > 20);
        }
    }
}

#[test]
fn entries_that_do_not_fit_a_hole_are_refused_and_nothing_changes() {
    let (world, expected) = closed_log(60);
    world.disk.flip_bit(&log_files(&world)[1], 3 * 4096 + 70, 1);
    let before: Vec<_> = world.disk.paths();
    for wrong in 0..3 {
        let healed =
            Log::heal(&world.env, &world.dir, Expect::default(), small(), &mut |_| {}, &mut |hole| {
                let mut entries = give(hole, &expected);
                match wrong {
                    0 => entries.truncate(entries.len().saturating_sub(1)),
                    1 => entries.iter_mut().for_each(|entry| entry.term = Term(77)),
                    _ => return Err(Error::Closed),
                }
                Ok(entries)
            });
        assert!(healed.is_err());
        assert_eq!(world.disk.paths(), before);
        assert!(world.disk.open(&before[0], Access::Read).is_ok());
    }
}

#[test]
fn a_vanished_segment_stays_damage_while_healing_crashes() {
    let (world, expected) = closed_log(150);
    let second: Vec<_> = (1..=15).map(|lsn| (Lsn(lsn), Term(1))).collect();
    // The newest segment with entries, which a seal names, and the prepared ones above it are gone.
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    for path in log_files(&world).into_iter().skip(report.segments.len() - 1) {
        assert!(world.disk.remove_file(&path));
    }
    for n in 1..50 {
        let damaged = World::over(world.disk.snapshot(), n);
        damaged.disk.crash_at(n);
        let give_back =
            &mut |hole: &Hole| Ok(give(hole, if hole.group == GROUP { &expected } else { &second }));
        drop(Log::heal(&damaged.env, &damaged.dir, Expect::default(), small(), &mut |_| {}, give_back));
        damaged.spawner.kill_all();
        damaged.disk.cancel_stop();
        damaged.disk.crash(&mut Rng::with_seed(n));
        right_or_named(&damaged, &expected, &format!("call {n}"));
    }
}
