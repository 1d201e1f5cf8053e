//! Long values: read when they are asked for, and left where they are until somebody overwrites or moves them.

use std::io::{BufRead, Read, Seek, SeekFrom};

use logwood_base::disk::simulated::SimulatedDisk;
use logwood_base::{Error, Escaped, Lsn};

use super::world::{
    KEYSPACE, Model, at, change, checkpoint, commit, create, digest_of, everything, open, require, small,
};
use crate::planted::{self, Bug};
use crate::store::LivePercent;
use crate::{At, Change, ChangeKind, Forest, ForestOptions, Progress, Snapshot, Tree, ValueReader};

/// A value of several pieces that does not compress.
fn long(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..600_000 + seed as usize * 1001).map(|_| random.u8(..)).collect()
}

fn options() -> ForestOptions {
    ForestOptions { page_segment_bytes: 1 << 20, ..small() }
}

/// A tree with some long values among short ones.
struct World {
    disk: SimulatedDisk,
    forest: Forest,
    tree: Tree,
    model: Model,
    lsn: u64,
}

impl World {
    fn new() -> Self {
        let disk = SimulatedDisk::new(1);
        let forest = create(&disk, options());
        let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
        let mut world = Self { disk, forest, tree, model: Model::new(), lsn: 1 };
        for n in 0..60 {
            world.put(&format!("key{n:02}"), &[b's'; 30]);
        }
        for n in [5, 6, 30, 50] {
            world.put(&format!("key{n:02} long"), &long(n));
        }
        world.checkpoint();
        world
    }

    fn write(&mut self, key: &str, value: Option<&[u8]>) {
        self.lsn += 1;
        commit(&self.forest, self.lsn, &[(key.as_bytes(), value)]);
        match value {
            Some(value) => drop(self.model.insert(key.into(), value.to_vec())),
            None => drop(self.model.remove(key.as_bytes())),
        }
    }

    fn put(&mut self, key: &str, value: &[u8]) {
        self.write(key, Some(value));
    }

    /// Changes short records beside the long ones, so often that their leaves are built anew: those of each round come before
    /// those of the last one, and so into the leaves of the long ones.
    fn change_neighbours(&mut self, round: u8) {
        for n in 0..60 {
            let key = format!("key{:02} long{}{n:02}", [5, 30, 50][n % 3], char::from(b'~' - round));
            self.put(&key, &[b'n'; 20]);
        }
    }

    /// A checkpoint, after which everything is sound.
    fn checkpoint(&self) {
        checkpoint(&self.forest).unwrap();
        require_sound(&self.forest);
    }

    fn snapshot(&self) -> (Snapshot, Model) {
        (self.forest.snapshot(), self.model.clone())
    }

    /// Has everything that may leave memory leave it.
    fn evict(&self) {
        self.forest.shared.evict_everything();
    }

    /// Moves whatever the segments hold.
    fn clean(&self) {
        while self.forest.clean_below(LivePercent { images: 100, deltas: 100 }).unwrap() {}
    }

    fn overflow_reads(&self) -> u64 {
        self.forest.statistics().overflow_reads
    }

    fn reader(&self, key: &str) -> ValueReader {
        self.tree.value_reader(key.as_bytes(), At::Latest).unwrap().unwrap()
    }

    fn require(&self) {
        require(&self.tree, &self.forest.snapshot(), &self.model);
    }

    /// What a process finds that begins now holds exactly `model`.
    fn require_after_crash(&self, model: &Model) {
        let copy = self.disk.snapshot();
        copy.crash(&mut fastrand::Rng::with_seed(self.lsn));
        let (forest, _) = open(&copy, options()).unwrap();
        require(&forest.tree(KEYSPACE).unwrap(), &forest.snapshot(), model);
        require_sound(&forest);
    }
}

fn require_sound(forest: &Forest) {
    let report = forest.verify(&mut |damage| panic!("{damage:?}"), &mut |_| {}).unwrap();
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
}

fn rest_of(reader: &mut ValueReader) -> Vec<u8> {
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    rest
}

/// Rebuilt leaves, checkpoints beside writers, a cleaner, snapshots and readers that outlive what they read, crashes.
fn script() {
    let mut world = World::new();
    world.evict();
    // Leaves are built anew around values that are on disk only, and written with checkpoints in between.
    for round in 0..3 {
        world.change_neighbours(round);
        world.checkpoint();
        world.require_after_crash(&world.model);
    }
    world.evict();
    let (early, at_early) = world.snapshot();
    let mut reader = world.reader("key06 long");
    // The leaves are in memory with references, and change while a checkpoint of before walks.
    world.change_neighbours(3);
    let (c, at_c) = world.snapshot();
    let mut job = world.forest.begin_checkpoint(&at(c.lsn())).unwrap();
    world.put("key06 long", b"short");
    world.put("key30 long", &long(31));
    let mut steps = 0;
    while job.step().unwrap() == Progress::More {
        steps += 1;
        if steps == 1 {
            world.write("key05 long", None);
            world.change_neighbours(4);
        }
    }
    drop(job);
    require_sound(&world.forest);
    world.require_after_crash(&at_c);
    drop(c);
    // What was overwritten is retired, and its files would go with the cleaning.
    for _ in 0..4 {
        world.clean();
        world.checkpoint();
        world.evict();
    }
    world.require_after_crash(&world.model);
    world.require();
    require(&world.tree, &early, &at_early);
    assert_eq!(rest_of(&mut reader), long(6));
    drop((early, reader));
    // A cleaner marks what a checkpoint under way has taken over.
    world.change_neighbours(5);
    let mut job = world.forest.begin_checkpoint(&at(world.forest.visible_lsn())).unwrap();
    while !job.is_durable() {
        job.step().unwrap();
        world.clean();
    }
    while job.step().unwrap() == Progress::More {}
    drop(job);
    for round in 6..9 {
        world.change_neighbours(round);
        world.checkpoint();
    }
    world.evict();
    world.require();
    // All of it goes at once.
    let (before, at_before) = world.snapshot();
    let kind = ChangeKind::DeleteRange { from: b"key1", to: None };
    world.lsn += 1;
    world.forest.apply(Lsn(world.lsn), &[Change { keyspace: KEYSPACE, kind }]).unwrap();
    world.forest.publish(Lsn(world.lsn));
    world.model.retain(|key, _| &key[..] < b"key1");
    for _ in 0..3 {
        world.checkpoint();
        while world.forest.give_back_step().unwrap() {}
    }
    require(&world.tree, &before, &at_before);
    world.require();
    drop(before);
    world.forest.compact(&mut || checkpoint(&world.forest).map(drop)).unwrap();
    require_sound(&world.forest);
    let store = world.forest.statistics().store;
    assert!(store.total_bytes < 200_000, "{store:?}");
    // The last files go when no thread stands on a leaf any more that keeps them, those of other tests included.
    for _ in 0..100_000 {
        crossbeam_epoch::pin().flush();
        world.forest.store().collect();
        std::thread::yield_now();
        if world.forest.statistics().store.waiting_bytes < 100_000 {
            break;
        }
    }
    // A page of the generation before, but no value.
    assert!(world.forest.statistics().store.waiting_bytes < 100_000, "{:?}", world.forest.statistics().store);
    world.require_after_crash(&world.model);
}

#[test]
fn values_are_left_where_they_are_and_found_there_whatever_happens_around_them() {
    script();
}

#[test]
fn bugs_planted_in_the_keeping_of_long_values_are_found() {
    for bug in [
        Bug::LongValuesGoWithTheImage,
        Bug::LongValuesKeepNoFile,
        Bug::TakenOverCountsAsUnreached,
        Bug::MovedValueIsNotTold,
    ] {
        let found = std::panic::catch_unwind(|| planted::with(Some(bug), script)).is_err();
        assert!(found, "{bug:?} was not found");
    }
}

#[test]
fn nobody_reads_a_long_value_but_who_asks_for_it() {
    let mut world = World::new();
    world.evict();
    let before = world.overflow_reads();
    for key in world.model.keys().filter(|key| !key.ends_with(b"long")) {
        assert!(world.tree.get(key, At::Latest).unwrap().is_some());
    }
    assert!(world.tree.contains(b"key05 long", At::Latest).unwrap());
    let snapshot = world.forest.snapshot();
    assert_eq!(world.tree.count(everything(), &snapshot).unwrap(), world.model.len() as u64);
    assert_eq!(world.tree.digest(everything(), &snapshot).unwrap(), digest_of(world.model.iter()));
    drop(snapshot);
    world.tree.approximate_size(everything()).unwrap();
    // Neither those who change its neighbours or itself, nor the checkpoint that writes its leaf again.
    world.change_neighbours(0);
    world.put("key06 long", b"short");
    let written = world.forest.statistics().written.bytes;
    checkpoint(&world.forest).unwrap();
    let written = world.forest.statistics().written.bytes - written;
    assert!(written < 100_000, "{written} bytes were written beside values that did not change");
    let digest = world.tree.digest(everything(), &world.forest.snapshot()).unwrap();
    assert_eq!(digest, digest_of(world.model.iter()));
    assert_eq!(world.overflow_reads(), before);
    assert_eq!(world.tree.get(b"key05 long", At::Latest).unwrap().as_deref(), Some(&long(5)[..]));
    assert_eq!(world.overflow_reads(), before + 3);
}

#[test]
fn any_part_of_a_value_is_read_with_its_piece_alone() {
    let world = World::new();
    let value = long(50);
    let mut random = fastrand::Rng::with_seed(1);
    for on_disk in [false, true] {
        if on_disk {
            world.evict();
        }
        let mut reader = world.reader("key50 long");
        assert_eq!((reader.len(), reader.is_empty()), (value.len() as u64, false));
        for _ in 0..200 {
            let from = random.usize(0..=value.len());
            let to = random.usize(from..=value.len());
            let before = world.overflow_reads();
            let position = match random.u8(0..3) {
                0 => SeekFrom::Start(from as u64),
                1 => SeekFrom::End(from as i64 - value.len() as i64),
                _ => SeekFrom::Current(from as i64 - reader.stream_position().unwrap() as i64),
            };
            assert_eq!(reader.seek(position).unwrap(), from as u64);
            let mut part = vec![0; to - from];
            reader.read_exact(&mut part).unwrap();
            assert!(part == value[from..to]);
            let pieces = to.div_ceil(256 << 10) - from / (256 << 10);
            assert!(world.overflow_reads() - before <= pieces as u64 * u64::from(on_disk));
        }
        reader.seek(SeekFrom::End(10)).unwrap();
        assert!(reader.fill_buf().unwrap().is_empty(), "behind the end there is nothing");
        assert!(reader.seek(SeekFrom::Current(-10_000_000)).is_err());
        reader.rewind().unwrap();
        assert!(rest_of(&mut reader) == value);
    }
    assert_eq!(rest_of(&mut world.reader("key07")), [b's'; 30]);
    assert!(world.tree.value_reader(b"none", At::Latest).unwrap().is_none());
}

#[test]
fn a_damaged_piece_takes_one_value_away_and_stops_neither_writers_nor_checkpoints_nor_cleaning() {
    let world = World::new();
    let paths = world.disk.paths();
    let mut damaged_values = 0;
    for path in paths.iter().filter(|path| path.to_string_lossy().contains("/pages/")) {
        let bytes = world.disk.read_file(path).unwrap().len() as u64;
        for offset in (70..bytes).step_by(260_000) {
            let disk = world.disk.snapshot();
            disk.flip_bit(path, offset, 2);
            let (forest, _) = open(&disk, options()).unwrap();
            let tree = forest.tree(KEYSPACE).unwrap();
            let mut lost = Vec::new();
            for (key, value) in &world.model {
                match tree.get(key, At::Latest) {
                    Ok(found) => assert!(found.as_deref() == Some(value)),
                    Err(error) => lost.push((key.clone(), error.to_string())),
                }
            }
            let [(key, error)] = &lost[..] else { continue };
            damaged_values += 1;
            let name = format!("the value of \"{}\"", Escaped(key));
            assert!(error.contains(&name) && error.contains(path.to_str().unwrap()), "{error}");
            let mut reader = tree.value_reader(key, At::Latest).unwrap().unwrap();
            let mut whole = Vec::new();
            let failure = reader.read_to_end(&mut whole).unwrap_err();
            let inside = failure.get_ref().and_then(|inside| inside.downcast_ref::<Error>());
            assert!(inside.is_some_and(|error| error.to_string().contains(&name)), "{failure}");
            // Written around, checkpointed, marked by the cleaner; and the value is as lost as before, and no more.
            let mut model = world.model.clone();
            for n in 0..40u8 {
                let near = [&key[..], b" near ", &[n]].concat();
                commit(&forest, 100 + u64::from(n), &[(&near, Some(b"near"))]);
                model.insert(near, b"near".to_vec());
            }
            for _ in 0..3 {
                while forest.clean_below(LivePercent { images: 100, deltas: 100 }).unwrap() {}
                checkpoint(&forest).unwrap();
            }
            let report = forest.verify(&mut |_| {}, &mut |_| {}).unwrap();
            assert!(report.damages > 0, "the damage is still named");
            for (other, value) in &model {
                let found = tree.get(other, At::Latest);
                assert_eq!(found.is_err(), other == key);
                assert!(found.is_err() || found.unwrap().as_deref() == Some(&value[..]));
            }
            // Overwriting it heals it.
            forest.apply(Lsn(200), &[change(key, Some(b"healed"))]).unwrap();
            forest.publish(Lsn(200));
            model.insert(key.clone(), b"healed".to_vec());
            checkpoint(&forest).unwrap();
            forest.compact(&mut || checkpoint(&forest).map(drop)).unwrap();
            require(&tree, &forest.snapshot(), &model);
            require_sound(&forest);
        }
    }
    assert!(damaged_values >= 8, "{damaged_values} values were damaged");
}
