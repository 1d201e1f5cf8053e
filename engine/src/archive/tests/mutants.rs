//! Planted bugs: each must be found by the test that is named beside it, which passes without.

use std::panic::{AssertUnwindSafe, catch_unwind};

use logwood_base::{Error, Lsn};

use super::retention::broken_by_races;
use super::rig::{DIR, Fault, Rig, check_agreement, fill, read_archive};
use crate::planted::{Bug, with};
use crate::{Database, Durability};

/// Whether a check fails with the bug, and holds without.
pub(in crate::archive) fn found(bug: Bug, check: impl Fn()) {
    check();
    let result = with(bug, || catch_unwind(AssertUnwindSafe(&check)));
    assert!(result.is_err(), "{bug:?} is not found");
}

#[test]
fn archiving_what_is_not_durable_is_found() {
    found(Bug::ArchiveUndecided, || {
        let rig = Rig::new(1);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive()).unwrap();
        fill(&db, &keyspace, 0..10, 100, Durability::Durable);
        archiver.flush().unwrap();
        // Commits that nobody waits for are numbered and not durable.
        let mut batch = db.batch();
        batch.put(&keyspace, b"k", b"v").unwrap();
        let _ticket = db.commit_async(batch, Durability::Buffered).unwrap();
        let mut uploader = super::super::archiver::uploader_of(&archiver);
        uploader.options.interval = std::time::Duration::ZERO;
        uploader.unsynced_since = None;
        let _ = uploader.step(false);
        drop(uploader);
        assert!(archiver.status().archived <= db.durable_lsn(), "what a power cut takes is in the archive");
    });
}

#[test]
fn letting_go_without_reading_back_is_found() {
    found(Bug::TrustPut, || {
        let rig = Rig::new(2);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive()).unwrap();
        fill(&db, &keyspace, 0..10, 100, Durability::Durable);
        // The store answers, and has nothing.
        rig.store.set(1, Fault::Refuse);
        archiver.flush().unwrap();
        check_agreement(&rig, &db, &archiver);
    });
}

#[test]
fn taking_somebody_elses_object_for_ones_own_is_found() {
    found(Bug::TrustRefusal, || {
        let rig = Rig::new(3);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive()).unwrap();
        let copy = Rig::beside(99, rig.disk.snapshot(), &rig.store.inner);
        copy.disk.kill_process();
        let (other_db, other_keyspace) = copy.open();
        let other = other_db.archive(copy.archive()).unwrap();
        fill(&db, &keyspace, 0..10, 100, Durability::Durable);
        fill(&other_db, &other_keyspace, 50..60, 100, Durability::Durable);
        archiver.flush().unwrap();
        assert!(matches!(other.flush(), Err(Error::Fenced { .. })));
    });
}

#[test]
fn going_on_behind_a_log_that_lost_its_end_is_found() {
    found(Bug::ForkWhenAhead, || {
        let rig = Rig::new(4);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive()).unwrap();
        let old = Rig::beside(99, rig.disk.snapshot(), &rig.store.inner);
        fill(&db, &keyspace, 0..10, 100, Durability::Durable);
        archiver.flush().unwrap();
        old.disk.kill_process();
        let old_db = Database::open(DIR, old.options()).unwrap();
        assert!(matches!(old_db.archive(old.archive()).map(drop), Err(Error::Corruption(_))));
    });
}

#[test]
fn taking_the_gap_of_a_copy_for_ones_own_is_found() {
    found(Bug::TrustGap, || super::copies::a_gap_of_a_copy_fences(0));
}

#[test]
fn a_gap_behind_what_cannot_be_compared_is_found() {
    found(Bug::TrustEnd, || super::copies::goes_on_in_a_lineage_of_its_own(false));
}

#[test]
fn a_restore_that_begins_with_the_snapshot_of_another_history_is_found() {
    for passes in [true, false] {
        found(Bug::TrustSnapshot, || {
            assert!(super::copies::restores_beside_the_snapshot_of_a_copy(passes) > 0);
        });
    }
}

#[test]
fn a_gap_before_its_snapshot_is_found() {
    found(Bug::GapBeforeSnapshot, || {
        for k in 1..40 {
            let rig = Rig::new(5);
            let (db, keyspace) = rig.open();
            let archiver = db.archive(rig.archive().backlog_bytes_max(50_000).leave_gaps(true)).unwrap();
            fill(&db, &keyspace, 0..10, 1000, Durability::Durable);
            archiver.flush().unwrap();
            fill(&db, &keyspace, 10..100, 1000, Durability::Durable);
            db.checkpoint().unwrap();
            rig.store.set(k, Fault::Dead);
            let _ = archiver.flush();
            read_archive(&rig, archiver.lineage());
        }
    });
}

#[test]
fn a_snapshot_before_its_pages_is_found() {
    found(Bug::SnapshotBeforePages, || {
        let rig = Rig::new(6);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
        fill(&db, &keyspace, 0..10, 1000, Durability::Durable);
        archiver.flush().unwrap();
        assert!(archiver.status().newest_snapshot > Some(Lsn(5)));
        check_agreement(&rig, &db, &archiver);
    });
}

#[test]
fn an_upload_that_ignores_retention_is_found() {
    found(Bug::IgnoreRetention, || assert_eq!(broken_by_races(7), 0));
}

#[test]
fn retention_that_ignores_holds_is_found() {
    found(Bug::IgnoreHolds, || assert_eq!(broken_by_races(7), 0));
}
