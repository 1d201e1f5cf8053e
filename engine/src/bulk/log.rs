//! How a bulk write gets into the log, and into the trees.

use std::collections::BTreeSet;

use logwood_base::sync::Arc;
use logwood_base::{Error, Lsn, Result};
use logwood_wal::Durability;

use crate::apply;
use crate::catalog::KeyspaceShared;
use crate::core::Core;
use crate::directory::Layout;
use crate::entry::{Body, DecodeError, Entry, Operations};
use crate::fragments::Collected;
use crate::runs::Merge;
use crate::ticket::LogWrite;

/// The first fragments of bulk writes that are under way.
pub(crate) type Underway = BTreeSet<Lsn>;

impl Core {
    /// Appends a fragment of a bulk write, the first one if there is no `transaction`, and waits for its write. Answers the
    /// LSN of the first fragment.
    pub(crate) fn append_fragment(
        &self,
        transaction: Option<Lsn>,
        sequence: u32,
        piece: &[u8],
        keyspaces: &[Arc<KeyspaceShared>],
    ) -> Result<Lsn> {
        self.check_writable()?;
        self.assist(piece.len() as u64)?;
        let mut sequencer = self.sequencer_for_write()?;
        keyspaces.iter().try_for_each(|keyspace| keyspace.check_exists())?;
        let lsn = sequencer.applier.applied().next();
        let transaction = transaction.unwrap_or(lsn);
        let time_ms = sequencer.applier.next_time(self.environment.clock.wall_ms());
        let body = Body::Fragment { transaction, sequence, piece };
        let payload = Entry { time_ms, request: None, body }.encode();
        let write = self.append(&sequencer, lsn, &payload, Durability::Buffered)?;
        if let Err(error) = sequencer.applier.apply(lsn, &payload) {
            return Err(self.stop(&error));
        }
        sequencer.bulk.insert(transaction);
        self.publisher.register(lsn, write.clone());
        drop(sequencer);
        self.committed(payload.len());
        self.finish_commit(lsn, &write)?;
        Ok(transaction)
    }

    /// Finds out whether every page can be read that a transaction changes.
    fn prepare_collected(&self, transaction: Lsn, collected: Option<Collected>) -> Result<()> {
        let log = Layout::new(&self.path).log();
        match collected {
            None | Some(Collected::Unsorted { .. }) => Ok(()),
            Some(Collected::Joined(joined)) => {
                let malformed = |error| DecodeError::Malformed(error).at(&log, transaction);
                let operations = Operations::new(&joined).iter();
                let changes = operations.map(|operation| operation.map(apply::change).map_err(malformed));
                self.forest.prepare(&changes.collect::<Result<Vec<_>>>()?).map(drop)
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
        self.prepare_collected(transaction, collected)?;
        let mut sequencer = self.sequencer_for_write()?;
        keyspaces.iter().try_for_each(|keyspace| keyspace.check_exists())?;
        let lsn = sequencer.applier.applied().next();
        let time_ms = sequencer.applier.next_time(self.environment.clock.wall_ms());
        let entry = Entry { time_ms, request: None, body: end };
        let payload = entry.encode();
        // A full disk is an answer as long as nothing has changed. Nobody else appends from here on.
        self.group.make_room(payload.len()).map_err(|error| match error {
            Error::Io { .. } => self.stop(&error),
            other => other,
        })?;
        // Only now is it appended: what cannot be applied is not in the log.
        sequencer.applier.apply_entry(lsn, &entry).map_err(|error| self.stop(&error))?;
        let write = self.append(&sequencer, lsn, &payload, durability).map_err(|error| self.stop(&error))?;
        sequencer.bulk.remove(&transaction);
        self.transactions.forget(lsn);
        self.publisher.register(lsn, write.clone());
        drop(sequencer);
        self.committed(payload.len());
        Ok((lsn, write))
    }
}
