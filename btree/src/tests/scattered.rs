//! Batches that touch more leaves than memory may hold.

use logwood_base::disk::simulated::{Fault, Operation, Outcome, SimulatedDisk};
use logwood_base::{Error, Lsn};

use super::sorted::{require_sound, try_apply_sorted};
use super::world::{KEYSPACE, Model, change, checkpoint, create, open, require, scale, small};
use crate::{Change, ChangeKind, Forest, ForestOptions, Tree};

/// A cache for a third of the records. Leaves of usual size: what stands above them is little beside them.
fn options() -> ForestOptions {
    ForestOptions { cache_bytes: 1 << 20, leaf_bytes: 4 << 10, page_segment_bytes: 64 << 10, ..small() }
}

/// Records on disk only.
fn begun(disk: &SimulatedDisk) -> (Forest, Tree, Model) {
    let forest = create(disk, options());
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let model: Model =
        (0..40_000u32).map(|n| (format!("key{n:06}").into_bytes(), n.to_be_bytes().repeat(12))).collect();
    let changes: Vec<Change<'_>> = model.iter().map(|(key, value)| change(key, Some(value))).collect();
    forest.apply(Lsn(2), &changes).unwrap();
    forest.publish(Lsn(2));
    checkpoint(&forest).unwrap();
    forest.shared.evict_everything();
    (forest, tree, model)
}

/// One change, with its bytes.
enum Drawn {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Range(Vec<u8>, Vec<u8>),
}

/// Changes all over the keys, in no order, with a range delete among them; and what they make of the model.
fn draw(rng: &mut fastrand::Rng, model: &mut Model) -> Vec<Drawn> {
    let key = |n: u32| format!("key{n:06}").into_bytes();
    let mut drawn = Vec::new();
    for at in 0..12_000 {
        let n = rng.u32(0..41_000);
        drawn.push(match rng.u8(..) {
            _ if at == 7_000 => {
                let (from, to) = (key(n), key(n + 500));
                model.retain(|key, _| *key < from || *key >= to);
                Drawn::Range(from, to)
            }
            0..40 => {
                model.remove(&key(n));
                Drawn::Delete(key(n))
            }
            length => {
                model.insert(key(n), vec![length; usize::from(length) / 4]);
                Drawn::Put(key(n), vec![length; usize::from(length) / 4])
            }
        });
    }
    drawn
}

fn changes(drawn: &[Drawn]) -> Vec<Change<'_>> {
    let changes = drawn.iter().map(|drawn| match drawn {
        Drawn::Put(key, value) => change(key, Some(value)),
        Drawn::Delete(key) => change(key, None),
        Drawn::Range(from, to) => {
            Change { keyspace: KEYSPACE, kind: ChangeKind::DeleteRange { from, to: Some(to) } }
        }
    });
    changes.collect()
}

/// Requires that a checkpoint of this moment is sound, and there behind a power cut.
fn require_kept(disk: &SimulatedDisk, forest: &Forest, rng: &mut fastrand::Rng, model: &Model) {
    checkpoint(forest).unwrap();
    require_sound(forest);
    disk.crash(rng);
    let (opened, _) = open(disk, options()).unwrap();
    require(&opened.tree(KEYSPACE).unwrap(), &opened.snapshot(), model);
}

#[test]
fn a_batch_that_touches_more_leaves_than_memory_may_hold_is_applied_inside_the_cache() {
    for seed in 0..2 * u64::from(scale()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = SimulatedDisk::new(seed);
        let (forest, tree, before) = begun(&disk);
        let mut model = before.clone();
        let drawn = draw(&mut rng, &mut model);
        let snapshot = forest.snapshot();
        let changes = changes(&drawn);
        let prepared = forest.prepare(&changes).unwrap();
        let most = options().cache_bytes + options().cache_bytes / 8;
        assert!(forest.shared.cached_bytes() <= most, "{} when prepared", forest.shared.cached_bytes());
        prepared.apply(Lsn(3)).unwrap();
        assert!(forest.shared.cached_bytes() <= most, "{} when applied", forest.shared.cached_bytes());
        assert!(forest.version_bytes() <= most, "{} of versions", forest.version_bytes());
        require(&tree, &forest.snapshot(), &before);
        forest.publish(Lsn(3));
        require(&tree, &forest.snapshot(), &model);
        require(&tree, &snapshot, &before);
        drop(snapshot);
        require_kept(&disk, &forest, &mut rng, &model);
    }
}

/// Requires that what is done reads many leaves, and in pieces that are each small: what a piece replaces is freed behind it.
fn require_small_pieces(forest: &Forest, work: impl FnOnce()) {
    let (reads, pieces) = (forest.statistics().cold_reads, pieces(forest));
    work();
    let (reads, pieces) = (forest.statistics().cold_reads - reads, self::pieces(forest) - pieces);
    assert!(reads > 300, "{reads} pages were read");
    // A sixteenth of the cache, or 64.
    assert!(reads <= pieces * 64 + pieces, "{reads} pages were read in {pieces} pieces");
}

fn pieces(forest: &Forest) -> u64 {
    forest.shared.account.pieces.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn a_few_keys_of_each_leaf_are_changed_some_leaves_at_a_time() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, mut model) = begun(&disk);
    // Two of a leaf, so that all that the first one is given fits into one piece of changes, or one chunk.
    let mut deletes = |forest: &Forest, first: usize, apply: &dyn Fn(&Forest, &[Change<'_>])| {
        let keys: Vec<Vec<u8>> = model.keys().skip(first).step_by(20).cloned().collect();
        let changes: Vec<Change<'_>> = keys.iter().map(|key| change(key, None)).collect();
        apply(forest, &changes);
        keys.iter().for_each(|key| drop(model.remove(key)));
        forest.publish(forest.applied_lsn());
        checkpoint(forest).unwrap();
        forest.shared.evict_everything();
    };
    deletes(&forest, 1, &|forest, changes| {
        let prepared = forest.prepare(changes).unwrap();
        require_small_pieces(forest, || prepared.apply(Lsn(3)).unwrap());
    });
    deletes(&forest, 7, &|forest, changes| {
        require_small_pieces(forest, || forest.replay(Lsn(4), changes).unwrap())
    });
    deletes(&forest, 11, &|forest, changes| {
        let changes = changes.iter().map(|change| match change.kind {
            ChangeKind::Delete { key } => (key.to_vec(), None),
            _ => unreachable!("deletes alone"),
        });
        let changes = changes.collect();
        require_small_pieces(forest, || try_apply_sorted(forest, 5, &changes).unwrap());
    });
    require(&tree, &forest.snapshot(), &model);
    require_sound(&forest);
}

#[test]
fn what_is_replayed_over_more_leaves_than_memory_may_hold_stays_inside_the_cache() {
    let mut rng = fastrand::Rng::with_seed(1);
    let disk = SimulatedDisk::new(1);
    let (forest, tree, mut model) = begun(&disk);
    for lsn in 3..7 {
        let drawn = draw(&mut rng, &mut model);
        forest.replay(Lsn(lsn), &changes(&drawn)).unwrap();
        let cached = forest.shared.cached_bytes();
        assert!(cached <= options().cache_bytes, "{cached} bytes of {}", options().cache_bytes);
        assert_eq!(forest.version_bytes(), 0);
    }
    require(&tree, &forest.snapshot(), &model);
    require_kept(&disk, &forest, &mut rng, &model);
}

#[test]
fn a_page_that_cannot_be_read_is_the_answer_to_a_large_batch_before_it_changes_anything() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, model) = begun(&disk);
    let drawn = draw(&mut fastrand::Rng::with_seed(1), &mut model.clone());
    for nth in [1, 20, 700] {
        forest.shared.evict_everything();
        disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/").nth(nth));
        let refused = forest.apply(Lsn(3), &changes(&drawn));
        disk.clear_faults();
        assert!(matches!(refused, Err(Error::Io { .. })), "{nth}: {refused:?}");
        require(&tree, &forest.snapshot(), &model);
        assert_eq!((forest.applied_lsn(), forest.dirty_bytes()), (Lsn(2), 0));
    }
}

#[test]
fn on_a_full_disk_a_large_batch_stays_in_memory_and_is_written_when_there_is_room() {
    let disk = SimulatedDisk::new(1);
    let (forest, tree, mut model) = begun(&disk);
    let drawn = draw(&mut fastrand::Rng::with_seed(1), &mut model);
    disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).on("pages/").for_ever());
    forest.apply(Lsn(3), &changes(&drawn)).unwrap();
    forest.publish(Lsn(3));
    require(&tree, &forest.snapshot(), &model);
    assert!(matches!(checkpoint(&forest), Err(Error::DiskFull { .. })));
    disk.clear_faults();
    // The first one after it may have to write again what could not be written.
    let _ = checkpoint(&forest);
    checkpoint(&forest).unwrap();
    require_sound(&forest);
    forest.shared.evict_everything();
    require(&tree, &forest.snapshot(), &model);
}
