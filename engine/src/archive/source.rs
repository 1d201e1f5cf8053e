//! What is archived: the log of a database or of a log replica, and for a database its checkpoints.

use std::path::PathBuf;
use std::sync::Arc;

use logwood_base::sync::Weak;
use logwood_base::sync::atomic::{AtomicU64, Ordering};
use logwood_base::{DatabaseId, Environment, Error, Lsn, Result, Term};
use logwood_btree::store::{Manifest, Store as PageStore};
use logwood_wal::{Append, Entry, Group, Hold, Log};

use super::gate::{Gate, keep_from};
use super::status::ArchiveStatus;
use crate::core::Core;
use crate::planted::{Bug, planted};

/// Most bytes read from the log at once: few, for those in memory are gathered under a lock that commits take, too.
const READ_BYTES: usize = 64 << 10;

/// The log that is archived, and what stands around it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) root: PathBuf,
    pub(super) environment: Environment,
    pub(super) log: Log,
    pub(super) group: Group,
    pub(super) trees: Trees,
    /// Named in errors.
    pub(super) folder: PathBuf,
}

/// Whether there are trees beside the log.
#[derive(Debug)]
pub(super) enum Trees {
    /// A database, which decides alone: what is durable is decided.
    Database(Weak<Core>),
    /// A log replica: what its leader said is committed is decided.
    None(Arc<LogGate>),
}

/// Counts a log replica's appends.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    pub(crate) gate: Gate,
    pub(crate) appended_bytes: AtomicU64,
}

impl Source {
    pub(super) fn database(&self) -> DatabaseId {
        self.log.database()
    }

    /// The entries that nothing takes back: decided, and durable here.
    pub(super) fn decided(&self) -> Lsn {
        if planted(Bug::ArchiveUndecided) {
            return self.group.appended_lsn();
        }
        let durable = self.group.durable_lsn();
        match self.trees {
            Trees::Database(_) => durable,
            Trees::None(_) => durable.min(self.group.committed_lsn()),
        }
    }

    /// Whether nobody else decides what this log holds.
    pub(super) fn decides_alone(&self) -> bool {
        matches!(self.trees, Trees::Database(_))
    }

    /// Makes durable what was committed buffered.
    pub(super) fn sync(&self) -> Result<()> {
        if self.decides_alone() && self.group.durable_lsn() < self.group.appended_lsn() {
            self.log.sync()?;
        }
        Ok(())
    }

    /// Entries from `from` up to, and with, `last`: some of them, at least one if there is any.
    pub(super) fn read(&self, from: Lsn, last: Lsn) -> Result<Vec<Entry>> {
        self.group.read(from, last.next(), READ_BYTES)
    }

    /// Asked before anything in the directory is written: a database that was closed may be another process's by now.
    ///
    /// # Errors
    /// `Closed` then.
    pub(super) fn check_open(&self) -> Result<()> {
        self.read(Lsn::MAX, Lsn::ZERO).map(drop)
    }

    /// One entry; `None` where the log does not hold it.
    pub(super) fn entry(&self, lsn: Lsn) -> Result<Option<Entry>> {
        match self.read(lsn, lsn) {
            Err(Error::TooOld { .. }) => Ok(None),
            read => Ok(read?.into_iter().next()),
        }
    }

    /// The term of the entry before `next`; [`Term::NONE`] where the log does not know it.
    pub(super) fn term_before(&self, next: Lsn) -> Term {
        if next == Lsn::FIRST {
            return Term::NONE;
        }
        self.group.term_of(next.previous()).unwrap_or(Term::NONE)
    }

    pub(super) fn hold(&self, from: Lsn) -> Result<Hold> {
        self.group.hold("archive", from)
    }

    /// Keeps the log of a database for the next archiver.
    pub(super) fn keep(&self, from: Lsn) -> Option<Hold> {
        let bytes_max = self.core()?.options.unarchived_log_bytes_max;
        keep_from(&self.group, from, bytes_max)
    }

    fn core(&self) -> Option<Arc<Core>> {
        match &self.trees {
            Trees::Database(core) => core.upgrade(),
            Trees::None(_) => None,
        }
    }

    /// The newest checkpoint, and the page segments it needs, which stay as long as the manifest is held.
    pub(super) fn checkpoint(&self, now: bool) -> Result<Option<(PageStore, Arc<Manifest>)>> {
        let Trees::Database(core) = &self.trees else { return Ok(None) };
        let core = core.upgrade().ok_or(Error::Closed)?;
        if now {
            core.checkpoint_now()?;
        }
        let store = core.forest.store().clone();
        let manifest = store.manifest();
        Ok(Some((store, manifest)))
    }

    /// Runs something with the gate and the bytes committed so far. A database that is gone has none.
    pub(super) fn with_gate<T: Default>(&self, run: impl FnOnce(&Gate, u64) -> T) -> T {
        match &self.trees {
            Trees::Database(_) => {
                self.core().map(|core| run(&core.archive, core.counters.bytes())).unwrap_or_default()
            }
            Trees::None(log) => {
                let appended = log.appended_bytes.load(Ordering::Relaxed);
                run(&log.gate, appended)
            }
        }
    }
}

impl LogGate {
    /// Refuses entries when too much waits to be archived, and counts them. What fails afterwards stays counted: the
    /// bound errs on the side of less.
    pub(crate) fn admit(&self, append: &Append<'_>) -> Result<()> {
        self.gate.check(self.appended_bytes.load(Ordering::Relaxed))?;
        let bytes: usize = append.entries.iter().map(|(_, payload)| payload.len()).sum();
        self.appended_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Core {
    /// What the attached archiver tells of itself.
    pub(crate) fn archive_status(&self) -> Option<ArchiveStatus> {
        let shared = self.archive.attached()?;
        let backlog = self.archive.backlog(self.counters.bytes());
        Some(shared.status(&self.group, self.group.durable_lsn(), backlog, &*self.environment.clock))
    }
}
