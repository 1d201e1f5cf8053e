//! A full disk and failing devices: nothing is lost, nothing is believed that was not synced, and work goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use logwood_base::Error;
use logwood_base::disk::SimulatedDisk;
use logwood_base::disk::simulated::{Fault, Operation, Outcome};

use super::harness::{Forest, create, open};
use crate::store::planted::{self, Bug};
use crate::store::{Store, Stream};

/// Writes what abandoned segments held once more, and forgets them.
fn write_again(store: &Store, forest: &mut Forest) -> Result<(), Error> {
    for abandoned in store.abandoned() {
        for label in &abandoned.pages {
            let keyspace = label.keyspace.get();
            if forest.pages.get(&keyspace).is_some_and(|(_, page)| *page == label.page) {
                forest.check(store)?;
                forest.write(store, Stream::Base, keyspace)?;
            }
        }
        store.forget(abandoned.number);
    }
    Ok(())
}

/// Rounds of writing and committing through whatever fails once or twice: answers how many calls failed.
fn work_through_failures(disk: &SimulatedDisk, store: &Store, forest: &mut Forest) -> usize {
    let mut failures = 0;
    for round in 0..5u64 {
        for n in 0..8 {
            let keyspace = 1 + (round * 5 + n * 3) % 19;
            let stream = Stream::ALL[(n % 2) as usize];
            // A page that was not taken: its tree stays as it was.
            failures += usize::from(forest.write(store, stream, keyspace).is_err());
            forest.check(store).expect("reads go on");
        }
        let mut committed = false;
        for _ in 0..4 {
            if store.abandoned().is_empty() || write_again(store, forest).is_ok() {
                match forest.checkpoint(store) {
                    Ok(_) => {
                        committed = true;
                        break;
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::DiskFull { .. } | Error::Io { .. }), "{error}")
                    }
                }
            }
            failures += 1;
            forest.check(store).expect("reads go on");
        }
        assert!(committed, "one failure does not stop the store for ever");
        // What was acknowledged survives a power cut in the next moment.
        let after = disk.snapshot();
        after.crash(&mut Rng::with_seed(round));
        let (reopened, opened) = open(&after).unwrap();
        let found = Forest::of(&opened.manifest);
        assert_eq!(found.versions(), forest.versions());
        found.check(&reopened).expect("what was committed is whole");
    }
    failures
}

/// Each `k`-th call of the kinds fails once, for every k there is.
fn every_failure(operations: &[Operation], outcome: &Outcome) {
    let mut k = 1;
    loop {
        let disk = SimulatedDisk::new(k);
        let store = create(&disk).unwrap();
        let mut forest = Forest::default();
        disk.set_fault(Fault::new(operations, outcome.clone()).nth(k));
        let failures = work_through_failures(&disk, &store, &mut forest);
        let statistics = store.statistics();
        assert_eq!(statistics.live_bytes, forest.live_bytes(), "k = {k}");
        assert_eq!(statistics.abandoned_segments, 0);
        if failures == 0 && k > 100 {
            break;
        }
        k += 1;
    }
}

#[test]
fn a_full_disk_at_any_call_loses_nothing() {
    every_failure(Operation::GROWING, &Outcome::DiskFull);
}

#[test]
fn a_failed_write_at_any_call_loses_nothing() {
    every_failure(&[Operation::Write, Operation::Create, Operation::Rename], &Outcome::Io);
}

#[test]
fn a_failed_sync_at_any_call_loses_nothing_and_is_never_believed() {
    every_failure(&[Operation::Sync, Operation::SyncDir], &Outcome::Io);
}

#[test]
fn a_failed_removal_is_tried_again() {
    every_failure(&[Operation::Remove], &Outcome::Io);
}

#[test]
fn a_sync_that_is_retried_and_believed_is_found() {
    let found = catch_unwind(AssertUnwindSafe(|| {
        planted::with(Some(Bug::FailedSyncRetried), || every_failure(&[Operation::Sync], &Outcome::Io));
    }));
    assert!(found.is_err());
}

#[test]
fn a_failed_read_is_told_and_the_next_one_succeeds() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    for keyspace in 1..30 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    for k in 1..30 {
        disk.set_fault(Fault::new(Operation::READS, Outcome::Io).nth(k));
        let results: Vec<_> = forest.pages.values().map(|(_, page)| store.read(page)).collect();
        let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert!(matches!(failed[..], [Error::Io { .. }]), "read {k}: {failed:?}");
        forest.check(&store).unwrap();
    }
}

#[test]
fn a_failed_read_of_a_manifest_is_told_and_not_taken_for_damage() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    forest.write(&store, Stream::Base, 1).unwrap();
    forest.checkpoint(&store).unwrap();
    drop(store);
    let paths = disk.paths();
    for k in 1..=2 {
        disk.set_fault(Fault::new(&[Operation::ReadPastCache], Outcome::Io).nth(k));
        assert!(matches!(open(&disk), Err(Error::Io { .. })));
        disk.clear_faults();
        assert_eq!(disk.paths(), paths, "nothing was thrown away");
    }
    open(&disk).unwrap();
}

#[test]
fn a_disk_that_stays_full_serves_reads_and_resumes_when_there_is_room() {
    let disk = SimulatedDisk::new(1);
    let store = create(&disk).unwrap();
    let mut forest = Forest::default();
    for keyspace in 1..20 {
        forest.write(&store, Stream::Base, keyspace).unwrap();
    }
    forest.checkpoint(&store).unwrap();
    let committed = forest.versions();
    disk.set_capacity(Some(disk.used_bytes()));
    for _ in 0..5 {
        let full = (1..40).find_map(|keyspace| forest.write(&store, Stream::Base, keyspace).err());
        let full = full.or_else(|| forest.checkpoint(&store).err()).expect("there is no room");
        assert!(matches!(full, Error::DiskFull { .. }), "{full}");
        assert!(
            matches!(forest.commit(&store), Err(Error::DiskFull { .. })),
            "nothing half-written is named"
        );
        forest.check(&store).unwrap();
    }
    let after = disk.snapshot();
    after.crash(&mut Rng::with_seed(1));
    assert_eq!(Forest::of(&open(&after).unwrap().1.manifest).versions(), committed);

    disk.set_capacity(None);
    write_again(&store, &mut forest).unwrap();
    forest.checkpoint(&store).unwrap();
    disk.crash(&mut Rng::with_seed(2));
    let (store, opened) = open(&disk).unwrap();
    assert_eq!(Forest::of(&opened.manifest).versions(), forest.versions());
    forest.check(&store).unwrap();
}

#[test]
fn a_manifest_that_was_acknowledged_and_not_stored_is_noticed() {
    for outcome in [Outcome::Lost, Outcome::FlippedBit] {
        for copy in ['a', 'b'] {
            let disk = SimulatedDisk::new(1);
            let store = create(&disk).unwrap();
            let mut forest = Forest::default();
            forest.write(&store, Stream::Base, 1).unwrap();
            store.seal_all().unwrap();
            disk.set_fault(Fault::new(&[Operation::Write], outcome.clone()).on(&format!(".{copy}.new")));
            let error = forest.commit(&store).unwrap_err();
            assert!(error.corruption().is_some(), "{outcome:?}: {error}");
            forest.commit(&store).unwrap();
        }
    }
}

#[test]
fn a_commit_that_failed_half_way_still_keeps_what_it_names() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let store = create(&disk).unwrap();
        let mut forest = Forest::default();
        for keyspace in 1..20 {
            forest.write(&store, Stream::Base, keyspace).unwrap();
        }
        store.seal_all().unwrap();
        disk.set_fault(Fault::new(&[Operation::SyncDir], Outcome::Io).on("manifest"));
        forest.commit(&store).unwrap_err();
        // Nothing reaches those pages any more, and yet a power cut may bring that generation up.
        for keyspace in 1..20 {
            forest.write(&store, Stream::Base, keyspace).unwrap();
        }
        assert_eq!(store.collect(), 0);
        disk.crash(&mut Rng::with_seed(seed));
        let (store, opened) = open(&disk).unwrap();
        Forest::of(&opened.manifest).check(&store).unwrap();
    }
}
