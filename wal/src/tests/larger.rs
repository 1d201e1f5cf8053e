//! Entries that are larger than the options of today allow: of a log that was written with larger segments.

use logwood_base::{Error, GroupId, Lsn, Term};

use super::model::reopen;
use super::world::{GROUP, World, commit, contents, payload, small};
use crate::{BaseState, Durability, Entry, Expect, Log, LogOptions};

const IDLE: GroupId = GroupId(2);
const BYTES: usize = 200_000;

/// A log of large segments: two large entries of an idle group, six of another, the process killed.
fn large() -> World {
    let world = World::new(1);
    let (log, group) = world.create(LogOptions { segment_bytes: 1 << 20, ..small() }).unwrap();
    let idle = log.create_group(IDLE, BaseState::default()).unwrap();
    for n in 0..6 {
        if n < 2 {
            commit(&idle, 1, BYTES).unwrap();
        }
        commit(&group, 1, BYTES).unwrap();
    }
    log.close().unwrap();
    drop((log, group, idle));
    world.spawner.kill_all();
    world.disk.kill_process();
    world
}

#[test]
fn large_entries_of_an_idle_group_move_on_when_the_log_is_opened_with_smaller_segments() {
    let world = large();
    let again = World::over(world.disk.clone(), 1);
    let (log, _) = reopen(&again, small()).unwrap();
    let (group, idle) = (log.group(GROUP).unwrap(), log.group(IDLE).unwrap());
    group.release(group.last().0);
    let mut commits = 0;
    while log.statistics().copied_bytes < 2 * BYTES as u64 {
        let lsn = commit(&group, 1, 300).unwrap();
        group.release(lsn);
        log.maintain().unwrap();
        commits += 1;
        assert!(commits < 20_000, "nothing was copied: {:?}", log.statistics());
    }
    assert_eq!(contents(&idle, BYTES).len(), 2);
    drop((log, group, idle));
    again.spawner.kill_all();
    world.disk.crash(&mut fastrand::Rng::with_seed(1));
    let (log, _) = reopen(&World::over(world.disk.clone(), 1), small()).unwrap();
    assert_eq!(contents(&log.group(IDLE).unwrap(), BYTES).len(), 2);
}

#[test]
fn a_log_of_large_entries_heals_with_smaller_segments() {
    let world = large();
    let path =
        world.disk.paths().into_iter().find(|path| path.extension().is_some_and(|ext| ext == "log")).unwrap();
    world.disk.flip_bit(&path, 300_000, 1);
    assert!(matches!(reopen(&World::over(world.disk.snapshot(), 1), small()), Err(Error::Corruption(_))));
    let healed = |bytes: usize| {
        let copy = World::over(world.disk.snapshot(), 1);
        let opened = Log::heal(&copy.env, &copy.dir, Expect::default(), small(), &mut |_| {}, &mut |hole| {
            let last = hole.last.map_or(hole.first.0 - 1, |(lsn, _)| lsn.0);
            let entry = |lsn| Entry {
                lsn: Lsn(lsn),
                term: Term(1),
                payload: payload(Lsn(lsn), Term(1), bytes).into(),
            };
            Ok((hole.first.0..=last).map(entry).collect())
        });
        (copy, opened)
    };
    let (copy, opened) = healed(BYTES);
    let (log, _) = opened.unwrap();
    assert_eq!(contents(&log.group(GROUP).unwrap(), BYTES).len(), 6);
    assert_eq!(contents(&log.group(IDLE).unwrap(), BYTES).len(), 2);
    drop(log);
    copy.spawner.kill_all();
    copy.disk.crash(&mut fastrand::Rng::with_seed(1));
    let (log, _) = reopen(&World::over(copy.disk.clone(), 1), small()).unwrap();
    assert_eq!(contents(&log.group(GROUP).unwrap(), BYTES).len(), 6);
    // What no log could hold is refused, and the damaged log is as it was.
    let (copy, opened) = healed(2 << 20);
    let error = opened.map(drop).unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { .. }), "{error}");
    assert!(matches!(reopen(&World::over(copy.disk.snapshot(), 1), small()), Err(Error::Corruption(_))));
}

#[test]
fn the_limit_of_an_append_is_that_of_the_segments_that_are_written() {
    let world = large();
    let (log, _) = reopen(&World::over(world.disk.clone(), 1), small()).unwrap();
    let group = log.group(GROUP).unwrap();
    let lsn = group.last().0.next();
    let bytes = payload(lsn, Term(1), BYTES);
    let entries = [(Term(1), &bytes[..])];
    let append = crate::Append {
        term: Term(1),
        previous: None,
        first_lsn: lsn,
        entries: &entries,
        durability: Durability::Durable,
    };
    group.append(append).unwrap().wait().unwrap();
    assert_eq!(contents(&group, BYTES).len(), 7);
}
