//! What a single call promises.

use std::ops::Bound;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::world::{DIR, World, small_options};
use crate::entry::{Body, Entry};
use crate::{Database, Durability, Error, Lsn, Options};

fn entries(db: &Database) -> Vec<(Lsn, u64, String)> {
    let mut cursor = db.core().group.cursor(Lsn(1));
    let mut entries = Vec::new();
    while let Some(entry) = cursor.next().unwrap() {
        let decoded = Entry::decode(entry.payload).unwrap();
        entries.push((entry.lsn, decoded.time_ms, decoded.body.name().to_owned()));
    }
    entries
}

#[test]
pub(super) fn the_time_of_entries_never_goes_back_whatever_the_clock_does() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    for wall in [5_000, 4_000, 9_000, 1, 9_500] {
        world.clock.set_wall_ms(wall);
        ks.put(b"a", b"b").unwrap();
    }
    let times: Vec<_> = entries(world.db()).into_iter().map(|(_, time, _)| time).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times.last(), Some(&1_000_000));
    world.history.push([("k".to_owned(), [(b"a".to_vec(), b"b".to_vec())].into())].into());
    (world.durable, world.acknowledged) = (1, 1);
    drop(ks);
    world.kill().unwrap();
    world.db().keyspace("k").unwrap().put(b"a", b"c").unwrap();
    let times: Vec<_> = entries(world.db()).into_iter().map(|(_, time, _)| time).collect();
    assert!(times.is_sorted(), "also over a restart: {times:?}");
}

#[test]
pub(super) fn a_commit_is_invisible_until_it_is_durable() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let db = world.db();
    let ks = db.create_keyspace("k").unwrap();
    let mut batch = db.batch();
    batch.put(&ks, b"a", b"b").unwrap();
    let ticket = db.commit_async(batch, Durability::Durable).unwrap();
    assert_eq!(ks.get(b"a").unwrap(), None);
    assert_eq!(db.snapshot().get(&ks, b"a").unwrap(), None);
    assert!(!ticket.is_done() && db.visible_lsn() < ticket.lsn());
    // A buffered commit behind it is visible together with it, and waits for it.
    let lsn = ks.put_with(b"c", b"d", Durability::Buffered).unwrap();
    assert!(db.visible_lsn() >= lsn && db.durable_lsn() >= ticket.lsn());
    assert!(ks.contains(b"a").unwrap() && ticket.is_done());
    ticket.wait().unwrap();
}

#[test]
pub(super) fn a_polled_ticket_is_answered_by_background_work_alone() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    let mut batch = world.db().batch();
    batch.put(&ks, b"a", b"b").unwrap();
    let mut ticket = std::pin::pin!(world.db().commit_async(batch, Durability::Durable).unwrap());
    let mut context = Context::from_waker(Waker::noop());
    assert!(ticket.as_mut().poll(&mut context).is_pending());
    world.spawner.run_until_idle(std::time::Duration::ZERO, 100);
    assert!(matches!(ticket.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
}

/// Closes its database as soon as it is woken, on the thread that woke it.
struct Closes(crate::Database, std::sync::mpsc::Sender<Result<(), Error>>);

impl std::task::Wake for Closes {
    fn wake(self: std::sync::Arc<Self>) {
        self.1.send(self.0.close()).unwrap();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a thread that may never end must not be joined")]
fn who_is_woken_by_a_ticket_may_close_the_database_at_once() {
    for is_woken_by_closing in [false, true] {
        let (told, outcome) = std::sync::mpsc::channel();
        // On a thread of its own, so that a deadlock fails the test and does not stop it.
        std::thread::spawn(move || close_when_woken(is_woken_by_closing, told));
        outcome.recv_timeout(std::time::Duration::from_secs(60)).expect("no deadlock").unwrap();
    }
}

fn close_when_woken(is_woken_by_closing: bool, told: std::sync::mpsc::Sender<Result<(), Error>>) {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    let mut batch = world.db().batch();
    batch.put(&ks, b"a", b"b").unwrap();
    let mut ticket = std::pin::pin!(world.db().commit_async(batch, Durability::Durable).unwrap());
    let waker = Waker::from(std::sync::Arc::new(Closes(world.db().clone(), told)));
    assert!(ticket.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    if is_woken_by_closing {
        // Nobody has stepped the writer task: whoever closes wakes, and is not in its own way.
        return world.db().close().unwrap();
    }
    // It writes the commit, while it keeps other checkpoints away; closing wants to end it.
    world.db().checkpoint().unwrap();
    world.spawner.run_until_idle(std::time::Duration::ZERO, 100);
}

#[test]
pub(super) fn limits_are_checked_before_anything_is_written() {
    let mut world = World::new(1);
    world.options =
        world.options.clone().key_bytes_max(16).value_bytes_max(2000).batch_bytes_max(4096).keyspaces_max(2);
    world.open(0).unwrap();
    let db = world.db();
    let ks = db.create_keyspace("k").unwrap();
    let before = entries(db).len();
    let refused = |result: Result<Lsn, Error>| assert!(matches!(result, Err(Error::LimitExceeded { .. })));
    refused(ks.put(&[0; 17], b""));
    refused(ks.put(b"", &[0; 2001]));
    refused(ks.delete(&[0; 17]));
    let mut batch = db.batch();
    batch.put(&ks, b"1", &[0; 2000]).unwrap();
    batch.put(&ks, b"2", &[0; 2000]).unwrap();
    let bytes = batch.bytes();
    assert!(matches!(batch.put(&ks, b"3", &[0; 2000]), Err(Error::LimitExceeded { .. })));
    assert_eq!((batch.len(), batch.bytes()), (2, bytes), "the batch is as it was");
    assert!(db.create_keyspace("").is_err() && db.create_keyspace(&"x".repeat(256)).is_err());
    assert_eq!(entries(db).len(), before);
    db.create_keyspace("second").unwrap();
    assert!(matches!(db.create_keyspace("third"), Err(Error::LimitExceeded { .. })));
    db.commit(batch, Durability::Durable).unwrap();
    assert_eq!(ks.count_all().unwrap(), 2);
}

#[test]
pub(super) fn keyspaces_of_another_database_are_refused() {
    let (mut one, mut other) = (World::new(1), World::new(2));
    one.open(0).unwrap();
    other.open(0).unwrap();
    let (ks, foreign) = (one.db().create_keyspace("k").unwrap(), other.db().create_keyspace("k").unwrap());
    let mut batch = one.db().batch();
    assert!(matches!(batch.put(&foreign, b"a", b"b"), Err(Error::InvalidArgument(_))));
    assert!(matches!(one.db().snapshot().get(&foreign, b"a"), Err(Error::InvalidArgument(_))));
    batch.put(&ks, b"a", b"b").unwrap();
    assert!(matches!(other.db().commit(batch, Durability::Durable), Err(Error::InvalidArgument(_))));
}

#[test]
pub(super) fn a_batch_for_a_dropped_keyspace_is_refused_and_its_name_can_be_used_again() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let db = world.db();
    let old = db.create_keyspace("k").unwrap();
    old.put(b"a", b"old").unwrap();
    let mut batch = db.batch();
    batch.put(&old, b"a", b"newer").unwrap();
    db.drop_keyspace("k").unwrap();
    let new = db.create_keyspace("k").unwrap();
    assert!(matches!(db.commit(batch, Durability::Durable), Err(Error::NotFound { .. })));
    assert!(matches!(old.get(b"a"), Err(Error::NotFound { .. })));
    assert!(matches!(old.put(b"a", b"b"), Err(Error::NotFound { .. })));
    assert_ne!(old.id(), new.id());
    assert_eq!(new.get(b"a").unwrap(), None);
}

#[test]
pub(super) fn a_transaction_larger_than_an_entry_takes_effect_at_once_and_survives() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let db = world.db();
    let ks = db.create_keyspace("k").unwrap();
    let mut batch = db.batch();
    for key in 0..600u32 {
        batch.put(&ks, &key.to_be_bytes(), &[key as u8; 200]).unwrap();
    }
    let ticket = db.commit_async(batch, Durability::Durable).unwrap();
    assert_eq!(ks.count_all().unwrap(), 0, "nothing of it is seen before the end");
    ticket.wait().unwrap();
    assert_eq!(ks.count_all().unwrap(), 600);
    let kinds: Vec<_> = entries(db).into_iter().map(|(_, _, kind)| kind).collect();
    assert!(kinds.iter().filter(|kind| *kind == "fragment").count() >= 8, "{kinds:?}");
    assert_eq!(kinds.last().map(String::as_str), Some("commit of fragments"));
    world.disk.crash(&mut fastrand::Rng::with_seed(1));
    drop((ticket, ks));
    world.drop_all();
    let db = Database::open(DIR, world.options.clone()).unwrap();
    assert_eq!(db.keyspace("k").unwrap().count_all().unwrap(), 600);
}

/// Leaves fragments without an end in the log: the disk is full half way.
pub(super) fn orphaned() -> (World, u64) {
    for k in 1.. {
        let mut world = World::new(1);
        world.open(0).unwrap();
        let ks = world.db().create_keyspace("k").unwrap();
        ks.put(b"a", b"before").unwrap();
        let mut batch = world.db().batch();
        for key in 0..2000u32 {
            batch.put(&ks, &key.to_be_bytes(), &[key as u8; 200]).unwrap();
        }
        world.disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).nth(k).for_ever());
        let outcome = world.db().commit(batch, Durability::Durable);
        let open = world.db().core().sequencer.lock().applier.fragments.oldest();
        if matches!(outcome, Err(Error::DiskFull { .. })) && open.is_some() {
            drop(ks);
            return (world, k);
        }
        assert!(outcome.is_err(), "the disk was never full in the middle of a transaction");
    }
    unreachable!()
}

#[test]
pub(super) fn a_transaction_that_found_the_disk_full_is_aborted_by_the_next_writer() {
    let (world, _) = orphaned();
    let ks = world.db().keyspace("k").unwrap();
    assert_eq!(ks.count_all().unwrap(), 1);
    world.disk.clear_faults();
    world.db().checkpoint().unwrap();
    ks.put(b"b", b"after").unwrap();
    assert_eq!(ks.count_all().unwrap(), 2);
    assert!(world.db().core().sequencer.lock().applier.fragments.oldest().is_none());
    let kinds: Vec<_> = entries(world.db()).into_iter().map(|(_, _, kind)| kind).collect();
    assert!(kinds.iter().any(|kind| kind == "abort"), "{kinds:?}");
}

#[test]
pub(super) fn orphaned_fragments_survive_a_checkpoint_and_are_aborted_at_the_next_open() {
    let (mut world, _) = orphaned();
    world.disk.clear_faults();
    // One that nobody asked for: whoever asks for a checkpoint has them aborted.
    world.db().core().checkpoint_now().unwrap();
    world.drop_all();
    world.disk.kill_process();
    let db = Database::open(DIR, world.options.clone()).unwrap();
    assert!(db.core().sequencer.lock().applier.fragments.oldest().is_none());
    let kinds: Vec<_> = entries(&db).into_iter().map(|(_, _, kind)| kind).collect();
    assert!(kinds.iter().any(|kind| kind == "abort"), "{kinds:?}");
    assert_eq!(db.keyspace("k").unwrap().count_all().unwrap(), 1);
}

#[test]
pub(super) fn entries_of_a_newer_version_are_refused_as_such() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let core = world.db().core().clone();
    let newer = [200u8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let append = crate::Append {
        term: core.group.last().1.max(crate::Term::FIRST),
        previous: None,
        first_lsn: core.group.last().0.next(),
        entries: &[(crate::Term::FIRST, &newer)],
        durability: Durability::Durable,
    };
    core.group.append(append).unwrap().wait().unwrap();
    drop(core);
    world.drop_all();
    world.disk.kill_process();
    let error = Database::open(DIR, world.options.clone()).unwrap_err();
    assert!(matches!(error, Error::UnsupportedFormat { .. }), "{error}");
}

#[test]
pub(super) fn kinds_that_change_no_tree_are_replayed() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    {
        let core = world.db().core();
        let mut sequencer = core.sequencer.lock();
        let range = crate::entry::KeyRange { from: b"", to: None };
        let keyspace = crate::KeyspaceId(1);
        for body in [
            Body::NoOp,
            Body::Membership(b"m"),
            Body::OpenMark { keyspace, range },
            Body::Mark { opened: Lsn(3), keyspace, range, digest: crate::Digest::EMPTY },
        ] {
            core.append_and_apply(&mut sequencer, body).unwrap();
        }
    }
    world.power_cut(1).unwrap();
    assert_eq!(world.db().visible_lsn(), Lsn(4));
}

#[test]
pub(super) fn watermarks_hold_and_reopening_goes_on_in_the_same_term() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    ks.put_with(b"a", b"b", Durability::Buffered).unwrap();
    let marks = world.db().statistics().watermarks;
    assert_eq!((marks.appended, marks.visible, marks.durable), (Lsn(2), Lsn(2), Lsn(1)));
    world.db().checkpoint().unwrap();
    let marks = world.db().statistics().watermarks;
    assert_eq!((marks.checkpoint, marks.durable), (Lsn(2), Lsn(2)));
    assert_eq!(world.db().core().group.last().1, crate::Term::FIRST);
}

#[test]
pub(super) fn recovery_tells_how_far_it_is() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().create_keyspace("k").unwrap();
    for n in 0..100u8 {
        ks.put_with(&[n], b"v", Durability::Buffered).unwrap();
    }
    drop(ks);
    world.db().close().unwrap();
    world.drop_all();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let options = world.options.clone().progress(move |progress| tell.lock().unwrap().push(progress));
    let db = Database::open(DIR, options).unwrap();
    let last = *told.lock().unwrap().last().unwrap();
    assert_eq!((last.done, last.total, last.lsn), (101, 101, Lsn(101)));
    assert_eq!(db.statistics().recovery.entries_replayed, 101);
}

#[test]
pub(super) fn options_that_contradict_the_formats_are_refused() {
    for options in [
        small_options().log_segment_bytes(1),
        small_options().value_bytes_max(usize::MAX),
        Options::new().cache_bytes(0),
    ] {
        assert!(matches!(Database::open("nowhere", options), Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn a_range_delete_may_end_with_the_longest_key_there_may_be() {
    let mut world = World::new(1);
    world.open(0).unwrap();
    let ks = world.db().ensure_keyspace("k").unwrap();
    let longest = vec![7; logwood_base::limits::KEY_BYTES_MAX];
    let last = vec![0xff; logwood_base::limits::KEY_BYTES_MAX];
    let first = vec![1];
    for key in [&first[..], &longest, b"\x08", &last] {
        ks.put(key, b"").unwrap();
    }
    let delete = |(from, to): (Bound<&Vec<u8>>, Bound<&Vec<u8>>)| {
        let mut batch = world.db().batch();
        batch.delete_range::<Vec<u8>>(&ks, (from, to))?;
        world.db().commit(batch, Durability::Durable)
    };
    delete((Bound::Excluded(&last), Bound::Unbounded)).unwrap();
    assert_eq!(ks.count_all().unwrap(), 4);
    delete((Bound::Excluded(&first), Bound::Included(&longest))).unwrap();
    assert!(!ks.contains(&longest).unwrap() && ks.count_all().unwrap() == 3);
    delete((Bound::Excluded(&longest), Bound::Included(&last))).unwrap();
    assert_eq!(ks.count_all().unwrap(), 1);
    let too_long = vec![7; logwood_base::limits::KEY_BYTES_MAX + 1];
    let refused = delete((Bound::Unbounded, Bound::Excluded(&too_long)));
    assert!(matches!(refused, Err(crate::Error::LimitExceeded { .. })), "{refused:?}");
    drop(ks);
}
