//! Gaps that are left while commits are faster than the archive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use logwood_base::{Error, Lsn};

use super::busy::Busy;
use super::rig::{Fault, Rig, check_agreement, fill, snapshots};
use crate::archive::store::{Retry, Store as _};
use crate::archive::{Archive, Point, RestoreOptions};
use crate::{BulkOptions, Durability};

#[test]
fn where_what_is_in_a_checkpoint_keeps_its_snapshot_from_the_archive_a_gap_goes_on_with_the_next_one() {
    let rig = Rig::new(2);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive().leave_gaps(true)).unwrap();
    fill(&db, &keyspace, 0..20, 300, Durability::Durable);
    archiver.flush().unwrap();
    super::super::archiver::uploader_of(&archiver).part("the test wants a gap");
    fill(&db, &keyspace, 20..40, 300, Durability::Durable);
    // What stands where the snapshot of now would is not this database's.
    let key = crate::archive::layout::snapshot_key(archiver.lineage(), db.visible_lsn());
    rig.store.inner.tamper(&key, Some(b"damaged"));
    for _ in 0..2 {
        let error = archiver.flush().unwrap_err();
        assert!(matches!(&error, Error::ArchiveCorrupt(damage) if damage.key == key), "{error}");
    }
    fill(&db, &keyspace, 40..45, 300, Durability::Durable);
    archiver.flush().unwrap();
    assert!(rig.store.inner.list("hold/").unwrap().is_empty());
    rig.store.inner.tamper(&key, None);
    assert_eq!(check_agreement(&rig, &db, &archiver).gaps.len(), 1);
}

#[test]
fn a_clean_stop_in_the_middle_of_a_snapshot_takes_its_hold_back() {
    let rig = Rig::new(3);
    let (db, keyspace) = rig.open();
    fill(&db, &keyspace, 0..300, 2000, Durability::Durable);
    let archiver = db.archive(rig.archive().snapshot_log_bytes(1)).unwrap();
    for _ in 0..1000 {
        super::super::archiver::uploader_of(&archiver).step(true).unwrap();
        if rig.store.inner.list("pages/").unwrap().len() == 2 {
            break;
        }
    }
    assert_eq!(rig.store.inner.list("hold/").unwrap().len(), 1);
    archiver.stop().unwrap();
    assert!(rig.store.inner.list("hold/").unwrap().is_empty());
    // What was put is used by the next one.
    let archiver = db.archive(rig.archive().verify_pages(true)).unwrap();
    archiver.flush().unwrap();
    check_agreement(&rig, &db, &archiver);
}

#[test]
fn a_gap_ends_although_the_backlog_fills_faster_than_its_snapshot_goes_up() {
    let rig = Rig::new(1);
    let (db, keyspace) = rig.open();
    fill(&db, &keyspace, 0..300, 2000, Durability::Durable);
    let (goes_on, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (writing, counted) = (db.clone(), Arc::clone(&written));
    let write = move || {
        let keyspace = writing.keyspace("k").unwrap();
        let from = counted.fetch_add(60, Ordering::SeqCst);
        // More than the backlog may be, at each request.
        fill(&writing, &keyspace, from..from + 60, 2000, Durability::Durable);
        writing.checkpoint().unwrap();
        writing.core().log.maintain().unwrap();
    };
    let busy = Busy { inner: rig.store.clone(), write: Box::new(write), goes_on: Arc::clone(&goes_on) };
    let pause = Arc::new(crate::archive::store::ManualPause::new(Arc::clone(&rig.clock)));
    let options = crate::archive::ArchiveOptions::to_store(Arc::new(busy))
        .background(false)
        .object_bytes(8 << 10)
        .snapshot_log_bytes(0)
        .backlog_bytes_max(100_000)
        .leave_gaps(true)
        .pause(pause);
    let archiver = db.archive(options).unwrap();
    goes_on.store(true, Ordering::SeqCst);
    let mut longest = 0;
    for _ in 0..400 {
        super::super::archiver::uploader_of(&archiver).step(true).unwrap();
        let statistics = db.statistics();
        longest = longest.max(statistics.log.log_bytes);
    }
    let status = archiver.status();
    assert!(status.gaps >= 3 && status.snapshots >= 3, "it goes on for as long as it may: {status:?}");
    assert!(longest < 6 << 20, "the log is not held for a gap that does not end: {longest}");
    // Every snapshot that stands for a gap is a point that can be restored.
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let all = snapshots(&rig, archiver.lineage());
    for (at, lsn) in all.keys().enumerate().take(3) {
        let options = RestoreOptions::new().point(Point::Lsn(*lsn)).database(rig.options());
        assert_eq!(archive.restore(format!("restored{at}"), &options).unwrap().lsn, *lsn);
    }
    // When commits pause, it catches up.
    goes_on.store(false, Ordering::SeqCst);
    archiver.flush().unwrap();
    fill(&db, &keyspace, 0..20, 500, Durability::Durable);
    archiver.flush().unwrap();
    let archived = check_agreement(&rig, &db, &archiver);
    assert_eq!(archived.gaps.len() as u64, archiver.status().gaps);
    assert!(archived.entries.keys().next_back() > Some(&Lsn(1000)));
}

#[test]
fn the_newest_gap_that_takes_a_point_is_told_up_to_the_point_that_its_snapshot_is() {
    let rig = Rig::new(4);
    let (db, keyspace) = rig.open();
    let archiver = db.archive(rig.archive()).unwrap();
    let leave_gap = |range: std::ops::Range<u32>| {
        super::super::archiver::uploader_of(&archiver).part("the test wants a gap");
        fill(&db, &keyspace, range, 300, Durability::Durable);
        archiver.flush().unwrap();
        archiver.status()
    };
    fill(&db, &keyspace, 0..20, 300, Durability::Durable);
    let first = archiver.flush().unwrap().next();
    let taken = Some((first, Lsn(first.get() + 8)));
    assert_eq!(leave_gap(20..30).newest_gap, taken);
    // The snapshot stands for the only entry that is left out.
    let status = leave_gap(30..31);
    assert_eq!((status.gaps, status.newest_gap), (2, taken));
    // What a bulk write has begun before the snapshot is needed with it: the log goes on before that.
    let mut bulk = db.bulk_write(BulkOptions::new().memory_bytes(64 << 10)).unwrap();
    let first = db.visible_lsn().next();
    fill(&db, &keyspace, 31..41, 300, Durability::Durable);
    for n in 0..800u32 {
        bulk.put(&keyspace, format!("bulk {n:05}").as_bytes(), &[7; 300]).unwrap();
    }
    let status = leave_gap(41..51);
    let snapshot = snapshots(&rig, archiver.lineage()).into_values().next_back().unwrap();
    assert!(snapshot.trees.replay_from < snapshot.lsn(), "{snapshot:?}");
    assert_eq!((status.gaps, status.newest_gap), (3, Some((first, snapshot.lsn().previous()))));
    bulk.commit(Durability::Durable).unwrap();
    archiver.flush().unwrap();
    let archive = Archive::with_client(rig.client(), &rig.environment);
    let restore = |lsn: Lsn| {
        let options = RestoreOptions::new().point(Point::Lsn(lsn)).database(rig.options());
        archive.restore(format!("restored {lsn}"), &options).map(|report| report.lsn)
    };
    assert_eq!(restore(snapshot.lsn()).unwrap(), snapshot.lsn());
    for lsn in [first, snapshot.trees.replay_from, snapshot.lsn().previous()] {
        assert!(matches!(restore(lsn), Err(Error::NotFound { .. })), "{lsn}");
    }
}

#[test]
fn the_snapshot_of_a_gap_that_gets_on_goes_on_however_often_the_store_is_out_of_reach_between() {
    let rig = Rig::new(5);
    let (db, keyspace) = rig.open();
    let retry = Retry { attempts: 1, ..Retry::default() };
    let archiver = db.archive(rig.archive().leave_gaps(true).retry(retry)).unwrap();
    let value = |n: u32| -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(u64::from(n));
        (0..4000).map(|_| rng.u8(..)).collect()
    };
    for n in 0..300u32 {
        keyspace.put(format!("large {n:05}").as_bytes(), &value(n)).unwrap();
    }
    archiver.flush().unwrap();
    super::super::archiver::uploader_of(&archiver).part("the test wants a gap");
    fill(&db, &keyspace, 0..20, 300, Durability::Durable);
    let (mut failed, mut begun) = (0, Lsn::ZERO);
    while archiver.status().gaps == 0 {
        let mut uploader = super::super::archiver::uploader_of(&archiver);
        uploader.step(true).unwrap();
        if begun == Lsn::ZERO {
            // Whatever is begun anew is of a later checkpoint.
            begun = db.visible_lsn();
            fill(&db, &keyspace, 20..22, 300, Durability::Durable);
        }
        rig.store.set(1, Fault::Dead);
        failed += u32::from(uploader.step(true).is_err());
        rig.store.heal();
        assert!(failed < 100, "it is begun anew again and again");
    }
    assert!(failed > 12, "{failed}");
    let all: Vec<Lsn> = snapshots(&rig, archiver.lineage()).into_keys().collect();
    assert_eq!(all, [begun]);
}
