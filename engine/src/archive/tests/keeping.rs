//! An archiver's own retention: beside its uploads, by time, and until nothing is left to do.

use std::sync::Arc;
use std::time::Duration;

use logwood_base::sync::Mutex;
use logwood_base::{Clock as _, Error, Lsn};

use super::retention::{HOUR, check_whole, hours, keep};
use super::rig::{Fault, Rig, fill, snapshots};
use crate::Durability;
use crate::archive::layout::{PAGES_PREFIX, RUNS_PREFIX, page_key};
use crate::archive::store::Store as _;
use crate::archive::{ArchiveOptions, Archiver, retention};

/// An archiver that works by itself and keeps points for long.
fn keeping(rig: &Rig) -> ArchiveOptions {
    rig.archive().background(true).object_bytes(4 << 10).snapshot_log_bytes(30 << 10).keep(1000 * HOUR)
}

/// A page segment that no snapshot names.
fn orphan(rig: &Rig, n: u32) -> [u8; 32] {
    let mut hash = [0x77; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    rig.store.inner.tamper(&page_key(&hash), Some(b"x"));
    hash
}

fn orphans(rig: &Rig) -> usize {
    let listed = rig.store.inner.list(PAGES_PREFIX).unwrap();
    listed.iter().filter(|page| page.key.ends_with(&"77".repeat(28))).count()
}

#[test]
fn an_archiver_catches_up_with_more_than_one_run_can_delete_and_without_a_snapshot() {
    let rig = Rig::new(50);
    let (db, keyspace) = rig.open();
    fill(&db, &keyspace, 0..10, 100, Durability::Durable);
    for n in 0..60_000 {
        orphan(&rig, n);
    }
    let archiver = db.archive(keeping(&rig)).unwrap();
    rig.pass(Duration::from_secs(10));
    let status = archiver.status();
    assert_eq!((orphans(&rig), status.retention_deleted, status.retention_left), (0, 60_000, 0));
    assert_eq!(status.snapshots, 0);
    // And again every hour, though nothing is archived.
    for _ in 0..3 {
        orphan(&rig, 1);
        rig.pass(HOUR / 2);
        assert_eq!(orphans(&rig), 1);
        rig.pass(HOUR / 2 + Duration::from_secs(1));
        assert_eq!(orphans(&rig), 0);
        assert!(archiver.status().retention_age.unwrap() < HOUR / 2);
    }
    // Where there was nothing to do, once a day.
    rig.pass(2 * HOUR);
    orphan(&rig, 1);
    rig.pass(20 * HOUR);
    assert_eq!(orphans(&rig), 1);
    assert!(archiver.status().retention_age.unwrap() < 2 * HOUR);
    rig.pass(5 * HOUR);
    assert_eq!(orphans(&rig), 0);
}

#[test]
fn an_archiver_that_puts_nothing_asks_the_store_for_nothing_although_it_keeps_a_window() {
    let rig = Rig::new(56);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(keeping(&rig).keep(3 * HOUR)).unwrap();
    for n in 0..8 {
        fill(&db, &keyspace, n * 40..n * 40 + 40, 800, Durability::Durable);
        rig.pass(HOUR);
    }
    let all = snapshots(&rig, archiver.lineage());
    assert!(archiver.status().retention_deleted > 0 && all.len() > 2);
    rig.pass(5 * HOUR);
    for day in 0..3 {
        let before = rig.store.requests();
        rig.pass(18 * HOUR);
        assert_eq!(rig.store.requests(), before, "day {day}");
        rig.pass(6 * HOUR);
        let of_run = rig.store.requests() - before;
        assert!((1..20 + 2 * all.len() as u64).contains(&of_run), "day {day}: {of_run}");
    }
    // What time alone would let go of was let go of: a run by hand finds nothing.
    let by_hand = retention(&rig.client(), &rig.environment, &keep(3 * HOUR)).unwrap();
    assert!(by_hand.condemned.is_empty(), "{by_hand:?}");
    // When something is put, the next run comes within an hour.
    let before = archiver.status().retention_deleted;
    fill(&db, &keyspace, 0..40, 800, Durability::Durable);
    rig.pass(HOUR + HOUR / 2);
    assert!(archiver.status().retention_deleted > before);
    check_whole(&rig, &archiver, db.durable_lsn());
}

#[test]
fn how_long_an_archive_was_idle_before_does_not_lengthen_what_is_kept() {
    let rig = Rig::new(57);
    let (db, archiver) = hours(&rig, 4);
    let old = snapshots(&rig, archiver.lineage());
    archiver.stop().unwrap();
    rig.clock.advance(100 * HOUR);
    let keyspace = db.keyspace("k").unwrap();
    let archiver = db.archive(keeping(&rig).keep(2 * HOUR)).unwrap();
    for n in 0..6 {
        fill(&db, &keyspace, n * 40..n * 40 + 40, 800, Durability::Durable);
        rig.pass(HOUR);
    }
    let oldest = snapshots(&rig, archiver.lineage()).into_values().next().unwrap();
    assert!(!old.contains_key(&oldest.lsn()));
    assert!(
        oldest.time_ms + 4 * 3_600_000 > rig.clock.wall_ms(),
        "{} {}",
        oldest.time_ms,
        rig.clock.wall_ms()
    );
    check_whole(&rig, &archiver, db.durable_lsn());
}

#[test]
fn uploads_go_on_at_any_request_of_a_run() {
    let (mut within, mut is_past) = (0, false);
    for k in (1..).step_by(3) {
        let rig = Rig::new(51);
        let (db, keyspace) = rig.open();
        let archiver = db.archive(keeping(&rig)).unwrap();
        rig.pass(Duration::from_secs(1));
        fill(&db, &keyspace, 0..100, 800, Durability::Durable);
        archiver.flush().unwrap();
        rig.pass(HOUR - Duration::from_secs(60));
        for n in 0..5 {
            orphan(&rig, n);
        }
        let archiver = Arc::new(archiver);
        let (flushing, committing) = (Arc::clone(&archiver), (db.clone(), keyspace.clone()));
        let reached: Arc<Mutex<Option<Result<Lsn, Error>>>> = Arc::default();
        let found = Arc::clone(&reached);
        let store = rig.store.inner.clone();
        rig.clock.advance(Duration::from_secs(120));
        // The archiver rests: the requests from here on are the run's.
        rig.store.at(k, move || {
            let (db, keyspace) = committing;
            fill(&db, &keyspace, 100..110, 800, Durability::Durable);
            let runs = store.list(RUNS_PREFIX).unwrap().len();
            *found.lock() = Some(flushing.flush().inspect(|_| assert!(runs <= 1)));
        });
        assert!(rig.spawner.run_until_idle(rig.clock.monotonic(), 100_000));
        if rig.store.no_hook() {
            is_past = true;
            break;
        }
        assert_eq!(reached.lock().take().unwrap().unwrap(), db.durable_lsn(), "request {k}");
        within += 1;
        rig.pass(HOUR + HOUR);
        assert_eq!(orphans(&rig), 0, "request {k}");
        check_whole(&rig, &archiver, db.durable_lsn());
    }
    assert!(is_past && within > 5, "{within}");
}

#[test]
fn a_run_that_fails_is_told_and_the_next_one_makes_it_good() {
    let rig = Rig::new(52);
    let (db, _keyspace) = rig.open();
    let archiver = db.archive(keeping(&rig)).unwrap();
    rig.pass(Duration::from_secs(1));
    assert_eq!(archiver.status().retention_failing, None);
    orphan(&rig, 1);
    rig.store.set(1, Fault::Dead);
    rig.pass(2 * HOUR + HOUR / 2);
    let status = archiver.status();
    assert!(status.retention_failing.unwrap().contains("failed"));
    assert!(status.retention_failures >= 2 && status.retention_age.unwrap() > 2 * HOUR);
    assert_eq!(orphans(&rig), 1);
    rig.store.heal();
    rig.pass(HOUR);
    let status = archiver.status();
    assert_eq!((status.retention_failing, orphans(&rig)), (None, 0));
    assert!(status.retention_age.unwrap() <= HOUR);
    // What cannot be read is told, too, and that a run ended all the same.
    rig.store.inner.tamper(&crate::archive::layout::start_key(crate::archive::LineageId(1)), Some(b"x"));
    rig.pass(HOUR + HOUR / 2);
    let status = archiver.status();
    assert!(status.retention_failing.unwrap().contains("lineage/"));
    assert!(status.retention_age.unwrap() <= HOUR);
}

/// An archiver that has a few snapshots, and whose retention has run since.
fn with_snapshots(rig: &Rig) -> (crate::Database, Archiver) {
    let (db, keyspace) = rig.open();
    let archiver = db.archive(keeping(rig).background(false)).unwrap();
    for n in 0..4 {
        fill(&db, &keyspace, n * 40..n * 40 + 40, 800, Durability::Durable);
        rig.clock.advance(2 * HOUR);
        archiver.flush().unwrap();
    }
    assert!(snapshots(rig, archiver.lineage()).len() > 2);
    (db, archiver)
}

fn snapshots_read(rig: &Rig) -> usize {
    rig.store.gets.lock().drain(..).filter(|key| key.contains("/snapshot/")).count()
}

#[test]
fn a_snapshot_that_a_run_has_read_is_not_read_again_by_the_next_one() {
    let rig = Rig::new(53);
    let (_db, archiver) = with_snapshots(&rig);
    snapshots_read(&rig);
    for n in 0..3 {
        orphan(&rig, n);
        rig.clock.advance(25 * HOUR);
        archiver.flush().unwrap();
        assert_eq!((orphans(&rig), snapshots_read(&rig)), (0, 0));
    }
    // By one that has no run before it, all are.
    orphan(&rig, 9);
    retention(&rig.client_of(Arc::new(rig.store.clone())), &rig.environment, &keep(1000 * HOUR)).unwrap();
    assert_eq!(snapshots_read(&rig), snapshots(&rig, archiver.lineage()).len());
}

#[test]
fn another_snapshot_at_the_key_of_one_that_a_run_has_read_is_read() {
    let rig = Rig::new(54);
    let (_db, archiver) = with_snapshots(&rig);
    let mut other = snapshots(&rig, archiver.lineage()).into_values().nth(1).unwrap();
    let (named, unnamed) = (orphan(&rig, 1), orphan(&rig, 2));
    let mut page = other.pages().last().unwrap().clone();
    (page.hash, page.number) = (named, other.trees.next_segment);
    other.trees.next_segment = other.trees.next_segment.next();
    other.trees.segments.push(page);
    rig.store.inner.tamper(&other.key(), Some(&other.encode().bytes));
    rig.clock.advance(25 * HOUR);
    archiver.flush().unwrap();
    assert!(rig.has_page(&named) && !rig.has_page(&unnamed));
}

#[test]
fn a_run_that_is_told_to_stop_at_any_request_lowers_its_flag() {
    let (mut ended, mut cut) = (0, 0);
    for k in 1.. {
        let rig = Rig::new(55);
        let (db, archiver) = hours(&rig, 5);
        let client = rig.client_of(Arc::new(rig.store.clone()));
        let stopping = client.clone();
        rig.store.at(k, move || stopping.stop());
        let before = rig.store.requests();
        let ran = retention(&client, &rig.environment, &keep(HOUR));
        if rig.store.no_hook() {
            break;
        }
        assert!(matches!(ran, Ok(_) | Err(Error::Closed)), "request {k}: {ran:?}");
        let left = rig.store.requests() - before - k;
        assert!(left < 20, "request {k}: {left} requests follow");
        ended += u32::from(ran.is_ok());
        cut += u32::from(ran.is_ok_and(|report| report.left > 0));
        assert!(rig.store.inner.list(RUNS_PREFIX).unwrap().is_empty(), "request {k}");
        check_whole(&rig, &archiver, db.durable_lsn());
    }
    assert!(ended > 5 && cut > 5, "{ended} {cut}");
}
