//! Transactions and conditional writes: what they see, what is a conflict, and when the answer comes.

mod conditions;
mod histories;
mod reading;

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::world::World;
use crate::{
    Changed, Conflict, Database, Durability, Error, Keyspace, Lsn, Result, TransactOptions, Transaction,
};

pub(super) use conditions::a_condition_that_does_not_hold_is_answered_when_what_it_read_is_visible;
pub(super) use histories::every_transaction_is_as_if_alone_at_its_place_in_the_log;
pub(super) use reading::an_iterator_that_failed_stays_failed_and_what_it_walked_stays_protected;

/// A database with one keyspace, without background work.
fn one() -> (World, Keyspace) {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    (world, ks)
}

/// Puts a value that is applied, and not visible before somebody waits.
fn put_in_flight(db: &Database, ks: &Keyspace, key: &[u8], value: &[u8]) -> crate::Ticket {
    let mut batch = db.batch();
    batch.put(ks, key, value).unwrap();
    db.commit_async(batch, Durability::Durable).unwrap()
}

fn conflict(outcome: Result<Lsn>) -> Conflict {
    match outcome {
        Err(Error::Conflict(conflict)) => *conflict,
        other => panic!("{other:?}"),
    }
}

#[test]
pub(super) fn an_update_is_not_lost_and_the_conflict_names_keyspace_key_and_commit() {
    let (world, ks) = one();
    let db = world.db();
    ks.put(b"n", b"1").unwrap();
    let (mut one, mut other) = (db.transaction(), db.transaction());
    for transaction in [&mut one, &mut other] {
        assert_eq!(transaction.get(&ks, b"n").unwrap().as_deref(), Some(&b"1"[..]));
        transaction.put(&ks, b"n", b"2").unwrap();
    }
    let lsn = one.commit(Durability::Durable).unwrap();
    let found = conflict(other.commit(Durability::Durable));
    assert_eq!(found, Conflict { keyspace: "k".into(), changed: Changed::Key(b"n".to_vec()), lsn });
    assert_eq!(db.statistics().transactions.refused, 1);
    assert_eq!(db.statistics().transactions.live, 0);
}

#[test]
pub(super) fn two_in_flight_that_read_what_the_other_one_writes_do_not_both_commit() {
    let (world, ks) = one();
    let db = world.db();
    ks.put(b"a", b"on call").unwrap();
    ks.put(b"b", b"on call").unwrap();
    let (mut one, mut other) = (db.transaction(), db.transaction());
    for (transaction, own) in [(&mut one, b"a"), (&mut other, b"b")] {
        assert!(
            transaction.get(&ks, b"a").unwrap().is_some() && transaction.get(&ks, b"b").unwrap().is_some()
        );
        transaction.delete(&ks, own).unwrap();
    }
    let first = one.commit_async(Durability::Durable).unwrap();
    assert!(db.visible_lsn() < first.lsn(), "its write is in flight");
    let second = other.commit_async(Durability::Durable).unwrap();
    assert!(!second.is_done(), "nobody is told of a commit that a crash may take back");
    let found = conflict(second.wait());
    assert_eq!((found.lsn, found.changed), (first.lsn(), Changed::Key(b"a".to_vec())));
    assert!(db.visible_lsn() >= first.lsn());
    first.wait().unwrap();
    assert_eq!(ks.count_all().unwrap(), 1);
}

#[test]
pub(super) fn a_conflict_with_a_commit_whose_write_fails_is_never_told() {
    let (world, ks) = one();
    let db = world.db();
    let mut transaction = db.transaction();
    assert!(!transaction.contains(&ks, b"a").unwrap());
    transaction.put(&ks, b"b", b"1").unwrap();
    let doomed = put_in_flight(db, &ks, b"a", b"1");
    let refused = transaction.commit_async(Durability::Durable).unwrap();
    world.disk.set_fault(Fault::new(&[Operation::WriteDurable, Operation::Sync], Outcome::Io));
    assert!(matches!(refused.wait(), Err(Error::Poisoned { .. })));
    assert!(matches!(doomed.wait(), Err(Error::Poisoned { .. })));
    assert!(!ks.contains(b"a").unwrap() && !ks.contains(b"b").unwrap());
}

#[test]
pub(super) fn a_record_that_appears_in_a_walked_range_is_a_conflict() {
    let (world, ks) = one();
    let db = world.db();
    for key in [b"b", b"d", b"f"] {
        ks.put(key, b"1").unwrap();
    }
    let reads: [fn(&Transaction, &Keyspace); 4] = [
        |transaction, ks| assert_eq!(transaction.range(ks, "a".."e").unwrap().count(), 2),
        |transaction, ks| assert_eq!(transaction.count(ks, "a".."e").unwrap(), 2),
        |transaction, ks| assert_eq!(transaction.iter(ks).unwrap().rev().take(3).count(), 3),
        // An iterator that is never dropped protects what it walked all the same.
        |transaction, ks| {
            let mut range = transaction.iter(ks).unwrap();
            assert!(range.nth(1).unwrap().is_ok());
            std::mem::forget(range);
        },
    ];
    for (number, read) in reads.iter().enumerate() {
        let mut transaction = db.transaction();
        read(&transaction, &ks);
        transaction.put(&ks, b"z", b"1").unwrap();
        let lsn = ks.put(b"c", &[number as u8]).unwrap();
        let found = conflict(transaction.commit(Durability::Durable));
        assert_eq!((found.changed, found.lsn), (Changed::Key(b"c".to_vec()), lsn), "read {number}");
        ks.delete(b"c").unwrap();
    }
}

#[test]
fn a_walk_protects_as_far_as_it_went_and_no_further() {
    let (world, ks) = one();
    let db = world.db();
    for key in [b"b", b"d", b"f", b"h"] {
        ks.put(key, b"1").unwrap();
    }
    // The ends of a queue: the first is taken, new ones come behind.
    let commits = |walk: fn(&Transaction, &Keyspace), key: &[u8]| {
        let mut transaction = db.transaction();
        walk(&transaction, &ks);
        transaction.put(&ks, b"other", b"1").unwrap();
        ks.put(key, b"2").unwrap();
        transaction.commit(Durability::Durable).is_ok()
    };
    let first = |transaction: &Transaction, ks: &Keyspace| drop(transaction.iter(ks).unwrap().next());
    assert!(commits(first, b"c") && commits(first, b"h") && !commits(first, b"b") && !commits(first, b"a"));
    ks.delete(b"a").unwrap();
    let last_two = |transaction: &Transaction, ks: &Keyspace| {
        assert_eq!(transaction.range(ks, .."i").unwrap().rev().take(2).count(), 2);
    };
    assert!(commits(last_two, b"e") && !commits(last_two, b"f") && !commits(last_two, b"g"));
    assert!(commits(last_two, b"j"), "behind the range");
    let both_ends = |transaction: &Transaction, ks: &Keyspace| {
        let mut range = transaction.range(ks, "a".."i").unwrap();
        assert!(range.next().is_some() && range.next_back().is_some());
    };
    assert!(commits(both_ends, b"e") && !commits(both_ends, b"b") && !commits(both_ends, b"hh"));
}

#[test]
pub(super) fn a_range_delete_conflicts_with_keys_and_ranges_that_were_read() {
    let (world, ks) = one();
    let db = world.db();
    let reads: [fn(&Transaction, &Keyspace) -> Changed; 2] = [
        |transaction, ks| {
            assert!(!transaction.contains(ks, b"c").unwrap());
            Changed::Key(b"c".to_vec())
        },
        |transaction, ks| {
            assert_eq!(transaction.range(ks, "c".."cc").unwrap().count(), 0);
            Changed::Range { from: b"a".to_vec(), to: Some(b"d".to_vec()) }
        },
    ];
    for read in reads {
        let mut transaction = db.transaction();
        let changed = read(&transaction, &ks);
        transaction.put(&ks, b"z", b"1").unwrap();
        let mut batch = db.batch();
        batch.delete_range(&ks, "a".."d").unwrap();
        db.commit(batch, Durability::Durable).unwrap();
        assert_eq!(conflict(transaction.commit(Durability::Durable)).changed, changed);
    }
    let mut transaction = db.transaction();
    assert!(!transaction.contains(&ks, b"d").unwrap());
    transaction.put(&ks, b"z", b"1").unwrap();
    let mut batch = db.batch();
    batch.delete_range(&ks, "a".."d").unwrap();
    db.commit(batch, Durability::Durable).unwrap();
    transaction.commit(Durability::Durable).unwrap();
}

#[test]
fn what_was_written_blindly_or_read_without_protection_conflicts_with_nothing() {
    let (world, ks) = one();
    let db = world.db();
    let mut transaction = db.transaction();
    transaction.put(&ks, b"a", b"mine").unwrap();
    transaction.delete_range(&ks, "x".."z").unwrap();
    assert!(transaction.get(&ks, b"a").unwrap().is_some() && !transaction.contains(&ks, b"y").unwrap());
    assert!(!transaction.snapshot().contains(&ks, b"b").unwrap());
    for key in [b"a", b"b", b"y"] {
        ks.put(key, b"theirs").unwrap();
    }
    transaction.commit(Durability::Durable).unwrap();
    assert_eq!(ks.get(b"a").unwrap().as_deref(), Some(&b"mine"[..]));
    assert!(!ks.contains(b"y").unwrap());
}

#[test]
fn a_transaction_that_writes_nothing_never_fails_and_leaves_no_entry() {
    let (world, ks) = one();
    let db = world.db();
    ks.put(b"a", b"1").unwrap();
    let transaction = db.transaction();
    assert!(transaction.contains(&ks, b"a").unwrap());
    let read = transaction.snapshot().lsn();
    let last = ks.put(b"a", b"2").unwrap();
    assert_eq!(transaction.get(&ks, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    let ticket = transaction.commit_async(Durability::Durable).unwrap();
    assert!(ticket.is_done());
    assert_eq!(ticket.wait().unwrap(), read);
    assert_eq!(db.visible_lsn(), last);
    drop(db.transaction());
    db.transaction().rollback();
    assert_eq!(db.statistics().transactions.live, 0);
}

#[test]
fn a_transaction_older_than_what_is_remembered_is_refused_as_too_old() {
    let mut world = World::new(1);
    world.options = world.options.clone().transaction_history_bytes_max(64 << 10);
    world.open(0).unwrap();
    let (db, ks) = (world.db(), world.db().create_keyspace("k").unwrap());
    let begin = |key: &[u8]| {
        let mut transaction = db.transaction();
        assert!(!transaction.contains(&ks, key).unwrap());
        transaction.put(&ks, key, b"1").unwrap();
        transaction
    };
    let old = begin(b"old");
    for round in 0..40u8 {
        ks.put_with(&[&[round; 4000][..], b"k"].concat(), b"", Durability::Buffered).unwrap();
        assert!(db.statistics().transactions.history_bytes <= (64 << 10) + (40 << 10));
    }
    let young = begin(b"young");
    for round in 0..10u8 {
        ks.put_with(&[&[round; 4000][..], b"l"].concat(), b"", Durability::Buffered).unwrap();
    }
    assert!(matches!(old.commit(Durability::Durable), Err(Error::TooOld { what: "transaction", .. })));
    young.commit(Durability::Durable).unwrap();
    // Without transactions next to nothing is kept.
    for round in 0..40u8 {
        ks.put_with(&[&[round; 4000][..], b"m"].concat(), b"", Durability::Buffered).unwrap();
    }
    assert!(db.statistics().transactions.history_bytes < 48 << 10, "{:?}", db.statistics().transactions);
}

#[test]
fn a_long_transaction_finds_its_conflict_in_what_was_committed_long_ago() {
    let (world, ks) = one();
    let db = world.db();
    for conflicting in [true, false] {
        let mut transaction = db.transaction();
        assert!(!transaction.contains(&ks, b"needle").unwrap());
        transaction.put(&ks, b"other", b"1").unwrap();
        let mut at = None;
        for round in 0..200u8 {
            ks.put_with(&[&[round; 2000][..], b"k"].concat(), b"", Durability::Buffered).unwrap();
            if round == 20 && conflicting {
                at = Some(ks.put(b"needle", b"").unwrap());
                ks.delete(b"needle").unwrap();
            }
        }
        let outcome = transaction.commit(Durability::Durable);
        match at {
            Some(lsn) => assert_eq!(conflict(outcome).lsn, lsn),
            None => assert!(outcome.is_ok()),
        }
    }
}

#[test]
fn dropped_and_foreign_keyspaces_and_limits_are_refused_and_change_nothing() {
    let mut world = World::new(1);
    world.options = world
        .options
        .clone()
        .key_bytes_max(16)
        .value_bytes_max(2000)
        .batch_bytes_max(4096)
        .transaction_reads_bytes_max(600);
    world.open(0).unwrap();
    let (_other, foreign) = one();
    let db = world.db();
    let (ks, doomed) = (db.create_keyspace("k").unwrap(), db.create_keyspace("doomed").unwrap());
    let mut transaction = db.transaction();
    assert!(matches!(transaction.put(&foreign, b"a", b""), Err(Error::InvalidArgument(_))));
    assert!(matches!(transaction.get(&foreign, b"a"), Err(Error::InvalidArgument(_))));
    assert!(matches!(transaction.put(&ks, &[0; 17], b""), Err(Error::LimitExceeded { .. })));
    assert!(matches!(transaction.put(&ks, b"a", &[0; 2001]), Err(Error::LimitExceeded { .. })));
    transaction.put(&ks, b"1", &[0; 2000]).unwrap();
    transaction.put(&ks, b"2", &[0; 2000]).unwrap();
    let bytes = transaction.bytes();
    assert!(matches!(transaction.put(&ks, b"3", &[0; 2000]), Err(Error::LimitExceeded { .. })));
    assert_eq!(transaction.bytes(), bytes);
    // What is written over takes no room twice.
    transaction.put(&ks, b"2", &[1; 1900]).unwrap();
    assert_eq!(transaction.bytes(), bytes - 100);
    transaction.delete_range::<&[u8]>(&ks, ..).unwrap();
    transaction.put(&ks, b"3", &[0; 2000]).unwrap();
    transaction.rollback();
    let transaction = db.transaction();
    let outcome = (0..100u8).try_for_each(|key| transaction.get(&ks, &[key]).map(drop));
    assert!(matches!(outcome, Err(Error::LimitExceeded { what: "transaction read bytes", .. })));
    drop(transaction);

    let mut transaction = db.transaction();
    assert!(!transaction.contains(&doomed, b"a").unwrap());
    transaction.put(&ks, b"a", b"1").unwrap();
    db.drop_keyspace("doomed").unwrap();
    assert!(matches!(transaction.commit(Durability::Durable), Err(Error::NotFound { .. })));
    assert_eq!(ks.count_all().unwrap(), 0);
}

#[test]
fn a_transaction_larger_than_an_entry_is_there_whole_and_conflicts_like_any_other() {
    let (world, ks) = one();
    let db = world.db();
    let begin = || {
        let mut transaction = db.transaction();
        assert!(!transaction.contains(&ks, b"guard").unwrap());
        for key in 0..600u32 {
            transaction.put(&ks, &key.to_be_bytes(), &[key as u8; 200]).unwrap();
        }
        transaction
    };
    let (large, loser) = (begin(), begin());
    let mut reader = db.transaction();
    assert!(!reader.contains(&ks, &300u32.to_be_bytes()).unwrap());
    reader.put(&ks, b"x", b"").unwrap();
    large.commit(Durability::Durable).unwrap();
    assert_eq!(
        conflict(reader.commit(Durability::Durable)).changed,
        Changed::Key(300u32.to_be_bytes().to_vec())
    );
    ks.put(b"guard", b"").unwrap();
    assert_eq!(conflict(loser.commit(Durability::Durable)).changed, Changed::Key(b"guard".to_vec()));
    assert_eq!(ks.count_all().unwrap(), 601);
    let entries = db.core().group.last().0;
    assert!(entries > Lsn(5), "it took several entries: {entries}");
}

#[test]
fn transact_runs_until_it_commits_and_gives_up_in_the_end() {
    let (world, ks) = one();
    let db = world.db();
    let mut runs = 0;
    let options = TransactOptions::new().attempts_max(4);
    let outcome = db.transact(options, |transaction| -> Result<()> {
        runs += 1;
        transaction.get(&ks, b"n")?;
        ks.put(b"n", &[runs])?;
        transaction.put(&ks, b"m", b"")
    });
    assert!(matches!(outcome, Err(Error::Conflict(_))));
    assert_eq!(runs, 4);
    let before = logwood_base::Clock::monotonic(&*world.clock);
    let found = db.transact(options, |transaction| -> Result<u8> {
        runs += 1;
        let found = transaction.get(&ks, b"n")?.unwrap()[0];
        if runs < 8 {
            drop(put_in_flight(db, &ks, b"n", &[runs]));
        }
        transaction.put(&ks, b"m", b"")?;
        Ok(found)
    });
    assert_eq!((found.unwrap(), runs), (7, 8));
    assert!(logwood_base::Clock::monotonic(&*world.clock) > before, "it waits on the clock it is given");
    // An error of the work's own ends it at once.
    let outcome = db.transact(options, |transaction| -> Result<()> {
        transaction.put(&ks, b"never", b"")?;
        Err(Error::InvalidArgument("mine".to_owned()))
    });
    assert!(matches!(outcome, Err(Error::InvalidArgument(_))) && !ks.contains(b"never").unwrap());
}

#[test]
fn on_a_full_disk_a_conflict_is_told_and_what_does_not_conflict_leaves_nothing_and_can_be_run_again() {
    let (mut world, ks) = one();
    let db = world.db();
    let begin = |read: &[u8], written: &[u8]| {
        let mut transaction = db.transaction();
        assert!(!transaction.contains(&ks, read).unwrap());
        transaction.put(&ks, written, &[0; 4000]).unwrap();
        transaction
    };
    let (conflicting, other) = (begin(b"a", b"1"), begin(b"b", b"2"));
    world.disk.set_capacity(Some(world.disk.used_bytes()));
    let mut tickets = vec![put_in_flight(db, &ks, b"a", b"")];
    let full = loop {
        let mut batch = db.batch();
        batch.put(&ks, b"filler", &[0; 4000]).unwrap();
        match db.commit_async(batch, Durability::Durable) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::DiskFull { .. }), "{full}");
    assert!(matches!(other.commit(Durability::Durable), Err(Error::DiskFull { .. })));
    assert_eq!(conflict(conflicting.commit(Durability::Durable)).lsn, tickets[0].lsn());
    assert!(ks.contains(b"a").unwrap() && !ks.contains(b"1").unwrap() && !ks.contains(b"2").unwrap());
    world.disk.set_capacity(None);
    begin(b"b", b"2").commit(Durability::Durable).unwrap();
    assert!(ks.contains(b"2").unwrap());
    drop((tickets, ks));
    world.drop_all();
}

/// Compiles, or the promise is broken.
#[test]
fn handles_may_go_to_other_threads_and_live_as_long_as_they_like() {
    fn anywhere<T: Send + Sync + 'static>() {}
    fn moved<T: Send + 'static>() {}
    fn cloned<T: Clone>() {}
    anywhere::<Database>();
    cloned::<Database>();
    anywhere::<Keyspace>();
    anywhere::<crate::Snapshot>();
    anywhere::<Transaction>();
    anywhere::<crate::Batch>();
    moved::<crate::Range>();
    moved::<crate::Ticket>();
}
