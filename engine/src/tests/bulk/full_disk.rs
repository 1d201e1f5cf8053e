//! Disks that are full, or fail, at any moment of a bulk write.

use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::{LITTLE, begun, filled, key, overwrite, reopen, require, try_fill, under_way};
use crate::fragments::Collected;
use crate::tests::checks::read_all;
use crate::tests::world::Records;
use crate::{BulkOptions, BulkWrite, Durability, Error, Keyspace};

#[test]
fn a_disk_that_is_full_at_any_moment_of_a_bulk_write_is_an_answer_that_loses_nothing() {
    let (mut refused, mut written) = (0, 0);
    for step in 0..56 {
        let (mut world, before) = filled();
        world.disk.set_capacity(Some(world.disk.used_bytes() + step * (48 << 10)));
        let outcome = overwrite(&world);
        world.disk.set_capacity(None);
        let expected = match outcome {
            Ok(records) => records,
            Err(Error::DiskFull { .. }) => before,
            Err(error) => panic!("{step}: {error}"),
        };
        require(&world, &expected);
        if expected[0].values().next().unwrap() == b"before" {
            refused += 1;
            let again = overwrite(&world).unwrap();
            require(&world, &again);
        } else {
            written += 1;
        }
        let now = read_all(world.db()).unwrap();
        reopen(&mut world, step);
        assert_eq!(read_all(world.db()).unwrap(), now);
        world.verify_clean();
    }
    assert!(refused > 10 && written > 10, "{refused} refused, {written} written");
}

#[test]
fn a_bulk_write_larger_than_the_cache_finds_a_full_disk_before_it_changes_anything() {
    let (mut refused, mut written) = (0, 0);
    for step in 0..20 {
        let (mut world, before) = filled();
        let mut rng = fastrand::Rng::with_seed(step);
        let value: Vec<u8> = (0..250).map(|_| rng.u8(..)).collect();
        world.disk.set_capacity(Some(world.disk.used_bytes() + (4 << 20) + step * (512 << 10)));
        let handles = ["a", "b"].map(|name| world.db().keyspace(name).unwrap());
        let mut bulk = world.db().bulk_write(LITTLE).unwrap();
        let mut full = false;
        for n in 0..14_000u32 {
            let mut value = value.clone();
            (0..250).for_each(|at| value[at] ^= rng.u8(..));
            let put = |bulk: &mut BulkWrite| bulk.put(&handles[n as usize % 2], &key(n), &value);
            if put(&mut bulk).is_err() {
                full = true;
                world.disk.set_capacity(None);
                put(&mut bulk).unwrap();
            }
        }
        match bulk.commit(Durability::Durable) {
            Ok(_) => written += u32::from(!full),
            Err(Error::DiskFull { .. }) => {
                refused += 1;
                require(&world, &before);
                world.disk.set_capacity(None);
                bulk.commit(Durability::Durable).unwrap();
            }
            Err(error) => panic!("{step}: {error}"),
        }
        drop((bulk, handles));
        world.disk.set_capacity(None);
        reopen(&mut world, step);
        for name in ["a", "b"] {
            assert_eq!(world.db().keyspace(name).unwrap().count_all().unwrap(), 7000);
        }
        world.verify_clean();
    }
    assert!(refused > 2 && written > 2, "{refused} refused, {written} written");
}

#[test]
fn a_disk_that_fails_at_any_write_of_a_bulk_write_leaves_all_of_it_or_nothing() {
    let mut unnoticed = 0;
    for k in 1u64.. {
        let (mut world, before) = filled();
        let outcome_of = [Outcome::DiskFull, Outcome::Io][k as usize % 2].clone();
        world.disk.set_fault(Fault::new(Operation::GROWING, outcome_of).nth(k.div_ceil(2)).for_ever());
        let outcome = overwrite(&world);
        world.disk.clear_faults();
        let a = world.db().keyspace("a").unwrap();
        match &outcome {
            Ok(records) => {
                require(&world, records);
                unnoticed += 1;
            }
            // A write into room that was reserved cannot run out of it: when the disk says so, that is a failure.
            Err(Error::Poisoned { .. } | Error::Io { .. } | Error::DiskFull { .. }) => {
                assert_eq!(a.get(&key(2)).unwrap().as_deref(), Some(&b"before"[..]), "reads go on");
                unnoticed = 0;
            }
            Err(error) => panic!("{k}: {error}"),
        }
        drop(a);
        reopen(&mut world, k);
        match outcome {
            Ok(records) => require(&world, &records),
            // The commit may stand in the log although nobody was told.
            Err(_) if world.db().keyspace("a").unwrap().count_all().unwrap() == 1000 => {}
            Err(_) => require(&world, &before),
        }
        world.verify_clean();
        overwrite(&world).unwrap();
        if unnoticed == 8 {
            return;
        }
    }
}

#[test]
fn a_bulk_write_that_found_the_disk_full_goes_on_where_it_was() {
    for step in 0..40 {
        let (mut world, _) = filled();
        world.disk.set_capacity(Some(world.disk.used_bytes() + step * (64 << 10)));
        let handles = ["a", "b"].map(|name| world.db().keyspace(name).unwrap());
        let mut bulk = world.db().bulk_write(LITTLE).unwrap();
        let mut refused = 0;
        for n in 0..2000u32 {
            let put =
                |bulk: &mut BulkWrite| bulk.put(&handles[n as usize % 2], &key(n * 7 % 2000), &[b'v'; 250]);
            if let Err(error) = put(&mut bulk) {
                assert!(matches!(error, Error::DiskFull { .. }), "{error}");
                assert!(matches!(put(&mut bulk), Ok(()) | Err(Error::DiskFull { .. })));
                world.disk.set_capacity(None);
                refused += 1;
                put(&mut bulk).unwrap();
            }
        }
        let lsn = bulk.commit(Durability::Durable).or_else(|error| {
            assert!(matches!(error, Error::DiskFull { .. }), "{step}: {error}");
            refused += 1;
            world.disk.set_capacity(None);
            bulk.commit(Durability::Durable)
        });
        assert_eq!(bulk.commit(Durability::Durable).unwrap(), lsn.unwrap());
        assert!(matches!(bulk.put(&handles[0], b"late", b""), Err(Error::InvalidArgument(_))));
        assert!(refused < 2 && (step > 4 || refused == 1), "{step}: {refused}");
        drop((bulk, handles));
        world.disk.set_capacity(None);
        for round in ["before", "behind"] {
            for (name, odd) in [("a", 0), ("b", 1)] {
                let handle = world.db().keyspace(name).unwrap();
                assert_eq!(handle.count_all().unwrap(), 1000, "{round} a crash");
                for n in (0..2000).filter(|n| n % 2 == odd) {
                    let found = handle.get(&key(n * 7 % 2000)).unwrap();
                    assert_eq!(found.as_deref(), Some(&[b'v'; 250][..]), "{round} a crash");
                }
            }
            reopen(&mut world, step);
        }
        world.verify_clean();
    }
}

#[test]
fn the_first_fragment_counts_as_under_way_only_for_as_long_as_its_bulk_write_lives() {
    let (mut refused, mut stopped) = (0, 0);
    for nth in 1..20 {
        let mut world = begun();
        let a = world.db().keyspace("a").unwrap();
        let mut bulk = world.db().bulk_write(LITTLE).unwrap();
        world.disk.set_fault(Fault::new(Operation::GROWING, Outcome::DiskFull).on("log/").nth(nth));
        refused += u64::from(try_fill(&world, &mut bulk, 900, &[b'v'; 100]).is_err());
        drop(bulk);
        world.disk.clear_faults();
        assert!(world.db().core().bulk.lock().is_empty());
        match a.put(b"next", b"aborts it") {
            Ok(_) => assert!(world.db().core().sequencer.lock().applier.fragments.oldest().is_none()),
            Err(Error::Poisoned { .. }) => stopped += 1,
            Err(error) => panic!("{error}"),
        }
        drop(a);
        world.drop_all();
    }
    assert!(refused > 2 && stopped > 0, "{refused} refused, {stopped} stopped");
}

/// What may be put to a bulk write whose commit has failed, behind `last`, the operation that was cut.
fn put_more(bulk: &mut BulkWrite, a: &Keyspace, round: u64, last: &[u8], records: &mut Records) {
    let value = match round % 5 {
        0 => Some(vec![b'n'; LAST_BYTES]),
        1 => Some(vec![b'n'; LAST_BYTES - 1000]),
        2 => Some(vec![b'n'; LAST_BYTES + 1000]),
        3 => Some(b"short".to_vec()),
        _ => None,
    };
    match value {
        Some(value) => {
            bulk.put(a, last, &value).unwrap();
            records.insert(last.to_vec(), value);
        }
        None => {
            bulk.delete(a, last).unwrap();
            records.remove(last);
        }
    }
    // Each of them would be a run of its own, were they not sorted.
    for n in (0..600).rev() {
        bulk.put(a, &key(n * 7), b"put behind the failure").unwrap();
        records.insert(key(n * 7), b"put behind the failure".to_vec());
    }
}

const LAST_BYTES: usize = 100_000;

#[test]
pub(in crate::tests) fn what_is_put_behind_a_commit_that_failed_is_as_if_it_had_never_failed() {
    let mut refused = 0;
    for round in 0..40 {
        let mut world = begun();
        let a = world.db().keyspace("a").unwrap();
        let mut records = Records::new();
        let mut bulk = world.db().bulk_write(BulkOptions::new().memory_bytes(512 << 10)).unwrap();
        for n in 0..100 {
            bulk.put(&a, &key(n * 31 % 100), &[b'v'; 250]).unwrap();
            records.insert(key(n), vec![b'v'; 250]);
        }
        bulk.put(&a, b"last", &vec![b'o'; LAST_BYTES]).unwrap();
        records.insert(b"last".to_vec(), vec![b'o'; LAST_BYTES]);
        // The log ends somewhere else in each round, and so does what is written of the last value.
        for n in 0..round / 5 {
            records.insert(format!("filler {n}").into_bytes(), vec![b'f'; 2000]);
            a.put(format!("filler {n}").as_bytes(), &[b'f'; 2000]).unwrap();
        }
        world.disk.set_capacity(Some(world.disk.used_bytes()));
        if let Err(error) = bulk.commit(Durability::Durable) {
            refused += 1;
            assert!(matches!(error, Error::DiskFull { .. }), "{error}");
            if round % 2 == 0 {
                // Taken or not, the answer says so.
                let extra = bulk.put(&a, b"extra", b"while it is full");
                assert!(matches!(extra, Ok(()) | Err(Error::DiskFull { .. })), "{extra:?}");
                if extra.is_ok() {
                    records.insert(b"extra".to_vec(), b"while it is full".to_vec());
                }
            }
            world.disk.set_capacity(None);
            put_more(&mut bulk, &a, round, b"last", &mut records);
            bulk.write_out().unwrap();
            let (_, collected) = under_way(world.db().core());
            assert!(!matches!(collected, Some(Collected::Unsorted { .. })), "{round}: it is sorted as ever");
            bulk.commit(Durability::Durable).unwrap();
        }
        world.disk.set_capacity(None);
        assert!(read_all(world.db()).unwrap()["a"] == records, "{round}");
        drop((a, bulk));
        reopen(&mut world, round);
        assert!(read_all(world.db()).unwrap()["a"] == records, "{round}: behind a crash");
        world.verify_clean();
    }
    assert!(refused > 20, "{refused} refused");
}
