//! The one place where an entry takes effect: commits, recovery, groups and restores all drive it.
//!
//! There is one [`Applier`] per database and one caller at a time; LSNs ascend without a gap. What is applied is not
//! visible before it is published ([`crate::publish`]).
//!
//! Entries at or below the checkpoint that was opened are in the trees already. Replay passes them too when a
//! transaction was open at the checkpoint: only their fragments are collected.

use std::path::{Path, PathBuf};

use logwood_base::sync::Arc;
use logwood_base::{Corruption, Error, KeyspaceId, Lsn, Result};
use logwood_btree::{Change, ChangeKind, Forest};
use logwood_wal::Group;

use crate::catalog::{Catalog, KeyspaceShared};
use crate::entry::{Body, DecodeError, Entry, Operation, Operations};
use crate::fragments::{Collected, Fragments};
use crate::planted::{Bug, planted};
use crate::runs::{self, Merge};
use crate::state::EngineState;

/// Applies entries, in order.
#[derive(Debug)]
pub(crate) struct Applier {
    forest: Forest,
    catalog: Arc<Catalog>,
    pub(crate) fragments: Fragments,
    next_keyspace: KeyspaceId,
    /// Of the last entry.
    time_ms: u64,
    /// The last entry that was taken in.
    applied: Lsn,
    /// Entries up to here are in the trees that were opened.
    in_trees: Lsn,
    /// Where sorted transactions are read again.
    group: Group,
    /// Whether nobody reads yet, so that no version need be kept.
    replays: bool,
    /// Named in errors.
    log: PathBuf,
}

impl Applier {
    /// Goes on from a checkpoint: its state and LSN, and the LSN in front of the first entry that will come.
    #[allow(clippy::too_many_arguments, reason = "each is a different thing, and it is called once")]
    pub(crate) fn new(
        forest: Forest,
        catalog: Arc<Catalog>,
        state: &EngineState,
        checkpoint: Lsn,
        before_first: Lsn,
        fragments_bytes_max: usize,
        group: Group,
        log: &Path,
    ) -> Result<Self> {
        for (id, name) in &state.keyspaces {
            let tree = forest.tree(*id).ok_or_else(|| {
                Corruption::new(log, 0, "keyspaces of the manifest", format_args!("a tree for {id}"), "none")
            })?;
            catalog.insert(KeyspaceShared::new(*id, name, tree));
        }
        Ok(Self {
            forest,
            catalog,
            fragments: Fragments::new(before_first.next(), fragments_bytes_max, log),
            next_keyspace: state.next_keyspace,
            time_ms: state.time_ms,
            applied: before_first,
            in_trees: checkpoint,
            group,
            replays: false,
            log: log.to_owned(),
        })
    }

    /// The last entry that was taken in.
    pub(crate) const fn applied(&self) -> Lsn {
        self.applied
    }

    /// The time of the next entry, when the clock says `clock_ms`.
    pub(crate) fn next_time(&self, clock_ms: u64) -> u64 {
        if planted(Bug::TimeGoesBack) { clock_ms } else { self.time_ms.max(clock_ms) }
    }

    /// The number of the next keyspace.
    pub(crate) const fn next_keyspace(&self) -> KeyspaceId {
        self.next_keyspace
    }

    /// What a checkpoint of this moment must keep besides the trees.
    pub(crate) fn state(&self) -> EngineState {
        EngineState {
            next_keyspace: self.next_keyspace,
            time_ms: self.time_ms,
            keyspaces: self.catalog.list(),
        }
    }

    /// From where the log must be replayed over a checkpoint of this moment.
    pub(crate) fn replay_from(&self) -> Lsn {
        let next = self.applied.next();
        if planted(Bug::ForgetOpenFragments) {
            return next;
        }
        self.fragments.oldest().map_or(next, |oldest| oldest.min(next))
    }

    /// Takes the operations of commits in, up to the one at `last`, while nobody reads yet. `beside` bytes of memory are in use
    /// for what comes next.
    pub(crate) fn replay_commits(
        &mut self,
        last: Lsn,
        operations: Operations<'_>,
        beside: usize,
    ) -> Result<()> {
        let changes = self.changes(last, operations)?;
        self.forest.replay_beside(last, &changes, beside)
    }

    /// Takes any other entry in while nobody reads yet.
    pub(crate) fn replay_entry(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()> {
        self.replays = true;
        self.apply(lsn, payload)?;
        self.replays = false;
        // What it kept for readers of before goes with the next one.
        self.forest.publish(lsn);
        Ok(())
    }

    /// Takes an encoded entry in.
    pub(crate) fn apply(&mut self, lsn: Lsn, payload: &[u8]) -> Result<()> {
        let entry = Entry::decode(payload).map_err(|error| error.at(&self.log, lsn))?;
        self.apply_entry(lsn, &entry)
    }

    /// Takes an entry in. An error leaves the trees undefined: the caller stops.
    pub(crate) fn apply_entry(&mut self, lsn: Lsn, entry: &Entry<'_>) -> Result<()> {
        if lsn <= self.in_trees {
            self.collect_fragments(lsn, entry)?;
            self.took(lsn, entry.time_ms);
            return Ok(());
        }
        // Every entry is applied once, those without changes too: the trees know how far they are.
        match entry.body {
            Body::Commit(operations) => self.apply_operations(lsn, operations)?,
            Body::CreateKeyspace { id, name } => {
                if id < self.next_keyspace || self.catalog.by_name(name).is_ok() {
                    let found = format!("keyspace {id} named {name}");
                    return Err(self.damage(lsn, "created keyspace", "a new number and name", found));
                }
                let tree = self.forest.create_tree(lsn, id)?;
                self.catalog.insert(KeyspaceShared::new(id, name, tree));
                self.next_keyspace = KeyspaceId(id.get().saturating_add(1));
            }
            Body::DropKeyspace { id } => {
                self.catalog.remove(id).ok_or_else(|| self.unknown_keyspace(lsn, id))?;
                self.forest.drop_tree(lsn, id)?;
            }
            Body::Fragment { transaction, sequence, piece } => {
                self.fragments.add(lsn, transaction, sequence, piece)?;
            }
            Body::CommitFragments { transaction, count, bytes, hash } => {
                match self.fragments.commit(lsn, transaction, count, bytes, hash)? {
                    Collected::Joined(joined) => self.apply_operations(lsn, Operations::new(&joined))?,
                    Collected::Unsorted { fragments } => {
                        let joined = runs::join(&self.group, &self.log, transaction, &fragments)?;
                        self.apply_operations(lsn, Operations::new(&joined))?;
                    }
                    Collected::Sorted { fragments, runs } => {
                        let mut merge = Merge::new(&self.group, &self.log, transaction, &fragments, &runs)?;
                        self.forest.apply_sorted(lsn, &mut merge)?;
                    }
                }
            }
            Body::Abort { transaction } => self.fragments.abort(transaction),
            Body::Membership(_) | Body::OpenMark { .. } | Body::Mark { .. } | Body::NoOp => {}
        }
        if !matches!(entry.body, Body::Commit(_) | Body::CommitFragments { .. }) {
            self.forest.apply(lsn, &[])?;
        }
        self.took(lsn, entry.time_ms);
        Ok(())
    }

    /// Notes that the fragment at `lsn` was appended by one who has its transaction whole and will apply it: it is open meanwhile.
    pub(crate) fn pass_fragment(&mut self, lsn: Lsn, transaction: Lsn, time_ms: u64) -> Result<()> {
        self.fragments.pass(transaction);
        self.forest.apply(lsn, &[])?;
        self.took(lsn, time_ms);
        Ok(())
    }

    /// Notes that the changes of the commit at `lsn` were applied by the caller.
    pub(crate) fn took(&mut self, lsn: Lsn, time_ms: u64) {
        self.applied = lsn;
        self.time_ms = self.time_ms.max(time_ms);
    }

    fn apply_operations(&mut self, lsn: Lsn, operations: Operations<'_>) -> Result<()> {
        let changes = self.changes(lsn, operations)?;
        if self.replays { self.forest.replay(lsn, &changes) } else { self.forest.apply(lsn, &changes) }
    }

    /// Operations as the trees take them.
    fn changes<'o>(&self, lsn: Lsn, operations: Operations<'o>) -> Result<Vec<Change<'o>>> {
        let malformed = |error| DecodeError::Malformed(error).at(&self.log, lsn);
        let mut checked: Option<KeyspaceId> = None;
        // Counted first: memory that is let grow is copied.
        let mut changes = Vec::with_capacity(operations.iter().count());
        for operation in operations {
            let operation = operation.map_err(malformed)?;
            if checked != Some(operation.keyspace()) {
                let known = self.catalog.by_id(operation.keyspace());
                known.ok_or_else(|| self.unknown_keyspace(lsn, operation.keyspace()))?;
                checked = Some(operation.keyspace());
            }
            changes.push(change(operation));
        }
        Ok(changes)
    }

    /// Of an entry that is in the trees already, only what a later commit of fragments may need.
    fn collect_fragments(&mut self, lsn: Lsn, entry: &Entry<'_>) -> Result<()> {
        match entry.body {
            // The first entry replayed is the oldest *open* fragment; others around it may be closed by now and begin
            // before it.
            Body::Fragment { transaction, sequence, piece }
                if sequence == 0 || self.fragments.open().any(|open| open == transaction) =>
            {
                self.fragments.add(lsn, transaction, sequence, piece)?;
            }
            Body::CommitFragments { transaction, .. } => {
                self.fragments.finished(lsn, transaction);
                self.fragments.abort(transaction);
            }
            Body::Abort { transaction } => self.fragments.abort(transaction),
            _ => {}
        }
        Ok(())
    }

    fn unknown_keyspace(&self, lsn: Lsn, id: KeyspaceId) -> Error {
        self.damage(lsn, "keyspace of an entry", "one that exists", id)
    }

    fn damage(&self, lsn: Lsn, check: &'static str, expected: &str, found: impl std::fmt::Display) -> Error {
        Corruption::new(&self.log, 0, check, expected, found).affecting(format_args!("lsn {lsn}")).into()
    }
}

/// An operation as the trees take it.
pub(crate) fn change(operation: Operation<'_>) -> Change<'_> {
    match operation {
        Operation::Put { keyspace, key, value } => Change { keyspace, kind: ChangeKind::Put { key, value } },
        Operation::Delete { keyspace, key } => Change { keyspace, kind: ChangeKind::Delete { key } },
        Operation::DeleteRange { keyspace, from, to } => {
            Change { keyspace, kind: ChangeKind::DeleteRange { from, to } }
        }
    }
}
