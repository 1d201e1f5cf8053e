//! Bulk writes: what they take with them, what comes between, and what is left of them when they do not end.

pub(super) mod full_disk;
mod left;

use std::time::Duration;

use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_btree::SortedChanges;

use super::backup::{TO, read_backup};
use super::checks::read_all;
use super::world::{Records, World};
use crate::core::Core;
use crate::fragments::Collected;
use crate::runs::Merge;
use crate::{BulkOptions, BulkWrite, Change, Durability, Error, Lsn, Result};

const LITTLE: BulkOptions = BulkOptions::new().memory_bytes(64 << 10);

fn key(n: u32) -> Vec<u8> {
    format!("{n:08}").into_bytes()
}

fn begun() -> World {
    let mut world = World::new(1);
    world.open(0).unwrap();
    world.db().create_keyspace("a").unwrap();
    world.db().create_keyspace("b").unwrap();
    world
}

/// Puts `count` numbers in an order that is their own, into two keyspaces, each of them twice.
fn try_fill(world: &World, bulk: &mut BulkWrite, count: u32, value: &[u8]) -> Result<[Records; 2]> {
    let mut records = [Records::new(), Records::new()];
    let handles = ["a", "b"].map(|name| world.db().keyspace(name).unwrap());
    for n in 0..count {
        let number = n.wrapping_mul(7919) % count;
        let at = (number % 2) as usize;
        bulk.put(&handles[at], &key(number), b"not the last value")?;
        bulk.put(&handles[at], &key(number), value)?;
        records[at].insert(key(number), value.to_vec());
    }
    Ok(records)
}

fn fill(world: &World, bulk: &mut BulkWrite, count: u32, value: &[u8]) -> [Records; 2] {
    try_fill(world, bulk, count, value).unwrap()
}

/// A database of some records, whose cache is smaller than what is written to it.
fn filled() -> (World, [Records; 2]) {
    let mut world = World::new(1);
    world.options = world.options.clone().cache_bytes(1 << 20).background(false);
    world.open(0).unwrap();
    world.db().create_keyspace("a").unwrap();
    world.db().create_keyspace("b").unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    let records = fill(&world, &mut bulk, 1000, b"before");
    bulk.commit(Durability::Durable).unwrap();
    world.db().checkpoint().unwrap();
    (world, records)
}

/// Writes more in one bulk write than a quarter of the cache takes.
fn overwrite(world: &World) -> Result<[Records; 2]> {
    let mut bulk = world.db().bulk_write(LITTLE)?;
    let records = try_fill(world, &mut bulk, 2000, &[b'v'; 250])?;
    bulk.commit(Durability::Durable)?;
    Ok(records)
}

/// Ends the process, by a power cut, and opens what is there.
fn reopen(world: &mut World, seed: u64) {
    world.disk.crash(&mut fastrand::Rng::with_seed(seed));
    world.drop_all();
    world.db = Some(crate::Database::open(super::world::DIR, world.options.clone()).unwrap());
}

fn require(world: &World, records: &[Records; 2]) {
    let found = read_all(world.db()).unwrap();
    assert!(found["a"] == records[0] && found["b"] == records[1]);
}

#[test]
fn a_bulk_write_takes_effect_at_once_and_is_read_from_the_log_again_after_a_kill() {
    let mut world = begun();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    let records = fill(&world, &mut bulk, 3000, &[b'v'; 100]);
    let core = world.db().core();
    {
        let sequencer = core.sequencer.lock();
        let transaction = *sequencer.bulk.lock().keys().next().expect("it is under way");
        let collected = sequencer.applier.fragments.collected(transaction);
        let Some(Collected::Sorted { runs, .. }) = collected else { panic!("{collected:?}") };
        assert!(runs.len() > 3, "{} runs", runs.len());
    }
    let snapshot = world.db().snapshot();
    let lsn = bulk.commit(Durability::Durable).unwrap();
    assert_eq!(world.db().visible_lsn(), lsn);
    require(&world, &records);
    let a = world.db().keyspace("a").unwrap();
    assert_eq!(snapshot.count_all(&a).unwrap(), 0);

    // A reader of changes sees each key once for each time that the memory was filled.
    let mut changes = world.db().changes(lsn).unwrap();
    let mut set = changes.next(Duration::ZERO).unwrap().expect("the commit");
    let mut seen = [Records::new(), Records::new()];
    while let Some(change) = set.next().unwrap() {
        let Change::Put { keyspace, key, value } = change else { panic!("{change:?}") };
        seen[usize::from(keyspace != a.id())].insert(key.to_vec(), value.to_vec());
    }
    assert!(seen == records);
    drop((changes, snapshot));

    // Replay finds the runs as they were found before.
    world.disk.kill_process();
    world.drop_all();
    let db = crate::Database::open(super::world::DIR, world.options.clone()).unwrap();
    world.db = Some(db);
    require(&world, &records);
    world.verify_clean();
    // And once more behind a checkpoint.
    world.db().checkpoint().unwrap();
    require(&world, &records);
    world.verify_clean();
}

#[test]
fn what_left_the_memory_and_does_not_fill_a_fragment_is_committed_too() {
    // The memory is filled several times by operations on the same few keys.
    let world = begun();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    let mut records = [Records::new(), Records::new()];
    let handles = ["a", "b"].map(|name| world.db().keyspace(name).unwrap());
    for n in 0..6000u32 {
        let at = (n / 20 % 2) as usize;
        bulk.put(&handles[at], &key(n % 40), &n.to_be_bytes()).unwrap();
        records[at].insert(key(n % 40), n.to_be_bytes().to_vec());
    }
    bulk.put(&handles[0], b"last", b"one").unwrap();
    records[0].insert(b"last".to_vec(), b"one".to_vec());
    bulk.commit(Durability::Durable).unwrap();
    require(&world, &records);
}

#[test]
fn input_in_order_is_one_run_however_much_it_is() {
    let world = begun();
    let a = world.db().keyspace("a").unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    for n in 0..20_000 {
        bulk.put(&a, &key(n), b"a value of some length").unwrap();
    }
    let sequencer = world.db().core().sequencer.lock();
    let collected = sequencer.applier.fragments.collected(*sequencer.bulk.lock().keys().next().unwrap());
    let Some(Collected::Sorted { runs, .. }) = collected else { panic!("{collected:?}") };
    assert_eq!(runs.len(), 1);
    drop(sequencer);
    bulk.commit(Durability::Buffered).unwrap();
    assert_eq!(a.count_all().unwrap(), 20_000);
}

#[test]
fn input_in_order_leaves_memory_as_soon_as_it_is_more_than_an_entry_and_other_input_does_not() {
    let world = begun();
    let a = world.db().keyspace("a").unwrap();
    let entry_bytes = world.options.payload_bytes_max();
    let mut bulk = world.db().bulk_write(BulkOptions::new()).unwrap();
    let mut records = [Records::new(), Records::new()];
    let mut put = |bulk: &mut BulkWrite, n: u32| {
        let value = bulk.len().to_be_bytes();
        bulk.put(&a, &key(n), &value).unwrap();
        records[0].insert(key(n), value.to_vec());
    };
    for n in 0..20_000 {
        put(&mut bulk, n);
        assert!(bulk.arena().len() < entry_bytes + 100);
    }
    assert!(bulk.arena().capacity() < 4 * entry_bytes, "{}", bulk.arena().capacity());
    // Ascending too, and still not behind what has left.
    (5000..8000).for_each(|n| put(&mut bulk, n));
    let gathered = bulk.arena().len();
    assert!(gathered > 2 * entry_bytes, "it waits to be sorted");
    (15_000..16_000).rev().for_each(|n| put(&mut bulk, n));
    assert!(bulk.arena().len() > gathered);
    bulk.write_out().unwrap();
    // Behind all that has left, and once more in order.
    (30_000..40_000).for_each(|n| put(&mut bulk, n));
    assert!(bulk.arena().len() < entry_bytes + 100);
    bulk.write_out().unwrap();
    let (_, collected) = under_way(world.db().core());
    let Some(Collected::Sorted { runs, .. }) = collected else { panic!("{collected:?}") };
    assert_eq!(runs.len(), 2, "what goes on behind the second is part of it");
    bulk.commit(Durability::Durable).unwrap();
    require(&world, &records);
    world.verify_clean();
}

#[test]
fn what_is_committed_beside_a_bulk_write_stands_before_it() {
    let world = begun();
    let a = world.db().keyspace("a").unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    let transaction = world.db().transaction();
    let read = transaction.get(&a, &key(1)).unwrap();
    assert_eq!(read, None);
    fill(&world, &mut bulk, 2000, b"of the bulk write");
    a.put(&key(4), b"beside it").unwrap();
    a.put(b"other", b"beside it").unwrap();
    assert_eq!(a.count_all().unwrap(), 2, "nothing of it is seen");
    // The log is kept from its first fragment on, and nobody takes it for an orphan.
    for _ in 0..3 {
        a.put(b"other", b"beside it").unwrap();
        world.db().checkpoint().unwrap();
    }
    bulk.delete(&a, b"other").unwrap();
    bulk.commit(Durability::Durable).unwrap();
    assert_eq!(a.get(&key(4)).unwrap().as_deref(), Some(&b"of the bulk write"[..]));
    assert_eq!(a.get(b"other").unwrap(), None);
    let mut late = transaction;
    late.put(&a, b"late", b"").unwrap();
    assert!(matches!(late.commit(Durability::Durable), Err(Error::Conflict(_))));
}

#[test]
fn a_bulk_write_is_a_conflict_to_who_has_read_its_keyspaces_and_to_nobody_else() {
    let world = begun();
    let [a, b] = ["a", "b"].map(|name| world.db().keyspace(name).unwrap());
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    (0..2000).for_each(|n| bulk.put(&a, &key(n), &[b'v'; 100]).unwrap());
    let mut all: Vec<_> = (0..4).map(|_| world.db().transaction()).collect();
    assert_eq!(all[0].get(&a, &key(1)).unwrap(), None);
    assert_eq!(all[1].range(&a, &b"x"[..]..).unwrap().count(), 0);
    assert_eq!(all[2].get(&b, &key(1)).unwrap(), None);
    for (n, transaction) in all.iter_mut().enumerate() {
        transaction.put(&a, &key(9000 + n as u32), b"").unwrap();
    }
    let lsn = bulk.commit(Durability::Durable).unwrap();
    for (n, transaction) in all.into_iter().enumerate() {
        match transaction.commit(Durability::Durable) {
            Err(Error::Conflict(conflict)) if n < 2 => {
                assert_eq!((&conflict.keyspace[..], conflict.lsn), ("a", lsn));
            }
            outcome => assert!(n >= 2 && outcome.is_ok(), "{n}: {outcome:?}"),
        }
    }
    // Who has read nothing is never too old.
    let mut blind = world.db().transaction();
    blind.put(&a, b"blind", b"").unwrap();
    world.db().core().transactions.recent.lock().forget(lsn.next().next());
    blind.commit(Durability::Durable).unwrap();
}

#[test]
fn a_bulk_write_that_is_dropped_has_never_been_and_lets_the_log_go() {
    let mut world = begun();
    let a = world.db().keyspace("a").unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    fill(&world, &mut bulk, 2000, &[b'v'; 100]);
    let core = world.db().core();
    let transaction = *core.bulk.lock().keys().next().unwrap();
    drop(bulk);
    a.put(b"next", b"aborts it").unwrap();
    assert!(core.sequencer.lock().applier.fragments.oldest().is_none());
    for n in 0..3 {
        a.put(b"next", &[n]).unwrap();
        world.db().checkpoint().unwrap();
    }
    assert!(core.forest.store().replay_from() > transaction, "its fragments are let go");
    drop(a);
    world.disk.kill_process();
    world.drop_all();
    world.db = Some(crate::Database::open(super::world::DIR, world.options.clone()).unwrap());
    assert_eq!(world.db().keyspace("a").unwrap().count_all().unwrap(), 1);
    world.verify_clean();
}

#[test]
fn limits_are_told_before_anything_is_lost() {
    let world = begun();
    let a = world.db().keyspace("a").unwrap();
    for bytes in [0, 1 << 10, (1 << 30) + 1] {
        let refused = world.db().bulk_write(BulkOptions::new().memory_bytes(bytes));
        assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    }
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    let long = vec![0; logwood_base::limits::KEY_BYTES_MAX + 1];
    assert!(matches!(bulk.put(&a, &long, b""), Err(Error::LimitExceeded { .. })));
    assert!(matches!(bulk.delete(&a, &long), Err(Error::LimitExceeded { .. })));
    bulk.put(&a, b"after a refusal", b"it goes on").unwrap();
    bulk.commit(Durability::Durable).unwrap();
    assert_eq!(a.count_all().unwrap(), 1);

    // Descending keys: every filling of the memory is a run of its own.
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    let value = vec![b'v'; 30_000];
    let mut refused = None;
    for n in (0..2000).rev() {
        if let Err(error) = bulk.put(&a, &key(n), &value) {
            refused = Some((n, error));
            break;
        }
    }
    let (n, error) = refused.expect("at most 256 runs");
    assert!(matches!(error, Error::LimitExceeded { .. }) && n < 2000 - 256, "{n}: {error}");
    assert!(bulk.put(&a, b"more", b"").is_err() && bulk.commit(Durability::Durable).is_err());
    assert_eq!(a.count_all().unwrap(), 1);
    a.put(b"and", b"the database goes on").unwrap();
}

#[test]
fn a_keyspace_that_goes_and_a_page_that_cannot_be_read_refuse_it_and_nothing_else() {
    let world = begun();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    let records = fill(&world, &mut bulk, 3000, &[b'v'; 60]);
    bulk.commit(Durability::Durable).unwrap();
    world.db().checkpoint().unwrap();

    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    fill(&world, &mut bulk, 3000, &[b'w'; 60]);
    world.disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/"));
    assert!(matches!(bulk.commit(Durability::Durable), Err(Error::Io { .. })));
    world.disk.clear_faults();
    require(&world, &records);

    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    fill(&world, &mut bulk, 3000, &[b'w'; 60]);
    world.db().drop_keyspace("b").unwrap();
    let refused = bulk.commit(Durability::Durable);
    assert!(matches!(&refused, Err(Error::NotFound { name, .. }) if name == "b"), "{refused:?}");
    let a = world.db().keyspace("a").unwrap();
    assert_eq!(a.count_all().unwrap(), records[0].len() as u64);
    a.put(b"and", b"the database goes on").unwrap();
}

#[test]
fn a_damaged_fragment_refuses_its_bulk_write_and_nothing_else() {
    let (mut world, before) = filled();
    let damage = |world: &World| {
        let mut bulk = world.db().bulk_write(LITTLE).unwrap();
        fill(world, &mut bulk, 2000, b"a value that is found in the log");
        // Damaged is the oldest fragment: it is read from the file, not from memory.
        let logs = world.disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("/log/"));
        let found = logs.into_iter().find_map(|path| {
            let bytes = world.disk.read_file(&path)?;
            let at = bytes.windows(12).position(|window| window == b"found in the")?;
            Some((path, at))
        });
        let (path, at) = found.expect("fragments are in the log as they are");
        world.disk.flip_bit(&path, at as u64, 3);
        bulk.commit(Durability::Durable).unwrap_err()
    };
    let refused = damage(&world);
    assert!(matches!(refused, Error::Corruption(_)), "{refused}");
    require(&world, &before);
    // The log that is damaged is not needed any more: it is let go.
    let a = world.db().keyspace("a").unwrap();
    a.put(b"next", b"write").unwrap();
    a.delete(b"next").unwrap();
    drop(a);
    world.db().compact().unwrap();
    reopen(&mut world, 1);
    require(&world, &before);
    world.verify_clean();

    // Of a database that has nothing on disk yet, too: whether it goes on or stops, the damage is named and reads go on.
    let world = begun();
    let a = world.db().keyspace("a").unwrap();
    a.put(b"before", b"it").unwrap();
    let refused = damage(&world);
    assert!(refused.to_string().contains(".log at offset"), "{refused}");
    assert_eq!(a.get(b"before").unwrap().as_deref(), Some(&b"it"[..]));
    assert_eq!(a.count_all().unwrap(), 1, "nothing of it is seen");
}

/// The bulk write that is under way, and what the log has of it.
fn under_way(core: &Core) -> (Lsn, Option<Collected>) {
    let sequencer = core.sequencer.lock();
    let transaction = *sequencer.bulk.lock().keys().next().expect("it is under way");
    (transaction, sequencer.applier.fragments.collected(transaction))
}

#[test]
pub(super) fn the_preparation_of_a_bulk_write_leaves_that_of_another_writer_alone() {
    let mut world = World::new(1);
    world.options = world.options.clone().background(false);
    world.open(0).unwrap();
    world.db().create_keyspace("a").unwrap();
    let a = world.db().keyspace("a").unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    (0..6000).for_each(|n| bulk.put(&a, &key(n), &[b'v'; 200]).unwrap());
    bulk.commit(Durability::Durable).unwrap();
    world.db().checkpoint().unwrap();

    // A small one, which was joined in memory.
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    (0..250).for_each(|n| bulk.put(&a, &key(n), &[b'w'; 200]).unwrap());
    bulk.write_out().unwrap();
    let core = world.db().core();
    let (transaction, collected) = under_way(core);
    assert!(matches!(collected, Some(Collected::Joined(_))), "{collected:?}");
    let (lsn, sought) = (core.forest.applied_lsn().next(), key(3000));
    let kind = logwood_btree::ChangeKind::Put { key: &sought, value: b"of the other writer" };
    let changes = [logwood_btree::Change { keyspace: a.id(), kind }];
    let prepared = core.forest.prepare(&changes).unwrap();
    core.prepare_collected(transaction, collected).unwrap();
    // Readers want the memory meanwhile.
    assert_eq!(a.iter().unwrap().count(), 6000);
    world.disk.set_fault(Fault::new(Operation::READS, Outcome::Io).on("pages/").for_ever());
    prepared.apply(lsn).expect("nothing is read that was prepared");
    world.disk.kill_process();
    drop((a, bulk));
    world.drop_all();
}

#[test]
pub(super) fn the_memory_of_a_merge_is_a_fragment_for_each_run_and_one_value() {
    const VALUE: usize = 1_500_000;
    let mut world = World::new(1);
    world.options = world.options.clone().log_segment_bytes(4 << 20);
    world.open(0).unwrap();
    world.db().create_keyspace("a").unwrap();
    let a = world.db().keyspace("a").unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    let value = |n: u32| vec![n as u8; VALUE + n as usize];
    for n in (0..20).rev() {
        bulk.put(&a, &key(n), &value(n)).unwrap();
        // Of a key that comes again, the value of before is passed over.
        bulk.put(&a, &key(n / 2), &[b'n'; 700_000]).unwrap();
    }
    bulk.write_out().unwrap();
    let core = world.db().core();
    let (transaction, collected) = under_way(core);
    let Some(Collected::Sorted { fragments, runs }) = collected else { panic!("{collected:?}") };
    assert!(runs.len() >= 20, "{} runs", runs.len());
    let log = crate::directory::Layout::new(&core.path).log();
    let mut merge = Merge::new(&core.group, &log, transaction, &fragments, &runs).unwrap();
    let mut keys = 0;
    let bound = runs.len() * (512 << 10);
    assert!(merge.buffered_bytes() <= bound, "{} in {} runs", merge.buffered_bytes(), runs.len());
    while merge.next().unwrap().is_some() {
        keys += 1;
        assert!(merge.buffered_bytes() <= bound + VALUE + (512 << 10), "{}", merge.buffered_bytes());
    }
    assert_eq!(keys, 20);
    bulk.commit(Durability::Durable).unwrap();
    for n in 0..20 {
        let expected = if n == 0 { vec![b'n'; 700_000] } else { value(n) };
        assert!(a.get(&key(n)).unwrap().as_deref() == Some(&expected[..]), "{n}");
    }
}

#[test]
fn a_bulk_write_that_keeps_more_log_than_there_may_be_is_counted_and_given_up() {
    let mut world = World::new(1);
    world.options = world.options.clone().log_bytes_max(1 << 20).background(false);
    world.open(0).unwrap();
    let a = world.db().ensure_keyspace("a").unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    (0..3000).for_each(|n| bulk.put(&a, &key(n), &[b'v'; 100]).unwrap());
    let counted = world.db().statistics().bulk_writes;
    assert_eq!(
        (counted.under_way, counted.oldest),
        (1, world.db().core().bulk.lock().keys().next().copied())
    );
    assert!((200_000..400_000).contains(&counted.log_bytes), "{counted:?}");
    let mut rounds = 0;
    let error = loop {
        (0..100).for_each(|n| drop(a.put(b"beside", &[n; 1000])));
        world.db().checkpoint().unwrap();
        world.db().core().log.maintain().unwrap();
        rounds += 1;
        if world.db().statistics().bulk_writes.under_way == 0 {
            break bulk.commit(Durability::Durable).unwrap_err();
        }
        assert!(rounds < 40);
    };
    assert!(world.db().statistics().log.log_bytes > 1 << 20, "not before the bound");
    assert!(matches!(error, Error::LimitExceeded { limit, .. } if limit == 1 << 20), "{error}");
    assert_eq!(world.db().statistics().bulk_writes, crate::BulkStatistics::default());
    // A later one is not given up for what the earlier one has kept.
    let mut later = world.db().bulk_write(LITTLE).unwrap();
    (0..3000).for_each(|n| later.put(&a, &key(n), &[b'w'; 100]).unwrap());
    for n in 0..3 {
        a.put(b"beside", &[n]).unwrap();
        world.db().checkpoint().unwrap();
        world.db().core().log.maintain().unwrap();
    }
    assert!(world.db().statistics().log.log_bytes < 1 << 20);
    later.commit(Durability::Durable).unwrap();
    assert_eq!(a.count_all().unwrap(), 3001);
    drop((a, bulk, later));
    world.drop_all();
}

#[test]
fn backups_changes_and_snapshots_beside_a_bulk_write_know_nothing_of_it_before_it_ends() {
    let mut world = begun();
    let a = world.db().keyspace("a").unwrap();
    let mut changes = world.db().changes(Lsn::FIRST).unwrap();
    let mut bulk = world.db().bulk_write(LITTLE).unwrap();
    fill(&world, &mut bulk, 1500, &[b'v'; 100]);
    a.put(b"beside", b"it").unwrap();
    let snapshot = world.db().snapshot();
    let expected = read_all(world.db()).unwrap();
    world.db().backup(TO).unwrap();
    assert_eq!(read_backup(&world).unwrap(), expected);
    let mut puts = 0;
    while let Some(mut set) = changes.next(Duration::ZERO).unwrap() {
        while let Some(change) = set.next().unwrap() {
            puts += u32::from(matches!(change, Change::Put { .. }));
        }
    }
    assert_eq!(puts, 1, "of it nothing");

    fill(&world, &mut bulk, 1500, &[b'w'; 100]);
    let lsn = bulk.commit(Durability::Durable).unwrap();
    let set = changes.next(Duration::ZERO).unwrap().expect("its commit");
    assert_eq!(set.lsn(), lsn);
    assert_eq!(snapshot.count_all(&a).unwrap(), 1);
    drop(set);
    drop((changes, snapshot));
    let expected = read_all(world.db()).unwrap();
    world.db().backup(TO).unwrap();
    assert_eq!(read_backup(&world).unwrap(), expected);
    drop(a);
    world.drop_all();
}
