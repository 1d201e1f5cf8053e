//! Files that do not belong into a log's directory, and files that are gone from it.

use std::path::PathBuf;

use logwood_base::{Disk, Error, LogPosition, SegmentNo};

use super::world::{DATABASE, GROUP, World, commit, small};
use crate::format::file_name;
use crate::{BaseState, Expect, Log};

/// A log that has let its first segments go, and files of another log under each number that one has.
fn with_a_strange_log() -> (World, crate::Log, Vec<(SegmentNo, Vec<u8>)>) {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    for _ in 0..60 {
        commit(&group, 1, 3_000).unwrap();
    }
    group.release(group.last().0);
    log.maintain().unwrap();
    assert!(world.disk.read_file(&world.dir.join(file_name(SegmentNo(1)))).is_none(), "it is gone");

    let dir = PathBuf::from("other");
    let other = Log::create(&world.env, &dir, DATABASE, small()).unwrap();
    let strange = other.create_group(GROUP, BaseState::default()).unwrap();
    for _ in 0..200 {
        commit(&strange, 1, 3_000).unwrap();
    }
    other.close().unwrap();
    let numbers = (1..200).map(SegmentNo);
    let files = numbers
        .filter_map(|number| Some((number, world.disk.read_file(&dir.join(file_name(number)))?)))
        // Prepared ones are nobody's.
        .filter(|(_, bytes)| bytes[0] != 0)
        .collect();
    (world, log, files)
}

/// Every file of the disk.
fn files(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let all = world.disk.paths().into_iter();
    all.filter_map(|path| world.disk.read_file(&path).map(|bytes| (path, bytes)))
        .filter(|(path, _)| !path.ends_with("LOCK"))
        .collect()
}

#[test]
fn a_segment_of_another_log_is_refused_by_name_and_nothing_is_deleted_nor_healed() {
    let (world, log, strange) = with_a_strange_log();
    let id = log.id();
    log.close().unwrap();
    let (mut below, mut above) = (0, 0);
    for (number, bytes) in strange {
        let path = world.dir.join(file_name(number));
        if world.disk.read_file(&path).is_some() {
            continue;
        }
        let copy = World::over(world.disk.snapshot(), 1);
        copy.disk.write_file(&path, &bytes);
        let found = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap().end;
        below += u64::from(number < found.segment);
        above += u64::from(number > found.segment);
        let before = files(&copy);
        for log in [None, Some(id)] {
            let expect = Expect { log, ..Expect::default() };
            let (env, dir) = (&copy.env, &*copy.dir);
            let refusals = [
                Log::open(env, dir, expect, small(), &mut |_| {}).map(|_| ()),
                Log::heal(env, dir, expect, small(), &mut |_| {}, &mut |_| Ok(Vec::new())).map(|_| ()),
                Log::inspect(env, dir, &mut |_| {}).map(|_| ()),
            ];
            for refused in refusals {
                let refused = refused.unwrap_err();
                let corruption = refused.corruption().expect("it is named");
                assert_eq!(corruption.check, "log id", "{number}: {refused}");
            }
            assert_eq!(files(&copy), before, "segment {number}");
        }
        // Taken away again, it has harmed nothing.
        copy.disk.remove(&path).unwrap();
        let (log, _) = Log::open(&copy.env, &copy.dir, Expect::default(), small(), &mut |_| {}).unwrap();
        assert_eq!(log.id(), id);
    }
    assert!(below > 0 && above > 0, "{below} below and {above} above the newest");
}

#[test]
fn a_directory_with_segments_of_another_log_only_is_another_log() {
    let (world, log, _) = with_a_strange_log();
    let expect = Expect { log: Some(log.id()), durable_end: LogPosition::ZERO, ..Expect::default() };
    let other = PathBuf::from("other");
    let refused = Log::open(&world.env, &other, expect, small(), &mut |_| {});
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
}

#[test]
fn the_newest_segment_is_missed_although_files_were_prepared_behind_it() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    while log.statistics().rolls < 2 || log.shared.state.lock().tail < (48 << 10) {
        commit(&group, 1, 300).unwrap();
    }
    log.maintain().unwrap();
    log.close().unwrap();
    let report = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    let newest = report.segments.last().unwrap();
    assert!(report.other_files.iter().any(|file| *file > newest.number), "{:?}", report.other_files);
    assert!(world.disk.remove_file(&newest.path));
    let found = Log::inspect(&world.env, &world.dir, &mut |_| {}).unwrap();
    assert_eq!(found.damage.first().map(|damage| damage.path.clone()), Some(newest.path.clone()));
    let refused = Log::open(&world.env, &world.dir, Expect::default(), small(), &mut |_| {}).map(|_| ());
    assert_eq!(refused.unwrap_err().corruption().unwrap().path, newest.path);
}
