//! What the store does when nothing goes wrong.

use logwood_base::Error;
use logwood_base::disk::SimulatedDisk;

use super::harness::{Forest, create, open};
use crate::store::Stream;
use crate::store::planted;

#[test]
fn pages_are_read_before_they_are_sealed_and_after() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    for keyspace in 1..30 {
        forest.write(&store, Stream::ALL[keyspace as usize % 5], keyspace).unwrap();
    }
    forest.check(&store).unwrap();
    store.seal_all().unwrap();
    forest.check(&store).unwrap();
}

#[test]
fn a_committed_state_is_found_again_and_an_uncommitted_one_is_not() {
    let disk = SimulatedDisk::new(2);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    for keyspace in 1..40 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    let committed = forest.clone();
    for keyspace in 1..40 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    store.seal_all().unwrap();
    drop(store);
    disk.kill_process();

    let (store, opened) = open(&disk).unwrap();
    let found = Forest::of(&opened.manifest);
    assert_eq!(found.versions(), committed.versions());
    found.check(&store).unwrap();
    assert_eq!(store.statistics().live_bytes, committed.live_bytes());
}

#[test]
fn creating_twice_is_refused_and_opening_nothing_creates_nothing() {
    planted::with(None, || {
        let disk = SimulatedDisk::new(3);
        let missing = open(&disk).unwrap_err();
        assert!(missing.to_string().contains("manifest"), "{missing}");
        assert!(disk.paths().is_empty());
        create(&disk).unwrap();
        assert!(matches!(create(&disk), Err(Error::AlreadyExists { .. })));
    });
}
