//! Range deletes that detach whole subtrees: what they cost, who goes on reading what was detached, and how its pages are
//! given back.

use std::ops::Bound;

use logwood_base::disk::simulated::{Fault, Operation, Outcome, SimulatedDisk};
use logwood_base::{Error, Lsn};

use super::world::{KEYSPACE, Model, at, checkpoint, commit, create, open, require, scan, small};
use crate::planted::{self, Bug};
use crate::{At, Change, ChangeKind, Forest, ForestOptions, Progress, Tree};

fn key(n: usize) -> Vec<u8> {
    format!("key{n:06}").into_bytes()
}

fn value(n: usize) -> Vec<u8> {
    let length = if n.is_multiple_of(97) { 1000 } else { 20 + n % 7 };
    format!("{n:.<length$}").into_bytes()
}

/// A tree of `records` records that is on disk only, and what it holds.
fn cold(disk: &SimulatedDisk, records: usize) -> (Forest, Tree, Model) {
    let forest = create(disk, small());
    forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let model: Model = (0..records).map(|n| (key(n), value(n))).collect();
    let changes: Vec<_> = model.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
    commit(&forest, 2, &changes);
    checkpoint(&forest).unwrap();
    drop(forest);
    let (forest, _) = open(disk, small()).unwrap();
    let tree = forest.tree(KEYSPACE).unwrap();
    (forest, tree, model)
}

/// Deletes the keys numbered `from..to` at an LSN, and publishes it.
fn delete_range(forest: &Forest, model: &mut Model, lsn: u64, from: usize, to: usize) {
    let (from, to) = (key(from), key(to));
    let kind = ChangeKind::DeleteRange { from: &from, to: Some(&to) };
    forest.apply(Lsn(lsn), &[Change { keyspace: KEYSPACE, kind }]).unwrap();
    forest.publish(Lsn(lsn));
    model.retain(|key, _| !(from <= *key && *key < to));
}

fn require_sound(forest: &Forest) {
    let report = forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
}

/// Gives everything back, and has checkpoints let the files go.
fn give_all_back(forest: &Forest) {
    while forest.give_back_step().unwrap() {}
    for _ in 0..3 {
        checkpoint(forest).unwrap();
        require_sound(forest);
    }
}

#[test]
fn a_range_delete_reads_what_stands_at_its_ends_and_nothing_between() {
    let mut costs = Vec::new();
    for records in [1000, 20_000] {
        let disk = SimulatedDisk::new(1);
        let (forest, tree, mut model) = cold(&disk, records);
        let snapshot = forest.snapshot();
        let before = model.clone();
        let resident = forest.statistics().resident_bytes;
        delete_range(&forest, &mut model, 3, records / 50 + 1, records - records / 50);
        let after = forest.statistics();
        costs.push((after.cold_reads, after.resident_bytes - resident));

        // Counts of both states look into what changed, and no further.
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(tree.count(all, &forest.snapshot()).unwrap(), model.len() as u64);
        assert_eq!(tree.count(all, &snapshot).unwrap(), records as u64);
        assert!(forest.statistics().cold_reads < after.cold_reads + 12, "{:?}", forest.statistics());
        require(&tree, &forest.snapshot(), &model);
        require(&tree, &snapshot, &before);
        for (key, value) in before.iter().step_by(7) {
            let found = tree.get(key, At::Snapshot(&snapshot)).unwrap();
            assert_eq!(found.as_deref(), Some(&value[..]));
        }
        drop(snapshot);
        checkpoint(&forest).unwrap();
        give_all_back(&forest);
        require(&tree, &forest.snapshot(), &model);
    }
    let [(reads, bytes), (reads_of_more, bytes_of_more)] = costs[..] else { unreachable!() };
    assert!(reads_of_more <= reads + 4 && reads_of_more < 12, "{costs:?}");
    assert!(bytes_of_more < 4 * bytes, "{costs:?}");
}

#[test]
fn a_tree_that_was_emptied_is_low_again_and_its_space_comes_back() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, _) = cold(&disk, 5000);
    let everything = ChangeKind::DeleteRange { from: b"", to: None };
    forest.apply(Lsn(3), &[Change { keyspace: KEYSPACE, kind: everything }]).unwrap();
    forest.publish(Lsn(3));
    require(&tree, &forest.snapshot(), &Model::new());
    checkpoint(&forest).unwrap();
    assert!(forest.statistics().detached > 0 && forest.statistics().store.live_bytes > 100_000);
    require_sound(&forest);
    give_all_back(&forest);
    let statistics = forest.statistics();
    assert_eq!((statistics.detached, statistics.store.live_bytes, statistics.store.total_bytes), (0, 0, 0));
    let model = Model::from([(key(1), value(1))]);
    commit(&forest, 4, &[(&key(1), Some(&value(1)))]);
    require(&tree, &forest.snapshot(), &model);
    let guard = crossbeam_epoch::pin();
    let core = forest.shared.tree(KEYSPACE).unwrap();
    assert!(core.root.load(&guard).leaf().is_some(), "one leaf is the root");
}

#[test]
fn a_tree_whose_first_leaves_were_deleted_verifies() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, mut model) = cold(&disk, 10_000);
    for (lsn, to) in [(3, 4000), (4, 9000)] {
        let to = key(to);
        let kind = ChangeKind::DeleteRange { from: b"", to: Some(&to) };
        forest.apply(Lsn(lsn), &[Change { keyspace: KEYSPACE, kind }]).unwrap();
        forest.publish(Lsn(lsn));
        model.retain(|key, _| *key >= to);
        checkpoint(&forest).unwrap();
        require_sound(&forest);
        let (reopened, _) = open(&disk.snapshot(), small()).unwrap();
        require(&reopened.tree(KEYSPACE).unwrap(), &reopened.snapshot(), &model);
    }
    give_all_back(&forest);
    require(&tree, &forest.snapshot(), &model);
}

#[test]
fn a_checkpoint_of_before_a_range_delete_holds_what_was_detached_wherever_the_walk_stands() {
    let mut step = 0;
    loop {
        let disk = SimulatedDisk::new(1);
        let (forest, tree, mut model) = cold(&disk, 1500);
        // Changed leaves here and there, so that the walk looks into the tree.
        for lsn in 3..6 {
            let n = 400 * (lsn as usize - 3) + 50;
            commit(&forest, lsn, &[(&key(n), Some(b"changed")), (&key(n + 200), Some(b"changed"))]);
            model.extend([(key(n), b"changed".to_vec()), (key(n + 200), b"changed".to_vec())]);
        }
        let at_c = model.clone();
        let c = forest.snapshot();
        let mut job = forest.begin_checkpoint(&at(c.lsn())).unwrap();
        let mut steps = 0;
        while job.step().unwrap() == Progress::More {
            steps += 1;
            if steps == step {
                delete_range(&forest, &mut model, 6, 120, 1300);
                // What takes the keys over is parted again.
                let keys: Vec<_> = (0..60).map(|n| key(n * 20)).collect();
                let changes: Vec<_> = keys.iter().map(|key| (&key[..], Some(&b"put again"[..]))).collect();
                commit(&forest, 7, &changes);
                model.extend(keys.into_iter().map(|key| (key, b"put again".to_vec())));
            }
        }
        require_sound(&forest);
        require(&tree, &c, &at_c);
        require(&tree, &forest.snapshot(), &model);
        let crashed = disk.snapshot();
        crashed.crash(&mut fastrand::Rng::with_seed(1));
        let (reopened, opened) = open(&crashed, small()).unwrap();
        assert_eq!(opened.checkpoint_lsn, c.lsn());
        require(&reopened.tree(KEYSPACE).unwrap(), &reopened.snapshot(), &at_c);
        drop((job, c));
        checkpoint(&forest).unwrap();
        require_sound(&forest);
        give_all_back(&forest);
        forest.shared.evict_everything();
        require(&tree, &forest.snapshot(), &model);
        if step > steps {
            assert!(step > 5, "the walk takes {steps} steps");
            return;
        }
        step += 1;
    }
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_and_forgets_no_space() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut cut = 1;
    loop {
        let disk = SimulatedDisk::new(cut);
        let (forest, tree, old) = cold(&disk, 600);
        let mut new = old.clone();
        disk.crash_at(cut);
        delete_range(&forest, &mut new, 3, 40, 560);
        let mut done = checkpoint(&forest).is_ok();
        let durable = done;
        for _ in 0..2 {
            while done && matches!(forest.give_back_step(), Ok(true)) {}
            done = done && checkpoint(&forest).is_ok();
        }
        drop((tree, forest));
        if done {
            disk.cancel_stop();
        }
        disk.crash(&mut rng);
        let (forest, opened) = open(&disk, small()).unwrap();
        let model = if opened.checkpoint_lsn == Lsn(3) { &new } else { &old };
        assert!(!durable || opened.checkpoint_lsn == Lsn(3));
        let tree = forest.tree(KEYSPACE).unwrap();
        require(&tree, &forest.snapshot(), model);
        require_sound(&forest);
        let mut lsn = opened.checkpoint_lsn.0 + 1;
        if lsn == 3 {
            delete_range(&forest, &mut old.clone(), lsn, 40, 560);
            lsn += 1;
        }
        commit(&forest, lsn, &[]);
        checkpoint(&forest).unwrap();
        give_all_back(&forest);
        require(&tree, &forest.snapshot(), &new);
        let live: u64 = new.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        let statistics = forest.statistics();
        assert!(statistics.detached == 0 && statistics.store.live_bytes < 2 * live, "{statistics:?}");
        if done {
            assert!(cut > 20, "only {cut} calls changed the disk");
            return;
        }
        cut += 1;
    }
}

#[test]
fn a_page_that_cannot_be_read_is_given_back_later_and_a_damaged_one_is_given_up() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, mut model) = cold(&disk, 3000);
    delete_range(&forest, &mut model, 3, 100, 2900);
    checkpoint(&forest).unwrap();
    let before = forest.statistics().detached;
    disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/"));
    assert!(matches!(forest.give_back_step(), Err(Error::Io { .. })));
    disk.clear_faults();
    assert_eq!(forest.statistics().detached, before);
    require_sound(&forest);

    let pages = disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("/pages/"));
    pages.for_each(|path| (100..2000).step_by(500).for_each(|offset| disk.flip_bit(&path, offset, 3)));
    while forest.give_back_step().unwrap() {}
    assert_eq!(forest.statistics().detached, 0);
    commit(&forest, 4, &[]);
    checkpoint(&forest).unwrap();
    assert_eq!(tree.count((Bound::Unbounded, Bound::Unbounded), &forest.snapshot()).unwrap(), 200);
}

#[test]
fn whoever_reads_what_was_detached_does_it_inside_the_cache() {
    let disk = SimulatedDisk::new(1);
    let (forest, _, _) = cold(&disk, 10_000);
    drop(forest);
    let (forest, _) = open(&disk, ForestOptions { cache_bytes: 128 << 10, ..small() }).unwrap();
    let tree = forest.tree(KEYSPACE).unwrap();
    let snapshot = forest.snapshot();
    let most_of_a_scan = || {
        let mut cursor = tree.cursor((Bound::Unbounded, Bound::Unbounded), &snapshot);
        let (mut found, mut most) = (0, 0);
        while cursor.next().unwrap().is_some() {
            found += 1;
            most = most.max(forest.shared.cached_bytes());
        }
        assert_eq!(found, 10_000);
        most
    };
    let before = most_of_a_scan();
    delete_range(&forest, &mut Model::new(), 3, 10, 9990);
    for _ in 0..2 {
        let most = most_of_a_scan();
        assert!(most < 2 * before, "{most} bytes, before the range delete {before}");
        checkpoint(&forest).unwrap();
        assert_eq!(forest.dirty_bytes(), 0, "what was detached asks for no checkpoint");
        while forest.give_back_step().unwrap() {}
    }
    assert_eq!(scan(&tree, &snapshot).len(), 10_000);
}

/// A cleaner has found the tree, and waits for a page; the tree is dropped meanwhile, and a checkpoint lists its pages.
fn clean_while_dropped() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, model) = cold(&disk, 500);
    require(&tree, &forest.snapshot(), &model);
    drop(tree);
    let shared = &forest.shared;
    let core = shared.tree(KEYSPACE).unwrap();
    let segments = forest.store().live_bytes();
    let pages: Vec<_> =
        segments.iter().flat_map(|(number, _)| forest.store().pages_of(*number).unwrap()).collect();
    forest.drop_tree(Lsn(3), KEYSPACE).unwrap();
    forest.apply(Lsn(3), &[]).unwrap();
    forest.publish(Lsn(3));
    checkpoint(&forest).unwrap();
    // The page has come.
    for label in &pages {
        shared.mark_page(&core, label, &crossbeam_epoch::pin()).unwrap();
    }
    drop(core);
    forest.create_tree(Lsn(4), KEYSPACE).unwrap();
    commit(&forest, 4, &[(b"another", Some(b"tree"))]);
    give_all_back(&forest);
    assert!(forest.statistics().store.live_bytes < 1000);
}

#[test]
fn a_cleaner_that_comes_late_leaves_a_dropped_tree_alone() {
    clean_while_dropped();
    let bug = Some(Bug::CleanerMarksWhatWasDropped);
    let found = std::panic::catch_unwind(|| planted::with(bug, clean_while_dropped)).is_err();
    assert!(found, "marking what was dropped was not found");
}
