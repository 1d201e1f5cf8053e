//! What fails for long, or goes missing, beside an archiver that is at work.

use std::time::Duration;

use logwood_base::Error;

use super::rig::{Rig, check_agreement, fill, snapshots};
use crate::archive::layout::start_key;
use crate::{Durability, Result};

#[test]
fn a_snapshot_that_fails_is_put_off_for_longer_and_longer_and_entries_are_archived_all_the_same() {
    let rig = Rig::new(1);
    let (db, keyspace) = rig.open();
    let interval = Duration::from_secs(5);
    let archiver =
        db.archive(rig.archive().background(true).interval(interval).snapshot_log_bytes(1)).unwrap();
    rig.store.refuse_snapshots(true);
    let mut requests = Vec::new();
    for minute in 0..20u32 {
        fill(&db, &keyspace, minute * 10..minute * 10 + 10, 500, Durability::Durable);
        let before = rig.store.requests();
        rig.pass(Duration::from_secs(60));
        requests.push(rig.store.requests() - before);
        let status = archiver.status();
        assert_eq!((status.archived, status.failing), (db.visible_lsn(), None), "minute {minute}");
        assert!(status.snapshot_failing.is_some());
    }
    let (first, last): (u64, u64) = (requests[0], requests[10..].iter().sum());
    assert!(last < 10 * 40 && last < 4 * first, "{requests:?}");
    rig.store.refuse_snapshots(false);
    rig.pass(Duration::from_secs(320));
    let status = archiver.status();
    assert_eq!((status.snapshot_failing, status.newest_snapshot), (None, Some(db.visible_lsn())));
    check_agreement(&rig, &db, &archiver);
}

#[test]
fn a_flush_does_not_wait_for_a_snapshot_that_was_put_off() {
    let rig = Rig::new(2);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
    fill(&db, &keyspace, 0..10, 500, Durability::Durable);
    rig.store.refuse_snapshots(true);
    for _ in 0..5 {
        let error = archiver.flush().unwrap_err();
        assert!(matches!(error, Error::ArchiveUnavailable { .. }), "{error}");
    }
    rig.store.refuse_snapshots(false);
    archiver.flush().unwrap();
    assert_eq!(snapshots(&rig, archiver.lineage()).len(), 1);
}

#[test]
fn an_archiver_that_is_never_at_rest_finds_out_within_an_hour_that_its_lineage_is_gone() {
    let rig = Rig::new(3);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    for n in 0..30u32 {
        if n == 10 {
            rig.store.inner.tamper(&start_key(archiver.lineage()), None);
        }
        fill(&db, &keyspace, n..n + 1, 100, Durability::Durable);
        rig.clock.advance(Duration::from_secs(300));
        match archiver.flush() {
            Ok(_) => assert!(n < 10 + 12, "{n}"),
            Err(error) => {
                assert!(n >= 10 && matches!(error, Error::Fenced { .. }), "{n}: {error}");
                return;
            }
        }
    }
    panic!("it did not look");
}

#[test]
fn a_store_that_says_that_everything_exists_and_has_nothing_is_named_after_a_bounded_number_of_requests() {
    let rig = Rig::new(7);
    let (db, keyspace) = rig.open();
    let options = || rig.archive().snapshot_log_bytes(1);
    let check = |outcome: Result<()>, told: &str| {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(rig.store.requests() < 200, "{}", rig.store.requests());
    };
    rig.store.pretend(true);
    check(db.archive(options()).map(drop), "refused, although nothing stood there");
    rig.store.pretend(false);
    let archiver = db.archive(options()).unwrap();
    fill(&db, &keyspace, 0..10, 500, Durability::Durable);
    rig.store.pretend(true);
    check(archiver.flush().map(drop), "refused, although nothing stands there");
    rig.store.pretend(false);
    archiver.flush().unwrap();
    check_agreement(&rig, &db, &archiver);
}
