//! Segments that are gone, cut short, swapped or replaced by older ones: each is missed by name.

use super::damage::{closed_log, log_files, newest_file, right_or_named};
use super::model::reopen;
use super::world::{GROUP, World, commit, contents, small};
use crate::Log;

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
