//! Following changes: a view built from them is the database, through crashes; what is held, lost and too old.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use logwood_base::Clock;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};
use logwood_base::environment::SystemClock;
use proptest::prelude::*;

use super::model;
use super::world::{State, Step, World, scale};
use crate::{
    BulkOptions, Change, ChangeSet, Changes, ChangesOptions, Database, Durability, Error, KeyspaceId, Lsn,
    Options, Result,
};

pub(super) mod crashes;
pub(super) mod holds;
mod log_only;
mod oldest;

/// What somebody makes of the changes: the same state, by another way.
#[derive(Clone, Default)]
struct View {
    names: BTreeMap<KeyspaceId, String>,
    state: State,
    /// The last commit in it.
    lsn: Lsn,
    time_ms: u64,
}

impl View {
    fn take(&mut self, set: &mut ChangeSet<'_>) -> Result<()> {
        assert!(set.lsn() > self.lsn && set.time_ms() >= self.time_ms);
        (self.lsn, self.time_ms) = (set.lsn(), set.time_ms());
        while let Some(change) = set.next()? {
            match change {
                Change::CreateKeyspace { keyspace, name } => {
                    assert!(self.names.insert(keyspace, name.to_owned()).is_none());
                    assert!(self.state.insert(name.to_owned(), BTreeMap::new()).is_none());
                }
                Change::DropKeyspace { keyspace } => {
                    self.state.remove(&self.names.remove(&keyspace).unwrap()).unwrap();
                }
                Change::Put { keyspace, key, value } => {
                    self.records(keyspace).insert(key.to_vec(), value.to_vec());
                }
                Change::Delete { keyspace, key } => {
                    self.records(keyspace).remove(key);
                }
                Change::DeleteRange { keyspace, from, to } => {
                    self.records(keyspace)
                        .retain(|key, _| &**key < from || to.is_some_and(|to| &**key >= to));
                }
            }
        }
        Ok(())
    }

    fn records(&mut self, keyspace: KeyspaceId) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        self.state.get_mut(&self.names[&keyspace]).unwrap()
    }

    /// Takes everything that is there.
    fn catch_up(&mut self, changes: &mut Changes) -> Result<()> {
        while let Some(mut set) = changes.next(Duration::ZERO)? {
            self.take(&mut set)?;
        }
        Ok(())
    }
}

fn put(key: u8, bytes: u16) -> Step {
    Step::Put { keyspace: 0, key, bytes, durable: true }
}

/// A database without background work and one keyspace.
fn opened(seed: u64) -> World {
    let mut world = World::new(seed);
    world.options = world.options.clone().background(false);
    world.open(0).unwrap();
    world.step(&Step::Create { keyspace: 0 }).unwrap();
    world
}

/// Work that makes the log let go of what it can.
fn let_go(world: &mut World) {
    for round in 0..3 {
        for key in 0..60 {
            world.step(&put(key, 40 + round)).unwrap();
        }
        world.step(&Step::Checkpoint).unwrap();
        world.db().core().log.maintain().unwrap();
    }
}

/// A transaction that takes several entries.
fn wide(world: &World, tag: u8) -> crate::Batch {
    of_records(world, tag, 300)
}

fn of_records(world: &World, tag: u8, count: u32) -> crate::Batch {
    let ks = world.db().keyspace("ks0").unwrap();
    let mut batch = world.db().batch();
    for key in 0..count {
        batch.put(&ks, &key.to_be_bytes(), &[tag; 300]).unwrap();
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32 * scale() as u32,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_view_built_from_changes_is_the_database_through_crashes(
        seed: u64,
        steps in prop::collection::vec((model::step(), prop::bool::weighted(0.6)), 1..100),
    ) {
        let mut world = World::new(seed);
        world.open(0).unwrap();
        let mut view = View::default();
        let options = ChangesOptions::new().durable_only(true);
        let mut changes = Some(world.db().changes_with(Lsn(1), &options).unwrap());
        for (step, look) in &steps {
            let ends = matches!(step, Step::Reopen | Step::Kill | Step::PowerCut { .. });
            if ends {
                changes = None;
            }
            world.step(step).unwrap();
            let changes = match &mut changes {
                Some(changes) => changes,
                none => none.insert(world.db().changes_with(view.lsn.next(), &options).unwrap()),
            };
            if *look {
                view.catch_up(changes).unwrap();
                assert_eq!(&view.state, &world.history[world.history.len() - 1]);
                assert_eq!(changes.position(), world.db().visible_lsn().next());
            }
        }
    }
}

#[test]
pub(super) fn a_commit_is_handed_out_when_it_is_visible_and_not_before() {
    let world = opened(1);
    let ks = world.db().keyspace("ks0").unwrap();
    let mut changes = world.db().changes(world.db().visible_lsn().next()).unwrap();
    let mut batch = world.db().batch();
    batch.put(&ks, b"k", b"v").unwrap();
    let ticket = world.db().commit_async(batch, Durability::Durable).unwrap();
    assert!(changes.next(Duration::ZERO).unwrap().is_none());
    assert!(ks.get(b"k").unwrap().is_none());
    let lsn = ticket.wait().unwrap();
    let mut set = changes.next(Duration::ZERO).unwrap().unwrap();
    assert_eq!(set.lsn(), lsn);
    let expected = Change::Put { keyspace: ks.id(), key: b"k", value: b"v" };
    assert_eq!(set.next().unwrap(), Some(expected));
    assert_eq!(set.next().unwrap(), None);
    assert_eq!(set.next().unwrap(), None);
    assert!(changes.next(Duration::ZERO).unwrap().is_none());
}

#[test]
pub(super) fn a_large_transaction_arrives_whole_in_bounded_memory_from_any_place_in_it() {
    let mut world = opened(2);
    world.step(&put(1, 5)).unwrap();
    let before = world.db().visible_lsn();
    let lsn = world.db().commit(wide(&world, 1), Durability::Durable).unwrap();
    let behind = world.db().commit(wide(&world, 2), Durability::Durable).unwrap();
    assert!(lsn.get() > before.get() + 5, "it took several entries");
    for from in before.get() + 1..=lsn.get() {
        let mut changes = world.db().changes(Lsn(from)).unwrap();
        let mut keys = Vec::new();
        let mut most = 0;
        let mut set = changes.next(Duration::ZERO).unwrap().unwrap();
        assert_eq!(set.lsn(), lsn);
        while let Some(change) = set.next().unwrap() {
            let Change::Put { key, value, .. } = change else { panic!("{change:?}") };
            assert_eq!(value, [1; 300]);
            keys.push(u32::from_be_bytes(key.try_into().unwrap()));
            most = most.max(set.buffered_bytes());
        }
        assert!(keys.into_iter().eq(0..300));
        assert!(most <= 2 * (16 << 10), "{most}");
        assert_eq!(changes.next(Duration::ZERO).unwrap().unwrap().lsn(), behind, "unread: passed over");
    }
}

#[test]
pub(super) fn the_fragments_of_a_transaction_stay_until_its_commit_was_handed_out() {
    let mut world = opened(3);
    let mut changes = world.db().changes(world.db().visible_lsn().next()).unwrap();
    // Its fragments are visible, its commit is not: who waits for the commit before it publishes what is done.
    let small = world.db().commit_async(world.db().batch(), Durability::Durable).unwrap();
    let ticket = world.db().commit_async(wide(&world, 1), Durability::Durable).unwrap();
    small.wait().unwrap();
    assert_eq!(changes.next(Duration::ZERO).unwrap().unwrap().lsn(), small.lsn());
    assert!(changes.next(Duration::ZERO).unwrap().is_none());
    assert_eq!(changes.position(), ticket.lsn());
    let lsn = ticket.wait().unwrap();
    let_go(&mut world);
    let mut set = changes.next(Duration::ZERO).unwrap().unwrap();
    assert_eq!(set.lsn(), lsn);
    let mut count = 0;
    while set.next().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 300);
    drop(changes);
    // Now they go, and whoever begins in the middle is told so.
    let_go(&mut world);
    let oldest = world.db().oldest_change_lsn().unwrap();
    assert!(oldest > lsn);
    assert!(matches!(world.db().changes(lsn), Err(Error::TooOld { .. })));
    world.db().changes(oldest).unwrap();
}

#[test]
pub(super) fn the_oldest_change_is_never_the_rest_of_a_transaction_whose_beginning_is_gone() {
    let mut inside = 0;
    for shift in 0..30u8 {
        let mut world = opened(u64::from(shift));
        for key in 0..shift {
            world.step(&put(key, 50)).unwrap();
        }
        for round in 0..12 {
            // Of different sizes, so that segments begin anywhere in them.
            let batch = of_records(&world, round, 250 + 10 * u32::from(shift));
            world.db().commit(batch, Durability::Durable).unwrap();
            world.db().checkpoint().unwrap();
            world.db().core().log.maintain().unwrap();
            let oldest = world.db().oldest_change_lsn().unwrap();
            inside += u64::from(oldest > world.db().core().group.first_lsn());
            let mut changes = world.db().changes_with(oldest, &ChangesOptions::new().hold(false)).unwrap();
            while let Some(mut set) = changes.next(Duration::ZERO).unwrap() {
                while set.next().unwrap().is_some() {}
            }
        }
    }
    assert!(inside > 10, "the log began inside of a transaction {inside} times");
}

#[test]
pub(super) fn a_reader_that_lags_is_named_keeps_its_log_and_loses_its_hold_beyond_its_bound() {
    let mut world = opened(4);
    let bound = 30 * (64 << 10);
    let named = |name: &str| ChangesOptions::new().name(name).log_bytes_max(bound);
    let mut slow = world.db().changes_with(Lsn(1), &named("slow view")).unwrap();
    let mut quick = world.db().changes_with(Lsn(1), &named("quick view")).unwrap();
    let mut view = View::default();
    let_go(&mut world);
    view.catch_up(&mut quick).unwrap();
    let laggard = world.db().statistics().log.laggard.unwrap();
    assert_eq!((laggard.1.as_str(), laggard.2), ("slow view", Lsn(1)));
    assert_eq!(world.db().oldest_change_lsn().unwrap(), Lsn(1));
    assert_eq!(slow.next(Duration::ZERO).unwrap().unwrap().lsn(), Lsn(1));
    for _ in 0..12 {
        let_go(&mut world);
        view.catch_up(&mut quick).unwrap();
    }
    for _ in 0..2 {
        let error = slow.next(Duration::ZERO).unwrap_err();
        assert!(matches!(error, Error::TooOld { what: "change", asked: Lsn(2), .. }), "{error}");
    }
    assert_eq!(view.state, world.history[world.history.len() - 1]);
    assert!(world.db().statistics().log.log_bytes <= bound + 4 * (64 << 10));
    let oldest = world.db().oldest_change_lsn().unwrap();
    assert!(oldest > Lsn(2));
    let error = world.db().changes(oldest.previous()).unwrap_err();
    assert!(matches!(error, Error::TooOld { oldest: found, .. } if found == oldest), "{error}");
    world.db().changes(oldest).unwrap();
}

#[test]
fn a_range_without_keys_is_deleted_by_nobody_and_nobody_is_told_of_it() {
    let world = opened(5);
    let (db, ks) = (world.db(), world.db().keyspace("ks0").unwrap());
    ks.put(b"a", b"1").unwrap();
    let before = db.visible_lsn();
    let mut changes = db.changes(before.next()).unwrap();
    assert_eq!(ks.delete_range("b".."a").unwrap(), before.next(), "a commit as that of an empty batch");
    assert_eq!(ks.delete_range("a".."a").unwrap(), db.durable_lsn());
    let mut batch = db.batch();
    batch.delete_range(&ks, "b".."a").unwrap();
    assert!(batch.is_empty());
    batch.put(&ks, b"b", b"2").unwrap();
    batch.delete_range::<&str>(&ks, (Bound::Excluded("z"), Bound::Included("c"))).unwrap();
    assert_eq!(batch.len(), 1);
    db.commit(batch, Durability::Durable).unwrap();
    let mut transaction = db.transaction();
    transaction.delete_range(&ks, "b".."a").unwrap();
    transaction.put(&ks, b"c", b"3").unwrap();
    transaction.commit(Durability::Durable).unwrap();
    let (mut commits, mut puts) = (0, 0);
    while let Some(mut set) = changes.next(Duration::ZERO).unwrap() {
        commits += 1;
        while let Some(change) = set.next().unwrap() {
            assert!(matches!(change, Change::Put { .. }), "{change:?}");
            puts += 1;
        }
    }
    assert_eq!((commits, puts, ks.count_all().unwrap()), (4, 2, 3));
    // Of an entry that somebody else wrote.
    let keyspace = ks.id();
    let written = crate::entry::Operation::DeleteRange { keyspace, from: b"b", to: Some(b"a") };
    assert_eq!(Change::from(written), Change::DeleteRange { keyspace, from: b"b", to: Some(b"b") });
}

#[test]
pub(super) fn a_reader_without_a_hold_is_told_when_the_log_let_go_of_what_comes_next() {
    let mut world = opened(5);
    let mut changes = world.db().changes_with(Lsn(1), &ChangesOptions::new().hold(false)).unwrap();
    let_go(&mut world);
    let error = changes.next(Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::TooOld { asked: Lsn(1), .. }), "{error}");
    assert!(changes.next(Duration::ZERO).is_err(), "it stays failed");
}

#[test]
pub(super) fn what_was_not_released_is_there_after_a_crash() {
    let mut world = opened(6);
    let options = ChangesOptions::new().hold_until_released(true);
    let mut changes = world.db().changes_with(Lsn(1), &options).unwrap();
    let mut view = View::default();
    view.catch_up(&mut changes).unwrap();
    // The view is stored here; what follows is read, and lost with the process.
    let stored = view.clone();
    changes.release(stored.lsn);
    let_go(&mut world);
    view.catch_up(&mut changes).unwrap();
    let_go(&mut world);
    view.catch_up(&mut changes).unwrap();
    drop(changes);
    world.step(&Step::PowerCut { seed: 6 }).unwrap();
    let mut changes = world.db().changes_with(stored.lsn.next(), &options).unwrap();
    let mut again = stored;
    again.catch_up(&mut changes).unwrap();
    assert_eq!(again.state, view.state);
    // Released, it may go; what nobody has seen is not released, whatever is said.
    changes.release(Lsn::MAX);
    let behind = world.db().visible_lsn().next();
    let_go(&mut world);
    let laggard = world.db().statistics().log.laggard.map(|(_, _, from)| from);
    assert_eq!((changes.position(), laggard), (behind, Some(behind)));
    assert!(world.db().oldest_change_lsn().unwrap() > Lsn(10));
    drop(changes);
}

#[test]
pub(super) fn what_began_before_the_release_and_ended_behind_it_is_there_after_a_crash() {
    let mut world = opened(12);
    let options = ChangesOptions::new().name("mirror").hold_until_released(true);
    world.options = world.options.clone().follower("mirror", 0);
    let mut changes = world.db().changes_with(Lsn(1), &options).unwrap();
    let mut view = View::default();
    let ks = world.db().keyspace("ks0").unwrap();
    let mut bulk = world.db().bulk_write(BulkOptions::new().memory_bytes(64 << 10)).unwrap();
    for key in 0..600u32 {
        bulk.put(&ks, &key.to_be_bytes(), &[7; 300]).unwrap();
    }
    // Between its fragments and its end, whatever the log lets go otherwise.
    let_go(&mut world);
    view.catch_up(&mut changes).unwrap();
    let stored = view.clone();
    changes.release(stored.lsn);
    let lsn = bulk.commit(Durability::Durable).unwrap();
    for round in 0..3 {
        ks.put(b"behind", &[round]).unwrap();
        view.catch_up(&mut changes).unwrap();
        world.db().checkpoint().unwrap();
        world.db().core().log.maintain().unwrap();
    }
    drop((ks, changes));
    world.disk.crash(&mut fastrand::Rng::with_seed(12));
    world.drop_all();
    world.db = Some(Database::open(super::world::DIR, world.options.clone()).unwrap());
    let mut changes = world.db().changes_with(stored.lsn.next(), &options).unwrap();
    let mut again = stored;
    again.catch_up(&mut changes).unwrap();
    assert!(again.lsn > lsn && again.state == view.state);
    // Released, it may go.
    changes.release(again.lsn);
    let ks = world.db().keyspace("ks0").unwrap();
    drop(ks);
    for round in 0..3 {
        let ks = world.db().keyspace("ks0").unwrap();
        for _ in 0..100 {
            ks.put(b"behind", &[round; 900]).unwrap();
        }
        world.db().checkpoint().unwrap();
        world.db().core().log.maintain().unwrap();
    }
    assert!(world.db().oldest_change_lsn().unwrap() > lsn);
}

#[test]
pub(super) fn buffered_commits_reach_a_durable_reader_when_no_power_cut_can_take_them() {
    for seed in 0..20 {
        let mut world = opened(seed);
        let durable = ChangesOptions::new().durable_only(true);
        let mut changes = world.db().changes_with(Lsn(1), &durable).unwrap();
        let mut view = View::default();
        for key in 0..9 {
            world.step(&Step::Put { keyspace: 0, key, bytes: 5, durable: false }).unwrap();
        }
        view.catch_up(&mut changes).unwrap();
        assert_eq!(view.lsn, world.db().visible_lsn());
        drop(changes);
        world.disk.crash(&mut fastrand::Rng::with_seed(seed));
        world.drop_all();
        world.open(world.history.len() - 1).unwrap();
        assert_eq!(world.history[world.history.len() - 1], view.state);
    }
}

#[test]
pub(super) fn a_read_that_failed_is_tried_again_and_damage_stays() {
    let mut world = opened(7);
    for key in 0..200 {
        world.step(&put(key, 62)).unwrap();
    }
    let mut changes = world.db().changes(Lsn(1)).unwrap();
    world.disk.set_fault(Fault::new(&[Operation::Read], Outcome::Io).on("log/"));
    let mut failed = 0;
    let mut view = View::default();
    loop {
        match view.catch_up(&mut changes) {
            Ok(()) => break,
            Err(Error::Io { .. }) => failed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(failed, 1);
    assert_eq!(view.state, world.history[world.history.len() - 1]);
    let mut changes = world.db().changes(Lsn(1)).unwrap();
    let mut segments = world.disk.paths();
    segments.retain(|path| path.starts_with("/db/log") && path.extension().is_some());
    for segment in segments {
        let bytes = world.disk.read_file(&segment).unwrap().len() as u64;
        (4096..bytes).step_by(512).for_each(|at| world.disk.flip_bit(&segment, at, 1));
    }
    let damage = View::default().catch_up(&mut changes).unwrap_err();
    assert!(matches!(damage, Error::Corruption(_)), "{damage}");
    assert!(matches!(changes.next(Duration::ZERO), Err(Error::Corruption(_))));
}

/// Takes changes of a set until one fails.
fn take_until_failure(set: &mut ChangeSet<'_>) -> (usize, Error) {
    let mut taken = 0;
    loop {
        match set.next() {
            Ok(Some(_)) => taken += 1,
            Ok(None) => panic!("nothing failed"),
            Err(error) => return (taken, error),
        }
    }
}

/// A world whose newest but one commit takes more fragments than are read at once, and a reader that stands before it.
fn before_a_long_transaction() -> (World, Changes, Lsn) {
    let world = opened(9);
    let ks = world.db().keyspace("ks0").unwrap();
    let changes = world.db().changes(world.db().visible_lsn().next()).unwrap();
    let mut batch = world.db().batch();
    for key in 0..5000u32 {
        batch.put(&ks, &key.to_be_bytes(), &[1; 400]).unwrap();
    }
    let lsn = world.db().commit(batch, Durability::Durable).unwrap();
    ks.put(b"behind", b"it").unwrap();
    (world, changes, lsn)
}

#[test]
fn a_commit_of_which_a_part_could_not_be_read_is_handed_out_again_whole() {
    let (world, mut changes, lsn) = before_a_long_transaction();
    let mut set = changes.next(Duration::ZERO).unwrap().unwrap();
    assert_eq!(set.lsn(), lsn);
    set.next().unwrap().unwrap();
    world.disk.set_fault(Fault::new(&[Operation::Read], Outcome::Io).on("log/"));
    let (taken, error) = take_until_failure(&mut set);
    assert!(taken > 10 && matches!(error, Error::Io { .. }), "{taken} {error}");
    assert!(matches!(set.next(), Err(Error::Io { .. })), "it stays failed");
    assert_eq!(changes.position(), lsn, "where somebody else would go on");
    let mut set = changes.next(Duration::ZERO).unwrap().unwrap();
    assert_eq!(set.lsn(), lsn);
    let mut keys = 0;
    while let Some(change) = set.next().unwrap() {
        assert!(matches!(change, Change::Put { key, .. } if key == u32::to_be_bytes(keys)));
        keys += 1;
    }
    assert_eq!(keys, 5000);
    assert_eq!(changes.next(Duration::ZERO).unwrap().unwrap().lsn(), lsn.next());
    assert!(changes.next(Duration::ZERO).unwrap().is_none());
}

#[test]
fn nothing_is_handed_out_behind_a_commit_whose_rest_is_damaged() {
    let (world, mut changes, lsn) = before_a_long_transaction();
    let mut set = changes.next(Duration::ZERO).unwrap().unwrap();
    set.next().unwrap().unwrap();
    let mut segments = world.disk.paths();
    segments.retain(|path| path.starts_with("/db/log") && path.extension().is_some());
    for segment in segments {
        let bytes = world.disk.read_file(&segment).unwrap().len() as u64;
        (4096..bytes).step_by(512).for_each(|at| world.disk.flip_bit(&segment, at, 1));
    }
    let (_, error) = take_until_failure(&mut set);
    assert!(matches!(error, Error::Corruption(_)), "{error}");
    for _ in 0..2 {
        assert!(matches!(changes.next(Duration::ZERO), Err(Error::Corruption(_))));
        assert_eq!(changes.position(), lsn);
    }
}

#[test]
fn a_position_that_the_log_does_not_reach_any_more_is_refused() {
    let mut world = opened(10);
    let mut changes = world.db().changes(Lsn(1)).unwrap();
    let durable = world.db().visible_lsn();
    for key in 0..9 {
        world.step(&Step::Put { keyspace: 0, key, bytes: 5, durable: false }).unwrap();
    }
    View::default().catch_up(&mut changes).unwrap();
    let position = changes.position();
    drop(changes);
    // A power cut that takes all that it may.
    let lost = (0..300).find(|seed| {
        let mut cut = world.fork();
        cut.disk.crash(&mut fastrand::Rng::with_seed(*seed));
        cut.open(0).unwrap();
        let end = cut.db().visible_lsn();
        if end.next() >= position {
            return false;
        }
        assert!(end >= durable);
        let error = cut.db().changes(position).unwrap_err();
        assert!(matches!(error, Error::Replaced(_)), "{error}");
        cut.db().changes(end.next()).unwrap();
        assert!(cut.db().changes(end.next().next()).is_err());
        true
    });
    assert!(lost.is_some());
}

#[test]
pub(super) fn a_stopped_database_hands_out_what_was_visible_and_then_says_so() {
    let mut world = opened(8);
    let mut changes = world.db().changes(Lsn(1)).unwrap();
    world.step(&put(1, 5)).unwrap();
    world.disk.set_fault(Fault::new(Operation::WRITES, Outcome::Io).on("log/"));
    world.step(&put(2, 5)).unwrap_err();
    let mut view = View::default();
    let error = view.catch_up(&mut changes).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    assert_eq!(view.state["ks0"].len(), 1);
    assert!(changes.ready_now().is_err());
    drop(changes);
    world.drop_all();

    let world = opened(9);
    let mut changes = world.db().changes(Lsn(1)).unwrap();
    world.db().close().unwrap();
    assert!(matches!(changes.next(Duration::from_secs(60)), Err(Error::Closed)));
    assert!(matches!(world.db().changes(Lsn(1)), Err(Error::Closed)));
}

impl Changes {
    /// Polls [`Changes::ready`] once.
    fn ready_now(&mut self) -> Result<bool> {
        let mut ready = std::pin::pin!(self.ready());
        match ready.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }
}

/// Wakes a thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Calls the database as soon as it is woken, on the thread that woke it.
struct CallsBack {
    ks: crate::Keyspace,
    db: Database,
    woken: AtomicU64,
}

impl Wake for CallsBack {
    fn wake(self: Arc<Self>) {
        let nth = self.woken.fetch_add(1, Ordering::SeqCst);
        let lsn = self.ks.put(b"woken", &nth.to_be_bytes()).unwrap();
        assert!(self.db.visible_lsn() >= lsn && self.db.snapshot().lsn() >= lsn);
        self.db.ensure_keyspace("by whom was woken").unwrap();
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a thread that may never end must not be joined")]
fn whoever_is_woken_may_call_the_database_at_once() {
    let (done, outcome) = std::sync::mpsc::channel();
    // On a thread of its own, so that a deadlock fails the test and does not stop it.
    std::thread::spawn(move || {
        let world = opened(11);
        let db = world.db().clone();
        let ks = db.keyspace("ks0").unwrap();
        let waker = Arc::new(CallsBack { ks: ks.clone(), db: db.clone(), woken: AtomicU64::new(0) });
        let mut woken = 0;
        let calls: [&dyn Fn(); 3] =
            [&|| assert!(ks.put(b"a", b"1").is_ok()), &|| drop(db.create_keyspace("new").unwrap()), &|| {
                db.drop_keyspace("new").unwrap()
            }];
        for call in calls {
            let mut changes = db.changes(db.visible_lsn().next()).unwrap();
            let waker = Waker::from(Arc::clone(&waker));
            let mut ready = std::pin::pin!(changes.ready());
            assert!(ready.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            call();
            woken += 1;
            assert!(ready.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        }
        done.send((woken, waker.woken.load(Ordering::SeqCst))).unwrap();
    });
    let (expected, found) = outcome.recv_timeout(Duration::from_secs(120)).expect("no deadlock");
    assert_eq!(found, expected);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested are threads")]
fn readers_that_wait_are_woken_by_every_commit_and_miss_none() {
    let home = tempfile::tempdir().unwrap();
    let db = Database::open(home.path(), Options::new().log_segment_bytes(256 << 10)).unwrap();
    let ks = db.ensure_keyspace("k").unwrap();
    let clock = SystemClock::new();
    let rounds = 400 * scale();
    let (waits, polls) = (db.changes(Lsn(2)).unwrap(), db.changes(Lsn(2)).unwrap());
    std::thread::scope(|scope| {
        let check = |expected: &mut u64, set: &mut ChangeSet<'_>| {
            while let Some(Change::Put { value, .. }) = set.next().unwrap() {
                assert_eq!(value, expected.to_be_bytes());
                *expected += 1;
            }
        };
        scope.spawn(move || {
            let (mut changes, mut expected) = (waits, 0);
            while expected < rounds {
                let set = changes.next(Duration::from_secs(120)).unwrap();
                check(&mut expected, &mut set.expect("woken long before"));
            }
        });
        scope.spawn(move || {
            let (mut changes, mut expected) = (polls, 0);
            while expected < rounds {
                block_on(changes.ready()).unwrap();
                while let Some(mut set) = changes.next(Duration::ZERO).unwrap() {
                    check(&mut expected, &mut set);
                }
            }
        });
        for n in 0..rounds {
            let durability = if n % 2 == 0 { Durability::Durable } else { Durability::Buffered };
            let mut batch = db.batch();
            batch.put(&ks, &n.to_be_bytes(), &n.to_be_bytes()).unwrap();
            // A commit that nobody waits for is published by background work.
            let ticket = db.commit_async(batch, durability).unwrap();
            if n % 7 != 0 && n + 1 < rounds {
                ticket.wait().unwrap();
            }
        }
    });
    assert!(clock.monotonic() < Duration::from_secs(60 * scale()), "nobody slept through a commit");

    // Who waits is told when nothing more will come.
    let mut changes = db.changes(db.visible_lsn().next()).unwrap();
    let mut polled = db.changes(db.visible_lsn().next()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || changes.next(Duration::MAX).map(|set| set.is_some()));
        let polling = scope.spawn(move || block_on(polled.ready()));
        std::thread::park_timeout(Duration::from_millis(50));
        db.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
        assert!(matches!(polling.join().unwrap(), Err(Error::Closed)));
    });
}
