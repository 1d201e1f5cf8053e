//! What opening takes in memory while it replays.

use super::world::World;
use crate::{BulkOptions, Durability, Keyspace};

const ROUNDS: u8 = 40;
const VALUE_BYTES: usize = 300;

/// A database that is killed when the same records were overwritten often, each time by a transaction of many entries, and no
/// checkpoint came. How many bytes of older versions it keeps when it has been opened again.
fn versions_kept(keys: u64, overwrite: impl Fn(&World, &Keyspace, u8)) -> usize {
    let mut world = World::new(1);
    world.options = world.options.clone().cache_bytes(64 << 20).recovery_log_bytes_max(64 << 20);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("ks").unwrap();
    for round in 0..ROUNDS {
        overwrite(&world, &ks, round);
    }
    drop(ks);
    world.drop_all();
    let db = crate::Database::open(super::world::DIR, world.options.clone()).unwrap();
    // Before a read lets go of some.
    let kept = db.statistics().trees.version_bytes;
    let recovery = db.statistics().recovery;
    assert!(recovery.bytes_replayed > u64::from(ROUNDS) * keys * VALUE_BYTES as u64, "{recovery:?}");
    let ks = db.keyspace("ks").unwrap();
    assert_eq!(ks.count_all().unwrap(), keys);
    assert_eq!(ks.get(&7u64.to_be_bytes()).unwrap().as_deref(), Some(&[ROUNDS - 1; VALUE_BYTES][..]));
    kept
}

#[test]
fn replay_keeps_no_versions_of_transactions_that_are_larger_than_an_entry() {
    // Of three entries, joined in memory when they are applied.
    let keys = 150;
    let kept = versions_kept(keys, |world, ks, round| {
        let mut batch = world.db().batch();
        for key in 0..keys {
            batch.put(ks, &key.to_be_bytes(), &[round; VALUE_BYTES]).unwrap();
        }
        world.db().commit(batch, Durability::Buffered).unwrap();
    });
    assert_eq!(kept, 0);
}

#[test]
fn replay_keeps_the_versions_of_no_more_than_one_bulk_write() {
    // More than is joined in memory: read again from the log.
    let keys = 400;
    let kept = versions_kept(keys, |world, ks, round| {
        let mut bulk = world.db().bulk_write(BulkOptions::new()).unwrap();
        for key in 0..keys {
            bulk.put(ks, &key.to_be_bytes(), &[round; VALUE_BYTES]).unwrap();
        }
        bulk.commit(Durability::Buffered).unwrap();
    });
    let once = keys as usize * VALUE_BYTES;
    assert!(kept < 3 * once, "{kept} bytes of versions of records of {once} bytes");
}

#[test]
fn what_replay_gathers_has_room_from_the_beginning() {
    // An assertion of the applier is what fails. Of this cache replay gathers 32 KiB.
    let mut world = World::new(1);
    world.options = world.options.clone().recovery_log_bytes_max(64 << 20);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("ks").unwrap();
    for key in 0..200u64 {
        ks.put_with(&key.to_be_bytes(), &[7; 9_000], Durability::Buffered).unwrap();
    }
    drop(ks);
    world.drop_all();
    let db = crate::Database::open(super::world::DIR, world.options.clone()).unwrap();
    assert!(db.statistics().recovery.entries_replayed > 4, "less was replayed than is gathered at a time");
    assert_eq!(db.keyspace("ks").unwrap().count_all().unwrap(), 200);
}

#[test]
fn entries_that_are_larger_than_the_options_of_today_allow_are_replayed() {
    let mut world = World::new(2);
    let segments = |bytes| world.options.clone().recovery_log_bytes_max(64 << 20).log_segment_bytes(bytes);
    let (large, small) = (segments(4 << 20), segments(64 << 10));
    world.options = large;
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("ks").unwrap();
    for key in 0..8u64 {
        let mut batch = world.db().batch();
        for part in 0..40u64 {
            batch.put(&ks, &[key.to_be_bytes(), part.to_be_bytes()].concat(), &[7; 9_000]).unwrap();
        }
        world.db().commit(batch, Durability::Buffered).unwrap();
    }
    drop(ks);
    world.drop_all();
    let db = crate::Database::open(super::world::DIR, small).unwrap();
    assert_eq!(db.keyspace("ks").unwrap().count_all().unwrap(), 320);
}
