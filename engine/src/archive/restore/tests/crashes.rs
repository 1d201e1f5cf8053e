//! A restore that is cut off anywhere leaves nothing that opens as something wrong, and is gone on with.

use std::sync::Arc;

use logwood_base::disk::SimulatedDisk;

use super::world::{TO, World, client, environment, options};
use crate::archive::{Archive, Point, RestoreReport};
use crate::tests::checks::read_all;
use crate::tests::world::scale;
use crate::{Database, Error, Lsn, Result};

/// Restores to a machine of its own.
fn restore_on(
    world: &World,
    disk: &SimulatedDisk,
    seed: u64,
    keyspace: Option<&str>,
) -> Result<RestoreReport> {
    let environment = environment(disk, &world.clock, seed);
    let client = client(Arc::new(world.store.clone()), &environment, &world.clock);
    let archive = Archive::with_client(client, &environment);
    let wanted = super::super::RestoreOptions::new().database(options(&environment)).point(point(world));
    match keyspace {
        Some(keyspace) => archive.restore(TO, &wanted.keyspace(keyspace)),
        None => archive.restore(TO, &wanted),
    }
}

fn point(world: &World) -> Point {
    Point::Lsn(Lsn(world.last().get() - 3))
}

/// How many changing calls a restore does.
fn calls(world: &World, keyspace: Option<&str>) -> u64 {
    let disk = SimulatedDisk::new(1);
    restore_on(world, &disk, 1, keyspace).unwrap();
    disk.operations()
}

fn crash_everywhere(world: &World, keyspace: Option<&str>, step: usize) {
    let total = calls(world, keyspace);
    assert!(total > 30, "{total}");
    let expected = Lsn(world.last().get() - 3);
    let (mut whole, mut unfinished) = (0, 0);
    for at in (1..=total).step_by(step) {
        for power in [true, false] {
            let disk = SimulatedDisk::new(at);
            if power {
                disk.crash_at(at)
            } else {
                disk.kill_at(at)
            }
            let _ = restore_on(world, &disk, at, keyspace);
            disk.cancel_stop();
            disk.restart();
            let environment = environment(&disk, &world.clock, at + 1);
            match Database::open(TO, options(&environment).create(false)) {
                Ok(db) => {
                    compare(world, &db, expected, keyspace);
                    whole += 1;
                }
                Err(Error::WrongKind { .. } | Error::NotFound { .. }) => {
                    unfinished += 1;
                    restore_on(world, &disk, at + 2, keyspace)
                        .unwrap_or_else(|error| panic!("{at}: {error}"));
                    let db = Database::open(TO, options(&environment)).unwrap();
                    compare(world, &db, expected, keyspace);
                }
                Err(error) => panic!("{at} of {total}, power {power}: {error}"),
            }
        }
    }
    assert!(whole > 0 && unfinished > 10, "{whole} {unfinished}");
}

fn compare(world: &World, db: &Database, expected: Lsn, keyspace: Option<&str>) {
    let mut state = world.state_at(expected).clone();
    if let Some(keyspace) = keyspace {
        state.retain(|name, _| name == keyspace);
    }
    assert_eq!(read_all(db).unwrap(), state);
}

#[test]
fn a_crash_at_any_call_leaves_the_whole_or_nothing_that_opens() {
    crash_everywhere(&World::filled(21), None, 1);
}

#[test]
fn so_does_one_of_a_restore_in_part() {
    let world = World::filled(22);
    let name = world.state_at(Lsn(world.last().get() - 3)).keys().next().unwrap().clone();
    crash_everywhere(&world, Some(&name), 3 / scale().min(3) as usize);
}

#[test]
fn a_restore_on_a_disk_that_is_full_goes_on_when_there_is_room() {
    let world = World::filled(23);
    let disk = SimulatedDisk::new(1);
    restore_on(&world, &disk, 1, None).unwrap();
    let needed = disk.used_bytes();
    let mut refused = 0;
    for part in 1..10 {
        let disk = SimulatedDisk::new(part);
        disk.set_capacity(Some(needed * part / 10));
        let error = restore_on(&world, &disk, part, None).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
        refused += 1;
        disk.set_capacity(None);
        restore_on(&world, &disk, part, None).unwrap();
        let environment = environment(&disk, &world.clock, part);
        compare(
            &world,
            &Database::open(TO, options(&environment)).unwrap(),
            Lsn(world.last().get() - 3),
            None,
        );
    }
    assert_eq!(refused, 9);
}
