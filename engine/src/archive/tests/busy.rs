//! An archiver of a database that is written to without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::rig::{Faulty, Rig, check_agreement, fill, fill_and_let_go, snapshots};
use crate::archive::ArchiveOptions;
use crate::archive::store::{Head, Listed, ManualPause, Put, Store};
use crate::{Database, Durability};

/// A store beside which a database is written to: at every request.
pub(super) struct Busy {
    pub(super) inner: Faulty,
    pub(super) write: Box<dyn Fn() + Send + Sync>,
    pub(super) goes_on: Arc<AtomicBool>,
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

/// Options of an archiver beside whom `count` records of `bytes` bytes are committed at each request, while the flag is set.
fn beside(rig: &Rig, db: &Database, count: u32, bytes: usize) -> (ArchiveOptions, Arc<AtomicBool>) {
    let (goes_on, written, writing) = (Arc::new(AtomicBool::new(false)), AtomicU32::new(0), db.clone());
    let write = move || {
        let keyspace = writing.keyspace("k").unwrap();
        let from = written.fetch_add(count, Ordering::SeqCst);
        assert!(from < 100_000, "it does not end while somebody commits");
        fill(&writing, &keyspace, from..from + count, bytes, Durability::Durable);
    };
    let busy = Busy { inner: rig.store.clone(), write: Box::new(write), goes_on: Arc::clone(&goes_on) };
    let options = ArchiveOptions::to_store(Arc::new(busy))
        .background(false)
        .object_bytes(8 << 10)
        .snapshot_log_bytes(0)
        .pause(Arc::new(ManualPause::new(Arc::clone(&rig.clock))));
    (options, goes_on)
}

#[test]
fn a_flush_ends_with_the_snapshot_that_the_chain_begins_with_although_somebody_commits() {
    // A few bytes at each request, which wait; as many as make an object at once.
    for (count, objects_most) in [(1, 10), (60, 50)] {
        let rig = Rig::new(1);
        let (db, keyspace) = rig.open();
        fill_and_let_go(&db, &keyspace, 0..6);
        let (options, goes_on) = beside(&rig, &db, count, 300);
        let archiver = db.archive(options).unwrap();
        goes_on.store(true, Ordering::SeqCst);
        let committed = db.visible_lsn();
        assert!(archiver.flush().unwrap() >= committed);
        let status = archiver.status();
        assert_eq!(status.snapshots, 1, "{status:?}");
        assert!(status.pages.0 > 3 && status.objects <= objects_most, "{status:?}");
        goes_on.store(false, Ordering::SeqCst);
        archiver.flush().unwrap();
        check_agreement(&rig, &db, &archiver);
    }
}

#[test]
fn a_snapshot_gets_on_where_commits_are_as_fast_as_the_archive_and_takes_the_log_a_fifth_at_most() {
    let rig = Rig::new(2);
    let (db, keyspace) = rig.open();
    fill(&db, &keyspace, 0..300, 2000, Durability::Durable);
    let (options, goes_on) = beside(&rig, &db, 40, 300);
    let archiver = db.archive(options.snapshot_log_bytes(100_000)).unwrap();
    goes_on.store(true, Ordering::SeqCst);
    for _ in 0..400 {
        assert!(super::super::archiver::uploader_of(&archiver).step(false).unwrap());
    }
    let status = archiver.status();
    assert!(status.lag_entries > 0 && status.objects >= 396, "every step had an object to put: {status:?}");
    assert!(status.snapshots >= 2, "{status:?}");
    goes_on.store(false, Ordering::SeqCst);
    archiver.flush().unwrap();
    check_agreement(&rig, &db, &archiver);
    assert!(!snapshots(&rig, archiver.lineage()).is_empty());
}

#[test]
fn the_place_in_the_chain_is_noted_although_the_archiver_never_rests() {
    let rig = Rig::new(3);
    let (db, keyspace) = rig.open();
    fill(&db, &keyspace, 0..100, 300, Durability::Durable);
    let (options, goes_on) = beside(&rig, &db, 40, 300);
    let archiver = db.archive(options).unwrap();
    goes_on.store(true, Ordering::SeqCst);
    for _ in 0..200 {
        assert!(super::super::archiver::uploader_of(&archiver).step(false).unwrap());
    }
    let uploader = super::super::archiver::uploader_of(&archiver);
    assert!(uploader.noted.1 < 64 && uploader.local.confirmed.is_some(), "{:?}", uploader.local);
}
