//! What the archiver and the commits of one database or log share: how much waits to be archived, and whether that is
//! too much.
//!
//! A commit looks at two numbers, and only while an archiver is attached. It never waits for the archive: it is refused
//! when the backlog is full and no gap may be left.
//!
//! While no archiver is attached, the log of a directory that was archived is kept for the next one, from the last object on
//! that the archive is known to hold: up to a bound, and only while the disk has room, for nobody may ever come.

use std::path::Path;

use logwood_base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use logwood_base::sync::{Arc, Mutex};
use logwood_base::{Disk, Error, Lsn, Result};
use logwood_wal::{Group, Hold, Log};

use super::lineage::LocalLineage;
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
    /// Keeps the log for the next archiver while none is attached.
    kept: Mutex<Option<Hold>>,
}

/// Keeps the log of a directory that was archived, or restored from an archive, for the next archiver. `bytes_max`: beyond which
/// it is not kept; 0: not at all. What cannot be read may say anything, and the archiver says so.
pub(crate) fn keep(disk: &dyn Disk, root: &Path, log: &Log, group: &Group, bytes_max: u64) -> Option<Hold> {
    let from = match LocalLineage::read(disk, root, log.database(), log.id()) {
        Ok(LocalLineage { confirmed: Some((first, _)), .. }) => first,
        Ok(LocalLineage { lineage: None, parent, .. }) => {
            // Where the log has let go of what follows the fork, no archiver goes on from there.
            Some(parent?.fork_lsn.next()).filter(|first| *first >= group.first_lsn())?
        }
        Ok(_) | Err(_) => Lsn::FIRST,
    };
    keep_from(group, from, bytes_max)
}

/// Keeps the log from an entry on, or from the first that it has.
pub(super) fn keep_from(group: &Group, from: Lsn, bytes_max: u64) -> Option<Hold> {
    if bytes_max == 0 {
        return None;
    }
    loop {
        match group.hold_bounded("next archiver", from.max(group.first_lsn()), bytes_max) {
            // Let go between the two calls.
            Err(Error::TooOld { .. }) => {}
            held => return held.ok(),
        }
    }
}

impl Gate {
    /// The gate of a database that was just opened.
    pub(crate) fn new(kept: Option<Hold>) -> Self {
        Self { kept: Mutex::new(kept), ..Self::default() }
    }

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
        // It holds by itself what it needs.
        *self.kept.lock() = None;
        Ok(())
    }

    /// Gives up the log that is kept for an archiver that may never come: the disk is full.
    pub(crate) fn make_room(&self) {
        if self.kept.lock().take().is_some() {
            tracing::warn!("the disk is full: the log is not kept for the next archiver, who leaves a gap");
        }
    }

    /// Lets the archiver go: writes are bounded by nothing any more. `kept`: what keeps the log for the next one.
    pub(crate) fn detach(&self, kept: Option<Hold>) {
        self.stops.store(false, Ordering::Release);
        *self.kept.lock() = kept;
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
