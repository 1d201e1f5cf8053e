//! Rot and misplaced writes: a named error or the right data, never a shorter log.

use std::path::PathBuf;

use fastrand::Rng;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::{Error, GroupId, Lsn, NodeId, Term};

use super::crashes::scale;
use super::model::reopen;
use super::world::{GROUP, World, commit, contents, small, vote};
use crate::format::header::{HeaderRead, SegmentHeader};
use crate::format::parse_file_name;
use crate::{BaseState, Expect, Log, LogOptions};

/// Of the zeros in a file, the first of so many is changed; a prime, so that no field of a block is always passed over.
const PADDING_STRIDE: u64 = 97;

/// A closed log of some segments with two groups, and what group 1 holds.
pub(crate) fn closed_log(entries: usize) -> (World, Vec<(Lsn, Term)>) {
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

pub(crate) fn log_files(world: &World) -> Vec<PathBuf> {
    world.disk.paths().into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect()
}

/// The segment that was written last; files behind it are prepared.
pub(crate) fn newest_file(world: &World) -> PathBuf {
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    report.segments.last().unwrap().path.clone()
}

/// Opens a copy of the disk: the right data, or an error that names a file.
pub(crate) fn right_or_named(world: &World, expected: &[(Lsn, Term)], context: &str) -> bool {
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
fn every_damaged_or_zeroed_acknowledged_batch_is_named() {
    let (world, expected) = closed_log(150);
    let mut rng = Rng::with_seed(4);
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    let newest = report.segments.last().unwrap().number;
    let mut judged = 0;
    for segment in &report.segments {
        let bytes = world.disk.read_file(&segment.path).unwrap();
        let blocks = (segment.end as usize).div_ceil(4096);
        // The seal at the very end proves what is before it, and nothing proves the seal: nothing is in it.
        let proven = blocks - usize::from(segment.number == newest);
        for block in 0..proven {
            let at = block * 4096;
            let said: Vec<usize> = (at..at + 4096).filter(|place| bytes[*place] != 0).collect();
            for zero in [false, true] {
                let damaged = World::over(world.disk.snapshot(), 1);
                if zero {
                    let mut zeroed = bytes.clone();
                    zeroed[at..at + 4096].fill(0);
                    damaged.disk.write_file(&segment.path, &zeroed);
                } else {
                    let place = said[rng.usize(..said.len())];
                    damaged.disk.flip_bit(&segment.path, place as u64, 1 << rng.u8(..8));
                }
                let context = format!("{} block {block}, zeroed: {zero}", segment.path.display());
                assert!(!right_or_named(&damaged, &expected, &context), "{context}: not named");
                judged += 1;
            }
        }
    }
    assert!(judged > 2 * 160, "{judged}: every batch of both groups, the states and the headers");
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

/// Every byte that says something, and some of the zeros.
fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let stride = (PADDING_STRIDE / scale()).max(1) as usize;
    (0..bytes.len()).filter(move |at| bytes[*at] != 0 || at % stride == 0)
}

#[test]
fn hostile_bytes_give_right_data_or_a_named_error() {
    let (world, expected) = closed_log(30);
    // One of the values for each byte, in turn; all of them when asked to look further.
    let mut turn = 0;
    let mut is_its_turn = || {
        turn += 1;
        turn % 3 == 0 || scale() > 1
    };
    let (mut judged, mut named) = (0, 0);
    for path in log_files(&world) {
        let bytes = world.disk.read_file(&path).unwrap();
        for at in places(&bytes) {
            let values = [0x00, 0xff, bytes[at] ^ 1];
            for value in values.into_iter().filter(|value| is_its_turn() && *value != bytes[at]) {
                let damaged = World::over(world.disk.snapshot(), 1);
                damaged.disk.flip_bit(&path, at as u64, bytes[at] ^ value);
                let context = format!("{} byte {at} = {value}", path.display());
                named += u32::from(!right_or_named(&damaged, &expected, &context));
                judged += 1;
            }
        }
    }
    assert!(named > 10_000 && judged > named, "{named} of {judged}");
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
