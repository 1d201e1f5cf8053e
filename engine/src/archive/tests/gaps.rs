//! Gaps that are left while commits are faster than the archive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use logwood_base::Lsn;

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
