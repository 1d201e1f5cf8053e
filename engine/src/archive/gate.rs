//! What the archiver and the commits of one database or log share: how much waits to be archived, and whether that is
//! too much.
//!
//! A commit looks at two numbers, and only while an archiver is attached. It never waits for the archive: it is refused
//! when the backlog is full and no gap may be left.

use logwood_base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use logwood_base::sync::{Arc, Mutex};
use logwood_base::{Error, Result};

use super::status::Shared;

/// Counts what is committed against what is archived.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Whether an archiver is attached that stops writes when its backlog is full.
    stops: AtomicBool,
    /// Bytes committed since the database was opened that need not be archived any more: those before the archiver was
    /// attached, and those that are confirmed.
    settled: AtomicU64,
    limit: AtomicU64,
    attached: Mutex<Option<Arc<Shared>>>,
}

impl Gate {
    /// Takes an archiver in, when there is none.
    pub(crate) fn attach(&self, shared: &Arc<Shared>, committed: u64, limit: u64, stops: bool) -> Result<()> {
        let mut attached = self.attached.lock();
        if attached.is_some() {
            let name = shared.lineage.to_string();
            return Err(Error::AlreadyExists { what: "archiver of this directory, for lineage", name });
        }
        self.settled.store(committed, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        self.stops.store(stops, Ordering::Release);
        *attached = Some(Arc::clone(shared));
        Ok(())
    }

    /// Lets the archiver go: writes are bounded by nothing any more.
    pub(crate) fn detach(&self) {
        self.stops.store(false, Ordering::Release);
        *self.attached.lock() = None;
    }

    /// Refuses a write when too much waits to be archived. `committed`: bytes since the database was opened.
    pub(crate) fn check(&self, committed: u64) -> Result<()> {
        if !self.stops.load(Ordering::Acquire) {
            return Ok(());
        }
        let (backlog, limit) = (self.backlog(committed), self.limit.load(Ordering::Relaxed));
        if backlog <= limit { Ok(()) } else { Err(Error::ArchiveBehind { backlog, limit }) }
    }

    /// Bytes that wait to be archived.
    pub(crate) fn backlog(&self, committed: u64) -> u64 {
        committed.saturating_sub(self.settled.load(Ordering::Relaxed))
    }

    /// Whether the backlog has passed its bound.
    pub(crate) fn is_full(&self, committed: u64) -> bool {
        self.backlog(committed) > self.limit.load(Ordering::Relaxed)
    }

    /// Counts bytes that are confirmed, or given up.
    pub(crate) fn settle(&self, bytes: u64) {
        self.settled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts everything as archived that was committed when `committed` was read.
    pub(crate) fn settle_all(&self, committed: u64) {
        self.settled.fetch_max(committed, Ordering::Relaxed);
    }

    /// What the attached archiver tells of itself.
    pub(crate) fn attached(&self) -> Option<Arc<Shared>> {
        self.attached.lock().clone()
    }
}
