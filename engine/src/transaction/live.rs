//! The transactions that are alive, and the commits they will be validated against.

use std::collections::BTreeMap;

use logwood_base::sync::Mutex;
use logwood_base::sync::atomic::{AtomicU64, Ordering};
use logwood_base::{Error, Lsn, Result};
use logwood_btree::Change;

use super::reads::ReadSet;
use super::recent::Recent;
use crate::core::Core;
use crate::planted::{Bug, planted};
use crate::statistics::TransactionStatistics;

/// Full chunks that may be looked through under the sequencer's lock.
const CHUNKS_UNDER_LOCK: usize = 1;

/// Rounds of looking through chunks before the sequencer's lock is taken in any case.
const ROUNDS_MAX: usize = 8;

/// What all transactions of a database share.
#[derive(Debug)]
pub(crate) struct Transactions {
    /// Written under the sequencer's lock.
    pub(crate) recent: Mutex<Recent>,
    /// How many live transactions read at an LSN.
    live: Mutex<BTreeMap<Lsn, usize>>,
    refused: AtomicU64,
}

impl Transactions {
    pub(crate) fn new(applied: Lsn, bytes_max: usize) -> Self {
        Self {
            recent: Mutex::new(Recent::new(applied, bytes_max)),
            live: Mutex::new(BTreeMap::new()),
            refused: AtomicU64::new(0),
        }
    }

    /// Takes in a commit, under the sequencer's lock.
    pub(crate) fn committed(&self, lsn: Lsn, changes: &[Change<'_>], visible: impl FnOnce() -> Lsn) {
        self.recent.lock().push(lsn, changes, || {
            let live = self.live.lock();
            // Read inside the lock: a transaction that begins later reads at this LSN or behind it.
            let visible = visible();
            live.keys().next().map_or(visible, |oldest| visible.min(*oldest))
        });
    }

    /// How they are doing.
    pub(crate) fn statistics(&self) -> TransactionStatistics {
        let (live, oldest) = {
            let live = self.live.lock();
            (live.values().sum(), live.keys().next().copied())
        };
        let history_bytes = self.recent.lock().bytes();
        TransactionStatistics { live, oldest, refused: self.refused.load(Ordering::Relaxed), history_bytes }
    }

    /// Counts a refusal.
    pub(crate) fn note_refusal(&self, error: &Error) {
        if matches!(error, Error::Conflict(_) | Error::TooOld { .. }) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Core {
    /// A snapshot that a transaction reads at; commits behind it are remembered until it ends.
    pub(crate) fn begin_transaction(&self) -> logwood_btree::Snapshot {
        let mut live = self.transactions.live.lock();
        let snapshot = self.forest.snapshot();
        *live.entry(snapshot.lsn()).or_default() += 1;
        snapshot
    }

    /// The end of a transaction that read at an LSN, whatever came of it.
    pub(crate) fn end_transaction(&self, read: Lsn) {
        let mut live = self.transactions.live.lock();
        if let Some(count) = live.get_mut(&read) {
            *count -= 1;
            if *count == 0 {
                live.remove(&read);
            }
        }
    }

    /// Looks through what was committed behind `read` without holding anybody up. Answers up to which LSN.
    pub(crate) fn prevalidate(&self, reads: &ReadSet, read: Lsn) -> Result<Lsn> {
        let mut seen = read;
        for _ in 0..ROUNDS_MAX {
            let chunks = {
                let recent = self.transactions.recent.lock();
                recent.check_age(seen)?;
                if !recent.is_far_behind(seen, CHUNKS_UNDER_LOCK) {
                    break;
                }
                recent.full_behind(seen)
            };
            let from = seen;
            // The oldest first: the conflict that is named is the first there was.
            for chunk in chunks.iter().rev() {
                chunk.validate(reads, from)?;
                seen = chunk.last();
            }
        }
        Ok(seen)
    }

    /// Looks through what was committed since `seen`, under the sequencer's lock.
    pub(crate) fn validate(&self, reads: &ReadSet, seen: Lsn) -> Result<()> {
        let outcome = self.transactions.recent.lock().validate(reads, seen);
        match outcome {
            Err(Error::Conflict(_)) if planted(Bug::SkipValidation) => Ok(()),
            Err(Error::Conflict(conflict))
                if planted(Bug::ValidateVisible) && conflict.lsn > self.visible_lsn() =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }
}
