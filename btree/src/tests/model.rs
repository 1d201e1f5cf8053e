//! Random runs against a `BTreeMap`, shrunk when they fail.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Bound;

use logwood_base::Lsn;
use proptest::prelude::*;

use super::sorted::try_apply_sorted;
use super::world::{
    KEYSPACE, Model, at, change, checkpoint, commit, create, digest_of, open, require, scale, small,
};
use crate::store::LivePercent;
use crate::{
    At, Change, ChangeKind, CheckpointJob, Forest, ForestOptions, Progress, Snapshot, Tree, ValueReader,
};
use logwood_base::disk::simulated::SimulatedDisk;

#[derive(Clone, Debug)]
enum Op {
    /// Puts and deletes of one entry.
    Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// The same, straight to pages.
    Sorted(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
    /// Two range deletes and puts around them in one entry, which stays unpublished until the next one.
    DeleteRanges(Vec<u8>, Vec<u8>),
    /// Pages of what was detached are given back.
    GiveBack,
    /// An entry that is applied and stays unpublished until the next one.
    Unpublished(Vec<u8>, Vec<u8>),
    TakeSnapshot,
    DropSnapshot(prop::sample::Index),
    ReadSnapshot(prop::sample::Index),
    /// A reader of one value, which outlives whatever becomes of it.
    OpenReader(prop::sample::Index),
    /// Reads from somewhere in the value to its end.
    ReadValue(prop::sample::Index, prop::sample::Index),
    Range(Vec<u8>, Option<Vec<u8>>, Vec<bool>),
    /// Begins a checkpoint, if none is under way.
    BeginCheckpoint,
    /// Steps it so many times; one that ends is what a crash comes back to.
    StepCheckpoint(u8),
    GiveUpCheckpoint,
    Clean,
    /// Everything that may leave memory leaves it.
    EvictAll,
    /// Opens what is on disk without closing, as after a crash of the process or a power cut.
    Reopen {
        power_cut: bool,
    },
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(0u8..6, 0..5).prop_map(|mut key| { key.insert(0, b'k'); key }),
        2 => prop::collection::vec(prop_oneof![Just(0u8), Just(255)], 0..4),
        1 => (0u8..20).prop_map(|n| [vec![b'l'; 200], vec![n]].concat()),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 9),
        3 => prop::collection::vec(any::<u8>(), 0..60),
        2 => (200usize..1500).prop_map(|bytes| (0..bytes).map(|n| n as u8).collect()),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let batch = |range| prop::collection::vec((key(), prop::option::weighted(0.65, value())), range);
    prop_oneof![
        10 => batch(1..4).prop_map(Op::Batch),
        4 => batch(4..60).prop_map(Op::Batch),
        3 => batch(1..80).prop_map(Op::Sorted),
        2 => (key(), prop::option::of(key())).prop_map(|(from, to)| Op::DeleteRange(from, to)),
        1 => (key(), key()).prop_map(|(from, to)| Op::DeleteRanges(from, to)),
        2 => Just(Op::GiveBack),
        1 => (key(), value()).prop_map(|(key, value)| Op::Unpublished(key, value)),
        2 => Just(Op::TakeSnapshot),
        2 => any::<prop::sample::Index>().prop_map(Op::DropSnapshot),
        2 => any::<prop::sample::Index>().prop_map(Op::ReadSnapshot),
        2 => any::<prop::sample::Index>().prop_map(Op::OpenReader),
        2 => (any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(reader, from)| Op::ReadValue(reader, from)),
        3 => (key(), prop::option::of(key()), prop::collection::vec(any::<bool>(), 0..40))
            .prop_map(|(from, to, steps)| Op::Range(from, to, steps)),
        3 => Just(Op::BeginCheckpoint),
        5 => (1u8..12).prop_map(Op::StepCheckpoint),
        1 => Just(Op::GiveUpCheckpoint),
        2 => Just(Op::Clean),
        2 => Just(Op::EvictAll),
        1 => any::<bool>().prop_map(|power_cut| Op::Reopen { power_cut }),
    ]
}

struct Run {
    options: ForestOptions,
    disk: SimulatedDisk,
    rng: fastrand::Rng,
    /// The checkpoint under way, with the state that it is to hold.
    job: Option<(CheckpointJob, Model, bool)>,
    /// What the newest checkpoint holds, with whether the tree existed.
    durable: (Lsn, Model, bool),
    forest: Forest,
    tree: Tree,
    lsn: u64,
    /// What was applied, and what of it is visible.
    applied: Model,
    visible: Model,
    snapshots: Vec<(Snapshot, Model)>,
    readers: Vec<(ValueReader, Vec<u8>)>,
}

impl Run {
    fn new(leaf_bytes: usize, cache_bytes: usize) -> Self {
        let options = ForestOptions { leaf_bytes, cache_bytes, ..small() };
        let disk = SimulatedDisk::new(1);
        let forest = create(&disk, options.clone());
        let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
        forest.apply(Lsn(1), &[]).unwrap();
        forest.publish(Lsn(1));
        let (applied, visible, snapshots, durable, job) = Default::default();
        let (rng, readers) = (fastrand::Rng::with_seed(1), Vec::new());
        Self { options, disk, rng, job, durable, forest, tree, lsn: 1, applied, visible, snapshots, readers }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Batch(changes) | Op::Sorted(changes) => {
                self.lsn += 1;
                if matches!(op, Op::Batch(_)) {
                    let borrowed: Vec<_> =
                        changes.iter().map(|(k, v)| (k.as_slice(), v.as_deref())).collect();
                    commit(&self.forest, self.lsn, &borrowed);
                } else {
                    try_apply_sorted(&self.forest, self.lsn, &changes.iter().cloned().collect()).unwrap();
                    self.forest.publish(Lsn(self.lsn));
                }
                for (key, value) in changes {
                    match value {
                        Some(value) => drop(self.applied.insert(key.clone(), value.clone())),
                        None => drop(self.applied.remove(key)),
                    }
                }
                self.visible = self.applied.clone();
            }
            Op::DeleteRange(from, to) => {
                self.lsn += 1;
                let kind = ChangeKind::DeleteRange { from, to: to.as_deref() };
                // What stands before the range delete is deleted by it, what stands behind it stays.
                let before = change(b"k1", Some(b"before"));
                let behind = change(b"k2", Some(b"behind"));
                let changes = [before, Change { keyspace: KEYSPACE, kind }, behind];
                self.forest.apply(Lsn(self.lsn), &changes).unwrap();
                self.forest.publish(Lsn(self.lsn));
                self.applied.insert(b"k1".to_vec(), b"before".to_vec());
                let inside =
                    |key: &[u8]| *from.as_slice() <= *key && to.as_ref().is_none_or(|to| *key < **to);
                self.applied.retain(|key, _| !inside(key));
                self.applied.insert(b"k2".to_vec(), b"behind".to_vec());
                self.visible = self.applied.clone();
            }
            Op::DeleteRanges(from, middle) => {
                self.lsn += 1;
                let delete =
                    |from, to| Change { keyspace: KEYSPACE, kind: ChangeKind::DeleteRange { from, to } };
                let around = change(middle, Some(b"in the middle"));
                let changes = [delete(from, Some(&middle[..])), around, delete(middle, Some(b"kz")), around];
                self.forest.apply(Lsn(self.lsn), &changes).unwrap();
                let (low, high): (&[u8], &[u8]) = (middle, b"kz");
                self.applied
                    .retain(|key, _| !(from <= key && key < middle || low <= &key[..] && &key[..] < high));
                self.applied.insert(middle.clone(), b"in the middle".to_vec());
            }
            Op::GiveBack => drop(self.forest.give_back_step().unwrap()),
            Op::Unpublished(key, value) => {
                self.lsn += 1;
                self.forest.apply(Lsn(self.lsn), &[change(key, Some(value))]).unwrap();
                self.applied.insert(key.clone(), value.clone());
            }
            Op::TakeSnapshot => self.snapshots.push((self.forest.snapshot(), self.visible.clone())),
            Op::DropSnapshot(index) if !self.snapshots.is_empty() => {
                let at = index.index(self.snapshots.len());
                drop(self.snapshots.remove(at));
            }
            Op::ReadSnapshot(index) if !self.snapshots.is_empty() => {
                let (snapshot, model) = &self.snapshots[index.index(self.snapshots.len())];
                require(&self.tree, snapshot, model);
                for (key, value) in model {
                    let found = self.tree.get(key, At::Snapshot(snapshot)).unwrap();
                    assert_eq!(found.as_deref(), Some(value.as_slice()));
                }
            }
            Op::DropSnapshot(_) | Op::ReadSnapshot(_) => {}
            Op::OpenReader(index) if !self.visible.is_empty() => {
                let (key, value) = self.visible.iter().nth(index.index(self.visible.len())).unwrap();
                let reader = self.tree.value_reader(key, At::Latest).unwrap().unwrap();
                self.readers.push((reader, value.clone()));
            }
            Op::ReadValue(index, from) if !self.readers.is_empty() => {
                let at = index.index(self.readers.len());
                let (reader, value) = &mut self.readers[at];
                read_from(reader, value, from.index(value.len() + 1));
                if at == 0 {
                    drop(self.readers.remove(0));
                }
            }
            Op::OpenReader(_) | Op::ReadValue(..) => {}
            Op::Range(from, to, steps) => self.range(from, to.as_deref(), steps),
            Op::BeginCheckpoint => {
                if self.job.is_none() {
                    let job = self.forest.begin_checkpoint(&at(self.forest.visible_lsn())).unwrap();
                    self.job = Some((job, self.visible.clone(), true));
                }
            }
            Op::StepCheckpoint(steps) => (0..*steps).for_each(|_| self.step_checkpoint()),
            Op::GiveUpCheckpoint => self.give_up(),
            Op::Clean => drop(self.forest.clean_below(LivePercent { images: 95, deltas: 95 }).unwrap()),
            Op::EvictAll => self.forest.shared.evict_everything(),
            Op::Reopen { power_cut } => self.reopen(*power_cut),
        }
    }

    fn step_checkpoint(&mut self) {
        let Some((job, model, exists)) = &mut self.job else { return };
        if let Progress::Done(report) = job.step().unwrap() {
            self.durable = (report.lsn, std::mem::take(model), *exists);
            self.job = None;
            check_space(&self.forest);
        }
    }

    /// A job may be between its commit and its end: what it made durable counts.
    fn give_up(&mut self) {
        if let Some((job, model, exists)) = self.job.take()
            && job.is_durable()
        {
            self.durable = (job.lsn(), model, exists);
        }
    }

    /// The state must be exactly that of the newest checkpoint that ended.
    fn reopen(&mut self, power_cut: bool) {
        self.give_up();
        self.snapshots.clear();
        self.readers.clear();
        if power_cut {
            self.disk.crash(&mut self.rng);
        } else {
            self.disk.kill_process();
        }
        let (forest, opened) = open(&self.disk, self.options.clone()).unwrap();
        let (lsn, model, exists) = self.durable.clone();
        assert_eq!(opened.checkpoint_lsn, lsn);
        self.forest = forest;
        self.tree = match exists {
            true => self.forest.tree(KEYSPACE).unwrap(),
            false => self.forest.create_tree(Lsn(1), KEYSPACE).unwrap(),
        };
        self.lsn = lsn.0.max(1);
        if !exists {
            self.forest.apply(Lsn(1), &[]).unwrap();
            self.forest.publish(Lsn(1));
        }
        self.applied = model.clone();
        self.visible = model;
        require(&self.tree, &self.forest.snapshot(), &self.visible);
    }

    /// Walks a range from both ends, as the steps say, and sums it.
    fn range(&self, from: &[u8], to: Option<&[u8]>, steps: &[bool]) {
        if to.is_some_and(|to| to < from) {
            return;
        }
        let snapshot = self.forest.snapshot();
        let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
        let mut expected = self.visible.range::<[u8], _>(bounds);
        let mut cursor = self.tree.cursor(bounds, &snapshot);
        for forward in steps {
            let (found, expected) = if *forward {
                (cursor.next().unwrap(), expected.next())
            } else {
                (cursor.next_back().unwrap(), expected.next_back())
            };
            assert_eq!(found, expected.map(|(key, value)| (&key[..], &value[..])));
        }
        let expected: BTreeMap<_, _> = self.visible.range::<[u8], _>(bounds).collect();
        let digest = digest_of(expected.into_iter());
        assert_eq!(self.tree.digest(bounds, &snapshot).unwrap(), digest);
        assert_eq!(self.tree.count(bounds, &snapshot).unwrap(), digest.count);
    }

    fn finish(&mut self) {
        for (key, value) in &self.visible {
            assert_eq!(self.tree.get(key, At::Latest).unwrap().as_deref(), Some(value.as_slice()));
        }
        require(&self.tree, &self.forest.snapshot(), &self.visible);
        for (snapshot, model) in &self.snapshots {
            require(&self.tree, snapshot, model);
        }
        self.snapshots.clear();
        self.readers.iter_mut().for_each(|(reader, value)| read_from(reader, value, 0));
        self.readers.clear();
        self.job = None;
        self.forest.publish(Lsn(self.lsn));
        commit(&self.forest, self.lsn + 1, &[(b"last", Some(b"one"))]);
        self.applied.insert(b"last".to_vec(), b"one".to_vec());
        self.forest.shared.tidy_if_idle();
        checkpoint(&self.forest).unwrap();
        check_space(&self.forest);
        while self.forest.give_back_step().unwrap() {}
        commit(&self.forest, self.lsn + 2, &[]);
        checkpoint(&self.forest).unwrap();
        check_space(&self.forest);
        assert_eq!(self.forest.statistics().detached, 0);
        self.forest.shared.evict_everything();
        require(&self.tree, &self.forest.snapshot(), &self.applied);
        self.durable = (self.forest.visible_lsn(), self.applied.clone(), true);
        self.reopen(true);
        assert_eq!(self.forest.statistics().version_bytes, 0, "versions that nobody needs were kept");
    }
}

fn read_from(reader: &mut ValueReader, value: &[u8], from: usize) {
    reader.seek(SeekFrom::Start(from as u64)).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, value[from..]);
}

/// The live bytes that the store counts are those of the pages that the trees of the newest manifest reach.
fn check_space(forest: &Forest) {
    let mut damages = Vec::new();
    let report = forest.verify(&mut |damage| damages.push(damage), &mut |_| {}).unwrap();
    assert!(damages.is_empty(), "{damages:?}");
    assert!(report.space_errors.is_empty(), "{:?}", report.space_errors);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(96 * scale())
    })]

    #[test]
    fn every_read_at_every_snapshot_is_what_the_model_says(
        // Small leaves are split and merged often, larger ones are written as delta blocks often.
        leaf_bytes in prop::sample::select(vec![400, 1_600]),
        // With little memory, changed leaves go to pages at once, and what is read is evicted.
        cache_bytes in prop::sample::select(vec![4 << 10, 64 << 20]),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut run = Run::new(leaf_bytes, cache_bytes);
        ops.iter().for_each(|op| run.step(op));
        run.finish();
    }
}
