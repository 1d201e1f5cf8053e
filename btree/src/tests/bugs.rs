//! Planted bugs: one scripted run must pass without any, and must fail with each.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use logwood_base::Lsn;
use logwood_base::disk::simulated::SimulatedDisk;

use super::world::{KEYSPACE, Model, at, checkpoint, commit, create, open, require, small};
use crate::planted::{self, Bug};
use crate::{Forest, Progress};

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
fn a_split_that_forgets_the_past_is_found() {
    is_found(Bug::SplitForgetsThePast);
}
