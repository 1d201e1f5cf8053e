//! Letting go, holders, idle groups, overriding, tails, tickets as futures, and disks without direct reads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fastrand::Rng;
use logwood_base::disk::SimulatedDisk;
use logwood_base::disk::simulated::Operation;
use logwood_base::{Environment, Error, GroupId, Lsn, Term};

use super::hooked::HookedDisk;
use super::model::{Model, reopen, run};
use super::world::{DATABASE, GROUP, World, append_at, commit, contents, small};
use crate::append::Mover;
use crate::{BaseState, Durability, Entry, Group, Log, LogOptions};

#[test]
fn an_idle_group_beside_a_busy_one_keeps_its_entries_and_the_log_stays_bounded() {
    let world = World::new(1);
    let (log, busy) = world.create(LogOptions { recent_bytes_max: 0, ..small() }).unwrap();
    let idle = log.create_group(GroupId(2), BaseState::default()).unwrap();
    for _ in 0..5 {
        commit(&idle, 1, 300).unwrap();
    }
    for n in 1..=2_000u64 {
        commit(&busy, 1, 300).unwrap();
        busy.set_committed(Lsn(n));
        busy.release(Lsn(n.saturating_sub(20)));
        if n % 50 == 0 {
            world.rest();
            assert!(log.statistics().log_bytes < 14 * (64 << 10), "{:?}", log.statistics());
        }
    }
    assert!(log.statistics().copied_bytes > 0);
    assert_eq!(contents(&idle, 300).len(), 5);
    assert!(busy.first_lsn() > Lsn(1_500));
    assert!(matches!(busy.read(Lsn(1), Lsn(5), 100), Err(Error::TooOld { .. })));
    drop((log, busy, idle));
    world.spawner.kill_all();
    world.disk.crash(&mut Rng::with_seed(1));
    let (log, _) = reopen(&World::over(world.disk.clone(), 2), small()).unwrap();
    assert_eq!(contents(&log.group(GroupId(2)).unwrap(), 300).len(), 5);
    assert_eq!(log.group(GROUP).unwrap().last().0, Lsn(2_000));
}

#[test]
fn the_next_segment_is_there_before_the_current_one_is_full_though_nobody_lets_anything_go() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    world.rest();
    let mut before = log.statistics();
    while before.rolls < 5 {
        commit(&group, 1, 3_000).unwrap();
        let now = log.statistics();
        assert!(
            now.rolls == before.rolls || before.prepared_segments > 0,
            "a roll prepared its segment itself"
        );
        world.rest();
        before = log.statistics();
    }
}

#[test]
fn where_segments_come_free_as_fast_as_they_are_used_no_file_is_written_anew_and_none_is_removed() {
    let world = World::new(1);
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let disk = HookedDisk::new(&world.disk, move |operation| {
        if operation == Operation::Create {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let env = Environment { disk, ..world.env.clone() };
    let log = Log::create(&env, &world.dir, DATABASE, small()).unwrap();
    let group = log.create_group(GROUP, BaseState::default()).unwrap();
    let files = || world.env.disk.list(&world.dir).unwrap().len();
    let used = |segments: u64| {
        let before = log.statistics().rolls;
        while log.statistics().rolls < before + segments {
            commit(&group, 1, 3_000).unwrap();
            world.rest();
        }
        group.set_committed(group.last().0);
        group.release(group.last().0);
        world.rest();
    };
    // The first ones are written; then two come free for each two that are used.
    (0..3).for_each(|_| used(2));
    let before = (made.load(Ordering::SeqCst), files());
    (0..10).for_each(|_| used(2));
    assert_eq!((made.load(Ordering::SeqCst), files()), before);

    let kept = log.statistics().prepared_segments;
    assert!(kept > 2, "{kept} for later");
    log.compact().unwrap();
    assert_eq!(
        (log.statistics().prepared_segments, log.statistics().segments),
        (0, 1),
        "whoever asks for the space gets it"
    );
    used(3);
    let last = group.last().0;
    drop((log, group));
    world.spawner.kill_all();
    let (log, _) = reopen(&World::over(world.disk.clone(), 2), small()).unwrap();
    assert_eq!(log.group(GROUP).unwrap().last().0, last);
}

#[test]
fn compaction_leaves_one_small_segment_and_the_log_goes_on_in_large_ones() {
    let world = World::new(1);
    let options = LogOptions { segment_bytes: 4 << 20, batch_bytes_max: 1 << 20, ..LogOptions::default() };
    let (log, group) = world.create(options.clone()).unwrap();
    for round in 1..=3u64 {
        while log.statistics().rolls < 4 * round {
            commit(&group, 1, 900_000).unwrap();
            world.rest();
        }
        let kept = group.last().0;
        group.set_committed(kept);
        group.release(kept);
        log.compact().unwrap();
        let segments = log.statistics().segments;
        assert_eq!((segments, log.statistics().log_bytes), (1, 1 << 20), "round {round}");
        assert!(world.disk.used_bytes() <= (1 << 20) + 4096, "{}", world.disk.used_bytes());
        // An entry that is larger than what the small one has room for.
        commit(&group, 1, 1_000_000).unwrap();
    }
    // What somebody holds stays, however often it is asked for.
    let hold = group.hold("reader", group.last().0).unwrap();
    (0..2).for_each(|_| log.compact().unwrap());
    assert_eq!(contents(&group, 1_000_000).len(), 1);
    drop(hold);
    let last = group.last().0;
    drop((log, group));
    world.spawner.kill_all();
    world.disk.crash(&mut Rng::with_seed(1));
    let (log, _) = reopen(&World::over(world.disk.clone(), 2), options).unwrap();
    assert_eq!(log.group(GROUP).unwrap().last().0, last);
}

#[test]
fn a_log_whose_segments_have_any_size_is_compacted_and_opened_again() {
    for blocks in [16, 65, 67, 251, 1_021] {
        let options = LogOptions { segment_bytes: blocks * 4096, ..small() };
        let world = World::new(u64::from(blocks));
        let (log, group) = world.create(options.clone()).unwrap();
        while log.statistics().rolls < 2 {
            commit(&group, 1, 9_000).unwrap();
        }
        for _ in 0..2 {
            group.set_committed(group.last().0);
            group.release(Lsn(group.last().0.0 - 1));
            log.compact().unwrap();
            commit(&group, 1, 9_000).unwrap();
        }
        let last = group.last().0;
        drop((log, group));
        world.spawner.kill_all();
        world.disk.crash(&mut Rng::with_seed(1));
        let (log, _) = reopen(&World::over(world.disk.clone(), 2), options).unwrap();
        let group = log.group(GROUP).unwrap();
        assert_eq!(group.last().0, last, "{blocks} blocks");
        assert_eq!(contents(&group, 9_000).last().unwrap().0, last);
    }
}

#[test]
fn entries_are_read_where_they_stood_while_their_copies_are_on_their_way() {
    let read_all = |idle: &Group| -> Vec<Entry> {
        (1..=5).flat_map(|lsn| idle.read(Lsn(lsn), Lsn(lsn + 1), 1).unwrap()).collect()
    };
    let world = World::new(1);
    let reading: Arc<OnceLock<(Group, Vec<Entry>)>> = Arc::default();
    let looks = Arc::new(AtomicUsize::new(0));
    let (asked, counted) = (Arc::clone(&reading), Arc::clone(&looks));
    // Before each durable write, a copy's among them, what is about to be copied is read.
    let disk = HookedDisk::new(&world.disk, move |operation| {
        if let Some((idle, entries)) = asked.get().filter(|_| operation == Operation::WriteDurable) {
            assert_eq!(&read_all(idle), entries);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let env = Environment { disk, ..world.env.clone() };
    let options = LogOptions { recent_bytes_max: 0, ..small() };
    let log = Log::create(&env, &world.dir, DATABASE, options).unwrap();
    let busy = log.create_group(GROUP, BaseState::default()).unwrap();
    let idle = log.create_group(GroupId(2), BaseState::default()).unwrap();
    for _ in 0..5 {
        commit(&idle, 1, 300).unwrap();
    }
    let entries = read_all(&idle);
    assert_eq!(entries.len(), 5);
    assert!(reading.set((idle, entries)).is_ok());
    for n in 1..=500u64 {
        commit(&busy, 1, 3_000).unwrap();
        busy.set_committed(Lsn(n));
        busy.release(Lsn(n.saturating_sub(20)));
        log.maintain().unwrap();
    }
    assert!(log.statistics().copied_bytes > 0);
    assert!(looks.load(Ordering::SeqCst) > 500);
}

#[test]
fn a_holder_keeps_entries_is_named_and_loses_its_hold_beyond_the_bound() {
    let world = World::new(1);
    let (log, group) = world.create(LogOptions { log_bytes_max: 10 * (64 << 10), ..small() }).unwrap();
    commit(&group, 1, 3_000).unwrap();
    let hold = group.hold("slow replica", Lsn(1)).unwrap();
    for n in 2..=60u64 {
        commit(&group, 1, 3_000).unwrap();
        group.release(Lsn(n - 1));
        world.rest();
    }
    assert_eq!(log.statistics().laggard, Some((GROUP, "slow replica".to_owned(), Lsn(1))));
    assert_eq!(group.first_lsn(), Lsn(1));
    assert!(!hold.is_lost());
    for n in 61..=400u64 {
        commit(&group, 1, 3_000).unwrap();
        group.release(Lsn(n - 1));
        world.rest();
    }
    assert!(hold.is_lost());
    assert!(log.statistics().log_bytes <= 12 * (64 << 10));
}

#[test]
fn a_holder_that_comes_when_a_base_is_decided_on_already_keeps_its_entries() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    for _ in 0..5 {
        commit(&group, 1, 300).unwrap();
    }
    group.release(Lsn(4));
    let hold = group.hold("late", Lsn(2)).unwrap();
    log.shared.write_bases(vec![(GROUP, Lsn(4))], Mover::Upkeep).unwrap();
    assert_eq!(group.first_lsn(), Lsn(1), "nothing goes that was granted");
    assert!(group.read(Lsn(2), Lsn(3), 1).is_ok() && !hold.is_lost());
    drop(hold);
    log.shared.write_bases(vec![(GROUP, Lsn(4))], Mover::Upkeep).unwrap();
    assert_eq!(group.first_lsn(), Lsn(5));
}

#[test]
fn a_holder_with_a_bound_of_its_own_loses_its_hold_and_the_others_keep_theirs() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    commit(&group, 1, 3_000).unwrap();
    let bounded = group.hold_bounded("view", Lsn(1), 6 * (64 << 10)).unwrap();
    let near = group.hold_bounded("near", Lsn(1), 6 * (64 << 10)).unwrap();
    for n in 2..=300u64 {
        commit(&group, 1, 3_000).unwrap();
        group.release(Lsn(n - 1));
        near.advance(Lsn(n));
        world.rest();
        let bytes = log.statistics().log_bytes;
        assert!(
            bounded.is_lost() || (bytes <= 7 * (64 << 10) && group.first_lsn() == Lsn(1)),
            "{n}: {bytes}"
        );
        assert!(n > 30 || !bounded.is_lost(), "{n}");
    }
    assert!(bounded.is_lost() && !near.is_lost());
    assert_eq!(log.statistics().laggard, None);
    assert!(group.first_lsn() > Lsn(200) && log.statistics().log_bytes <= 9 * (64 << 10));
    let again = group.hold_bounded("view", Lsn(1), 1).unwrap_err();
    assert!(matches!(again, logwood_base::Error::TooOld { .. }));
}

#[test]
fn a_holder_beyond_its_bound_stays_while_one_that_stays_keeps_the_same_or_earlier_entries() {
    const SEGMENT: u64 = 64 << 10;
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    for _ in 0..10 {
        commit(&group, 1, 3_000).unwrap();
    }
    let grow = |to: u64| {
        for n in group.last().0.0..to {
            commit(&group, 1, 3_000).unwrap();
            group.release(Lsn(n));
            world.rest();
        }
    };
    let unbounded = group.hold("replica", Lsn(5)).unwrap();
    let wide = group.hold_bounded("wide", Lsn(4), 24 * SEGMENT).unwrap();
    let [first, same, later] =
        [1, 5, 8].map(|from| group.hold_bounded("narrow", Lsn(from), 3 * SEGMENT).unwrap());
    grow(100);
    assert!(first.is_lost(), "nobody else keeps the first entry");
    assert!([&wide, &same, &later].iter().all(|hold| !hold.is_lost()));
    assert_eq!(group.first_lsn(), Lsn(4));
    // The wide one keeps what is kept when the unbounded one moves on, until it is beyond its own bound.
    unbounded.advance(Lsn(100));
    world.rest();
    assert!([&wide, &same, &later].iter().all(|hold| !hold.is_lost()));
    assert!(log.statistics().log_bytes > 3 * SEGMENT);
    grow(320);
    assert!([&wide, &same, &later].iter().all(|hold| hold.is_lost()), "they do not save each other");
    assert!(!unbounded.is_lost() && group.first_lsn() <= Lsn(100) && group.first_lsn() > Lsn(8));
    // One that is beyond its bound, and alone once the other one is gone.
    let last = group.hold_bounded("narrow", Lsn(150), 3 * SEGMENT).unwrap();
    world.rest();
    assert!(!last.is_lost());
    drop(unbounded);
    world.rest();
    assert!(last.is_lost() && group.first_lsn() > Lsn(200));
}

#[test]
fn an_override_replaces_what_was_there_and_a_gap_or_a_committed_entry_is_refused() {
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    let append =
        |first, term, count| append_at(&group, Lsn(first), Term(term), count, 300, Durability::Durable);
    append(1, 1, 9).unwrap().wait().unwrap();
    group.set_committed(Lsn(4));
    assert!(append(4, 2, 1).is_err(), "committed");
    assert!(append(11, 2, 1).is_err(), "gap");
    append(6, 3, 2).unwrap();
    assert!(append(8, 2, 1).is_err(), "the term of appending never decreases");
    append(7, 4, 3).unwrap().wait().unwrap();
    let terms: Vec<_> = contents(&group, 300).iter().map(|(_, term)| term.0).collect();
    assert_eq!(terms, [1, 1, 1, 1, 1, 3, 4, 4, 4]);
    group.set_base(Lsn(20), Term(5), b"members").unwrap();
    assert_eq!((group.last(), group.membership()), ((Lsn(20), Term(5)), (Lsn(20), b"members".to_vec())));
    append(21, 5, 1).unwrap().wait().unwrap();
    drop((log, world.spawner.kill_all()));
    world.disk.crash(&mut Rng::with_seed(1));
    let (log, _) = reopen(&World::over(world.disk.clone(), 2), small()).unwrap();
    assert_eq!(contents(&log.group(GROUP).unwrap(), 300), [(Lsn(21), Term(5))]);
}

#[test]
fn a_tail_may_be_asked_to_wait_for_ever() {
    let world = World::new(1);
    let (_log, group) = world.create(small()).unwrap();
    world.clock.advance(Duration::from_secs(1));
    commit(&group, 1, 300).unwrap();
    assert_eq!(group.tail(Lsn(1)).next(Duration::MAX).unwrap().unwrap().len(), 1);
}

#[test]
fn a_tail_follows_and_notices_that_what_it_handed_out_was_replaced() {
    let world = World::new(1);
    let (_log, group) = world.create(small()).unwrap();
    let mut tail = group.tail(Lsn(1));
    assert_eq!(tail.next(Duration::ZERO).unwrap(), None);
    append_at(&group, Lsn(1), Term(1), 3, 300, Durability::Durable).unwrap();
    assert_eq!(tail.next(Duration::ZERO).unwrap().unwrap().len(), 3);
    append_at(&group, Lsn(2), Term(2), 1, 300, Durability::Durable).unwrap();
    assert!(matches!(tail.next(Duration::ZERO), Err(Error::Replaced(_))));
}

#[test]
fn a_ticket_is_a_future_that_background_work_completes() {
    let world = World::new(1);
    let (_log, group) = world.create(small()).unwrap();
    world.rest();
    let mut ticket = append_at(&group, Lsn(1), Term(1), 1, 300, Durability::Durable).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = || std::pin::Pin::new(&mut ticket).poll(&mut context);
    assert!(poll().is_pending());
    world.spawner.run_until_idle(world.env.clock.monotonic(), 100);
    assert!(matches!(poll(), Poll::Ready(Ok(()))));
}

#[test]
fn memory_of_the_index_does_not_grow_with_entries() {
    let world = World::new(1);
    let (log, group) = world.create(LogOptions { recent_bytes_max: 1_000, ..LogOptions::default() }).unwrap();
    for n in 0..20_000u64 {
        append_at(&group, Lsn(n + 1), Term(1), 1, 100, Durability::Buffered).unwrap().wait().unwrap();
    }
    assert!(log.statistics().index_runs < 100, "{:?}", log.statistics());
}

#[test]
fn where_the_cache_cannot_be_passed_the_tail_is_written_again_before_it_is_served() {
    use logwood_base::disk::simulated::{Fault, Operation, Outcome};
    let cached = |disk: &SimulatedDisk| {
        let world = World::without_direct_reads(disk.clone(), 1);
        let opened = reopen(&world, small());
        (world, opened)
    };
    let mut rewritten = 0;
    for seed in 0..300 {
        let world = World::new(seed);
        let (log, group) = world.create(small()).unwrap();
        let mut rng = Rng::with_seed(seed);
        let mut model = Model::default();
        let begun = super::model::GroupModel {
            changes: vec![super::model::Change::Begin],
            durable: 1,
            acknowledged: 1,
            term: 1,
            ..Default::default()
        };
        model.groups.insert(GROUP, begun);
        run(&world, &log, &mut model, &mut rng, 25).unwrap();
        world.disk.set_fault(
            Fault::new(&[Operation::Sync, Operation::WriteDurable], Outcome::Io).nth(rng.u64(1..4)),
        );
        let _ = run(&world, &log, &mut model, &mut rng, 10);
        drop((log, group));
        world.spawner.kill_all();
        world.disk.clear_faults();
        world.disk.kill_process();
        // Crashes inside of the rewriting.
        if seed % 2 == 0 {
            world.disk.crash_at(rng.u64(1..12));
            let (again, opened) = cached(&world.disk);
            drop(opened);
            again.spawner.kill_all();
            let stopped = world.disk.is_stopped();
            world.disk.cancel_stop();
            if stopped { world.disk.crash(&mut rng) } else { world.disk.kill_process() }
        }
        let (again, opened) = cached(&world.disk);
        let (log, recovered) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        rewritten += u32::from(recovered.tail_rewritten);
        model.check(&log, true, &format!("seed {seed}"));
        run(&again, &log, &mut model, &mut rng, 4).unwrap();
        drop(log);
        again.spawner.kill_all();
        world.disk.crash(&mut rng);
        let (_, opened) = cached(&world.disk);
        model.check(&opened.unwrap().0, true, &format!("seed {seed}, again"));
    }
    assert!(rewritten > 50, "{rewritten}");
}

#[test]
fn every_subset_of_the_last_writes_keeps_what_was_acknowledged() {
    // Ten sectors of buffered entries are unsynced: the simulated power cut draws a subset of them each time.
    let world = World::new(1);
    let (log, group) = world.create(small()).unwrap();
    for _ in 0..5 {
        commit(&group, 1, 300).unwrap();
    }
    for n in 6..=15u64 {
        append_at(&group, Lsn(n), Term(1), 1, 300, Durability::Buffered).unwrap().wait().unwrap();
    }
    drop((log, group));
    world.spawner.kill_all();
    let mut lengths = std::collections::BTreeSet::new();
    for future in 0..2_000 {
        let disk = world.disk.snapshot();
        disk.crash(&mut Rng::with_seed(future));
        let (log, _) = reopen(&World::over(disk, 1), small()).unwrap();
        let found = contents(&log.group(GROUP).unwrap(), 300);
        assert!(found.len() >= 5);
        lengths.insert(found.len());
    }
    assert!(lengths.len() > 4, "tears at many places: {lengths:?}");
}

#[test]
fn a_base_says_itself_whether_the_entries_above_it_stay() {
    const IDLE: GroupId = GroupId(2);
    for (term, kept) in [(1, 5), (3, 0)] {
        let world = World::new(1);
        let (log, group) = world.create(small()).unwrap();
        let idle = log.create_group(IDLE, BaseState::default()).unwrap();
        append_at(&idle, Lsn(1), Term(1), 10, 300, Durability::Durable).unwrap().wait().unwrap();
        let home = log.shared.state.lock().segments[0].number;
        let grow = |enough: &dyn Fn() -> bool| {
            for _ in 0..400 {
                let lsn = commit(&group, 1, 3_000).unwrap();
                group.release(lsn);
                log.maintain().unwrap();
                if enough() {
                    return;
                }
            }
            panic!("the log never came so far");
        };
        let oldest_is_home = || log.shared.state.lock().segments[0].number == home;
        // The base stands in a segment that came later; then the segment of the base's entry goes, and with it the
        // only place that told its term. Where entries stay, their copies come last.
        grow(&|| log.shared.state.lock().segments.len() > 1);
        assert!(oldest_is_home());
        idle.set_base(Lsn(5), Term(term), b"").unwrap();
        grow(&|| !oldest_is_home());
        drop((log, group, idle));
        world.spawner.kill_all();
        world.disk.crash(&mut Rng::with_seed(1));
        let opened = reopen(&World::over(world.disk.clone(), 2), small());
        let (log, _) = opened.unwrap_or_else(|error| panic!("base in term {term}: {error}"));
        let idle = log.group(IDLE).unwrap();
        assert_eq!(idle.base(), (Lsn(5), Term(term)));
        assert_eq!(contents(&idle, 300).len(), kept, "base in term {term}");
    }
}

/// Commits in turn to each group until the disk is full, which it is told to all of them. Answers how often that went well.
fn fill_up(groups: &[Group]) -> usize {
    let (mut commits, mut refused) = (0, 0);
    while refused < 3 * groups.len() {
        match commit(&groups[(commits + refused) % groups.len()], 1, 300) {
            Ok(_) => commits += 1,
            Err(Error::DiskFull { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    commits
}

/// Does what upkeep can be done; preparing segments ahead may find no room.
fn maintain(log: &Log) {
    let done = log.maintain();
    assert!(matches!(done, Ok(()) | Err(Error::DiskFull { .. })), "{done:?}");
}

#[test]
fn a_log_that_fills_the_disk_makes_room_by_itself_once_its_entries_may_go() {
    for groups in [1, 7] {
        let world = World::new(1);
        let options = LogOptions { segment_bytes: 256 << 10, ..small() };
        let log = Log::create(&world.env, &world.dir, DATABASE, options.clone()).unwrap();
        let groups: Vec<_> =
            (1..=groups).map(|n| log.create_group(GroupId(n), BaseState::default()).unwrap()).collect();
        world.disk.set_capacity(Some(world.disk.used_bytes() + (3 << 20)));
        for round in 0..4 {
            assert!(fill_up(&groups) > 100, "round {round}");
            // What cannot go yet takes nothing of what is kept aside.
            for back in (1..9).rev() {
                groups.iter().for_each(|group| group.release(Lsn(group.last().0.0 / 16 / back)));
                maintain(&log);
            }
            groups.iter().for_each(|group| group.release(group.last().0));
            maintain(&log);
            for group in &groups {
                let refused = commit(group, 1, 300).err();
                assert!(refused.is_none(), "round {round}: {refused:?}, {:?}", log.statistics());
            }
        }
        let last: Vec<_> = groups.iter().map(|group| (group.base(), contents(group, 300))).collect();
        drop((log, groups));
        world.spawner.kill_all();
        world.disk.crash(&mut Rng::with_seed(1));
        world.disk.set_capacity(None);
        let again = World::over(world.disk.clone(), 1);
        let (log, _) = reopen(&again, options).unwrap();
        let groups = log.groups().into_iter().map(|id| log.group(id).unwrap());
        assert_eq!(groups.map(|group| (group.base(), contents(&group, 300))).collect::<Vec<_>>(), last);
    }
}
