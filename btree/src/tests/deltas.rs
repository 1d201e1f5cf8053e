//! Delta blocks: small changes of large leaves cost little, and nobody sees the difference.

use logwood_base::Lsn;
use logwood_base::disk::simulated::SimulatedDisk;

use super::world::{KEYSPACE, Model, checkpoint, commit, create, digest_of, everything, open, require};
use crate::{CheckpointReport, Forest, ForestOptions, Tree};

const RECORDS: u64 = 2_000;

pub(super) fn options() -> ForestOptions {
    ForestOptions { leaf_bytes: 4096, page_segment_bytes: 64 << 10, ..ForestOptions::default() }
}

/// A value that does not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..bytes).map(|_| random.u8(..)).collect()
}

pub(super) struct World {
    pub(super) disk: SimulatedDisk,
    pub(super) forest: Forest,
    tree: Tree,
    pub(super) model: Model,
    lsn: u64,
}

impl World {
    /// A tree of some dozen leaves, all of it on disk.
    pub(super) fn new() -> Self {
        let disk = SimulatedDisk::new(1);
        let forest = create(&disk, options());
        let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
        let mut world = Self { disk, forest, tree, model: Model::new(), lsn: 1 };
        for n in 0..RECORDS {
            world.put(10 * n, &noise(n, 100));
        }
        world.checkpoint();
        world
    }

    pub(super) fn write(&mut self, n: u64, value: Option<&[u8]>) {
        let key = format!("key{n:08}").into_bytes();
        self.lsn += 1;
        commit(&self.forest, self.lsn, &[(&key, value)]);
        match value {
            Some(value) => drop(self.model.insert(key, value.to_vec())),
            None => drop(self.model.remove(&key)),
        }
    }

    pub(super) fn put(&mut self, n: u64, value: &[u8]) {
        self.write(n, Some(value));
    }

    /// A checkpoint, after which everything is sound.
    pub(super) fn checkpoint(&self) -> CheckpointReport {
        let report = checkpoint(&self.forest).unwrap();
        let found = self.forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
        assert!(found.space_errors.is_empty(), "{:?}", found.space_errors);
        report
    }

    /// Reads everything from memory, from disk, and from a process that begins.
    fn require(&mut self) {
        require(&self.tree, &self.forest.snapshot(), &self.model);
        self.forest.shared.evict_everything();
        require(&self.tree, &self.forest.snapshot(), &self.model);
        let copy = self.disk.snapshot();
        copy.kill_process();
        let (forest, _) = open(&copy, options()).unwrap();
        require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), &self.model);
    }
}

#[test]
fn a_small_change_is_a_block_beside_the_image_and_the_fourth_writes_the_leaf() {
    let mut world = World::new();
    let whole = world.forest.statistics().store.live_bytes;
    for round in 0..8u64 {
        // One record of each of ten leaves: overwritten, added between others, deleted.
        for leaf in 0..10 {
            let n = 10 * (leaf * 200 + 3);
            match round % 3 {
                0 => world.put(n, b"overwritten"),
                1 => world.put(n + 5, &noise(n, 120)),
                _ => world.write(n + 5, None),
            }
        }
        let report = world.checkpoint();
        let expected = if round % 4 == 3 { (10, 0) } else { (0, 10) };
        assert_eq!((report.leaves, report.deltas), expected, "round {round}");
        if report.leaves == 0 {
            assert!(report.bytes < whole / 10, "{} of {whole} bytes", report.bytes);
        }
        if round % 2 == 0 {
            world.require();
        }
    }
    world.require();
}

#[test]
fn a_leaf_of_which_much_changed_is_written_whole() {
    let mut world = World::new();
    // Half of the first leaf's records, in so few entries that it is not rebuilt in memory.
    for n in 0..15 {
        world.put(10 * n, &noise(n + 7, 110));
    }
    let report = world.checkpoint();
    assert_eq!((report.leaves, report.deltas), (1, 0));
    world.require();
}

#[test]
fn a_long_value_is_not_replaced_by_a_block_but_with_its_leaf_and_blocks_beside_it_leave_it() {
    let mut world = World::new();
    let whole = world.forest.statistics().store.live_bytes;
    world.put(7000, &noise(1, 20_000));
    world.checkpoint();
    world.require();
    for round in 0..3 {
        world.put(7001, &[round; 9]);
        world.checkpoint();
        world.require();
        assert!(world.forest.statistics().store.live_bytes > whole + 20_000);
    }
    world.put(7000, b"short");
    assert_eq!(world.checkpoint().deltas, 0);
    world.require();
    world.checkpoint();
    assert!(world.forest.statistics().store.live_bytes < whole + 5_000, "the long value is dead");
}

#[test]
fn a_snapshot_before_a_block_has_the_sums_of_its_own_moment() {
    let mut world = World::new();
    let (early, before) = (world.forest.snapshot(), world.model.clone());
    world.put(3000, b"later");
    world.write(3010, None);
    assert_eq!(world.checkpoint().deltas, 1);
    let digest = world.tree.digest(everything(), &early).unwrap();
    assert_eq!(digest, digest_of(before.iter()));
    require(&world.tree, &early, &before);
    drop(early);
    world.require();
}

#[test]
fn a_leaf_whose_last_record_goes_leaves_nothing_behind() {
    let disk = SimulatedDisk::new(1);
    let forest = create(&disk, options());
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    let mut world = World { disk, forest, tree, model: Model::new(), lsn: 1 };
    world.put(1, &[b'v'; 100]);
    world.checkpoint();
    world.write(1, None);
    world.checkpoint();
    world.require();
    world.checkpoint();
    assert_eq!(world.forest.statistics().store.live_bytes, 0);
    world.put(2, b"again");
    world.checkpoint();
    world.require();
}

#[test]
fn compacting_folds_the_blocks_into_their_leaves() {
    let mut world = World::new();
    for leaf in 0..10 {
        world.put(leaf * 2000 + 50, b"small");
    }
    assert_eq!(world.checkpoint().deltas, 10);
    let pages = |world: &World| {
        let report = world.forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
        report.pages
    };
    let before = pages(&world);
    let forest = world.forest.clone();
    world.forest.compact(&mut || checkpoint(&forest).map(drop)).unwrap();
    assert_eq!(pages(&world), before - 10, "ten blocks went");
    world.require();
}

#[test]
fn a_leaf_that_grows_between_evictions_is_split() {
    let mut world = World::new();
    // Two new records of one leaf at a time, written as a block, folded in when they are read back.
    for round in 0..400u64 {
        let n = 10_000 + round * 2;
        for n in [n, n + 1] {
            let key = format!("key{:08}x{n:08}", 5_000).into_bytes();
            world.lsn += 1;
            let value = noise(n, 100);
            commit(&world.forest, world.lsn, &[(&key, Some(&value))]);
            world.model.insert(key, value);
        }
        let report = checkpoint(&world.forest).unwrap();
        assert!(report.bytes < 8 * 4096 + 8 * 1024, "round {round}: {report:?}");
        world.forest.shared.evict_everything();
    }
    world.checkpoint();
    world.require();
}
