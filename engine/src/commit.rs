//! The life of a write.
//!
//! ```text
//! caller's thread                                                    lock held
//!  1 refuse when stopped or closed                                   -
//!  2 help the checkpoint, when the log has grown long                -
//!  3 abort what a full disk left open; part a copy from its origin   sequencer
//!    check that the keyspaces exist, decode into changes             sequencer
//!    validate what a transaction has read, or a condition            sequencer
//!  4 bring in the leaves that applying must read                     sequencer
//!  5 time, number, append to the log's pending batch                 sequencer
//!  6 apply to the trees, invisibly                                   sequencer
//!  7 queue for publishing                                            sequencer
//!  8 wait: lead the group commit, or be carried by another leader    -
//!  9 publish the prefix that is done                                 publisher
//! ```
//!
//! Steps 8 and 9 hold nothing: the next commit is validated and applied while this one's write is in flight. What cannot
//! wait for its own write like this is written under the sequencer's lock, and holds up the commits behind it: the
//! fragments of a large transaction but the last, keyspaces that come and go, and what step 3 aborts.
//!
//! 1. A failure up to step 5 changes nothing: no number is used, and the next write may succeed.
//! 2. A failure from step 6 on stops the database: the log holds what the trees do not.
//! 3. Everything before an LSN is appended before it, and applied before it.
//! 4. Of a batch that touches more leaves than there is room for, step 4 looks whether they can be read, and step 6 reads
//!    them again, a piece at a time: a disk that fails in between stops the database.

use logwood_base::sync::{Arc, MutexGuard};
use logwood_base::{Conflict, Error, GroupId, Lsn, Result};
use logwood_btree::Change;
use logwood_wal::{Append, Durability};

use crate::apply;
use crate::catalog::{KeyspaceShared, check_name};
use crate::core::{Core, Sequencer};
use crate::entry::{self, Body, Entry, HEADER_BYTES, Operations};
use crate::fragments;
use crate::planted::{Bug, planted};
use crate::publish::PendingWrite;
use crate::statistics::logged_bytes;
use crate::ticket::LogWrite;

/// Why a commit that depends on something did not come to be. Nothing of it was written.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    /// The commit that the refusal tells of: it must be visible before anybody is told.
    pub(crate) at: Lsn,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let at = if let Error::Conflict(conflict) = &error { conflict.lsn } else { Lsn::ZERO };
        Self { error, at }
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Error::from(conflict).into()
    }
}

/// The group of a database that is not replicated.
pub(crate) const GROUP: GroupId = GroupId::LOCAL;

impl Core {
    /// Counts an entry.
    pub(crate) fn committed(&self, payload: usize) {
        self.counters.committed(payload as u64);
        self.checkpointer.grew(logged_bytes(payload));
    }

    /// Gives a commit's payload its place in the log and applies it. The caller waits for the write it gets.
    ///
    /// `keyspaces` are those that the operations name.
    pub(crate) fn begin_commit(
        &self,
        payload: &mut [u8],
        keyspaces: &[Arc<KeyspaceShared>],
        durability: Durability,
    ) -> Result<(Lsn, LogWrite)> {
        self.begin_commit_if(payload, keyspaces, durability, |_| Ok(())).map_err(|refusal| refusal.error)
    }

    /// As [`Core::begin_commit`], if `check` finds nothing against it. It is asked when everything before is applied,
    /// and nothing comes between it and this commit.
    pub(crate) fn begin_commit_if(
        &self,
        payload: &mut [u8],
        keyspaces: &[Arc<KeyspaceShared>],
        durability: Durability,
        check: impl FnOnce(&Sequencer) -> Result<(), Refusal>,
    ) -> Result<(Lsn, LogWrite), Refusal> {
        self.check_writable()?;
        self.assist(payload.len() as u64)?;
        let mut sequencer = self.sequencer_for_write()?;
        keyspaces.iter().try_for_each(|keyspace| keyspace.check_exists())?;
        check(&sequencer)?;
        let time_ms = sequencer.applier.next_time(self.environment.clock.wall_ms());
        entry::set_time(payload, time_ms);
        let operations = Operations::new(&payload[HEADER_BYTES..]);
        let mut decoded =
            operations.iter().map(|operation| operation.map(apply::change).map_err(undecodable));
        // A commit of one operation is common and needs no list on the heap.
        let first = decoded.next().transpose()?;
        let more: Vec<Change<'_>>;
        let changes: &[Change<'_>] = match (&first, decoded.next().transpose()?) {
            (None, _) => &[],
            (Some(first), None) => std::slice::from_ref(first),
            (Some(first), Some(second)) => {
                let both = [Ok(*first), Ok(second)];
                // Counted first: memory that is let grow is copied, and as much of it again is touched.
                let mut list = Vec::with_capacity(operations.iter().count());
                for change in both.into_iter().chain(decoded) {
                    list.push(change?);
                }
                more = list;
                &more
            }
        };
        let prepared = self.forest.prepare(changes)?;
        let (lsn, write) = if payload.len() <= self.options.payload_bytes_max() {
            let lsn = sequencer.applier.applied().next();
            (lsn, self.append(&sequencer, lsn, payload, durability)?)
        } else {
            self.append_fragments(&mut sequencer, operations.as_bytes(), time_ms, durability)?
        };
        if let Err(error) = prepared.apply(lsn) {
            return Err(self.stop(&error).into());
        }
        sequencer.applier.took(lsn, time_ms);
        self.transactions.committed(lsn, changes, || self.visible_lsn());
        self.publisher.register(lsn, write.clone());
        drop(sequencer);
        self.committed(payload.len());
        Ok((lsn, write))
    }

    /// Waits for a commit as [`crate::Ticket::wait`] does.
    pub(crate) fn finish_commit(&self, lsn: Lsn, write: &LogWrite) -> Result<Lsn> {
        match self.publisher.wait(lsn, write) {
            Ok(()) => Ok(lsn),
            Err(error) => Err(self.write_failed(error)),
        }
    }

    /// Waits until a commit is visible, whoever's it is.
    pub(crate) fn wait_visible(&self, lsn: Lsn) -> Result<()> {
        self.publisher.wait_visible(lsn).map_err(|error| self.write_failed(error))
    }

    /// Creates a keyspace.
    pub(crate) fn create_keyspace(&self, name: &str) -> Result<Arc<KeyspaceShared>> {
        check_name(name)?;
        self.change_catalog(|sequencer| {
            if self.catalog.by_name(name).is_ok() {
                return Err(Error::AlreadyExists { what: "keyspace", name: name.to_owned() });
            }
            logwood_base::limits::check("keyspaces", self.catalog.len() + 1, self.options.keyspaces_max)?;
            Ok(Body::CreateKeyspace { id: sequencer.applier.next_keyspace(), name })
        })?;
        self.catalog.by_name(name)
    }

    /// Drops a keyspace with all it holds.
    pub(crate) fn drop_keyspace(&self, name: &str) -> Result<()> {
        self.change_catalog(|_| Ok(Body::DropKeyspace { id: self.catalog.by_name(name)?.id }))
    }

    /// Appends an entry that changes the catalog, waits until it is durable, and only then applies it, all under the
    /// sequencer's lock: so a name is never seen before a crash can no longer take it back.
    fn change_catalog<'a>(&self, body: impl FnOnce(&Sequencer) -> Result<Body<'a>>) -> Result<()> {
        self.check_writable()?;
        self.assist(0)?;
        let changed = {
            let mut sequencer = self.sequencer_for_write()?;
            let body = body(&sequencer)?;
            self.append_and_apply(&mut sequencer, body)
        };
        self.publisher.tell();
        changed
    }

    /// The sequencer, when nothing is left that must come before a write.
    pub(crate) fn sequencer_for_write(&self) -> Result<MutexGuard<'_, Sequencer>> {
        loop {
            let mut sequencer = self.sequencer.lock();
            sequencer.check_open()?;
            // Once more: behind a failure the trees may be ahead of the log.
            self.check_writable()?;
            if !sequencer.is_unsettled() {
                return Ok(sequencer);
            }
            let settled = self.settle_beginning(&mut sequencer);
            drop(sequencer);
            self.publisher.tell();
            settled?;
        }
    }

    /// Appends an entry durably and applies it when it is. The caller tells of it, without the sequencer's lock.
    pub(crate) fn append_and_apply(&self, sequencer: &mut Sequencer, body: Body<'_>) -> Result<()> {
        let lsn = sequencer.applier.applied().next();
        let time_ms = sequencer.applier.next_time(self.environment.clock.wall_ms());
        let entry = Entry { time_ms, request: None, body };
        let payload = entry.encode();
        let write = self.append(sequencer, lsn, &payload, Durability::Durable)?;
        if planted(Bug::CatalogBeforeLog) {
            let _ = sequencer.applier.apply_entry(lsn, &entry);
            return write.wait();
        }
        // Without room it was not written: the next append takes its number, and its place.
        write.wait().map_err(|error| self.write_failed(error))?;
        if let Err(error) = sequencer.applier.apply_entry(lsn, &entry) {
            return Err(self.stop(&error));
        }
        self.publisher.register(lsn, write.clone());
        self.committed(payload.len());
        self.publisher.wait_untold(lsn, &write).map_err(|error| self.write_failed(error))
    }

    /// Writes a large transaction: its fragments, then their commit, whose LSN and write are answered.
    fn append_fragments(
        &self,
        sequencer: &mut Sequencer,
        operations: &[u8],
        time_ms: u64,
        durability: Durability,
    ) -> Result<(Lsn, LogWrite)> {
        let first = sequencer.applier.applied().next();
        let mut payloads =
            fragments::cut(operations, first, time_ms, self.options.payload_bytes_max()).peekable();
        while let Some(payload) = payloads.next() {
            let lsn = sequencer.applier.applied().next();
            let last = payloads.peek().is_none();
            let durability = if last { durability } else { Durability::Buffered };
            let write = self.append(sequencer, lsn, &payload, durability)?;
            if last {
                sequencer.applier.fragments.abort(first);
                sequencer.applier.fragments.finished(lsn, first);
                return Ok((lsn, write));
            }
            // Should a later fragment find the disk full, the transaction is an orphan that checkpoints and the next writer
            // know of. What it holds is here, and need not be collected for its end.
            if let Err(error) = sequencer.applier.pass_fragment(lsn, first, time_ms) {
                return Err(self.stop(&error));
            }
            self.publisher.register(lsn, write.clone());
            // What is not led by anybody stays in the log's memory: a large transaction leads its own writes.
            write.wait().map_err(|error| self.write_failed(error))?;
        }
        Err(Error::Internal("a transaction without an end".to_owned()))
    }

    /// Ends transactions that were left open by a full disk or a crash.
    pub(crate) fn abort_orphans(&self, sequencer: &mut Sequencer) -> Result<()> {
        while let Some(transaction) = sequencer.orphan() {
            self.append_and_apply(sequencer, Body::Abort { transaction })?;
        }
        Ok(())
    }

    /// Appends one entry. When it fails, nothing has changed.
    pub(crate) fn append(
        &self,
        sequencer: &Sequencer,
        lsn: Lsn,
        payload: &[u8],
        durability: Durability,
    ) -> Result<LogWrite> {
        let entries = [(sequencer.term, payload)];
        let append =
            Append { term: sequencer.term, previous: None, first_lsn: lsn, entries: &entries, durability };
        self.group.append(append).map(LogWrite).map_err(|error| self.append_failed(error))
    }
}

fn undecodable(error: logwood_base::codec::CodecError) -> Error {
    Error::Internal(format!("a batch does not decode: {error}"))
}
