//! Gaps that are left while commits are faster than the archive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use logwood_base::{Error, Lsn};

use super::rig::{Rig, check_agreement, fill, snapshots};
use crate::Durability;
use crate::archive::store::{Head, Listed, Put, Store};
use crate::archive::{Archive, Point, RestoreOptions};

/// A store beside which a database is written to: at every request.
struct Busy {
    inner: super::rig::Faulty,
    write: Box<dyn Fn() + Send + Sync>,
    goes_on: Arc<AtomicBool>,
}

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Busy")
    }
}

impl Busy {
    fn work(&self) {
        if self.goes_on.load(Ordering::SeqCst) {
            (self.write)();
        }
    }
}

impl Store for Busy {
    fn put_new(&self, key: &str, bytes: &[u8]) -> crate::Result<Put> {
        self.work();
        self.inner.put_new(key, bytes)
    }
    fn get(&self, key: &str, bytes_max: u64) -> crate::Result<Option<Vec<u8>>> {
        self.work();
        self.inner.get(key, bytes_max)
    }
    fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> crate::Result<Option<Vec<u8>>> {
        self.inner.get_range(key, range)
    }
    fn head(&self, key: &str) -> crate::Result<Option<Head>> {
        self.inner.head(key)
    }
    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> std::ops::ControlFlow<()>,
    ) -> crate::Result<()> {
        self.inner.list_behind(prefix, after, each)
    }
    fn delete(&self, key: &str) -> crate::Result<()> {
        self.inner.delete(key)
    }
}

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
