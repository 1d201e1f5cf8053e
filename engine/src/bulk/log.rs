//! How a bulk write gets into the log, and into the trees.

use std::collections::BTreeMap;
use std::path::Path;

use logwood_base::sync::Arc;
use logwood_base::{Error, KeyspaceId, Lsn, Result};
use logwood_btree::{Change, ChangeKind, SortedChanges};
use logwood_wal::Durability;

use crate::apply;
use crate::catalog::KeyspaceShared;
use crate::core::Core;
use crate::directory::Layout;
use crate::entry::{Body, DecodeError, Entry, Operations};
use crate::fragments::Collected;
use crate::planted::{Bug, planted};
use crate::runs::Merge;
use crate::statistics::BulkStatistics;
use crate::ticket::LogWrite;

/// The first fragments of bulk writes that are under way, and how many bytes each has in the log.
pub(crate) type Underway = BTreeMap<Lsn, u64>;

/// Operations that were joined in memory, in the order of keyspace and key.
struct Joined<'a>(std::vec::IntoIter<Change<'a>>);

impl<'a> Joined<'a> {
    /// Sorts operations, of which those on one key may follow each other.
    fn new(joined: &'a [u8], log: &Path, transaction: Lsn) -> Result<Self> {
        let malformed = |error| DecodeError::Malformed(error).at(log, transaction);
        let operations = Operations::new(joined).iter();
        let changes = operations.map(|operation| operation.map(apply::change).map_err(malformed));
        let mut changes = changes.collect::<Result<Vec<_>>>()?;
        changes.sort_by(|a, b| place(a).cmp(&place(b)));
        Ok(Self(changes.into_iter()))
    }
}

/// Where a change belongs in the order of keyspace and key.
fn place<'a>(change: &Change<'a>) -> (KeyspaceId, &'a [u8]) {
    let (ChangeKind::Put { key, .. }
    | ChangeKind::Delete { key }
    | ChangeKind::DeleteRange { from: key, .. }) = change.kind;
    (change.keyspace, key)
}

impl SortedChanges for Joined<'_> {
    fn next(&mut self) -> Result<Option<Change<'_>>> {
        Ok(self.0.next())
    }
}

impl Core {
    /// Appends a fragment of a bulk write, the first one if none has `begun` it yet. Answers where it stands, and the write that
    /// is to be waited for.
    pub(crate) fn append_fragment(
        &self,
        begun: &mut Option<Lsn>,
        sequence: u32,
        piece: &[u8],
        keyspaces: &[Arc<KeyspaceShared>],
    ) -> Result<(Lsn, LogWrite)> {
        self.check_writable()?;
        self.assist(piece.len() as u64)?;
        let mut sequencer = self.sequencer_for_write()?;
        keyspaces.iter().try_for_each(|keyspace| keyspace.check_exists())?;
        if let Some(transaction) = *begun {
            self.check_under_way(transaction)?;
        }
        let lsn = sequencer.applier.applied().next();
        let transaction = begun.unwrap_or(lsn);
        let time_ms = sequencer.applier.next_time(self.environment.clock.wall_ms());
        let body = Body::Fragment { transaction, sequence, piece };
        let payload = Entry { time_ms, request: None, body }.encode();
        let write = self.append(&sequencer, lsn, &payload, Durability::Buffered)?;
        if let Err(error) = sequencer.applier.apply(lsn, &payload) {
            return Err(self.stop(&error));
        }
        *self.bulk.lock().entry(transaction).or_default() += payload.len() as u64;
        *begun = Some(transaction);
        self.publisher.register(lsn, write.clone());
        drop(sequencer);
        self.committed(payload.len());
        Ok((lsn, write))
    }

    /// Refuses what goes on with a bulk write that was given up because of the log it kept.
    fn check_under_way(&self, transaction: Lsn) -> Result<()> {
        if self.bulk.lock().contains_key(&transaction) {
            return Ok(());
        }
        Err(Error::LimitExceeded {
            what: "bytes of log kept for a bulk write, which was given up,",
            found: self.log.statistics().log_bytes,
            limit: self.options.log_bytes_max,
        })
    }

    /// Gives up the oldest bulk write when the log has grown beyond its bound and is kept for it alone, from `needed` on: the next
    /// write aborts it. Nobody appends meanwhile.
    pub(crate) fn bound_bulk_writes(&self, needed: Lsn) {
        let bound = self.options.log_bytes_max;
        if bound > 0 && self.log.statistics().log_bytes > bound && self.bulk.lock().remove(&needed).is_some()
        {
            tracing::warn!(transaction = %needed, "a bulk write was given up: the log has grown beyond its bound");
        }
    }

    /// Bulk writes that are under way.
    pub(crate) fn bulk_statistics(&self) -> BulkStatistics {
        let bulk = self.bulk.lock();
        BulkStatistics {
            under_way: bulk.len(),
            oldest: bulk.keys().next().copied(),
            log_bytes: bulk.values().sum(),
        }
    }

    /// Finds out whether every page can be read that a transaction changes. Nothing is kept in memory for it: another writer may
    /// have brought in what it needs, and there is one preparation at a time. Answers about how many bytes of pages the changed
    /// leaves take now.
    pub(crate) fn prepare_collected(&self, transaction: Lsn, collected: Option<Collected>) -> Result<u64> {
        let log = Layout::new(&self.path).log();
        match collected {
            None | Some(Collected::Unsorted { .. }) => Ok(0),
            Some(Collected::Joined(joined)) => {
                if planted(Bug::PreparationTakesThePlace) {
                    self.forest.prepare(&[]).map(drop)?;
                }
                self.forest.prepare_sorted(&mut Joined::new(&joined, &log, transaction)?)
            }
            Some(Collected::Sorted { fragments, runs }) => self.forest.prepare_sorted(&mut Merge::new(
                &self.group,
                &log,
                transaction,
                &fragments,
                &runs,
            )?),
        }
    }

    /// Refuses what finds no room on the disk for the pages that it will change, beyond what may stay in memory.
    fn require_room(&self, changed_bytes: u64) -> Result<()> {
        let waits = self.options.cache_bytes as u64 / 4;
        match changed_bytes.saturating_sub(waits) {
            0 => Ok(()),
            bytes => self.forest.store().require_room(bytes),
        }
    }

    /// Has a bulk write take effect, and appends its end. The caller waits for the write it gets.
    pub(crate) fn begin_commit_fragments(
        &self,
        transaction: Lsn,
        end: Body<'_>,
        keyspaces: &[Arc<KeyspaceShared>],
        durability: Durability,
    ) -> Result<(Lsn, LogWrite)> {
        self.check_writable()?;
        self.assist(self.options.log_batch_bytes_max as u64)?;
        // Before anything is changed, and before anybody waits: a page that is damaged is an answer to this write alone.
        let collected = self.sequencer.lock().applier.fragments.collected(transaction);
        let Body::CommitFragments { bytes, .. } = end else {
            return Err(Error::Internal("the end of a bulk write is another one".to_owned()));
        };
        let prepared = self.prepare_collected(transaction, collected);
        // A keyspace that is gone is told by its name.
        keyspaces.iter().try_for_each(|keyspace| keyspace.check_exists())?;
        self.require_room(prepared? + bytes)?;
        let mut sequencer = self.sequencer_for_write()?;
        keyspaces.iter().try_for_each(|keyspace| keyspace.check_exists())?;
        self.check_under_way(transaction)?;
        let lsn = sequencer.applier.applied().next();
        let time_ms = sequencer.applier.next_time(self.environment.clock.wall_ms());
        let entry = Entry { time_ms, request: None, body: end };
        let payload = entry.encode();
        // A full disk is an answer as long as nothing has changed. Nobody else appends from here on.
        self.group.make_room(payload.len()).map_err(|error| self.append_failed(error))?;
        // Only now is it appended: what cannot be applied is not in the log.
        sequencer.applier.apply_entry(lsn, &entry).map_err(|error| self.stop(&error))?;
        let write = self.append(&sequencer, lsn, &payload, durability).map_err(|error| self.stop(&error))?;
        self.bulk.lock().remove(&transaction);
        // Its keys are too many to be kept: they count as all of their keyspaces.
        let all = |keyspace: &Arc<KeyspaceShared>| Change {
            keyspace: keyspace.id,
            kind: ChangeKind::DeleteRange { from: &[], to: None },
        };
        let changes: Vec<_> = keyspaces.iter().map(all).collect();
        self.transactions.committed(lsn, &changes, || self.visible_lsn());
        self.publisher.register(lsn, write.clone());
        drop(sequencer);
        self.committed(payload.len());
        Ok((lsn, write))
    }
}
