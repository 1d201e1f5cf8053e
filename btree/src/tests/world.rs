//! What the tests stand on: a forest over a simulated disk, and a model beside it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use logwood_base::digest::Digest;
use logwood_base::disk::simulated::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};
use logwood_base::{DatabaseId, Environment, KeyspaceId, LogId, LogPosition, Lsn, Result};

use crate::{
    At, Change, ChangeKind, Checkpoint, CheckpointReport, Forest, ForestOptions, Identity, Opened, Snapshot,
    Tree,
};

/// The keyspace that most tests use.
pub(super) const KEYSPACE: KeyspaceId = KeyspaceId(7);

/// The state of a tree.
pub(super) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// How much more than by default tests are to try.
pub(super) fn scale() -> u32 {
    std::env::var("LOGWOOD_TEST_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

pub(super) fn environment(disk: &SimulatedDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(0)),
        random: Arc::new(SeededRandom::new(1)),
        spawner: Arc::new(ManualSpawner::new()),
    }
}

/// Small leaves and segments, so that everything happens often.
pub(super) fn small() -> ForestOptions {
    ForestOptions {
        cache_bytes: 64 << 20,
        leaf_bytes: 400,
        page_segment_bytes: 16 << 10,
        ..ForestOptions::default()
    }
}

pub(super) fn dir() -> &'static Path {
    Path::new("/db")
}

pub(super) fn create(disk: &SimulatedDisk, options: ForestOptions) -> Forest {
    let identity = Identity { database: DatabaseId(1), log: LogId(2) };
    Forest::create(&environment(disk), dir(), identity, options).unwrap()
}

/// A forest with one tree, created by entry 1.
pub(super) fn one_tree(options: ForestOptions) -> (Forest, Tree) {
    let forest = create(&SimulatedDisk::new(1), options);
    let tree = forest.create_tree(Lsn(1), KEYSPACE).unwrap();
    (forest, tree)
}

/// Applies and publishes puts and deletes of the tests' keyspace.
pub(super) fn commit(forest: &Forest, lsn: u64, changes: &[(&[u8], Option<&[u8]>)]) {
    let changes: Vec<Change<'_>> = changes.iter().map(|(key, value)| change(key, *value)).collect();
    forest.apply(Lsn(lsn), &changes).unwrap();
    forest.publish(Lsn(lsn));
}

pub(super) fn change<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Change<'a> {
    let kind = match value {
        Some(value) => ChangeKind::Put { key, value },
        None => ChangeKind::Delete { key },
    };
    Change { keyspace: KEYSPACE, kind }
}

pub(super) fn everything() -> (Bound<&'static [u8]>, Bound<&'static [u8]>) {
    (Bound::Unbounded, Bound::Unbounded)
}

/// A checkpoint of what is visible.
pub(super) fn checkpoint(forest: &Forest) -> Result<CheckpointReport> {
    let snapshot = forest.snapshot();
    forest.checkpoint(&at(snapshot.lsn()))
}

pub(super) fn at(lsn: Lsn) -> Checkpoint<'static> {
    Checkpoint {
        at: lsn,
        replay_from: lsn.next(),
        log_durable_end: LogPosition::ZERO,
        engine_state: b"state of the engine",
    }
}

pub(super) fn open(disk: &SimulatedDisk, options: ForestOptions) -> Result<(Forest, Opened)> {
    Forest::open(&environment(disk), dir(), options, &|_| Ok(()))
}

/// Every record of a tree at a snapshot.
pub(super) fn scan(tree: &Tree, snapshot: &Snapshot) -> Model {
    let mut cursor = tree.cursor(everything(), snapshot);
    let mut found = Model::new();
    while let Some((key, value)) = cursor.next().unwrap() {
        assert!(found.last_key_value().is_none_or(|(last, _)| **last < *key), "keys ascend");
        found.insert(key.to_vec(), value.to_vec());
    }
    found
}

/// The digest of a model.
pub(super) fn digest_of<'m>(records: impl Iterator<Item = (&'m Vec<u8>, &'m Vec<u8>)>) -> Digest {
    let mut digest = Digest::EMPTY;
    records.for_each(|(key, value)| digest.add(key, value));
    digest
}

/// Requires that a tree at a snapshot is exactly the model: by keys, forwards, backwards, by sums.
pub(super) fn require(tree: &Tree, snapshot: &Snapshot, model: &Model) {
    // First, while pages may still be on disk: what is there and what is not, far apart from one key to the next.
    let mut sought: Vec<Vec<u8>> =
        model.keys().flat_map(|key| [key.clone(), [key, &[7][..]].concat()]).collect();
    fastrand::Rng::with_seed(model.len() as u64).shuffle(&mut sought);
    let keys: Vec<&[u8]> = sought.iter().map(|key| &key[..]).collect();
    let found = tree.get_many(&keys, At::Snapshot(snapshot)).unwrap();
    assert_eq!(found.len(), keys.len());
    for (key, value) in sought.iter().zip(&found) {
        assert_eq!(value.as_deref(), model.get(key).map(|value| &value[..]), "{}", key.escape_ascii());
    }
    assert_eq!(&scan(tree, snapshot), model);
    let mut cursor = tree.cursor(everything(), snapshot);
    let mut back = model.iter().rev();
    while let Some((key, value)) = cursor.next_back().unwrap() {
        assert_eq!(Some((key, value)), back.next().map(|(key, value)| (&key[..], &value[..])));
    }
    assert!(back.next().is_none(), "a record is missing backwards");
    assert_eq!(tree.digest(everything(), snapshot).unwrap(), digest_of(model.iter()));
    assert_eq!(tree.count(everything(), snapshot).unwrap(), model.len() as u64);
}
