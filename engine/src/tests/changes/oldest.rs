//! From where changes can be read: from there they can be read, whatever the log has let go.

use std::time::Duration;

use super::super::world::{DIR, World};
use super::{opened, put};
use crate::{BulkOptions, BulkWrite, ChangesOptions, Database, Durability, Error, Lsn, Result};

/// Bulk writes that are under way at once, with commits between their fragments.
fn begin(world: &World, count: usize, puts: u32) -> Vec<BulkWrite> {
    let ks = world.db().keyspace("ks0").unwrap();
    let begin = |_| world.db().bulk_write(BulkOptions::new().memory_bytes(64 << 10)).unwrap();
    let mut bulks: Vec<_> = (0..count).map(begin).collect();
    for key in 0..puts {
        for (number, bulk) in bulks.iter_mut().enumerate() {
            bulk.put(&ks, &[&key.to_be_bytes()[..], &[number as u8]].concat(), &[7; 300]).unwrap();
        }
        if key % 37 == 0 {
            ks.put(b"between", &key.to_be_bytes()).unwrap();
        }
    }
    bulks
}

fn read_from(world: &World, from: Lsn) -> Result<u64> {
    let mut changes = world.db().changes_with(from, &ChangesOptions::new().hold(false))?;
    let mut commits = 0;
    while let Some(mut set) = changes.next(Duration::ZERO)? {
        while set.next()?.is_some() {}
        commits += 1;
    }
    Ok(commits)
}

fn let_go(world: &World) {
    world.db().checkpoint().unwrap();
    world.db().core().log.maintain().unwrap();
}

/// Worlds whose log begins anywhere in what bulk writes have left.
fn for_each_beginning(count: usize, mut each: impl FnMut(&mut World)) {
    for shift in 0..20u8 {
        let mut world = opened(u64::from(shift));
        for key in 0..shift {
            world.step(&put(key, 50)).unwrap();
        }
        for round in 0..3u32 {
            let bulks = begin(&world, count, 400 + 60 * round);
            for mut bulk in bulks {
                bulk.commit(Durability::Durable).unwrap();
                world.db().keyspace("ks0").unwrap().put(b"behind", &[shift]).unwrap();
            }
            for _ in 0..3 {
                let_go(&world);
                each(&mut world);
                world.db().keyspace("ks0").unwrap().put(b"behind", &[shift; 2000]).unwrap();
            }
        }
    }
}

#[test]
fn changes_can_be_read_from_the_oldest_lsn_on_whatever_stands_between_the_fragments_of_bulk_writes() {
    let mut passed = 0;
    for count in [1, 2] {
        for_each_beginning(count, |world| {
            let oldest = world.db().oldest_change_lsn().unwrap();
            let first = world.db().core().group.first_lsn();
            passed += u64::from(oldest > first.next());
            let commits = read_from(world, oldest).unwrap_or_else(|error| panic!("from {oldest}: {error}"));
            assert!(commits > 0);
            if oldest > first {
                let refused = read_from(world, oldest.previous()).unwrap_err();
                assert!(
                    matches!(refused, Error::TooOld { what: "change", oldest: found, .. } if found == oldest),
                    "{refused}"
                );
            }
        });
    }
    assert!(passed > 5, "the log began inside of a transaction {passed} times");
}

#[test]
fn a_follower_that_begins_at_the_oldest_lsn_behind_a_restart_is_not_kept_from_it_for_ever() {
    for_each_beginning(1, |world| {
        world.disk.kill_process();
        world.drop_all();
        let options = world.options.clone().follower("mirror", 0);
        let db = Database::open(DIR, options).unwrap();
        let follow = ChangesOptions::new().name("mirror").hold_until_released(true);
        let mut changes = db.changes_with(db.oldest_change_lsn().unwrap(), &follow).unwrap();
        while let Some(mut set) = changes.next(Duration::ZERO).unwrap() {
            while set.next().unwrap().is_some() {}
        }
        drop(changes);
        world.db = Some(db);
    });
}

#[test]
fn a_commit_whose_first_part_goes_while_it_is_read_is_a_change_that_is_too_old() {
    let world = opened(1);
    let mut bulks = begin(&world, 1, 600);
    let lsn = bulks[0].commit(Durability::Durable).unwrap();
    drop(bulks);
    let mut changes = world.db().changes_with(lsn, &ChangesOptions::new().hold(false)).unwrap();
    let mut set = changes.next(Duration::ZERO).unwrap().unwrap();
    set.next().unwrap().unwrap();
    for round in 0..3 {
        world.db().keyspace("ks0").unwrap().put(b"behind", &[round]).unwrap();
        let_go(&world);
    }
    let error = loop {
        match set.next() {
            Ok(change) => assert!(change.is_some(), "the log has let go of it"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::TooOld { what: "change", asked, .. } if asked == lsn), "{error}");
    drop(changes);
    assert!(world.db().oldest_change_lsn().unwrap() > lsn);
}

#[test]
fn the_oldest_lsn_of_a_copy_made_beside_two_bulk_writes_is_behind_the_one_whose_beginning_it_does_not_have() {
    let world = opened(5);
    let mut bulks = begin(&world, 1, 400);
    bulks.extend(begin(&world, 1, 300));
    bulks.remove(0).commit(Durability::Durable).unwrap();
    world.db().backup("copy").unwrap();
    let copy = Database::open("copy", world.options.clone()).unwrap();
    let oldest = copy.oldest_change_lsn().unwrap();
    assert!(oldest > copy.core().group.first_lsn(), "its log begins inside of one");
    let follow = |from: Lsn| -> Result<()> {
        let mut changes = copy.changes_with(from, &ChangesOptions::new().hold(false))?;
        while let Some(mut set) = changes.next(Duration::ZERO)? {
            while set.next()?.is_some() {}
        }
        Ok(())
    };
    follow(oldest).unwrap();
    let refused = follow(oldest.previous()).unwrap_err();
    assert!(
        matches!(refused, Error::TooOld { what: "change", oldest: told, .. } if told == oldest),
        "{refused}"
    );
}
