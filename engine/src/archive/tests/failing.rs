//! What fails for long, or goes missing, beside an archiver that is at work.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use logwood_base::Error;

use super::rig::{Faulty, Rig, check_agreement, fill, snapshots};
use crate::archive::layout::start_key;
use crate::archive::store::{Head, Listed, Put, Store};
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

/// A store that says of everything that is put that it is there, and has nothing of it.
#[derive(Clone, Debug)]
struct Pretending {
    inner: Faulty,
    pretends: Arc<AtomicBool>,
}

impl Store for Pretending {
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Put> {
        // Counted.
        let _ = self.inner.head(key)?;
        if self.pretends.load(Ordering::SeqCst) { Ok(Put::Exists) } else { self.inner.put_new(key, bytes) }
    }
    fn get(&self, key: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        self.inner.get(key, bytes_max)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>> {
        self.inner.get_range(key, range)
    }
    fn head(&self, key: &str) -> Result<Option<Head>> {
        self.inner.head(key)
    }
    fn list_behind(
        &self,
        prefix: &str,
        after: &str,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.list_behind(prefix, after, each)
    }
    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }
}

#[test]
fn a_store_that_says_that_everything_exists_and_has_nothing_is_named_after_a_bounded_number_of_requests() {
    let rig = Rig::new(7);
    let (db, keyspace) = rig.open();
    let pretends = Arc::new(AtomicBool::new(true));
    let store = Pretending { inner: rig.store.clone(), pretends: Arc::clone(&pretends) };
    let pause = Arc::new(crate::archive::store::ManualPause::new(Arc::clone(&rig.clock)));
    let options = || {
        crate::archive::ArchiveOptions::to_store(Arc::new(store.clone()))
            .background(false)
            .snapshot_log_bytes(1)
            .pause(Arc::clone(&pause) as _)
    };
    let asked = |outcome: Result<()>, told: &str| {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(rig.store.requests() < 500, "{}", rig.store.requests());
    };
    asked(db.archive(options()).map(drop), "refused, although nothing stood there");
    pretends.store(false, Ordering::SeqCst);
    let archiver = db.archive(options()).unwrap();
    fill(&db, &keyspace, 0..10, 500, Durability::Durable);
    pretends.store(true, Ordering::SeqCst);
    asked(archiver.flush().map(drop), "refused, although nothing stands there");
    pretends.store(false, Ordering::SeqCst);
    archiver.flush().unwrap();
    check_agreement(&rig, &db, &archiver);
}
