//! Following a log without trees: the same commits as those of the database that wrote them, as far as they are decided.

use std::sync::Arc;
use std::time::Duration;

use logwood_base::disk::SimulatedDisk;
use logwood_base::environment::{ManualClock, ManualSpawner, SeededRandom};

use super::super::world::{Step, World, small_options};
use super::{View, opened, put, wide};
use crate::{Append, ChangesOptions, Durability, Environment, Error, LogOnly, Lsn};

/// A replica's log on a disk of its own.
fn replica() -> LogOnly {
    let environment = Environment {
        disk: Arc::new(SimulatedDisk::new(1)),
        clock: Arc::new(ManualClock::new(5)),
        random: Arc::new(SeededRandom::new(1)),
        spawner: Arc::new(ManualSpawner::new()),
    };
    LogOnly::open("replica", small_options().environment(environment)).unwrap()
}

/// Takes over all entries of a database, as a leader would send them.
fn take_over(log: &LogOnly, world: &World) {
    let group = &world.db().core().group;
    loop {
        let first_lsn = log.last().0.next();
        let entries = group.read(first_lsn, Lsn::MAX, 64 << 10).unwrap();
        let Some(last) = entries.last() else { return };
        let payloads: Vec<_> = entries.iter().map(|entry| (entry.term, &*entry.payload)).collect();
        let (term, durability) = (last.term, Durability::Buffered);
        let append = Append { term, previous: None, first_lsn, entries: &payloads, durability };
        log.append(append).unwrap().wait().unwrap();
    }
}

fn options() -> ChangesOptions {
    ChangesOptions::new().name("index")
}

#[test]
fn a_log_without_trees_hands_out_what_is_decided_and_it_is_the_database() {
    let mut world = opened(1);
    for key in 0..40 {
        world.step(&put(key, 30)).unwrap();
    }
    world.db().commit(wide(&world, 1), Durability::Durable).unwrap();
    world.step(&Step::Create { keyspace: 1 }).unwrap();
    let log = replica();
    take_over(&log, &world);
    let mut changes = log.changes(Lsn(1), &options()).unwrap();
    let (mut view, mut ours) = (View::default(), View::default());
    for decided in 1..=log.last().0.get() {
        assert!(changes.next(Duration::ZERO).unwrap().is_none(), "nothing beyond what is decided");
        assert!(!changes.ready_now().unwrap());
        log.set_committed(Lsn(decided));
        view.catch_up(&mut changes).unwrap();
        assert!(view.lsn <= Lsn(decided));
    }
    ours.catch_up(&mut world.db().changes(Lsn(1)).unwrap()).unwrap();
    assert_eq!((view.lsn, &view.state), (ours.lsn, &ours.state));
    assert!(view.state["ks0"].len() > 300);
}

#[test]
fn a_large_transaction_is_whole_from_any_place_in_a_log_without_trees() {
    let world = opened(2);
    let before = world.db().visible_lsn();
    let commit = world.db().commit(wide(&world, 1), Durability::Durable).unwrap();
    let log = replica();
    take_over(&log, &world);
    log.set_committed(commit);
    for from in before.get() + 1..=commit.get() {
        let mut changes = log.changes(Lsn(from), &options()).unwrap();
        log.release(commit);
        let mut set = changes.next(Duration::ZERO).unwrap().unwrap();
        assert_eq!(set.lsn(), commit);
        let mut count = 0;
        while set.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 300);
    }
    assert!(matches!(log.changes(commit.next().next(), &options()), Err(Error::Replaced(_))));
    log.changes(commit.next(), &options()).unwrap();
}

#[test]
fn who_waits_for_a_log_without_trees_is_told_when_it_is_closed() {
    let log = replica();
    let mut changes = log.changes(Lsn(1), &options()).unwrap();
    log.close().unwrap();
    assert!(matches!(changes.next(Duration::from_secs(60)), Err(Error::Closed)));
    assert!(changes.ready_now().is_err());
}
