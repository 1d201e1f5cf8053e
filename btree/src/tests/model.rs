//! Random runs against a `BTreeMap`, shrunk when they fail.

use std::collections::BTreeMap;
use std::ops::Bound;

use logwood_base::Lsn;
use proptest::prelude::*;

use super::world::{KEYSPACE, Model, change, commit, digest_of, one_tree, require, scale, small};
use crate::{At, Change, ChangeKind, Forest, Snapshot, Tree};

#[derive(Clone, Debug)]
enum Op {
    /// Puts and deletes of one entry.
    Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
    /// An entry that is applied and stays unpublished until the next one.
    Unpublished(Vec<u8>, Vec<u8>),
    TakeSnapshot,
    DropSnapshot(prop::sample::Index),
    ReadSnapshot(prop::sample::Index),
    Range(Vec<u8>, Option<Vec<u8>>, Vec<bool>),
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
        1 => (200usize..1500).prop_map(|bytes| vec![b'V'; bytes]),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let batch = |range| prop::collection::vec((key(), prop::option::weighted(0.65, value())), range);
    prop_oneof![
        10 => batch(1..4).prop_map(Op::Batch),
        4 => batch(4..60).prop_map(Op::Batch),
        1 => (key(), prop::option::of(key())).prop_map(|(from, to)| Op::DeleteRange(from, to)),
        1 => (key(), value()).prop_map(|(key, value)| Op::Unpublished(key, value)),
        2 => Just(Op::TakeSnapshot),
        2 => any::<prop::sample::Index>().prop_map(Op::DropSnapshot),
        2 => any::<prop::sample::Index>().prop_map(Op::ReadSnapshot),
        3 => (key(), prop::option::of(key()), prop::collection::vec(any::<bool>(), 0..40))
            .prop_map(|(from, to, steps)| Op::Range(from, to, steps)),
    ]
}

struct Run {
    forest: Forest,
    tree: Tree,
    lsn: u64,
    /// What was applied, and what of it is visible.
    applied: Model,
    visible: Model,
    snapshots: Vec<(Snapshot, Model)>,
}

impl Run {
    fn new() -> Self {
        let (forest, tree) = one_tree(small());
        let (applied, visible, snapshots) = Default::default();
        Self { forest, tree, lsn: 1, applied, visible, snapshots }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Batch(changes) => {
                self.lsn += 1;
                let borrowed: Vec<_> = changes.iter().map(|(k, v)| (k.as_slice(), v.as_deref())).collect();
                commit(&self.forest, self.lsn, &borrowed);
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
            Op::Range(from, to, steps) => self.range(from, to.as_deref(), steps),
        }
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
        self.forest.publish(Lsn(self.lsn));
        commit(&self.forest, self.lsn + 1, &[(b"last", Some(b"one"))]);
        self.forest.shared.tidy_if_idle();
        assert_eq!(self.forest.statistics().version_bytes, 0, "versions that nobody needs were kept");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96 * scale()))]

    #[test]
    fn every_read_at_every_snapshot_is_what_the_model_says(ops in prop::collection::vec(op(), 1..120)) {
        let mut run = Run::new();
        ops.iter().for_each(|op| run.step(op));
        run.finish();
    }
}
