//! Entries that are applied in order, straight to pages: beside checkpoints, under snapshots, and with a disk that fails.

use std::panic::catch_unwind;

use logwood_base::disk::simulated::{Fault, Operation, Outcome, SimulatedDisk};
use logwood_base::{Error, Lsn, Result};

use super::world::{
    KEYSPACE, Model, at, change, checkpoint, commit, create, everything, open, require, scale, small,
};
use crate::planted::{self, Bug};
use crate::{At, Change, ChangeKind, Forest, ForestOptions, Progress, SortedChanges, Tree};

/// Sorted changes out of memory.
struct Given<'a> {
    changes: Vec<Change<'a>>,
    next: usize,
}

impl SortedChanges for Given<'_> {
    fn next(&mut self) -> Result<Option<Change<'_>>> {
        self.next += 1;
        Ok(self.changes.get(self.next - 1).copied())
    }
}

pub(super) type Changes = std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>>;

pub(super) fn try_apply_sorted(forest: &Forest, lsn: u64, changes: &Changes) -> Result<()> {
    let changes = changes.iter().map(|(key, value)| change(key, value.as_deref())).collect();
    forest.apply_sorted(Lsn(lsn), &mut Given { changes, next: 0 })
}

fn note(model: &mut Model, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(model.insert(key.clone(), value.clone())),
            None => drop(model.remove(key)),
        }
    }
}

/// So little memory that nearly every changed leaf goes to its page.
fn tiny() -> ForestOptions {
    ForestOptions { cache_bytes: 4 << 10, ..small() }
}

/// Random changes of keys out of `keys`, long values among them.
fn random(rng: &mut fastrand::Rng, count: usize, keys: u32) -> Changes {
    random_with(rng, count, keys, 1)
}

/// As [`random`], with deletes among every five of them.
fn random_with(rng: &mut fastrand::Rng, count: usize, keys: u32, deletes: u8) -> Changes {
    (0..count)
        .map(|_| {
            let key = format!("key{:06}", rng.u32(0..keys)).into_bytes();
            let length = if rng.u8(0..60) == 0 { 900 } else { rng.usize(0..40) };
            (key, (rng.u8(0..5) >= deletes).then(|| vec![rng.u8(..); length]))
        })
        .collect()
}

/// The changes of a large entry: many puts, or nearly all keys are deleted.
fn large(rng: &mut fastrand::Rng, round: u64) -> Changes {
    match round % 3 {
        0 => {
            let mut changes = random_with(rng, 200, 4000, 3);
            let deletes = (0..4000).filter(|n| n % (2 + round) != 0);
            changes.extend(deletes.map(|n| (format!("key{n:06}").into_bytes(), None)));
            changes
        }
        1 => random(rng, 1500, 4000),
        _ => random(rng, 1500, 100_000),
    }
}

pub(super) fn require_sound(forest: &Forest) {
    let report = forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
}

/// A tree of one checkpoint and some changes since.
fn begun(disk: &SimulatedDisk, rng: &mut fastrand::Rng, records: usize) -> (Forest, Tree, Model) {
    let forest = create(disk, tiny());
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let mut model = Model::new();
    for lsn in 2..4 {
        let changes = random(rng, records, 4000);
        let borrowed: Vec<_> = changes.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        commit(&forest, lsn, &borrowed);
        note(&mut model, &changes);
        if lsn == 2 {
            checkpoint(&forest).unwrap();
            forest.shared.evict_everything();
        }
    }
    (forest, tree, model)
}

#[test]
fn a_large_entry_is_the_model_for_readers_checkpoints_and_crashes_wherever_it_falls() {
    for round in 0..40 * u64::from(scale()) {
        let mut rng = fastrand::Rng::with_seed(round);
        let disk = SimulatedDisk::new(round);
        let records = [0, 30, 400, 2000][round as usize % 4];
        let (forest, tree, mut model) = begun(&disk, &mut rng, records);
        // A reader of before what the checkpoint will hold.
        let early = (forest.snapshot(), model.clone());
        let some = random(&mut rng, 20, 4000);
        let borrowed: Vec<_> = some.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        commit(&forest, 4, &borrowed);
        note(&mut model, &some);
        checkpoint(&forest).unwrap();
        commit(&forest, 5, &[(b"key000007", Some(b"so that there is something to write"))]);
        model.insert(b"key000007".to_vec(), b"so that there is something to write".to_vec());
        let before = (forest.snapshot(), model.clone());
        let mut job = forest.begin_checkpoint(&at(Lsn(5))).unwrap();
        let mut steps = rng.u32(0..20);
        let mut applied = false;
        let mut lsn = 5;
        loop {
            if steps == 0 && !applied {
                applied = true;
                lsn = 6;
                let changes = large(&mut rng, round / 4);
                try_apply_sorted(&forest, lsn, &changes).unwrap();
                // Applied, and not published: readers of before go on.
                require(&tree, &forest.snapshot(), &before.1);
                note(&mut model, &changes);
                forest.publish(Lsn(lsn));
                require(&tree, &forest.snapshot(), &model);
                for (key, value) in model.iter().step_by(13) {
                    assert_eq!(tree.get(key, At::Latest).unwrap().as_deref(), Some(&value[..]));
                }
                lsn += 1;
                let later = random(&mut rng, 40, 4000);
                let borrowed: Vec<_> =
                    later.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
                commit(&forest, lsn, &borrowed);
                note(&mut model, &later);
            }
            steps = steps.saturating_sub(1);
            if job.step().unwrap() != Progress::More {
                break;
            }
        }
        require_sound(&forest);
        require(&tree, &early.0, &early.1);
        require(&tree, &before.0, &before.1);
        let crashed = disk.snapshot();
        crashed.crash(&mut rng);
        let (reopened, opened) = open(&crashed, tiny()).unwrap();
        assert_eq!(opened.checkpoint_lsn, Lsn(5));
        require(&reopened.tree(KEYSPACE).unwrap(), &reopened.snapshot(), &before.1);
        drop((job, reopened));

        forest.shared.evict_everything();
        require(&tree, &early.0, &early.1);
        require(&tree, &before.0, &before.1);
        require(&tree, &forest.snapshot(), &model);
        drop((early, before));
        forest.shared.tidy_if_idle();
        commit(&forest, lsn + 1, &[]);
        checkpoint(&forest).unwrap();
        require_sound(&forest);
        assert_eq!(forest.statistics().version_bytes, 0, "versions that nobody needs were kept");
        disk.crash(&mut rng);
        let (forest, _) = open(&disk, tiny()).unwrap();
        require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
    }
}

#[test]
fn input_in_order_fills_an_empty_tree_with_full_leaves_in_little_memory() {
    let disk = SimulatedDisk::new(1);
    let options = ForestOptions { cache_bytes: 64 << 10, ..small() };
    let forest = create(&disk, options.clone());
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let changes: Changes =
        (0..30_000).map(|n| (format!("{n:010}").into_bytes(), Some(vec![b'v'; 90]))).collect();
    try_apply_sorted(&forest, 2, &changes).unwrap();
    forest.publish(Lsn(2));
    forest.shared.tidy_if_idle();
    let statistics = forest.statistics();
    assert!(statistics.dirty_bytes < options.cache_bytes, "{statistics:?}");
    let model: Model = changes.into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    checkpoint(&forest).unwrap();
    require_sound(&forest);
    let bytes = forest.statistics().store.live_bytes;
    assert!(bytes < 30_000 * 70, "{bytes} bytes of pages: compressed, but for what half-empty leaves take");
    require(&tree, &forest.snapshot(), &model);
}

#[test]
fn planted_bugs_in_what_becomes_of_small_leaves_are_found() {
    for bug in [Bug::JoinedLeafForgetsThePast, Bug::OpenLeavesStayInMemory] {
        let found =
            catch_unwind(|| planted::with(Some(bug), deletes_leave_little_behind_in_memory_and_on_disk));
        assert!(found.is_err(), "{bug:?} was not found");
    }
}

#[test]
fn deletes_leave_little_behind_in_memory_and_on_disk() {
    let disk = SimulatedDisk::new(1);
    let options = ForestOptions {
        cache_bytes: 256 << 10,
        leaf_bytes: 4 << 10,
        page_segment_bytes: 256 << 10,
        ..ForestOptions::default()
    };
    for keep in [5, u32::MAX] {
        let forest = create(&disk.snapshot(), options.clone());
        let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
        let key = |n: u32| format!("{n:010}").into_bytes();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut value = || Some((0..120).map(|_| rng.u8(..)).collect());
        let all: Changes = (0..20_000).map(|n| (key(n), value())).collect();
        try_apply_sorted(&forest, 2, &all).unwrap();
        forest.publish(Lsn(2));
        checkpoint(&forest).unwrap();
        forest.shared.evict_everything();
        let live_bytes = forest.statistics().store.live_bytes;
        assert!(live_bytes > 8 * options.cache_bytes as u64, "{live_bytes}");

        let before = forest.snapshot();
        let deletes: Changes = (0..20_000).filter(|n| n % keep != 0).map(|n| (key(n), None)).collect();
        try_apply_sorted(&forest, 3, &deletes).unwrap();
        let now = forest.statistics();
        let changed = now.dirty_bytes + now.version_bytes;
        assert!(changed < options.cache_bytes, "{changed} bytes wait for a checkpoint, or for older readers");
        forest.publish(Lsn(3));
        let mut model = Model::new();
        note(&mut model, &all);
        require(&tree, &before, &model);
        note(&mut model, &deletes);
        require(&tree, &forest.snapshot(), &model);
        drop(before);
        checkpoint(&forest).unwrap();
        require_sound(&forest);
        forest.shared.evict_everything();
        require(&tree, &forest.snapshot(), &model);
        let left = forest.statistics().store.live_bytes;
        let share = if keep == 5 { 3 } else { 40 };
        assert!(left < live_bytes / share, "{left} of {live_bytes} bytes are left");
    }
}

#[test]
fn changes_out_of_order_and_ranges_are_refused() {
    let forest = create(&SimulatedDisk::new(1), small());
    forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let put = |key| change(key, Some(b"value"));
    let range = Change { keyspace: KEYSPACE, kind: ChangeKind::DeleteRange { from: b"", to: None } };
    for changes in [vec![put(b"b"), put(b"a")], vec![put(b"a"), put(b"a")], vec![range]] {
        let refused = forest.apply_sorted(Lsn(2), &mut Given { changes, next: 0 });
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    }
}

#[test]
fn pages_of_an_entry_whose_segment_cannot_be_sealed_are_written_again() {
    for outcome in [Outcome::Io, Outcome::DiskFull] {
        for nth in 1..8 {
            let mut rng = fastrand::Rng::with_seed(nth);
            let disk = SimulatedDisk::new(nth);
            let (forest, tree, mut model) = begun(&disk, &mut rng, 300);
            let changes = random(&mut rng, 600, 4000);
            try_apply_sorted(&forest, 4, &changes).unwrap();
            note(&mut model, &changes);
            forest.publish(Lsn(4));
            let operations = if nth % 2 == 0 { &[Operation::Sync][..] } else { Operation::WRITES };
            disk.set_fault(Fault::new(operations, outcome.clone()).nth(nth.div_ceil(2)));
            let first = checkpoint(&forest);
            disk.clear_faults();
            require(&tree, &forest.snapshot(), &model);
            checkpoint(&forest).unwrap_or_else(|error| panic!("{nth}: {error}, after {first:?}"));
            require_sound(&forest);
            forest.shared.evict_everything();
            require(&tree, &forest.snapshot(), &model);
            disk.crash(&mut rng);
            let (forest, opened) = open(&disk, tiny()).unwrap();
            assert_eq!(opened.checkpoint_lsn, Lsn(4));
            require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
        }
    }
}

#[test]
fn a_page_that_cannot_be_read_is_found_before_anything_is_changed() {
    let disk = SimulatedDisk::new(1);
    let mut rng = fastrand::Rng::with_seed(1);
    let (forest, tree, model) = begun(&disk, &mut rng, 2000);
    checkpoint(&forest).unwrap();
    forest.shared.evict_everything();
    let changes = random(&mut rng, 300, 4000);
    let given = || Given {
        changes: changes.iter().map(|(key, value)| change(key, value.as_deref())).collect(),
        next: 0,
    };
    disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/"));
    assert!(matches!(forest.prepare_sorted(&mut given()), Err(Error::Io { .. })));
    disk.clear_faults();
    forest.prepare_sorted(&mut given()).unwrap();
    require(&tree, &forest.snapshot(), &model);
}

#[test]
fn whoever_reads_what_a_large_entry_has_replaced_does_it_inside_the_cache() {
    let disk = SimulatedDisk::new(1);
    let options = ForestOptions {
        cache_bytes: 256 << 10,
        leaf_bytes: 8 << 10,
        page_segment_bytes: 256 << 10,
        ..ForestOptions::default()
    };
    let forest = create(&disk, options.clone());
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let all = |value: u8| -> Changes {
        (0..5_000).map(|n| (format!("{n:010}").into_bytes(), Some(vec![value; 500]))).collect()
    };
    try_apply_sorted(&forest, 2, &all(b'v')).unwrap();
    forest.publish(Lsn(2));
    checkpoint(&forest).unwrap();
    forest.shared.evict_everything();

    let before = forest.snapshot();
    try_apply_sorted(&forest, 3, &all(b'w')).unwrap();
    forest.publish(Lsn(3));
    let versions = forest.statistics().version_bytes;
    assert!(versions < options.cache_bytes, "{versions} bytes of versions: their pages stand for them");
    let mut cursor = tree.cursor(everything(), &before);
    let (mut found, mut most) = (0, 0);
    while let Some((_, value)) = cursor.next().unwrap() {
        assert_eq!(value[0], b'v');
        found += 1;
        most = most.max(forest.shared.cached_bytes());
    }
    assert_eq!(found, 5_000);
    assert!(most < 2 * options.cache_bytes, "{most} bytes cached");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn checkpoints_beside_large_entries_know_which_pages_are_theirs() {
    let disk = SimulatedDisk::new(1);
    let mut rng = fastrand::Rng::with_seed(1);
    let (forest, tree, mut model) = begun(&disk, &mut rng, 2000);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let checkpoints = scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                checkpoint(&forest).unwrap();
                require_sound(&forest);
            }
        });
        for lsn in 4..30 * u64::from(scale()) {
            let changes = if lsn % 4 == 0 { large(&mut rng, lsn / 4) } else { random(&mut rng, 600, 4000) };
            try_apply_sorted(&forest, lsn, &changes).unwrap();
            forest.publish(Lsn(lsn));
            note(&mut model, &changes);
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        checkpoints.join().unwrap();
    });
    require(&tree, &forest.snapshot(), &model);
    checkpoint(&forest).unwrap();
    require_sound(&forest);
    disk.crash(&mut rng);
    let (forest, _) = open(&disk, tiny()).unwrap();
    require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
}

#[test]
fn on_a_full_disk_what_finds_no_room_for_its_page_stays_in_memory() {
    let options = ForestOptions { cache_bytes: 256 << 10, ..small() };
    let mut met = 0;
    for nth in 1..24 {
        let disk = SimulatedDisk::new(nth);
        let mut rng = fastrand::Rng::with_seed(nth);
        let forest = create(&disk, options.clone());
        let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
        forest.publish(Lsn(1));
        let (mut model, changes) = (Model::new(), random(&mut rng, 2200, 100_000));
        disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).on("pages/").nth(nth).for_ever());
        try_apply_sorted(&forest, 2, &changes).unwrap();
        forest.publish(Lsn(2));
        note(&mut model, &changes);
        met += u32::from(!forest.shared.store.abandoned().is_empty());
        require(&tree, &forest.snapshot(), &model);
        let first = checkpoint(&forest);
        assert!(matches!(first, Ok(_) | Err(Error::DiskFull { .. })), "{first:?}");
        require(&tree, &forest.snapshot(), &model);
        disk.clear_faults();
        // The first one after it may have to write again what could not be written.
        let _ = checkpoint(&forest);
        checkpoint(&forest).unwrap();
        require_sound(&forest);
        disk.crash(&mut rng);
        let (forest, _) = open(&disk, options.clone()).unwrap();
        require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
    }
    assert!(met >= 2, "{met} times the disk was full before the entry was applied");
}
