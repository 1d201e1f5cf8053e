//! Applying the log behind the checkpoint that was opened, before anybody reads.
//!
//! The log is read a part at a time ([`gather`](super::gather)): while one is applied here, a helper gathers the next. The
//! trees, checkpoints and progress are this thread's alone.
//!
//! # Memory
//! When the entries change more pages than `dirty_bytes_max`, a checkpoint is written on the way: replay's memory is bounded
//! like that of a running database. On a full disk it goes on without, and tries again later: what is changed stays in memory,
//! as it did in the database that met the full disk, which refused writes from twice `dirty_bytes_max` on; more than that only
//! where a crash has cut off a checkpoint. Two parts are in memory at a time, and each takes at most a sixteenth of the cache; both,
//! where the next one is gathered, and what sorting it takes, are taken off the cache meanwhile.
//!
//! # Crashes and errors
//! Replay writes nothing but checkpoints, and each is of what was applied, in the order of the log, and is durable there: the
//! log's tail was synced when it was opened. So a crash at any moment leaves the log as it was, and a manifest from which the
//! next opening does the rest. What was gathered ahead is memory alone. An entry that cannot be read or decoded is answered where
//! it stands, behind the parts before it, whichever thread has met it; the opening fails with it, and changes nothing more.

use std::path::Path;

use logwood_base::{Environment, Error, Result};
use logwood_btree::{Checkpoint, Forest, Opened};
use logwood_wal::{Group, Log};

use super::gather::{Gatherer, Gathering, Replayed};
use super::report;
use crate::Options;
use crate::apply::Applier;
use crate::options::RecoveryStep;

/// Entries between two calls of the progress callback, at least.
const PROGRESS_ENTRIES: u64 = 16 << 10;

/// Bytes of operations that are applied together, in the beginning, at least and at most: the more there are, the more of
/// them fall into each leaf. A quarter of `dirty_bytes_max` and a sixteenth of the cache at most.
const GATHERED_BYTES: usize = 16 << 20;
const GATHERED_BYTES_MIN: usize = 256 << 10;
const GATHERED_BYTES_MAX: usize = 32 << 20;

/// How many times what is gathered is held beside the part that is applied: the next part, where it was gathered, and what
/// sorting it takes.
const BESIDE: usize = 3;

/// A replay, and where recovery would start from without it.
pub(super) struct Replay<'a> {
    pub(super) environment: &'a Environment,
    pub(super) options: &'a Options,
    pub(super) forest: &'a Forest,
    pub(super) log: &'a Log,
    pub(super) applier: Applier,
    /// The checkpoint that recovery would start from, were it to start now.
    pub(super) opened: Opened,
    /// Bytes of entries behind it.
    pub(super) bytes: u64,
}

impl Replay<'_> {
    /// Applies everything from `replay_from` on. Answers how many entries that were.
    pub(super) fn run(&mut self, group: &Group, log: &Path) -> Result<u64> {
        let (from, last) = (self.opened.replay_from, group.last().0);
        let total = last.next().entries_since(from);
        let mut done = 0;
        let bound = self.options.dirty_bytes_bound();
        let most = GATHERED_BYTES_MAX.min(bound as usize / 4).min(self.options.cache_bytes / 16).max(1);
        let least = GATHERED_BYTES_MIN.min(most);
        let mut gathered_bytes = GATHERED_BYTES.min(most);
        let gathering = Gathering {
            in_trees: self.opened.checkpoint_lsn,
            bytes_max: most,
            log_bytes: self.log.statistics().log_bytes as usize,
        };
        let mut gatherer = Gatherer::new(group.cursor(from), gathering, gathered_bytes, log);
        let mut dirty_before = self.forest.dirty_bytes() as u64;
        let mut checkpoint_from = bound;
        while let Some(part) = gatherer.next(self.environment)? {
            for step in part.steps() {
                match step {
                    // The helper may have begun with a part of as many bytes.
                    Replayed::Commits(last, operations) => {
                        self.applier.replay_commits(last, operations, BESIDE * gathered_bytes)?;
                    }
                    Replayed::Entry(lsn, payload) => self.applier.replay_entry(lsn, payload)?,
                }
            }
            self.applier.took(part.last, part.time_ms);
            self.bytes += part.logged_bytes;
            let before = done;
            done += part.entries;
            if before / PROGRESS_ENTRIES != done / PROGRESS_ENTRIES {
                report(self.options, RecoveryStep::Replay, done, total, part.last);
            }
            let dirty = self.forest.dirty_bytes() as u64;
            // Few bytes may change many pages: what is gathered must not change more than memory may hold.
            gathered_bytes = match dirty.saturating_sub(dirty_before) {
                grown if grown > bound / 2 => (gathered_bytes / 2).max(least),
                grown if grown < bound / 4 => (gathered_bytes * 2).min(most),
                _ => gathered_bytes,
            };
            gatherer.give_back(part, gathered_bytes);
            if dirty > checkpoint_from {
                checkpoint_from = match self.checkpoint() {
                    Ok(()) => bound,
                    // Opening takes no room but for a segment of the log: what was read before is read on.
                    Err(Error::DiskFull { .. }) => dirty + bound / 2,
                    Err(error) => return Err(error),
                };
            }
            dirty_before = self.forest.dirty_bytes() as u64;
        }
        if done != total {
            return Err(Error::Internal(format!("{done} of {total} entries were replayed")));
        }
        report(self.options, RecoveryStep::Replay, done, total, last);
        Ok(done)
    }

    /// Writes what was replayed so far. All of it is published, and durable: the log's tail was synced when it was opened.
    fn checkpoint(&mut self) -> Result<()> {
        let at = self.applier.applied();
        if at <= self.opened.checkpoint_lsn {
            return Ok(());
        }
        let replay_from = self.applier.replay_from();
        self.forest.checkpoint(&Checkpoint {
            at,
            replay_from,
            log_durable_end: self.log.durable_position(),
            engine_state: &self.applier.state().encode(),
        })?;
        self.opened.checkpoint_lsn = at;
        self.opened.replay_from = replay_from;
        self.bytes = 0;
        Ok(())
    }
}
