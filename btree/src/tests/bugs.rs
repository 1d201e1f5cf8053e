//! Planted bugs: one scripted run must pass without any, and must fail with each.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use logwood_base::Lsn;
use logwood_base::disk::simulated::SimulatedDisk;

use super::world::{KEYSPACE, Model, at, checkpoint, commit, create, open, require, small};
use crate::planted::{self, Bug};
use crate::store::LivePercent;
use crate::{Change, ChangeKind, Forest, Progress};

/// Puts every third key of a range, so that leaves are rebuilt and split.
fn write_part(forest: &Forest, model: &mut Model, lsn: u64, numbers: Range<u64>) {
    let value = format!("value of {lsn}").into_bytes();
    let keys: Vec<Vec<u8>> = (numbers.start + lsn % 3..numbers.end)
        .step_by(3)
        .map(|n| format!("key{:04}", n * 7).into_bytes())
        .collect();
    let changes: Vec<_> = keys.iter().map(|key| (key.as_slice(), Some(value.as_slice()))).collect();
    commit(forest, lsn, &changes);
    model.extend(keys.into_iter().map(|key| (key, value.clone())));
}

fn write(forest: &Forest, model: &mut Model, lsn: u64) {
    write_part(forest, model, lsn, 0..240);
}

/// A checkpoint beside writes, snapshots, eviction and a power cut, all of it compared with the model.
fn script() {
    let disk = SimulatedDisk::new(1);
    let forest = create(&disk, small());
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let mut model = Model::new();
    write(&forest, &mut model, 2);
    let early = (forest.snapshot(), model.clone());
    (3..6).for_each(|lsn| write(&forest, &mut model, lsn));
    require(&tree, &early.0, &early.1);
    checkpoint(&forest).unwrap();
    forest.shared.evict_everything();
    require(&tree, &early.0, &early.1);
    drop(early);

    write_part(&forest, &mut model, 6, 120..240);
    let at_c = model.clone();
    let c = forest.snapshot();
    let mut job = forest.begin_checkpoint(&at(c.lsn())).unwrap();
    // Some leaves change before the walk comes by, others when it is past them and has kept their pages.
    write_part(&forest, &mut model, 7, 120..240);
    let mut lsn = 7;
    while job.step().unwrap() == Progress::More {
        lsn += 1;
        if lsn < 12 {
            write(&forest, &mut model, lsn);
        }
    }
    drop(job);
    forest.shared.evict_everything();
    require(&tree, &c, &at_c);
    require(&tree, &forest.snapshot(), &model);
    let crashed = disk.snapshot();
    crashed.crash(&mut fastrand::Rng::with_seed(1));
    let (reopened, opened) = open(&crashed, small()).unwrap();
    assert_eq!(opened.checkpoint_lsn, c.lsn());
    require(&reopened.tree(KEYSPACE).unwrap(), &reopened.snapshot(), &at_c);
    require_sound(&reopened);

    drop(c);
    for _ in 0..3 {
        checkpoint(&forest).unwrap();
        require_sound(&forest);
    }
    let lsn = small_changes(&disk, &forest, &mut model, lsn);
    range_delete(&forest, &mut model, lsn + 1);
}

/// A range is deleted while a checkpoint of before walks, and under a snapshot.
fn range_delete(forest: &Forest, model: &mut Model, lsn: u64) {
    let tree = forest.tree(KEYSPACE).unwrap();
    let more: Model = (0..1500).map(|n| (format!("more{n:04}").into_bytes(), vec![b'm'; 20])).collect();
    let changes: Vec<_> = more.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
    commit(forest, lsn, &changes);
    model.extend(more);
    checkpoint(forest).unwrap();
    // Only the way to the first leaf changes: the walk finds the rest of the tree as it was written.
    let lsn = lsn + 1;
    commit(forest, lsn, &[(b"key0001", Some(b"so that there is something to write"))]);
    model.insert(b"key0001".to_vec(), b"so that there is something to write".to_vec());
    let c = forest.snapshot();
    let at_c = model.clone();
    let mut job = forest.begin_checkpoint(&at(c.lsn())).unwrap();
    let (from, to) = (&b"key0100"[..], &b"more1400"[..]);
    let kind = ChangeKind::DeleteRange { from, to: Some(to) };
    forest.apply(Lsn(lsn + 1), &[Change { keyspace: KEYSPACE, kind }]).unwrap();
    forest.publish(Lsn(lsn + 1));
    model.retain(|key, _| !(from <= &key[..] && &key[..] < to));
    while job.step().unwrap() == Progress::More {}
    require(&tree, &c, &at_c);
    require(&tree, &forest.snapshot(), model);
    require_sound(forest);
    drop((job, c));
    for _ in 0..3 {
        checkpoint(forest).unwrap();
        while forest.give_back_step().unwrap() {}
        require_sound(forest);
    }
}

/// Changes that are written as delta blocks, with a cleaner that takes their images away before they are attached.
/// Answers the newest LSN.
fn small_changes(disk: &SimulatedDisk, forest: &Forest, model: &mut Model, mut lsn: u64) -> u64 {
    let mut change = |model: &mut Model| {
        lsn += 1;
        let numbers: Vec<u64> = (0..240).step_by(12).collect();
        numbers.into_iter().for_each(|n| {
            let key = format!("key{:04}", n * 7).into_bytes();
            lsn += 1;
            commit(forest, lsn, &[(&key, Some(b"small"))]);
            model.insert(key, b"small".to_vec());
        });
    };
    change(model);
    let report = checkpoint(forest).unwrap();
    assert!(report.deltas > 3, "{report:?}");
    require_sound(forest);
    change(model);
    let at_c = model.clone();
    let c = forest.snapshot();
    let mut job = forest.begin_checkpoint(&at(c.lsn())).unwrap();
    let mut steps = 0;
    while !job.is_durable() {
        job.step().unwrap();
        steps += 1;
        if steps == 2 {
            while forest.clean_below(LivePercent { images: 100, deltas: 100 }).unwrap() {}
            change(model);
        }
    }
    while job.step().unwrap() == Progress::More {}
    drop((job, c));
    require_sound(forest);
    let crashed = disk.snapshot();
    crashed.crash(&mut fastrand::Rng::with_seed(2));
    let (reopened, _) = open(&crashed, small()).unwrap();
    require(&reopened.tree(KEYSPACE).unwrap(), &reopened.snapshot(), &at_c);
    require_sound(&reopened);
    for _ in 0..2 {
        checkpoint(forest).unwrap();
        require_sound(forest);
        forest.shared.evict_everything();
        require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), model);
    }
    lsn
}

fn require_sound(forest: &Forest) {
    let report = forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
}

fn is_found(bug: Bug) {
    let found = catch_unwind(AssertUnwindSafe(|| planted::with(Some(bug), script))).is_err();
    assert!(found, "{bug:?} was not found");
}

#[test]
fn the_script_passes_without_a_bug() {
    script();
}

#[test]
fn versions_let_go_under_a_snapshot_are_found() {
    is_found(Bug::PruneIgnoresSnapshots);
}

#[test]
fn a_checkpoint_of_something_newer_is_found() {
    is_found(Bug::CheckpointOfTheNewest);
}

#[test]
fn a_change_lost_by_counting_as_clean_is_found() {
    is_found(Bug::ChangedLeafCountsAsClean);
}

#[test]
fn an_eviction_under_a_snapshot_is_found() {
    is_found(Bug::EvictionIgnoresSnapshots);
}

#[test]
fn pages_retired_while_they_are_reached_are_found() {
    is_found(Bug::RetiredWhileReached);
}

#[test]
fn sums_that_a_delta_block_left_alone_are_found() {
    is_found(Bug::SumsWithoutTheDelta);
}

#[test]
fn a_delta_block_added_to_an_image_that_is_gone_is_found() {
    is_found(Bug::AddedToWhatIsGone);
}

#[test]
fn an_image_that_was_replaced_and_counts_as_reached_is_found() {
    is_found(Bug::ReplacedCountsAsReached);
}

#[test]
fn a_split_that_forgets_the_past_is_found() {
    is_found(Bug::SplitForgetsThePast);
}

#[test]
fn a_range_delete_that_forgets_what_it_detached_is_found() {
    is_found(Bug::DetachedIsForgotten);
}

#[test]
fn pages_above_detached_leaves_that_count_as_reached_are_found() {
    is_found(Bug::DetachedInnersCountAsReached);
}
