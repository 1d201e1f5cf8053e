//! Large batches over leaves that are on disk: what they read does not stay in memory, neither before nor behind.

use std::panic::catch_unwind;

use logwood_base::disk::simulated::{Fault, Operation, Outcome, SimulatedDisk};
use logwood_base::{Error, Lsn};

use super::sorted::require_sound;
use super::world::{
    KEYSPACE, Model, at, change, checkpoint, commit, create, open, require, scale, scan, small,
};
use crate::planted::{self, Bug};
use crate::store::PageKind;
use crate::{Change, Forest, ForestOptions, Progress, Tree};

/// A cache for all records and more, so that what a batch changes stays in memory; and for what it may keep of before, an
/// eighth of it, which is less than the records take.
fn options() -> ForestOptions {
    ForestOptions { cache_bytes: 8 << 20, leaf_bytes: 4 << 10, page_segment_bytes: 64 << 10, ..small() }
}

fn key(n: u32) -> Vec<u8> {
    format!("key{n:06}").into_bytes()
}

/// Records on disk only: of one value in a hundred, so long that it has pages of its own.
fn begun(disk: &SimulatedDisk, records: u32) -> (Forest, Tree, Model) {
    let forest = create(disk, options());
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let value = |n: u32| n.to_be_bytes().repeat(if n % 100 == 7 { 1300 } else { 15 });
    let model: Model = (0..records).map(|n| (key(n), value(n))).collect();
    let changes: Vec<Change<'_>> = model.iter().map(|(key, value)| change(key, Some(value))).collect();
    forest.apply(Lsn(2), &changes).unwrap();
    forest.publish(Lsn(2));
    checkpoint(&forest).unwrap();
    forest.shared.evict_everything();
    (forest, tree, model)
}

/// Changes of half of the keys, in no order: they rebuild every leaf. Most are deletes.
fn draw(rng: &mut fastrand::Rng, records: u32) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut numbers: Vec<u32> = (0..records).filter(|_| rng.bool()).collect();
    rng.shuffle(&mut numbers);
    let mut value = |n: u32| match n % 50 {
        0 => Some(vec![b'w'; rng.usize(0..60)]),
        // A long value is replaced by a short one, or the other way round.
        7 => Some(vec![b'w'; rng.usize(0..2) * 5000]),
        _ => None,
    };
    numbers.into_iter().map(|n| (key(n), value(n))).collect()
}

fn changes(drawn: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<Change<'_>> {
    drawn.iter().map(|(key, value)| change(key, value.as_deref())).collect()
}

fn note(model: &mut Model, drawn: &[(Vec<u8>, Option<Vec<u8>>)]) {
    for (key, value) in drawn {
        match value {
            Some(value) => drop(model.insert(key.clone(), value.clone())),
            None => drop(model.remove(key)),
        }
    }
}

#[test]
fn of_leaves_on_disk_little_is_kept_in_memory_and_of_others_an_eighth_of_the_cache() {
    for in_memory in [false, true] {
        let disk = SimulatedDisk::new(1);
        let (forest, tree, before) = begun(&disk, 30_000);
        let records_bytes: usize = before.iter().map(|(key, value)| key.len() + value.len()).sum();
        let kept_max = options().cache_bytes / 8;
        assert!(records_bytes > 2 * kept_max);
        if in_memory {
            assert_eq!(scan(&tree, &forest.snapshot()), before);
        }
        let drawn = draw(&mut fastrand::Rng::with_seed(1), 30_000);
        let changes = changes(&drawn);
        let clean = forest.statistics().clean_bytes;
        let prepared = forest.prepare(&changes).unwrap();
        // But for a few with few changes.
        let loaded = forest.statistics().clean_bytes - clean;
        assert!(loaded < kept_max / 4, "{loaded} bytes of what is looked through came into memory");
        assert_eq!(in_memory, clean > 2 * kept_max);
        prepared.apply(Lsn(3)).unwrap();
        let kept = forest.version_bytes();
        match in_memory {
            // A few with few changes came into memory, and were rebuilt all the same: long values, small neighbours.
            false => assert!(kept < kept_max / 4, "{kept} bytes are kept"),
            true => assert!((kept_max..kept_max + (16 << 10)).contains(&kept), "{kept} bytes are kept"),
        }
        assert!(forest.dirty_bytes() > 0, "what is new stays in memory");
        assert!(forest.dirty_bytes() < records_bytes);
        require(&tree, &forest.snapshot(), &before);
        let snapshot = forest.snapshot();
        let mut model = before.clone();
        note(&mut model, &drawn);
        forest.publish(Lsn(3));
        require(&tree, &forest.snapshot(), &model);
        require(&tree, &snapshot, &before);
        drop(snapshot);
        commit(&forest, 4, &[]);
        assert_eq!(forest.version_bytes(), 0, "versions that nobody needs were kept");
        checkpoint(&forest).unwrap();
        require_sound(&forest);
        forest.shared.evict_everything();
        require(&tree, &forest.snapshot(), &model);
    }
}

/// A batch that falls anywhere into a checkpoint of before, with some leaves in memory, old snapshots, and a power cut behind it.
fn beside_a_checkpoint(rounds: u64) {
    let records = 4_000;
    let options = ForestOptions { cache_bytes: 2 << 20, ..options() };
    for round in 0..rounds {
        let mut rng = fastrand::Rng::with_seed(round);
        let disk = SimulatedDisk::new(round);
        let (forest, tree, mut model) = begun(&disk, records);
        let early = (forest.snapshot(), model.clone());
        // Some leaves change before the checkpoint, and some come into memory.
        let some: Vec<_> = (0..30).map(|_| (key(rng.u32(0..records)), Some(vec![b's'; 50]))).collect();
        let borrowed: Vec<_> = some.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        commit(&forest, 3, &borrowed);
        note(&mut model, &some);
        if round % 2 == 0 {
            for _ in 0..20 {
                drop(tree.get(&key(rng.u32(0..records)), crate::At::Latest).unwrap());
            }
        }
        let before = (forest.snapshot(), model.clone());
        let mut job = forest.begin_checkpoint(&at(Lsn(3))).unwrap();
        let mut steps = rng.u32(0..6);
        let mut lsn = 3;
        loop {
            if steps == 0 && lsn == 3 {
                let drawn = draw(&mut rng, records);
                forest.prepare(&changes(&drawn)).unwrap().apply(Lsn(4)).unwrap();
                require(&tree, &forest.snapshot(), &before.1);
                note(&mut model, &drawn);
                forest.publish(Lsn(4));
                require(&tree, &forest.snapshot(), &model);
                commit(&forest, 5, &[(b"key000007", Some(b"later"))]);
                model.insert(b"key000007".to_vec(), b"later".to_vec());
                lsn = 5;
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
        let (reopened, opened) = open(&crashed, options.clone()).unwrap();
        assert_eq!(opened.checkpoint_lsn, Lsn(3));
        require(&reopened.tree(KEYSPACE).unwrap(), &reopened.snapshot(), &before.1);
        drop((job, reopened));

        forest.shared.evict_everything();
        require(&tree, &early.0, &early.1);
        require(&tree, &before.0, &before.1);
        require(&tree, &forest.snapshot(), &model);
        drop((early, before));
        forest.shared.tidy_if_idle();
        commit(&forest, lsn + 1, &[]);
        for _ in 0..3 {
            checkpoint(&forest).unwrap();
            require_sound(&forest);
        }
        assert_eq!(forest.version_bytes(), 0, "versions that nobody needs were kept");
        disk.crash(&mut rng);
        let (forest, _) = open(&disk, options.clone()).unwrap();
        require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &model);
    }
}

#[test]
fn a_large_batch_over_leaves_on_disk_is_the_model_for_readers_checkpoints_and_crashes() {
    beside_a_checkpoint(12 * u64::from(scale()));
}

#[test]
fn a_leaf_on_disk_that_forgets_what_it_was_is_found() {
    let found =
        catch_unwind(|| planted::with(Some(Bug::LeafOnDiskForgetsThePast), || beside_a_checkpoint(1)));
    assert!(found.is_err());
}

#[test]
fn damage_is_the_answer_to_a_large_batch_before_it_changes_anything() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, model) = begun(&disk, 10_000);
    let drawn = draw(&mut fastrand::Rng::with_seed(1), 10_000);
    let changes = changes(&drawn);
    let store = &forest.shared.store;
    let segments = store.manifest().segments.clone();
    let pages = segments.iter().flat_map(|segment| store.pages_of(segment.number).unwrap());
    let leaves = pages.filter(|page| page.kind == PageKind::Leaf).map(|page| page.page);
    // Those of many records: every one of them is changed.
    let leaves: Vec<_> = leaves.filter(|page| page.bytes > 500).collect();
    assert!(leaves.len() > 50, "{} leaves", leaves.len());
    for page in leaves.iter().step_by(15) {
        let damaged = disk.snapshot();
        let offset = u64::from(page.addr.offset);
        damaged.flip_bit(&store.segment_path(page.addr.segment), offset + u64::from(page.bytes) / 2, 3);
        let (forest, _) = open(&damaged, options()).unwrap();
        let refused = forest.prepare(&changes).map(drop);
        let Err(Error::Corruption(corruption)) = refused else { panic!("{page:?}: {refused:?}") };
        assert_eq!((corruption.check, corruption.offset), ("page checksum", offset));
        let affects = corruption.affects.clone().unwrap_or_default();
        assert!(affects.contains("keyspace 7, keys from"), "{affects}");
        assert_eq!((forest.applied_lsn(), forest.dirty_bytes()), (Lsn(2), 0));
    }
    require(&tree, &forest.snapshot(), &model);
}

#[test]
fn a_disk_that_fails_between_looking_and_applying_leaves_the_state_before_to_readers_and_behind_a_crash() {
    for nth in [1, 30, 300] {
        let mut rng = fastrand::Rng::with_seed(nth);
        let disk = SimulatedDisk::new(nth);
        let (forest, tree, before) = begun(&disk, 30_000);
        let drawn = draw(&mut rng, 30_000);
        let changes = changes(&drawn);
        let prepared = forest.prepare(&changes).unwrap();
        disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/").nth(nth));
        let applied = prepared.apply(Lsn(3));
        disk.clear_faults();
        assert!(matches!(applied, Err(Error::Io { .. })), "{nth}: {applied:?}");
        require(&tree, &forest.snapshot(), &before);
        disk.crash(&mut rng);
        let (forest, _) = open(&disk, options()).unwrap();
        require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &before);
    }
}
