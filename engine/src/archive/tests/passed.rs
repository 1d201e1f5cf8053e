//! An archiver that stood still while another one went on, and retention passed its place.

use std::time::Duration;

use logwood_base::{Error, Lsn};

use super::retention::{HOUR, check_whole, keep};
use super::rig::{Rig, fill};
use crate::archive::{Archive, Archiver, chain, retention};
use crate::{Database, Durability};

/// An archiver that stood still while another one went on for hours, and retention passed its place. `confirmed`: whether it
/// knows of an object.
fn stale_beside_another(confirmed: bool, leaves_gaps: bool) -> (Rig, Database, Archiver) {
    let rig = Rig::new(31);
    let (db, keyspace) = rig.open();
    let mut options = rig.archive();
    if leaves_gaps {
        options = options.backlog_bytes_max(40_000).leave_gaps(true);
    }
    let stale = db.archive(options).unwrap();
    if confirmed {
        fill(&db, &keyspace, 0..10, 800, Durability::Durable);
        stale.flush().unwrap();
    }
    let copy = Rig::beside(32, rig.disk.snapshot(), &rig.store.inner);
    copy.disk.kill_process();
    let other_db = Database::open(super::rig::DIR, copy.options()).unwrap();
    let other_keyspace = other_db.keyspace("k").unwrap();
    let other = other_db.archive(copy.archive().object_bytes(4 << 10).snapshot_log_bytes(10_000)).unwrap();
    for hour in 1..5 {
        for (db, keyspace) in [(&db, &keyspace), (&other_db, &other_keyspace)] {
            fill(db, keyspace, hour * 40..hour * 40 + 40, 800, Durability::Durable);
        }
        other.flush().unwrap();
        rig.clock.advance(HOUR);
        copy.clock.advance(HOUR);
    }
    retention(&rig.client(), &rig.environment, &keep(Duration::ZERO)).unwrap();
    (rig, db, stale)
}

#[test]
fn an_archiver_whose_place_retention_has_passed_stops_and_the_next_one_finds_its_own() {
    let (rig, db, stale) = stale_beside_another(true, false);
    let before = rig.store.inner.keys();
    let error = stale.flush().unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert_eq!(rig.store.inner.keys(), before);
    stale.stop().unwrap();
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    assert_eq!(archiver.status().archived, db.durable_lsn());
    check_whole(&rig, &archiver, db.durable_lsn());
}

#[test]
fn an_archiver_that_retention_passes_in_the_middle_of_its_put_knows_it_afterwards() {
    let (mut went_on, mut stopped) = (0, 0);
    for k in 1..30 {
        let rig = Rig::new(9);
        let (db, keyspace) = rig.open();
        let stale = db.archive(rig.archive()).unwrap();
        fill(&db, &keyspace, 0..10, 800, Durability::Durable);
        stale.flush().unwrap();
        let copy = Rig::beside(10, rig.disk.snapshot(), &rig.store.inner);
        copy.disk.kill_process();
        let other_db = Database::open(super::rig::DIR, copy.options()).unwrap();
        let other_keyspace = other_db.keyspace("k").unwrap();
        let other = other_db.archive(copy.archive().snapshot_log_bytes(10_000)).unwrap();
        rig.clock.advance(2 * HOUR);
        copy.clock.advance(2 * HOUR);
        fill(&db, &keyspace, 40..60, 800, Durability::Durable);
        // While the stale one is at its k-th request, hours pass, another one goes on, and retention passes the place.
        let beside = (rig.clone(), copy.clone());
        rig.store.at(k, move || {
            let (rig, copy) = beside;
            fill(&other_db, &other_keyspace, 40..60, 800, Durability::Durable);
            for hour in 1..5 {
                fill(&other_db, &other_keyspace, hour * 40..hour * 40 + 40, 800, Durability::Durable);
                other.flush().unwrap();
                rig.clock.advance(HOUR);
                copy.clock.advance(HOUR);
            }
            retention(&rig.client(), &copy.environment, &keep(Duration::ZERO)).unwrap();
        });
        let outcome = stale.flush();
        if rig.store.no_hook() {
            break;
        }
        match outcome {
            // Only if what it put stands in the chain that goes on.
            Ok(reached) => {
                went_on += 1;
                let listed = chain::listed(&rig.client(), stale.lineage()).unwrap();
                let (start, _) = chain::start(&rig.client(), stale.lineage()).unwrap().unwrap();
                let first = *listed.keys().next().unwrap();
                let mut walk = chain::Chain::from_lsn(&rig.client(), start.owner, first);
                while walk.next_item().unwrap().is_some() {}
                assert!(walk.position().next > reached, "request {k}");
            }
            Err(Error::Fenced { .. }) => {
                stopped += 1;
                assert!(
                    stale.status().archived < db.durable_lsn(),
                    "request {k}: what stands beside is not counted"
                );
            }
            // What was put was taken before it was read back.
            Err(Error::ArchiveCorrupt(_)) => {
                assert!(matches!(stale.flush(), Err(Error::Fenced { .. })), "request {k}");
                stopped += 1;
            }
            Err(error) => panic!("request {k}: {error}"),
        }
        // The next run takes away what stands beside the chain.
        retention(&rig.client(), &rig.environment, &keep(Duration::ZERO)).unwrap();
        let listing = Archive::with_client(rig.client(), &rig.environment).verify().unwrap();
        assert!(listing.lineages[0].holes.iter().all(|hole| hole.is_named_gap), "request {k}: {listing:?}");
    }
    assert!(stopped > 2, "{went_on} {stopped}");
}

#[test]
fn an_archiver_that_knows_of_no_object_counts_nothing_that_stands_beside_the_chain() {
    let (rig, db, stale) = stale_beside_another(false, false);
    let error = stale.flush().unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert_eq!(stale.status().archived, Lsn::ZERO);
    stale.stop().unwrap();
    retention(&rig.client(), &rig.environment, &keep(Duration::ZERO)).unwrap();
    let archiver = db.archive(rig.archive()).unwrap();
    archiver.flush().unwrap();
    check_whole(&rig, &archiver, db.durable_lsn());
}

#[test]
fn a_gap_is_not_put_at_a_place_that_retention_has_passed() {
    let (rig, _db, stale) = stale_beside_another(true, true);
    let log = || rig.store.inner.keys().into_iter().filter(|key| key.contains("/log/")).collect::<Vec<_>>();
    let before = log();
    let error = stale.flush().unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert_eq!(log(), before);
    assert_eq!(stale.status().gaps, 0);
}
