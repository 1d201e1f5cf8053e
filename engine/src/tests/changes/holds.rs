//! What is held for a follower that begins, and what counts against its bound.

use std::time::Duration;

use super::super::world::{DIR, World};
use super::{let_go, opened, put, wide};
use crate::{Change, Changes, ChangesOptions, Database, Durability, Error, Lsn};

/// Reads all there is. Answers how many commits, and how many records they put.
fn read(changes: &mut Changes) -> (u64, u64) {
    let (mut commits, mut puts) = (0, 0);
    while let Some(mut set) = changes.next(Duration::ZERO).unwrap() {
        commits += 1;
        while let Some(change) = set.next().unwrap() {
            puts += u64::from(matches!(change, Change::Put { .. }));
        }
    }
    (commits, puts)
}

#[test]
pub(in crate::tests) fn what_others_keep_is_not_counted_against_a_follower_that_lags_little() {
    let mut world = opened(14);
    let other = world.db().core().group.hold("another one", Lsn::FIRST).unwrap();
    for _ in 0..12 {
        let_go(&mut world);
    }
    let read_to = world.db().visible_lsn();
    for key in 0..40 {
        world.step(&put(key, 40)).unwrap();
    }
    let bound = 16 * (64 << 10);
    assert!(world.db().statistics().log.log_bytes > 2 * bound);
    let options = ChangesOptions::new().name("view").log_bytes_max(bound);
    let mut changes = world.db().changes_with(read_to.next(), &options).unwrap();
    // Here the log looks at who keeps how much, before anything was read: beside the other one, and once it has gone on.
    world.db().core().log.maintain().unwrap();
    assert!(!other.is_lost());
    other.advance(world.db().visible_lsn().next());
    world.db().core().log.maintain().unwrap();
    assert_eq!(read(&mut changes), (40, 40));
}

#[test]
fn a_follower_beyond_its_bound_reads_on_while_another_one_keeps_the_same() {
    let mut world = opened(15);
    let other = world.db().core().group.hold("another one", Lsn::FIRST).unwrap();
    let bound = 16 * (64 << 10);
    let options = ChangesOptions::new().name("view").log_bytes_max(bound);
    let mut changes = world.db().changes_with(Lsn(1), &options).unwrap();
    let fall_behind = |world: &mut World| {
        for _ in 0..12 {
            let_go(world);
        }
        assert!(world.db().statistics().log.log_bytes > 2 * bound);
    };
    fall_behind(&mut world);
    // A hold that is lost is an error, be the log there or not.
    assert!(read(&mut changes).0 > 12 * 180);
    // Once the other one has gone on, nobody keeps for the follower what is beyond its bound.
    fall_behind(&mut world);
    other.advance(world.db().visible_lsn().next());
    world.db().core().log.maintain().unwrap();
    assert!(world.db().statistics().log.log_bytes < bound);
    assert!(matches!(changes.next(Duration::ZERO), Err(Error::TooOld { .. })));
}

/// A log that somebody keeps from before a large transaction on, which ended many checkpoints ago; and the LSNs of that.
fn kept(world: &mut World, reopens: bool) -> (Lsn, Lsn) {
    world.options = world.options.clone().follower("another one", 0);
    world.drop_all();
    world.open(world.acknowledged).unwrap();
    let before = world.db().visible_lsn();
    let end = world.db().commit(wide(world, 1), Durability::Durable).unwrap();
    for _ in 0..3 {
        let_go(world);
    }
    if reopens {
        world.db().close().unwrap();
        world.drop_all();
        world.db = Some(Database::open(DIR, world.options.clone()).unwrap());
    }
    assert!(world.db().core().group.first_lsn() <= before);
    (before, end)
}

#[test]
pub(in crate::tests) fn who_begins_inside_of_a_transaction_that_ended_long_ago_keeps_its_first_part() {
    for reopens in [false, true] {
        let mut world = opened(15);
        let (before, end) = kept(&mut world, reopens);
        assert!(end.get() > before.get() + 5, "it took several entries");
        let mut changes = world.db().changes(end).unwrap();
        // The one who keeps all of it comes, and goes on at the end.
        let next = world.db().visible_lsn().next();
        let mut another = world.db().changes_with(next, &ChangesOptions::new().name("another one")).unwrap();
        let mut puts = 0;
        for round in 0..300u32 {
            let ks = world.db().keyspace("ks0").unwrap();
            ks.put(b"more", &round.to_be_bytes().repeat(200)).unwrap();
            puts += 1;
            if round.is_multiple_of(100) {
                read(&mut another);
                world.db().checkpoint().unwrap();
                world.db().core().log.maintain().unwrap();
            }
        }
        let first = world.db().core().group.first_lsn();
        assert!(first <= before.next(), "its beginning is there still: {first}");
        let (commits, found) = read(&mut changes);
        assert!(commits > puts && found >= puts + 300, "{commits} commits, {found} records");
        // Read, it may go.
        for _ in 0..3 {
            world.db().keyspace("ks0").unwrap().put(b"more", b"").unwrap();
            read(&mut changes);
            read(&mut another);
            world.db().checkpoint().unwrap();
            world.db().core().log.maintain().unwrap();
        }
        assert!(world.db().core().group.first_lsn() > end);
    }
}
